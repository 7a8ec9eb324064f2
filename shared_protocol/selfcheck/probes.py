"""Fixed codes and contexts, the same for ever and on every machine: what self-checks compute on.

It does not know weights or tables, and uses no random generator, since those may change between
library versions: all numbers come from SHA-256.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.tokens import Codes

LARGE_EVERY = 100
"""One sequence in so many is a whole picture of `LARGE_SIDE`, the others have sides of 1 to 8."""
LARGE_SIDE = 16


def probe(
    seed: int,
    shape: tuple[int, int],
    codebook_size: int,
    text_size: int,
    text_length: int | None = None,
    target_share: int = 5,
) -> tuple[Codes, CodingContext]:
    """Fixed codes and a context with text, holes and known codes; equal for ever and everywhere.

    Args:
        seed: which probe.
        shape: (H, W) of its grid.
        codebook_size: V.
        text_size: number of text ids.
        text_length: N; by default `seed` modulo 16.
        target_share: eighths of the positions that are targets, about; one eighth is known.
    """
    count = shape[0] * shape[1]
    length = seed % 16 if text_length is None else text_length
    draws = _draws(seed, 2 * count + max(16, length))
    roll = draws[:count].reshape(shape) % 8
    codes = (draws[count : 2 * count] % codebook_size).reshape(shape).astype(np.int32)
    targets, known = roll < target_share, roll == target_share  # the rest are holes
    text = (draws[2 * count :][:length] % text_size).astype(np.int32)
    context = CodingContext(targets, known, np.where(known, codes, 0).astype(np.int32), text)
    return codes[targets], context


def sequence(index: int, config: EntropyConfig) -> tuple[Codes, CodingContext]:
    """Fixed codes and a context: any shape of sides 1 to 8, texts of every length, few or no holes.

    Every `LARGE_EVERY`-th is a whole picture.
    """
    large = index % LARGE_EVERY == LARGE_EVERY - 1
    shape = (LARGE_SIDE, LARGE_SIDE) if large else (1 + index % 8, 1 + index // 8 % 8)
    return probe(
        index,
        shape,
        config.codebook_size,
        config.text_size,
        text_length=index * 7 % (config.text_limit + 1),
        target_share=8 if large or index % 3 == 0 else 5 - 2 * (index % 3 - 1),
    )


def _draws(seed: int, count: int) -> npt.NDArray[np.uint32]:
    blocks = [hashlib.sha256(f"probe {seed} {i}".encode()).digest() for i in range(-(-count // 8))]
    return np.frombuffer(b"".join(blocks), dtype="<u4")[:count]
