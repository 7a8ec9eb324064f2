"""The kinds of transformer weights that can be served: how each is recognised, loaded and run.

It does not know bundles or settings. A new backbone is one module beside this one and one row of
`KINDS`; `serving.load` walks the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cloud_server.generation.backbone.checkpoint import (
    load_builtin_backbone,
    load_showo_backbone,
    reads_clip_features,
)
from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.masked_decoding import REFERENCE, STANDARD, DecodingPolicy
from shared_protocol.bundles.weight_files import SUFFIXES, WEIGHT_NAMES
from shared_protocol.errors import CheckpointError
from shared_protocol.vocabulary import Vocabulary

_SHOWO_TEXT_LENGTH = 128


@dataclass(frozen=True)
class LoadedWeights:
    """A backbone that is ready, and what must be known to run it.

    Args:
        backbone: the network.
        ids: number of ids that it knows.
        vocabulary, side: id layout and native grid side, where the weights say them.
        max_text_len: length of the text block, without the task token.
        answers_from_tokens: whether it can answer questions about image tokens.
        size: bytes of the weights.
    """

    backbone: Backbone
    ids: int
    max_text_len: int
    vocabulary: Vocabulary | None = None
    side: int | None = None
    answers_from_tokens: bool = True
    size: int = 0

    def fits(self, vocabulary: Vocabulary, grid: tuple[int, int]) -> bool:
        """Whether it is made for tokens of this kind."""
        return (
            self.ids == vocabulary.size
            and self.vocabulary in (None, vocabulary)
            and (self.side is None or grid == (self.side, self.side))
        )


@dataclass(frozen=True)
class BackboneKind:
    """One kind of weights.

    Args:
        name: what to call it.
        expects: what its files look like, in words.
        recognises: whether the file or folder at a path is of this kind.
        load: (path, device, dtype) to the loaded weights; raises `CheckpointError`.
        policy: the order of decoding that it draws best with.
        dtype: that it is served in.
        mends: how often a result is mended at most where nobody says it.
    """

    name: str
    expects: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path, str, torch.dtype], LoadedWeights]
    policy: DecodingPolicy
    dtype: torch.dtype
    mends: int = 0


def _is_compact(path: Path) -> bool:
    return path.is_dir() and any(path.glob("backbone*.safetensors"))


def _load_compact(path: Path, device: str, dtype: torch.dtype) -> LoadedWeights:
    loaded = load_builtin_backbone(path, device=device, dtype=dtype)
    card, backbone = loaded.card, loaded.backbone
    return LoadedWeights(
        backbone,
        card.vocabulary.size,
        card.max_text_len,
        card.vocabulary,
        card.side,
        size=sum(tensor.nbytes for tensor in backbone.phi.parameters()),
    )


def _is_showo(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (*SUFFIXES, ".json")
    return any((path / name).is_file() for name in WEIGHT_NAMES)


def _load_showo(path: Path, device: str, dtype: torch.dtype) -> LoadedWeights:
    backbone = load_showo_backbone(path, device=device, dtype=dtype)
    return LoadedWeights(
        backbone,
        backbone.vocab_size,
        _SHOWO_TEXT_LENGTH,
        answers_from_tokens=not reads_clip_features(path),
        size=sum(tensor.nbytes for tensor in backbone.phi.parameters()),
    )


KINDS: list[BackboneKind] = [
    BackboneKind(
        "compact",
        "a folder with backbone*.safetensors",
        _is_compact,
        _load_compact,
        STANDARD,
        torch.float32,
        mends=3,
    ),
    BackboneKind(
        "show-o",
        f"a file of tensors, or a folder with one of {', '.join(WEIGHT_NAMES)}",
        _is_showo,
        _load_showo,
        REFERENCE,
        torch.bfloat16,
    ),
]
"""Tried in this order."""


def kind_of(path: Path) -> BackboneKind:
    """The kind of the weights at `path`.

    Raises:
        CheckpointError: there are none of a known kind.
    """
    found = next((kind for kind in KINDS if kind.recognises(path)), None)
    if found is None:
        known = "; ".join(f"{kind.name}: {kind.expects}" for kind in KINDS)
        fault = "holds no weights of a known kind" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {fault}", f"known are {known}")
    return found
