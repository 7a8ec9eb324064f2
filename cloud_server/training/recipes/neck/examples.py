"""What a neck is trained on: codes of pictures, the encoder's features of the same, what they show.

It does not know necks or losses. Pictures pass the encoder once, before training starts; a batch
is a pure function of (seed, step)::

    a folder of shards (`token-cache`)   codes, and scenes that are drawn again: exact truth
    a folder of photographs              the bundle's tokenizer makes the codes; the truth is what
                                         the encoder says of the pixels
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cloud_server.necks.encoders import Encoder
from cloud_server.training.recipes.image_tokenizer.crops import load_photos
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.scene_tokens import TokenShards
from cloud_server.training.tokens.shards import META
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.tokenizers.image import ImageTokenizer

logger = logging.getLogger(__name__)

AT_ONCE = 16


@dataclass(frozen=True)
class Example:
    """A batch.

    Attributes:
        codes: int64 (B, h, w).
        wanted: C(x), float32 (B, …).
        truth: (B, labels) shares that sum to 1.
        pictures: uint8 (B, H, W, 3); None where they were not kept.
    """

    codes: Tensor
    wanted: Tensor
    truth: Tensor
    pictures: np.ndarray | None


@dataclass(frozen=True)
class Pool:
    """Everything that batches are drawn from, in memory.

    Attributes:
        codes: uint16 (N, h, w).
        wanted: float16 (N, …), features of the pixels.
        truth: float32 (N, labels).
        pictures: uint8 (N, H, W, 3); None where they were not kept.
    """

    codes: np.ndarray
    wanted: Tensor
    truth: Tensor
    pictures: np.ndarray | None

    def __len__(self) -> int:
        return len(self.codes)

    def batch(self, step: int, size: int, seed: int, device: str = "cpu") -> Example:
        """The examples of a step."""
        rng = np.random.default_rng((seed, step))
        return self.examples(rng.integers(len(self), size=size), device)

    def examples(self, rows: np.ndarray, device: str = "cpu") -> Example:
        """Those of some rows."""
        return Example(
            torch.from_numpy(self.codes[rows].astype(np.int64)).to(device),
            self.wanted[torch.from_numpy(rows)].float().to(device),
            self.truth[torch.from_numpy(rows)].to(device),
            None if self.pictures is None else self.pictures[rows],
        )


@dataclass(frozen=True)
class Sources:
    """Where examples come from.

    Attributes:
        folder: of shards or of photographs.
        count: most examples.
        tokenizer: makes the codes of photographs.
        digest: of the tokenizer's file, which shards must name.
        pattern: of the shards.
        cache: folder for the sprites; None = $UNIMIC_CACHE.
        world: another world.toml.
        keep_pictures: pixels are needed later.
    """

    folder: Path
    count: int
    tokenizer: ImageTokenizer
    digest: str
    pattern: str = "train_*.npy"
    cache: Path | None = None
    world: Path | None = None
    keep_pictures: bool = False

    @property
    def are_scenes(self) -> bool:
        """Whether the folder holds shards of scenes."""
        return (self.folder / META).is_file()


def to_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in -1..1."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fill_pool(sources: Sources, encoder: Encoder) -> Pool:
    """Read, draw or tokenise the pictures, and pass them through the encoder.

    Raises:
        ConfigError: the scenes show what the encoder has no label for.
        InvalidInputError: no pictures there, or damaged ones.
    """
    return _scene_pool(sources, encoder) if sources.are_scenes else _photo_pool(sources, encoder)


def _scene_pool(sources: Sources, encoder: Encoder) -> Pool:
    check_tokenizer(sources.folder, sources.digest)
    shards = TokenShards(sources.folder, sources.pattern)
    count = min(sources.count, len(shards))
    if not count:
        raise InvalidInputError(f"no {sources.pattern} in {sources.folder}", "make them")
    scenes = [shards[index].scene for index in range(count)]
    world = World.load(sources.world)
    renderer = Renderer(world, sources.cache)
    wanted, kept = [], []
    for start in range(0, count, AT_ONCE):
        some = scenes[start : start + AT_ONCE]
        pictures = np.stack([renderer.render(scene) for scene in some])
        wanted.append(features_of(encoder, pictures))
        if sources.keep_pictures:
            kept.append(pictures)
    logger.info("%d scenes drawn and seen by %s", count, encoder.name)
    return Pool(
        np.stack([shards[index].codes for index in range(count)]),
        torch.cat(wanted),
        truth_of(scenes, encoder.labels),
        np.concatenate(kept) if kept else None,
    )


def check_tokenizer(folder: Path, digest: str) -> None:
    """Raise `ConfigError` for shards that another tokenizer made."""
    made_by = json.loads((folder / META).read_text(encoding="utf-8")).get("tokenizer_sha256")
    if made_by != digest:
        raise ConfigError(
            f"the shards in {folder} were made by the tokenizer {str(made_by)[:16]}…, this "
            f"bundle's is {digest[:16]}…",
            "make them anew: 'cloud-server train token-cache'",
        )


def _photo_pool(sources: Sources, encoder: Encoder) -> Pool:
    photos = load_photos(sources.folder, sources.count)
    codes, wanted, truth = [], [], []
    for start in range(0, len(photos), AT_ONCE):
        pictures = photos[start : start + AT_ONCE]
        codes.append(np.stack([sources.tokenizer.tokenize(each).codes for each in pictures]))
        features = features_of(encoder, pictures)
        wanted.append(features)
        truth.append(_said(encoder, features.float()))
    logger.info("%d photographs tokenised and seen by %s", len(photos), encoder.name)
    return Pool(
        np.concatenate(codes).astype(np.uint16),
        torch.cat(wanted),
        torch.cat(truth),
        photos if sources.keep_pictures else None,
    )


@torch.no_grad()
def features_of(encoder: Encoder, pictures: np.ndarray) -> Tensor:
    """C(x) of uint8 pictures (B, H, W, 3), float16."""
    return encoder.full(to_pixels(pictures)).half()


@torch.no_grad()
def _said(encoder: Encoder, features: Tensor) -> Tensor:
    """(B, labels): 1 for the label that the encoder finds most likely."""
    if not encoder.labels:
        return torch.zeros(len(features), 0)
    best = encoder.scores(features).argmax(1)
    return torch.nn.functional.one_hot(best, len(encoder.labels)).float()


def truth_of(scenes: Sequence[Scene], labels: Sequence[str]) -> Tensor:
    """(N, labels): equal shares of the objects of each scene.

    Raises:
        ConfigError: an object has no label.
    """
    if not labels:
        return torch.zeros(len(scenes), 0)
    places = {label: index for index, label in enumerate(labels)}
    truth = torch.zeros(len(scenes), len(labels))
    for row, scene in zip(truth, scenes, strict=True):
        names = {thing.name for thing in scene.objects}
        strange = names - places.keys()
        if strange:
            raise ConfigError(
                f"a scene shows {min(strange)!r}, which the encoder has no label for",
                "use scenes of the encoder's world",
            )
        for name in names:
            row[places[name]] = 1 / len(names)
    return truth
