"""Messages with some of their bytes changed, cut off or added, as hypothesis and as numpy draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, messages: Sequence[bytes]) -> bytes:
    """One of `messages` with some of its bytes changed, cut off or added."""
    body = bytearray(draw(st.sampled_from(messages)))
    for _ in range(draw(st.integers(1, 4))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(1, len(body)))]) + draw(st.binary(max_size=4))


def bodies(messages: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Good, damaged and random bodies."""
    return st.one_of(st.sampled_from(messages), damaged(messages), st.binary(max_size=200))


def flipped(rng: np.random.Generator, data: bytes, most: int = 3) -> bytes:
    """`data` with 1 to `most` bits turned over."""
    changed = bytearray(data)
    for place in rng.choice(8 * len(data), int(rng.integers(1, most + 1)), replace=False):
        changed[place // 8] ^= 1 << int(place % 8)
    return bytes(changed)
