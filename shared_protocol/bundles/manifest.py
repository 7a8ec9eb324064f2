"""What a bundle is made of, as its `bundle.json` says it, and the fingerprint that follows.

It does not know the backbone, which only the cloud needs, nor where files lie or what is in them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_protocol.bundles.digests import digest_of
from shared_protocol.errors import ConfigError
from shared_protocol.files import checked_name, read_regular, write_atomically
from shared_protocol.messages import MAX_GUIDANCE, MAX_NEW_TOKENS, MAX_STEPS
from shared_protocol.tokens import MAX_GRID
from shared_protocol.vocabulary import Vocabulary

MANIFEST = "bundle.json"
BUILTIN = "builtin"
BUILTIN_FOLDER = Path(__file__).parents[1] / "weights" / BUILTIN
IMAGE_KINDS = ("compact", "magvitv2")
"""The image tokenizers that there are; `shared_protocol.tokenizers.load` opens them."""
AS_TYPED, PLAIN = TEXTS = ("as_typed", "plain")
"""How text becomes ids: as it is, or in the plain form of `shared_protocol.words.plain`."""
TYPING = "typing"
"""The one field of a manifest that the fingerprint does not cover, see `Typing`."""
_MAX_TEXT = 4096
_MAX_IDS = 1 << 22
_MAX_STRIDE = 64
MAX_MANIFEST = 1 << 20
_MAX_SIDE = 16 * MAX_GRID
"""Pixels of a picture's side: what the largest grid has with the usual stride."""
_LONGEST_NAME, _MOST_FILES = 64, 64
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HOW = f"a bundle is 'builtin', 'show-o', 'show-o-512' or a folder with a {MANIFEST}"


@dataclass(frozen=True)
class Defaults:
    """What an option means when a message leaves it out.

    Args:
        steps: masked decoding steps, 1..MAX_STEPS.
        guidance: classifier-free guidance scale, 0..MAX_GUIDANCE.
        max_new_tokens: longest answer, 1..MAX_NEW_TOKENS.

    Raises:
        ValueError: a value outside its range.
    """

    steps: int
    guidance: float
    max_new_tokens: int

    def __post_init__(self) -> None:
        _check("steps", self.steps, 1, MAX_STEPS)
        _check("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        if not (math.isfinite(self.guidance) and 0 <= self.guidance <= MAX_GUIDANCE):
            raise ValueError(f"guidance is {self.guidance}, not 0..{MAX_GUIDANCE:g}")


@dataclass(frozen=True)
class Typing:
    """How a device reads what a person types; no part of the fingerprint.

    It is over before there are ids, so that ends that differ in it still understand each other.

    Args:
        text: one of `TEXTS`.
        world: a file with the words that the bundle's models know; None means all that there are.
        sha256: hex digest of that file.

    Raises:
        ValueError: a value outside its range.
    """

    text: str = AS_TYPED
    world: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.text not in TEXTS:
            raise ValueError(f"text is {self.text!r}, not one of {TEXTS}")
        if self.world is not None:
            checked_name(self.world)
        if (self.world is None) != (self.sha256 is None):
            raise ValueError("a file of words and its digest come together")
        if self.sha256 is not None and not _DIGEST.fullmatch(self.sha256):
            raise ValueError(f"{self.sha256[:80]!r} is no digest of {self.world}")

    def content(self) -> dict[str, str]:
        """The field of the manifest; empty where nothing is said."""
        told = {"text": self.text, "world": self.world, "sha256": self.sha256}
        return {} if self == Typing() else {name: said for name, said in told.items() if said}


@dataclass(frozen=True)
class Manifest:
    """The checked content of a bundle's `bundle.json`.

    Args:
        name: what the bundle calls itself.
        vocabulary: the unified id space.
        grid: native (H, W) in tokens.
        stride: pixels per token side.
        max_text_tokens: longest prompt or question, without special tokens.
        image_tokenizer: one of `IMAGE_KINDS`.
        files: role -> file name; roles are image_tokenizer, text_tokenizer, text_prior, mask_prior
            and entropy_<scenario>.
        sha256: file name -> hex digest.
        defaults: see `Defaults`.
        canonical: the manifest but for `typing` as canonical JSON, see `canonical_json`.
        typing: see `Typing`.
    """

    name: str
    vocabulary: Vocabulary
    grid: tuple[int, int]
    stride: int
    max_text_tokens: int
    image_tokenizer: str
    files: Mapping[str, str]
    sha256: Mapping[str, str]
    defaults: Defaults
    canonical: bytes
    typing: Typing = field(default_factory=Typing)

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that name the bundle's content: SHA-256 of `canonical`.

        The backbone is no part of it: two servers may run different ones on the same bitstream.
        """
        return hashlib.sha256(self.canonical).digest()

    @property
    def tokenizer_fingerprint(self) -> bytes:
        """32 bytes that name what gives image codes their meaning, and nothing else.

        Text tokenizer, priors, entropy models and defaults may change; codes that were stored
        under this fingerprint still stand for the same pixels.
        """
        said = {
            "image_tokenizer": self.image_tokenizer,
            "codebook_size": self.vocabulary.codebook_size,
            "stride": self.stride,
            "sha256": self.digest("image_tokenizer"),
        }
        return hashlib.sha256(canonical_json(said)).digest()

    def content(self) -> dict[str, Any]:
        """All fields, as `bundle.json` has them."""
        content: dict[str, Any] = json.loads(self.canonical)
        typing = self.typing.content()
        return {**content, TYPING: typing} if typing else content

    def digest(self, role: str) -> str | None:
        """The digest of the file that plays `role`; None if the bundle has none."""
        return self.sha256.get(self.files[role]) if role in self.files else None


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces, so that equal contents are equal bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/bundle.json`.

    Raises:
        ConfigError: no such file, or a field is missing, of the wrong type or out of its range.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(read_regular(path, MAX_MANIFEST))
    except OSError as error:
        raise ConfigError(f"no bundle at {folder}: {error.strerror}", _HOW) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", "install the bundle again") from error
    return manifest_from(content, str(path))


def manifest_from(content: Any, source: str = MANIFEST) -> Manifest:
    """The checked manifest that `content` describes, digests included.

    Args:
        content: what a `bundle.json` holds.
        source: what to call it in errors.

    Raises:
        ConfigError: a field is missing, of the wrong type or out of its range.
    """
    try:
        return _parse(content)
    except Exception as error:  # whatever stands in a file that claims to be one
        told = f"{source} is not a bundle manifest: {str(error)[:200]} ({type(error).__name__})"
        raise ConfigError(told, "install the bundle again") from error


def write_manifest(folder: Path, content: dict[str, Any]) -> Path:
    """Write `bundle.json` for the files in `folder`, with their digests, and return its path.

    Args:
        folder: holds every file that `content["files"]` names.
        content: all manifest fields but `sha256`, that of `typing` included.
    """
    names = sorted(set(content["files"].values()))
    complete = {**content, "sha256": {name: digest_of(folder / name) for name in names}}
    if world := content.get(TYPING, {}).get("world"):
        complete[TYPING] = {**content[TYPING], "sha256": digest_of(folder / world)}
    _parse(complete)
    path = folder / MANIFEST
    write_atomically(path, json.dumps(complete, indent=2, sort_keys=True) + "\n")
    return path


def _parse(content: dict[str, Any]) -> Manifest:
    kind = content["image_tokenizer"]
    if kind not in IMAGE_KINDS:
        raise ValueError(f"image_tokenizer is {kind!r}, not one of {IMAGE_KINDS}")
    height, width = content["grid"]
    for name, value, high in (
        ("grid height", height, MAX_GRID),
        ("grid width", width, MAX_GRID),
        ("stride", content["stride"], _MAX_STRIDE),
        ("max_text_tokens", content["max_text_tokens"], _MAX_TEXT),
    ):
        _check(name, value, 1, high)
    vocabulary = Vocabulary(**content["vocabulary"])
    _check("number of ids", vocabulary.size, 1, _MAX_IDS)
    typing = Typing(**content.get(TYPING, {}))
    if typing.world in (MANIFEST, *content["sha256"]):
        raise ValueError(f"{typing.world} is another file of the bundle already")
    for name, side in (("height", height), ("width", width)):
        _check(f"picture {name} in pixels", side * content["stride"], 1, _MAX_SIDE)
    return Manifest(
        name=_bundle_name(content["name"]),
        vocabulary=vocabulary,
        grid=(height, width),
        stride=content["stride"],
        max_text_tokens=content["max_text_tokens"],
        image_tokenizer=kind,
        files={str(role): checked_name(file) for role, file in content["files"].items()},
        sha256=_digests(content["sha256"], content["files"].values()),
        defaults=Defaults(**content["defaults"]),
        canonical=canonical_json({key: content[key] for key in content if key != TYPING}),
        typing=typing,
    )


def _check(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, not a whole number of {low}..{high}")


def _bundle_name(name: object) -> str:
    """What a bundle calls itself; only shown, unless it is fetched."""
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(f"the name is {str(name)[:80]!r}, not 1..{_LONGEST_NAME} characters")
    return name


def _digests(told: Mapping[str, Any], files: Iterable[str]) -> dict[str, str]:
    digests = {checked_name(file): str(digest) for file, digest in told.items()}
    wrong = [digest for digest in digests.values() if not _DIGEST.fullmatch(digest)]
    lacking = [file for file in files if file not in digests]
    if wrong or lacking or len(digests) > _MOST_FILES:
        fault = f"no digest of {lacking[0]}" if lacking else f"{str(wrong)[:80]} for a digest"
        raise ValueError(fault)
    return digests


def digests_of(manifest: Manifest) -> dict[str, str]:
    """File name to SHA-256 of all that an edge may need, also of what has no fingerprint."""
    typing = manifest.typing
    more = {typing.world: typing.sha256} if typing.world and typing.sha256 else {}
    return {**manifest.sha256, **more}
