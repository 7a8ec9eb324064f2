"""The stepwise decoder as one compiled loop: integer Transformer and range decoder together.

It does not know scenarios or files. `exact` is the oracle it is tested against, bit for bit, and
the fallback where numba is missing; `range_coder.RangeDecoder` is the mirror of its decoder.

Speed rests on three habits: 2-D slices inside the loops (flat offsets ran ten times slower); int8
weights against int16 activations with every product and sum cast back to int32 (numba makes them
int64 otherwise, which ran three times slower), so that they become one vector instruction; and all
sums of a matrix before their roundings, so that the roundings are vectors as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from shared_protocol.coding.range_coder import BOTTOM, HEAD_BYTES, TOP, TOP_BITS, VIRTUAL_BYTES
from shared_protocol.entropy.config import (
    ATTENTION_SUM,
    FREQUENCY_SUM,
    GELU_HALF,
    NEIGHBOURS,
    RESIDUAL_MAX,
    SLOTS,
)
from shared_protocol.entropy.scenarios import Layout
from shared_protocol.entropy.weights import BlockWeights, EntryWeights, ExactWeights, HeadWeights
from shared_protocol.errors import BadMessageError, TrailingBytesError, TruncatedError
from shared_protocol.tokens import Codes

_NEIGHBOURS = np.array(NEIGHBOURS, dtype=np.int64)
_OK, _TRUNCATED, _TRAILING, _NOT_SHORTEST = 0, 1, 2, 3

Caches = npt.NDArray[np.int8]


def _jit(function: Callable[..., Any]) -> Any:
    """Compiled and cached on disk; not cached where no folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no writable place for its cache
        return numba.njit(nogil=True)(function)


@_jit
def _requantise(total, scale, limit):  # type: ignore[no-untyped-def]
    """One float32 multiplication, round half to even, clamp."""
    # A float32 product of two float32 is rounded the same way on every IEEE machine; a division or
    # a fused multiply-add would not be.
    high = np.float32(limit)
    return np.int32(min(max(np.rint(np.float32(total) * scale), -high), high))


@_jit
def _dot(row, x):  # type: ignore[no-untyped-def]
    """Sum of products; every partial sum fits 32 bits, as the certificates say."""
    total = np.int32(0)
    for k in range(x.shape[0]):
        total = np.int32(total + np.int32(np.int32(row[k]) * np.int32(x[k])))
    return total


@_jit
def _linear(weight, scale, x, limit, sums, out):  # type: ignore[no-untyped-def]
    rows = weight.shape[0]
    for r in range(rows):
        sums[r] = _dot(weight[r], x)
    for r in range(rows):
        out[r] = _requantise(sums[r], scale[r], limit)


@_jit
def _linear_biased(weight, scale, bias, x, limit, sums, out):  # type: ignore[no-untyped-def]
    rows = weight.shape[0]
    for r in range(rows):
        sums[r] = np.int32(_dot(weight[r], x) + bias[r])
    for r in range(rows):
        out[r] = _requantise(sums[r], scale[r], limit)


@_jit
def _add(weight, scale, x, sums, residual):  # type: ignore[no-untyped-def]
    rows = weight.shape[0]
    for r in range(rows):
        sums[r] = _dot(weight[r], x)
    for r in range(rows):
        value = np.int32(residual[r] + _requantise(sums[r], scale[r], RESIDUAL_MAX))
        residual[r] = min(max(value, np.int32(-RESIDUAL_MAX)), np.int32(RESIDUAL_MAX))


@_jit
def _norm(residual, numerator, out):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for k in range(residual.shape[0]):
        total += np.int64(residual[k]) * np.int64(residual[k])
    factor = np.float32(numerator / np.sqrt(np.float64(max(total, np.int64(1)))))
    for k in range(residual.shape[0]):
        out[k] = _requantise(residual[k], factor, 127)


@_jit
def _attend(query, keys, values, count, scale, multiplier, table, scores, mixed, out):  # type: ignore[no-untyped-def]
    """One head: `count` keys and values of int8, result in `out` (int16)."""
    for j in range(count):
        scores[j] = _dot(keys[j], query)
    best = np.int32(-(2**30))
    # Softmax by table: only the distance to the best score counts, so no exponential is computed.
    for j in range(count):
        scores[j] = np.int32(np.rint(np.float32(scores[j]) * scale))
        best = max(best, scores[j])
    last = np.int32(table.shape[0] - 1)
    total = np.int32(0)
    for j in range(count):
        share = table[min(np.int32(best - scores[j]), last)]
        scores[j] = share
        total = np.int32(total + share)
    factor = np.float32(ATTENTION_SUM) / np.float32(total)
    mixed[:] = 0
    for j in range(count):
        share = np.int32(np.rint(np.float32(scores[j]) * factor))
        if share != 0:
            row = values[j]
            for k in range(row.shape[0]):
                mixed[k] = np.int32(mixed[k] + np.int32(share * np.int32(row[k])))
    for k in range(mixed.shape[0]):
        out[k] = _requantise(mixed[k], multiplier, 127)


@_jit
def _frequencies(weight, scale, bias, x, table, steps, out):  # type: ignore[no-untyped-def]
    """Frequencies of one symbol into `out` (int64); returns their sum."""
    for r in range(weight.shape[0]):
        steps[r] = np.int32(_dot(weight[r], x) + bias[r])
    best = np.int32(-(2**30))
    for r in range(weight.shape[0]):
        steps[r] = np.int32(np.rint(np.float32(steps[r]) * scale[r]))
        best = max(best, steps[r])
    last = np.int32(table.shape[0] - 1)
    shares = np.int64(0)
    for r in range(weight.shape[0]):
        steps[r] = table[min(np.int32(best - steps[r]), last)]
        shares += steps[r]
    factor = np.float64(FREQUENCY_SUM) / np.float64(shares)
    total = np.int64(0)
    for r in range(weight.shape[0]):
        out[r] = np.int64(np.rint(np.float64(steps[r]) * factor)) + 1
        total += out[r]
    return total


@_jit
def _decode_symbol(data, coder, table, size, total):  # type: ignore[no-untyped-def]
    """`RangeDecoder.target` and `.advance`; coder = (code, range, position). -1 when truncated."""
    share = coder[1] // total
    target = min(coder[0] // share, total - 1)
    symbol, start = 0, np.int64(0)
    while symbol < size - 1 and start + table[symbol] <= target:
        start += table[symbol]
        symbol += 1
    coder[0] -= share * start
    if start + table[symbol] == total:
        coder[1] -= share * start
    else:
        coder[1] = share * table[symbol]
    while coder[1] <= BOTTOM:
        byte = np.int64(0)
        if coder[2] < data.shape[0]:
            byte = np.int64(data[coder[2]])
        coder[2] += 1
        if coder[2] - data.shape[0] > VIRTUAL_BYTES:
            return -1
        coder[0] = (coder[0] << 8) | byte
        coder[1] <<= 8
    return symbol


@_jit
def _finish(data, coder):  # type: ignore[no-untyped-def]
    """`RangeDecoder.finish`: a status."""
    length, position = data.shape[0], coder[2]
    if position < length:
        return _TRAILING
    if length > 0 and data[length - 1] == 0 and length > position - VIRTUAL_BYTES:
        return _TRAILING
    if position - length > VIRTUAL_BYTES:
        return _TRUNCATED
    count = length - position + HEAD_BYTES
    if count > 0:
        unit = np.int64(1) << (TOP_BITS - 8 * count)
        above = np.int64(256 - np.int64(data[length - 1])) * unit
        if coder[0] >= unit or coder[1] - coder[0] > above:
            return _NOT_SHORTEST
    return _OK


@_jit
def _embed(w, row, column, kind, previous, board, joined, sums, residual):  # type: ignore[no-untyped-def]
    """The residual stream of a target entry; (row, column) without the board's border."""
    width = w.codes.shape[1]
    joined[:width] = w.codes[previous]
    for slot in range(SLOTS - 1):
        down, right = _NEIGHBOURS[slot, 0], _NEIGHBOURS[slot, 1]
        code = board[row + 1 + down, column + 1 + right]
        joined[(slot + 1) * width : (slot + 2) * width] = w.codes[code]
    _linear(w.join, w.join_scale, joined, RESIDUAL_MAX, sums, residual)
    # Grids larger than any in training share the last row and column.
    row, column = min(row, w.rows.shape[0] - 1), min(column, w.columns.shape[0] - 1)
    for k in range(residual.shape[0]):
        place = np.int32(w.rows[row, k]) + np.int32(w.columns[column, k])
        place = np.int32(place + np.int32(w.kinds[kind, k]))
        value = np.int32(residual[k] + place)
        residual[k] = min(max(value, np.int32(-RESIDUAL_MAX)), np.int32(RESIDUAL_MAX))


@_jit
def _block(w, layer, residual, normed, qkv, mixed, inner, scores, head, sums, keys, values, at):  # type: ignore[no-untyped-def]
    """One Transformer block for one entry; its key and value go to position `at`."""
    heads, head_width = keys.shape[1], keys.shape[3]
    width = residual.shape[0]
    _norm(residual, w.norms[2 * layer], normed)
    _linear(w.qkv[layer], w.qkv_scale[layer], normed, 127, sums, qkv)
    for h in range(heads):
        left, right = h * head_width, (h + 1) * head_width
        keys[layer, h, at] = qkv[width + left : width + right]
        values[layer, h, at] = qkv[2 * width + left : 2 * width + right]
        _attend(
            qkv[left:right], keys[layer, h], values[layer, h], at + 1,
            w.score[layer, h], w.mix[layer], w.exponential, scores, head, mixed[left:right],
        )  # fmt: skip
    _add(w.out[layer], w.out_scale[layer], mixed, sums, residual)
    _norm(residual, w.norms[2 * layer + 1], normed)
    _linear_biased(w.up[layer], w.up_scale[layer], w.up_bias[layer], normed, GELU_HALF, sums, inner)
    for k in range(inner.shape[0]):
        inner[k] = w.gelu[layer, inner[k] + GELU_HALF]
    _add(w.down[layer], w.down_scale[layer], inner, sums, residual)


@_jit
def _decode(  # type: ignore[no-untyped-def]
    data, places, kind, board, outside, entry, block, head, keys, values, start, codes, record
):
    """Fill `codes`, one step per target; returns a status. `record` takes every table, or none."""
    width = entry.join.shape[0]
    high_size, low_size = head.high.shape[0], head.low.shape[0]
    residual = np.zeros(width, np.int32)
    joined = np.zeros(entry.join.shape[1], np.int16)
    normed, mixed = np.zeros(width, np.int16), np.zeros(width, np.int16)
    qkv = np.zeros(3 * width, np.int16)
    inner = np.zeros(block.up.shape[1], np.int16)
    low = np.zeros(head.inner.shape[0], np.int16)
    scores, one_head = np.zeros(keys.shape[2], np.int32), np.zeros(keys.shape[3], np.int32)
    sums = np.zeros(max(qkv.shape[0], inner.shape[0], low.shape[0]), np.int32)
    steps = np.zeros(max(high_size, low_size), np.int32)
    frequency = np.zeros(steps.shape[0], np.int64)
    coder = np.zeros(3, np.int64)
    coder[1], coder[2] = TOP, HEAD_BYTES
    for place in range(HEAD_BYTES):
        byte = np.int64(data[place]) if place < data.shape[0] else np.int64(0)
        coder[0] = (coder[0] << 8) | byte
    previous = np.int64(outside)
    for t in range(places.shape[0]):
        row, column = places[t, 0], places[t, 1]
        _embed(entry, row, column, kind, previous, board, joined, sums, residual)
        for layer in range(keys.shape[0]):
            _block(
                block, layer, residual, normed, qkv, mixed, inner, scores, one_head, sums,
                keys, values, start + t,
            )  # fmt: skip
        _norm(residual, head.norm, normed)
        # The kernel codes 13 bits as 6 and then 7: two short tables instead of one of 8,192 rows.
        total = _frequencies(
            head.high, head.high_scale, head.high_bias, normed, head.exponential, steps, frequency
        )
        if t < record.shape[0]:
            record[t, 0] = frequency
        high = _decode_symbol(data, coder, frequency, high_size, total)
        if high < 0:
            return _TRUNCATED
        for r in range(low.shape[0]):
            total_r = np.int32(_dot(head.inner[r], normed) + head.inner_bias[r])
            sums[r] = np.int32(total_r + head.given[high, r])
        for r in range(low.shape[0]):
            low[r] = head.gelu[_requantise(sums[r], head.inner_scale[r], GELU_HALF) + GELU_HALF]
        total = _frequencies(
            head.low, head.low_scale, head.low_bias, low, head.exponential, steps, frequency
        )
        if t < record.shape[0]:
            record[t, 1] = frequency
        symbol = _decode_symbol(data, coder, frequency, low_size, total)
        if symbol < 0:
            return _TRUNCATED
        previous = high * low_size + symbol
        codes[t] = previous
        board[row + 1, column + 1] = previous
    return _finish(data, coder)


class Kernel:
    """A compiled decoder for one set of weights; calls may run in any number of threads."""

    def __init__(self, weights: ExactWeights) -> None:
        w = weights.arrays
        layers = weights.config.layers
        table = np.ascontiguousarray
        self._config = weights.config
        self._alphabet = max(weights.config.high_size, weights.config.low_size)
        entry = ("code_table", "join.weight", "join.scale", "row", "column", "kind")
        block = (
            "norms", "qkv.weight", "qkv.scale", "score.scale", "mix.scale", "out.weight",
            "out.scale", "up.weight", "up.scale", "up.bias", "gelu", "down.weight", "down.scale",
            "score_exp",
        )  # fmt: skip
        head = (
            "high.weight", "high.scale", "high.bias", "low_in.weight", "low_in.scale",
            "low_in.bias", "given", "low_gelu", "low_out.weight", "low_out.scale", "low_out.bias",
            "logit_exp",
        )  # fmt: skip
        self._entry = EntryWeights(*(table(w[name]) for name in entry))
        self._block = BlockWeights(*(table(w[name]) for name in block))
        self._head = HeadWeights(float(w["norms"][2 * layers]), *(table(w[name]) for name in head))

    def decode(
        self,
        data: bytes,
        plan: Layout,
        keys: Caches,
        values: Caches,
        start: int,
        record: npt.NDArray[np.int64] | None = None,
    ) -> Codes:
        """The codes of one stream.

        Args:
            data: the stream, exactly.
            plan: its layout.
            keys: (L, heads, start + M, D / heads) int8, the prefix's keys in the first `start`.
            values: the same for values; both are written to.
            start: length of the prefix.
            record: (M, 2, larger of both alphabets), filled with all frequencies; for tests.

        Returns:
            (M,) int32.

        Raises:
            TruncatedError, TrailingBytesError, BadMessageError: as `RangeDecoder` does.
        """
        codes = np.zeros(plan.count, dtype=np.int32)
        stream = np.frombuffer(data, dtype=np.uint8).copy()
        places = np.ascontiguousarray(plan.target_places, dtype=np.int64)
        status = _decode(
            stream, places, plan.target_kind, plan.board.copy(), self._config.outside_row,
            self._entry, self._block, self._head, keys, values, start, codes,
            np.zeros((0, 2, self._alphabet), np.int64) if record is None else record,
        )  # fmt: skip
        if status == _TRUNCATED:
            raise TruncatedError(f"a coded part of {len(data)} bytes ends too early")
        if status == _TRAILING:
            raise TrailingBytesError("bytes follow the last symbol of a coded part")
        if status == _NOT_SHORTEST:
            raise BadMessageError("a coded part is not the shortest stream of its symbols")
        return codes


_warm = threading.Lock()


def compile_kernel(kernel: Kernel) -> None:
    """Compile (or load from numba's cache) by decoding one code; one thread at a time."""
    c = kernel._config
    board = np.full((3, 3), c.outside_row, dtype=np.int32)
    board[1, 1] = c.future_row
    none = np.zeros((0, SLOTS), np.int32)
    plan = Layout(none[:, 0], none, none[:, :2], none[:, 0], np.zeros((1, 2), np.int32), 3, board)
    with _warm, suppress(BadMessageError):
        shape = (c.layers, c.heads, 1, c.head_width)
        kernel.decode(bytes(12), plan, np.zeros(shape, np.int8), np.zeros(shape, np.int8), 0)
