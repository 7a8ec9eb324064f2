"""Turns a folder of pictures into shards of a bundle's image codes, captions beside them.

Knows the bundle's image tokenizer and no transformer; a shard holds at most 500 pictures::

    OUT/test_00000.npy              uint16 [N, H, W] codes of pictures that training never sees
    OUT/train_00000.npy             the others
    OUT/train_mirrored_00000.npy    the others again, left and right exchanged
    OUT/*.jsonl                     {"text": caption}, one a line, same order
    OUT/meta.json                   what made them, see `shards`
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cloud_server.training.tokens.picture_folder import CaptionedPicture, read_pixels
from cloud_server.training.tokens.shards import check_meta, write_shard
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.digests import digest_of
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers.torch_network import LOADERS

logger = logging.getLogger(__name__)

SHARD = 500
TOKENS_A_BATCH = 2048
"""Eight pictures of 16x16 tokens at once."""
HELD_OUT_SHARE = 10
"""One picture in so many is held out, ..."""
MOST_HELD_OUT = 200
"""... but never more than these."""
FEWEST_PICTURES = 2
SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)
"""Captions that say this would be wrong for the mirrored picture."""


@dataclass(frozen=True)
class Split:
    """Pictures that training sees, and those that it never does."""

    train: Sequence[CaptionedPicture]
    held_out: Sequence[CaptionedPicture]


def split_pictures(pictures: Sequence[CaptionedPicture], seed: int) -> Split:
    """Hold out a tenth of the pictures, chosen at random.

    Raises:
        ConfigError: there are too few pictures.
    """
    if len(pictures) < FEWEST_PICTURES:
        raise ConfigError(
            f"{len(pictures)} picture is too few to learn from",
            f"give at least {FEWEST_PICTURES}; a useful model needs thousands",
        )
    order = np.random.default_rng(seed).permutation(len(pictures))
    mixed = [pictures[int(index)] for index in order]
    kept = min(MOST_HELD_OUT, max(1, len(mixed) // HELD_OUT_SHARE))
    return Split(mixed[kept:], mixed[:kept])


def tokenise(split: Split, bundle: Bundle, out: Path, device: str) -> None:
    """Write the shards that are missing.

    Raises:
        ConfigError: `out` holds shards of other pictures, captions or another tokenizer.
        ImageError: a picture cannot be read.
        CheckpointError: the image tokenizer's weights are missing or damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    check_meta(out, _meta(split, bundle))
    jobs = [job for job in _plan(split, out) if not job.path.is_file()]
    if not jobs:
        return
    encoder = _Encoder(bundle, device)
    for job in jobs:
        job.write(encoder)
        logger.info("wrote %s: %d pictures", job.path.name, len(job.pictures))


class _Encoder:
    """Pictures to codes at the bundle's native size."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self._height, self._width = (side * bundle.stride for side in bundle.grid)
        self._batch = max(1, TOKENS_A_BATCH // (bundle.grid[0] * bundle.grid[1]))
        self._device = device
        self._network = _network(bundle, device)

    def encode(self, paths: Sequence[Path], mirrored: bool) -> npt.NDArray[np.int64]:
        """(N, H, W) codes."""
        starts = range(0, len(paths), self._batch)
        parts = [self._encode(paths[i : i + self._batch], mirrored) for i in starts]
        return np.concatenate(parts)

    def _encode(self, paths: Sequence[Path], mirrored: bool) -> npt.NDArray[np.int64]:
        pixels = np.stack([read_pixels(path, self._height, self._width) for path in paths])
        turned = np.ascontiguousarray(pixels[:, :, ::-1] if mirrored else pixels)
        batch = torch.from_numpy(turned).permute(0, 3, 1, 2).to(self._device)  # [N, 3, H, W]
        with torch.inference_mode():
            codes = self._network.encode_codes(batch.float() / 127.5 - 1)
        found: npt.NDArray[np.int64] = codes.cpu().numpy()
        return found


def _network(bundle: Bundle, device: str) -> Any:
    path = bundle.path("image_tokenizer")
    network: Any = LOADERS[bundle.manifest.image_tokenizer](path)
    if 1 << network.config.bits != bundle.vocabulary.codebook_size:
        raise CheckpointError(
            f"{path} has {1 << network.config.bits} codes, the bundle {bundle.name} needs "
            f"{bundle.vocabulary.codebook_size}",
            "use the image tokenizer that belongs to it",
        )
    network.to(device)
    return network


@dataclass(frozen=True)
class _Job:
    path: Path
    pictures: Sequence[CaptionedPicture]
    mirrored: bool

    def write(self, encoder: _Encoder) -> None:
        codes = encoder.encode([picture.path for picture in self.pictures], self.mirrored)
        write_shard(self.path, codes, [{"text": self._text(p)} for p in self.pictures])

    def _text(self, picture: CaptionedPicture) -> str:
        """The first caption, for the mirrored picture the last that names no side."""
        if not self.mirrored:
            return next(iter(picture.captions), "")
        fitting = [text for text in picture.captions if not SIDES.search(text)]
        return fitting[-1] if fitting else ""


def _plan(split: Split, out: Path) -> Iterator[_Job]:
    for name, pictures, mirrored in (
        ("test", split.held_out, False),
        ("train", split.train, False),
        ("train_mirrored", split.train, True),
    ):
        for number, start in enumerate(range(0, len(pictures), SHARD)):
            some = pictures[start : start + SHARD]
            yield _Job(out / f"{name}_{number:05d}.npy", some, mirrored)


def _meta(split: Split, bundle: Bundle) -> dict[str, Any]:
    every = (*split.held_out, *split.train)
    rows = [[str(p.path), p.path.stat().st_size, *p.captions] for p in every]
    return {
        "image_tokenizer": digest_of(bundle.path("image_tokenizer")),
        "grid": list(bundle.grid),
        "pictures": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }
