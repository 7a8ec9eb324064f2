"""A loaded bundle: all that both ends must share for the bits to mean the same thing.

It does not know the backbone, which only the cloud needs, nor how a bundle is found (see `find`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shared_protocol.bundles.digests import digest_of
from shared_protocol.bundles.manifest import PLAIN, Manifest
from shared_protocol.coding.mask_codec import MaskPrior, load_mask_prior
from shared_protocol.coding.text_codec import TextPrior, load_text_prior
from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError, ConfigError, UnimicError
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.words.known import KnownWords

if TYPE_CHECKING:
    from shared_protocol.entropy.coder import EntropyModels
    from shared_protocol.tokenizers.image import ImageTokenizer, LfqNetwork

T = TypeVar("T")


class Bundle:
    """A loaded bundle; everything heavy is read on first use.

    Satisfies `shared_protocol.message.codec.CodecBundle`.

    Args:
        folder: where the files are.
        manifest: checked content of its `bundle.json`.
        paths: file name to its place, where that is not `folder`.

    Attributes:
        compute: what computes tokenizers and entropy models; set it before the first use.
        reads_plain_text: whether a prompt is brought to plain form before it becomes ids.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, paths: Mapping[str, Path] | None = None
    ) -> None:
        self.compute = Compute.AUTO
        self.folder = folder
        self.manifest = manifest
        self._paths = paths or {}
        self.name = manifest.name
        self.vocabulary = manifest.vocabulary
        self.grid = manifest.grid
        self.stride = manifest.stride
        self.max_text_tokens = manifest.max_text_tokens
        self.defaults = manifest.defaults
        self.fingerprint = manifest.fingerprint
        self.tokenizer_fingerprint = manifest.tokenizer_fingerprint
        self.reads_plain_text = manifest.typing.text == PLAIN
        self._verified: dict[str, Path] = {}

    def path(self, role: str) -> Path:
        """The file that plays `role`, after checking its digest.

        Raises:
            CheckpointError: the file is missing, or is not the one that the manifest names.
        """
        if role not in self.manifest.files:
            raise ConfigError(f"bundle {self.name} has no {role}")
        return self.file(self.manifest.files[role])

    def file(self, name: str) -> Path:
        """The file that the manifest calls `name`, after checking its digest, once.

        Raises:
            CheckpointError: the file is missing, or is not the one that the manifest names.
        """
        if name not in self._verified:
            path = self._paths.get(name, self.folder / name)
            typing = self.manifest.typing
            other = typing.sha256 if name == typing.world else None
            _verify(path, self.manifest.sha256.get(name, other or ""))
            self._verified[name] = path
        return self._verified[name]

    @cached_property
    def text_tokenizer(self) -> TextTokenizer:
        """Text to BPE ids and back.

        Raises:
            CheckpointError: the file is no tokenizer, or one of another vocabulary.
        """
        path = self.path("text_tokenizer")
        with _loading(path):
            tokenizer = TextTokenizer.load(path)
        if tokenizer.size != self.vocabulary.text_size:
            raise CheckpointError(
                f"the text tokenizer has {tokenizer.size} ids, the bundle {self.name} needs "
                f"{self.vocabulary.text_size}",
                "use the tokenizer that belongs to it",
            )
        return tokenizer

    @cached_property
    def known_words(self) -> KnownWords | None:
        """What the bundle's models know; None if the bundle does not say.

        Raises:
            CheckpointError: the file is missing, changed, or no list of words.
        """
        world = self.manifest.typing.world
        return None if world is None else _loaded(KnownWords.load, self.file(world))

    @property
    def eot_id(self) -> int:
        """Id that ends a text (Show-o: also bos, sot and eos)."""
        return self.text_tokenizer.eot_id

    @cached_property
    def text_prior(self) -> TextPrior | None:
        """Static prior of the text coder, if the bundle has one."""
        if not self._has("text_prior"):
            return None
        prior = _loaded(load_text_prior, self.path("text_prior"))
        if prior.size != self.vocabulary.text_size:
            raise CheckpointError(
                f"the text prior has {prior.size} ids, the bundle {self.name} needs "
                f"{self.vocabulary.text_size}",
                "use the prior that belongs to it",
            )
        return prior

    @cached_property
    def mask_prior(self) -> MaskPrior | None:
        """Static prior of the mask coder, if the bundle has one."""
        return (
            _loaded(load_mask_prior, self.path("mask_prior")) if self._has("mask_prior") else None
        )

    @cached_property
    def entropy(self) -> EntropyModels:
        """The exact entropy models of the image tokens; may hold none."""
        from shared_protocol.entropy.coder import EntropyModels

        files = self._entropy_files()
        with _loading(next(iter(files.values()), self.folder)):
            alphabets = self.vocabulary.codebook_size, self.vocabulary.text_size
            return EntropyModels.load(files, self.compute, alphabets)

    def entropy_fingerprint(self, scenario: Scenario) -> bytes | None:
        """32 bytes that name the entropy model of a scenario; None if the bundle has none."""
        digest = self.manifest.digest(_role(scenario))
        return None if digest is None else bytes.fromhex(digest)

    def _entropy_files(self) -> dict[Scenario, Path]:
        roles = {scenario: _role(scenario) for scenario in Scenario}
        return {s: self.path(role) for s, role in roles.items() if self._has(role)}

    def _has(self, role: str) -> bool:
        return role in self.manifest.files

    @cached_property
    def _image_tokenizer(self) -> ImageTokenizer:
        from shared_protocol.tokenizers.image import NetworkTokenizer

        size, stride = self.vocabulary.codebook_size, self.stride

        def checked() -> LfqNetwork:
            from shared_protocol.tokenizers.load import load_network

            path, kind = self.path("image_tokenizer"), self.manifest.image_tokenizer
            with _loading(path):
                network = load_network(kind, path, self.compute)
            found = 1 << network.config.bits, network.config.stride
            if found != (size, stride):
                raise CheckpointError(
                    f"{path} has {found[0]} codes of {found[1]} pixels a side, the bundle "
                    f"{self.name} needs {size} of {stride}",
                    "use the image tokenizer that belongs to it",
                )
            return network

        return NetworkTokenizer(checked, stride, size)

    def image_tokenizer(self) -> ImageTokenizer:
        """Pixels to codes and back; reads the weights on its first use."""
        return self._image_tokenizer


def _role(scenario: Scenario) -> str:
    return f"entropy_{scenario.slug}"


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """The boundary of all that files can do to their readers: what they raise becomes ours."""
    try:
        yield
    except UnimicError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"cannot read {path}: {type(error).__name__}: {str(error)[:200]}",
            "the file is damaged, or too large for this device; install the bundle again",
        ) from error


def _loaded(load: Callable[[Path], T], path: Path) -> T:
    with _loading(path):
        return load(path)


def _verify(path: Path, expected: str) -> None:
    digest = digest_of(path)
    if digest != expected:
        raise CheckpointError(
            f"{path} has SHA-256 {digest[:16]}…, the manifest says {expected[:16]}…",
            "the file was changed or damaged; install the bundle again",
        )
