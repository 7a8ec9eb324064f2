"""A bundle: all that both ends must share for the bits to mean the same thing, and its fingerprint.

It does not know the backbone, which only the cloud needs, nor how files get onto a machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_protocol.bundles.digests import cache_folder, digest_of
from shared_protocol.coding.mask_codec import MaskPrior, load_mask_prior
from shared_protocol.coding.text_codec import TextPrior, load_text_prior
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.vocabulary import Vocabulary

if TYPE_CHECKING:
    from shared_protocol.entropy.coder import EntropyModels
    from shared_protocol.tokenizers.compact import CompactTokenizer
    from shared_protocol.tokenizers.image import ImageTokenizer, LfqNetwork
    from shared_protocol.tokenizers.magvitv2 import MagvitV2

MANIFEST = "bundle.json"
BUILTIN = "builtin"
_BUILTIN_FOLDER = Path(__file__).parents[1] / "weights" / BUILTIN
_IMAGE_KINDS = ("compact", "magvitv2")
STRIDE = 16
"""Pixels per token side, of every image tokenizer so far."""


@dataclass(frozen=True)
class Defaults:
    """What an option means when a message leaves it out.

    Args:
        steps: masked decoding steps.
        guidance: classifier-free guidance scale.
        max_new_tokens: longest answer.
    """

    steps: int
    guidance: float
    max_new_tokens: int


@dataclass(frozen=True)
class Manifest:
    """The checked content of a bundle's `bundle.json`.

    Args:
        name: what the bundle calls itself.
        vocabulary: the unified id space.
        grid: native (H, W) in tokens.
        max_text_tokens: longest prompt or question, without special tokens.
        image_tokenizer: "compact" or "magvitv2".
        files: role -> file name; roles are image_tokenizer, text_tokenizer, text_prior, mask_prior
            and entropy_<scenario>.
        sha256: file name -> hex digest.
        defaults: see `Defaults`.
        canonical: the manifest as canonical JSON, see `canonical_json`.
    """

    name: str
    vocabulary: Vocabulary
    grid: tuple[int, int]
    max_text_tokens: int
    image_tokenizer: str
    files: Mapping[str, str]
    sha256: Mapping[str, str]
    defaults: Defaults
    canonical: bytes

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that name the bundle's content: SHA-256 of `canonical`.

        The backbone is no part of it: two servers may run different ones on the same bitstream.
        """
        return hashlib.sha256(self.canonical).digest()


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces, so that equal contents are equal bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def fingerprint_of(content: Mapping[str, Any]) -> bytes:
    """SHA-256 of a manifest's canonical JSON; see `Manifest.fingerprint`."""
    return hashlib.sha256(canonical_json(content)).digest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/bundle.json`.

    Raises:
        ConfigError: no such file, or a field is missing or has the wrong type.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no bundle at {folder}: {error.strerror}", _HOW) from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    return manifest_from(content, str(path))


def manifest_from(content: Any, source: str = MANIFEST) -> Manifest:
    """The checked manifest that `content` describes, digests included.

    Args:
        content: what a `bundle.json` holds.
        source: what to call it in errors.

    Raises:
        ConfigError: a field is missing or has the wrong type.
    """
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{source} is not a bundle manifest: {error!r}") from error


_HOW = f"a bundle is 'builtin', 'show-o', 'show-o-512' or a folder with a {MANIFEST}"


def _parse(content: dict[str, Any]) -> Manifest:
    kind = content["image_tokenizer"]
    if kind not in _IMAGE_KINDS:
        raise ValueError(f"image_tokenizer is {kind!r}, not one of {_IMAGE_KINDS}")
    height, width = content["grid"]
    return Manifest(
        name=str(content["name"]),
        vocabulary=Vocabulary(**content["vocabulary"]),
        grid=(int(height), int(width)),
        max_text_tokens=int(content["max_text_tokens"]),
        image_tokenizer=kind,
        files={str(role): _plain_name(file) for role, file in content["files"].items()},
        sha256={str(file): str(digest) for file, digest in content["sha256"].items()},
        defaults=Defaults(**content["defaults"]),
        canonical=canonical_json(content),
    )


def _plain_name(file: str) -> str:
    if Path(file).name != file or file in ("", ".", ".."):
        raise ValueError(f"{file!r} is not a plain file name")
    return file


class Bundle:
    """A loaded bundle; everything heavy is read on first use.

    Satisfies `shared_protocol.message.codec.CodecBundle`.

    Args:
        folder: where the files are.
        manifest: checked content of its `bundle.json`.
        paths: file name to its place, where that is not `folder`.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, paths: Mapping[str, Path] | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self._paths = paths or {}
        self.name = manifest.name
        self.vocabulary = manifest.vocabulary
        self.grid = manifest.grid
        self.max_text_tokens = manifest.max_text_tokens
        self.defaults = manifest.defaults
        self.fingerprint = manifest.fingerprint

    def path(self, role: str) -> Path:
        """The file that plays `role`, after checking its digest.

        Raises:
            CheckpointError: the file is missing, or is not the one that the manifest names.
        """
        if role not in self.manifest.files:
            raise ConfigError(f"bundle {self.name} has no {role}")
        return self.file(self.manifest.files[role])

    def file(self, name: str) -> Path:
        """The file that the manifest calls `name`, after checking its digest.

        Raises:
            CheckpointError: the file is missing, or is not the one that the manifest names.
        """
        path = self._paths.get(name, self.folder / name)
        _verify(path, self.manifest.sha256.get(name, ""))
        return path

    @cached_property
    def text_tokenizer(self) -> TextTokenizer:
        """Text to BPE ids and back.

        Raises:
            CheckpointError: the file is no tokenizer, or one of another vocabulary.
        """
        tokenizer = TextTokenizer.load(self.path("text_tokenizer"))
        if tokenizer.size != self.vocabulary.text_size:
            raise CheckpointError(
                f"the text tokenizer has {tokenizer.size} ids, the bundle {self.name} needs "
                f"{self.vocabulary.text_size}",
                "use the tokenizer that belongs to it",
            )
        return tokenizer

    @property
    def eot_id(self) -> int:
        """Id that ends a text (Show-o: also bos, sot and eos)."""
        return self.text_tokenizer.eot_id

    @cached_property
    def text_prior(self) -> TextPrior | None:
        """Static prior of the text coder, if the bundle has one."""
        return load_text_prior(self.path("text_prior")) if self._has("text_prior") else None

    @cached_property
    def mask_prior(self) -> MaskPrior | None:
        """Static prior of the mask coder, if the bundle has one."""
        return load_mask_prior(self.path("mask_prior")) if self._has("mask_prior") else None

    @cached_property
    def entropy(self) -> EntropyModels:
        """The exact entropy models of the image tokens; may hold none."""
        from shared_protocol.entropy.coder import EntropyModels

        return EntropyModels.load(self._entropy_files())

    def check_probabilities(self) -> None:
        """Compare what this machine computes with the digests recorded beside the weights, if any.

        Raises:
            CheckpointError: it computes other probabilities, so other machines would not follow.
        """
        from shared_protocol.selfcheck.recorded_digests import DIGESTS_FILE, check_digests

        for folder in {path.parent for path in self.entropy.paths.values()}:
            if (folder / DIGESTS_FILE).is_file():
                check_digests(self.entropy, folder)

    def _entropy_files(self) -> dict[Scenario, Path]:
        roles = {scenario: f"entropy_{scenario.name.lower()}" for scenario in Scenario}
        return {s: self.path(role) for s, role in roles.items() if self._has(role)}

    def _has(self, role: str) -> bool:
        return role in self.manifest.files

    @cached_property
    def _image_tokenizer(self) -> ImageTokenizer:
        from shared_protocol.tokenizers.image import NetworkTokenizer

        path = self.path("image_tokenizer")
        load = _network_loader(self.manifest.image_tokenizer)
        size = self.vocabulary.codebook_size

        def checked() -> LfqNetwork:
            network = load(path)
            found = 1 << network.config.bits, network.config.stride
            if found != (size, STRIDE):
                raise CheckpointError(
                    f"{path} has {found[0]} codes of {found[1]} pixels a side, the bundle "
                    f"{self.name} needs {size} of {STRIDE}",
                    "use the image tokenizer that belongs to it",
                )
            return network

        return NetworkTokenizer(checked, STRIDE, size)

    def image_tokenizer(self) -> ImageTokenizer:
        """Pixels to codes and back; imports torch and reads the weights on its first use."""
        return self._image_tokenizer


def _network_loader(kind: str) -> Callable[[Path], CompactTokenizer | MagvitV2]:
    if kind == "compact":
        from shared_protocol.tokenizers.compact import load_compact

        return load_compact
    from shared_protocol.tokenizers.magvitv2 import load_magvitv2

    return load_magvitv2


def _verify(path: Path, expected: str) -> None:
    digest = digest_of(path)
    if digest != expected:
        raise CheckpointError(
            f"{path} has SHA-256 {digest[:16]}…, the manifest says {expected[:16]}…",
            "the file was changed or damaged; install the bundle again",
        )


def bundle_folder(name_or_path: str) -> Path:
    """Where a bundle lives: the packaged one, a named one in the user's cache, or a folder."""
    if name_or_path == BUILTIN:
        return _BUILTIN_FOLDER
    if os.sep in name_or_path or Path(name_or_path).is_dir():
        return Path(name_or_path)
    return cache_folder() / "bundles" / name_or_path


def load_bundle(name_or_path: str = BUILTIN) -> Bundle:
    """Open a bundle by name or folder; cheap, as weights are read on first use.

    A name means "builtin", a bundle in the user's cache, or published files (see `published`); a
    folder holds a `bundle.json`, or published files in a folder per repository.

    Raises:
        ConfigError: there is no such bundle or its manifest is broken.
        CheckpointError: files of a published bundle are missing.
    """
    folder = bundle_folder(name_or_path)
    if not (folder / MANIFEST).is_file():
        from shared_protocol.bundles import published

        if name_or_path in published.CATALOGUE and not Path(name_or_path).is_dir():
            return published.load_published(name_or_path)
        found = published.load_published_folder(folder)
        if found is not None:
            return found
    return Bundle(folder, read_manifest(folder))


def write_manifest(folder: Path, content: dict[str, Any]) -> Path:
    """Write `bundle.json` for the files in `folder`, with their digests, and return its path.

    Args:
        folder: holds every file that `content["files"]` names.
        content: all manifest fields but `sha256`.
    """
    names = sorted(set(content["files"].values()))
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    complete = {**content, "sha256": digests}
    _parse(complete)
    path = folder / MANIFEST
    path.write_text(json.dumps(complete, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path
