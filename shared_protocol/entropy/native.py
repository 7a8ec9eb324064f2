"""The compiled stepwise decoder: finds it, checks it, and hands it weights and streams.

It does not know scenarios or files. The decoder itself is `_kernel.c`; where it could not be built,
or was built for another machine, `exact` decodes step by step with the same result.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.range_coder import BOTTOM, TOP_BITS, VIRTUAL_BYTES, RangeDecoder
from shared_protocol.entropy.config import (
    ACTIVATION_MAX,
    ATTENTION_SUM,
    FREQUENCY_SUM,
    GELU_HALF,
    KINDS,
    RESIDUAL_MAX,
    SLOTS,
    EntropyConfig,
)
from shared_protocol.entropy.scenarios import Layout
from shared_protocol.entropy.weights import Array, ExactWeights
from shared_protocol.tokens import Codes

VERSION = 1
"""Of the arguments that `_kernel.decode` takes."""
CONSTANTS = (
    ACTIVATION_MAX, RESIDUAL_MAX, ATTENTION_SUM, FREQUENCY_SUM, GELU_HALF, SLOTS, TOP_BITS, BOTTOM,
    VIRTUAL_BYTES,
)  # fmt: skip
"""What the C file must have been built with, in its order."""
_ALIGNMENT = 64
_TRUNCATED = 1
_MODULE = "shared_protocol.entropy._kernel"

Caches = npt.NDArray[np.int8]
Record = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """What became of the search for the compiled decoder.

    Args:
        module: it, or None.
        words: which processors it was built for, or why it cannot be used.
    """

    module: Any
    words: str


@cache
def find_kernel() -> Found:
    """The compiled decoder of this installation, if it can be used here."""
    try:
        module = importlib.import_module(_MODULE)
    except ModuleNotFoundError:
        return Found(None, "it was not built: there was no C compiler when this was installed")
    except ImportError as error:
        return Found(None, f"it cannot be used here: {error}")
    if module.VERSION != VERSION or module.CONSTANTS != CONSTANTS:
        return Found(None, f"it is of another version ({module.VERSION}): install again")
    return Found(module, str(module.TARGETS))


@dataclass(frozen=True, eq=False)
class Lane:
    """One stream that is to be decoded.

    Args:
        decoder: where in which stream; stands behind the last code afterwards.
        plan: the layout of its codes.
        keys: (L, heads, start + M, D / heads) int8, the prefix's keys in the first `start`.
        values: the same for values; both are written to.
        start: length of the prefix.
        record: (M, 2, larger of both alphabets), filled with all frequencies; for tests.
    """

    decoder: RangeDecoder
    plan: Layout
    keys: Caches
    values: Caches
    start: int
    record: Record | None = None


class Kernel:
    """The compiled decoder with one set of weights; calls may run in any number of threads.

    Args:
        module: the extension, as `find_kernel` gives it.
        weights: certified integer weights.
    """

    def __init__(self, module: Any, weights: ExactWeights) -> None:
        self._decode = module.decode
        self._outside = weights.config.outside_row
        self._sizes = packed_sizes(weights)
        self._weights = packed_weights(weights)

    def decode(self, lanes: Sequence[Lane]) -> list[Codes]:
        """The codes (M,) int32 of every lane, decoded side by side, without the interpreter's lock.

        Raises:
            TruncatedError: a stream ended too early.
        """
        codes = [np.zeros(lane.plan.count, dtype=np.int32) for lane in lanes]
        given = [self._arguments(lane, row) for lane, row in zip(lanes, codes, strict=True)]
        results = self._decode(self._sizes, self._weights, given)
        for lane, (code, span, position, status) in zip(lanes, results, strict=True):
            if status == _TRUNCATED:
                raise lane.decoder.truncated()
            lane.decoder.state = code, span, position
        return codes

    def _arguments(self, lane: Lane, codes: Codes) -> tuple[Any, ...]:
        plan = lane.plan
        places = np.ascontiguousarray(plan.target_places, dtype=np.int32)
        board = plan.board.astype(np.int32)  # a copy, which is written to
        return (
            lane.decoder.data, *lane.decoder.state, places, plan.target_kind, self._outside,
            board, board.shape[1], lane.keys, lane.values, lane.keys.shape[2], lane.start, codes,
            lane.record,
        )  # fmt: skip


def packed_sizes(weights: ExactWeights) -> bytes:
    """The C file's `Sizes`: thirteen int32."""
    c: EntropyConfig = weights.config
    fields = (
        c.width, c.layers, c.heads, c.hidden, c.code_width, c.low_width, c.side, c.high_size,
        c.low_size, c.code_rows, KINDS, len(weights["score_exp"]), len(weights["logit_exp"]),
    )  # fmt: skip
    return np.array(fields, dtype=np.int32).tobytes()


_ORDER = (
    "code_table", "join.weight", "join.scale", "row", "column", "kind", "norms", "qkv.weight",
    "qkv.scale", "score.scale", "mix.scale", "out.weight", "out.scale", "up.weight", "up.scale",
    "up.bias", "gelu", "down.weight", "down.scale", "score_exp", "high.weight", "high.scale",
    "high.bias", "low_in.weight", "low_in.scale", "low_in.bias", "given", "low_gelu",
    "low_out.weight", "low_out.scale", "low_out.bias", "logit_exp",
)  # fmt: skip
"""The arrays in the order of `place_model` in the C file; text never reaches the stepwise part."""


def packed_weights(weights: ExactWeights) -> npt.NDArray[np.uint8]:
    """All arrays one after another, each at a multiple of 64 bytes of memory; (bytes,) uint8."""
    arrays: list[Array] = [np.ascontiguousarray(weights[name]) for name in _ORDER]
    lengths = [-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays]
    space = np.zeros(sum(lengths) + _ALIGNMENT, dtype=np.uint8)
    first = -space.ctypes.data % _ALIGNMENT
    at = first
    for array, length in zip(arrays, lengths, strict=True):
        space[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
        at += length
    return space[first:at]
