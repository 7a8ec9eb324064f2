"""One set of weights at work: layouts and codes in, intervals and codes out, in batches.

It does not know scenarios, files or the range coder's bytes. The sender's single parallel pass and
the receiver's steps give the same integers, since no integer here depends on the batch, the
padding or the number of entries computed at once.

```
 encode   [ prefix | all targets, teacher-forced ] ── one pass ──► an interval for every symbol
 decode   [ prefix ] ── one pass ──► keys, values ──► target after target (compiled, or numpy)
```
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.range_coder import RangeDecoder
from shared_protocol.entropy.config import NEIGHBOURS
from shared_protocol.entropy.exact import ExactModel, IntegerModel, KeyCache
from shared_protocol.entropy.native import Kernel, Lane, Record, find_kernel
from shared_protocol.entropy.scenarios import Layout, target_slots
from shared_protocol.entropy.weights import ExactWeights
from shared_protocol.errors import BadMessageError
from shared_protocol.tokens import Codes

Intervals = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Joined:
    """B layouts side by side, each part padded to its longest: [text | grid prefix | targets]."""

    plans: Sequence[Layout]
    text: int
    prefix: int
    count: int

    @classmethod
    def of(cls, plans: Sequence[Layout]) -> _Joined:
        return cls(
            plans,
            max(len(plan.text) for plan in plans),
            max(len(plan.prefix_kinds) for plan in plans),
            max(plan.count for plan in plans),
        )

    @property
    def start(self) -> int:
        """Where the targets begin."""
        return self.text + self.prefix

    def valid(self) -> npt.NDArray[np.bool_]:
        """(B, start) bool: which prefix entries are not padding."""
        flags = np.zeros((len(self.plans), self.start), dtype=bool)
        for row, plan in zip(flags, self.plans, strict=True):
            row[: len(plan.text)] = True
            row[self.text : self.text + len(plan.prefix_kinds)] = True
        return flags

    def allowed(self, length: int) -> npt.NDArray[np.bool_]:
        """(B, length, length) bool: an entry sees the prefix and what came before it."""
        steps = np.arange(length)
        keys = np.ones((len(self.plans), length), dtype=bool)
        keys[:, : self.start] = self.valid()
        seen = (steps[None, :] < self.start) | (steps[None, :] <= steps[:, None])
        allowed: npt.NDArray[np.bool_] = keys[:, None, :] & seen
        return allowed

    def prefix_entries(self) -> tuple[Intervals, Intervals, Intervals, Intervals]:
        """Text (B, T), and slots (B, P, SLOTS), places (B, P, 2) and kinds (B, P) of the prefix."""
        return (
            _padded([plan.text for plan in self.plans], self.text),
            _padded([plan.prefix_slots for plan in self.plans], self.prefix),
            _padded([plan.prefix_places for plan in self.plans], self.prefix),
            _padded([plan.prefix_kinds for plan in self.plans], self.prefix),
        )

    def entries(
        self, target_slots: Sequence[Codes]
    ) -> tuple[Intervals, Intervals, Intervals, Intervals]:
        """The same of the prefix and of all targets, which have the given slots (M, SLOTS)."""
        text, slots, places, kinds = self.prefix_entries()
        target_places = _padded([plan.target_places for plan in self.plans], self.count)
        target_kinds = np.array([[plan.target_kind] for plan in self.plans])
        return (
            text,
            np.concatenate([slots, _padded(target_slots, self.count)], axis=1),
            np.concatenate([places, target_places], axis=1),
            np.concatenate([kinds, np.repeat(target_kinds, self.count, axis=1)], axis=1),
        )


class Engine:
    """An integer model with its compiled decoder, if there is one.

    Args:
        model: computes the parallel pass, and the steps where nothing is compiled.
        kernel: decodes step by step; None leaves that to the model.
    """

    def __init__(self, model: IntegerModel, kernel: Kernel | None = None) -> None:
        self.config = model.config
        self.model = model
        self.kernel = kernel

    @classmethod
    def of(cls, weights: ExactWeights, compiled: bool = True) -> Engine:
        """numpy, with the compiled decoder where this machine has it and `compiled` asks for it."""
        return cls(ExactModel(weights), kernel_of(weights) if compiled else None)

    # Sender --------------------------------------------------------------------------------------

    def intervals(self, plans: Sequence[Layout], codes: Sequence[Codes]) -> list[Intervals]:
        """For each layout (M, 2, 3): start, frequency and total of the high and the low part."""
        if not any(plan.count for plan in plans):
            return [np.zeros((0, 2, 3), np.int64) for _ in plans]
        high_tables, low_tables, grid = self._parallel_tables(plans, codes)
        high = _interval(high_tables, grid >> self.config.low_bits)
        low = _interval(low_tables, grid & (self.config.low_size - 1))
        both = np.stack([high, low], axis=2)  # (B, M, 2, 3)
        return [both[i, : plan.count] for i, plan in enumerate(plans)]

    def tables(
        self, plans: Sequence[Layout], codes: Sequence[Codes]
    ) -> list[tuple[Intervals, Intervals]]:
        """For each layout all frequencies, (M, 64) and (M, 128), by the parallel pass."""
        if not any(plan.count for plan in plans):
            return [self._no_tables() for _ in plans]
        high, low, _ = self._parallel_tables(plans, codes)
        return [(high[i, : p.count], low[i, : p.count]) for i, p in enumerate(plans)]

    def choice_nats(
        self, plan: Layout, codes: Codes, rows: Intervals, choices: Intervals
    ) -> npt.NDArray[np.float64]:
        """Nats of each of the choices (R, K) at target `rows` (R,), the rest as in `codes`."""
        joined, c = _Joined.of([plan]), self.config
        with self.model.computing():
            x = self.model.embed(*joined.entries([target_slots(plan, codes, c)]))
            cache = self.model.new_cache(1, x.shape[1])
            states = self.model.run(x, joined.allowed(x.shape[1]), cache, joined.start)
            asked = states[0, joined.start :][rows]  # (R, D)
            high = self.model.high_frequencies(asked)
            parts = choices >> c.low_bits
            pairs, which = np.unique(
                np.arange(len(rows))[:, None] * c.high_size + parts, return_inverse=True
            )
            low = self.model.low_frequencies(asked[pairs // c.high_size], pairs % c.high_size)
        low = low[which.reshape(parts.shape)]  # (R, K, 128)
        rest = choices & (c.low_size - 1)
        shares = np.take_along_axis(high, parts, 1) / high.sum(-1, keepdims=True)
        shares = shares * np.take_along_axis(low, rest[..., None], -1)[..., 0] / low.sum(-1)
        nats: npt.NDArray[np.float64] = -np.log(shares)
        return nats

    def stepwise_tables(
        self, plans: Sequence[Layout], codes: Sequence[Codes]
    ) -> list[tuple[Intervals, Intervals]]:
        """The same frequencies as `tables`, computed one target at a time."""
        if not any(plan.count for plan in plans):
            return [self._no_tables() for _ in plans]
        with self.model.computing():
            joined = _Joined.of(plans)
            grid = _padded(codes, joined.count)
            steps = _Steps(self, joined)
            highs, lows = [], []
            for t in range(joined.count):
                highs.append(steps.high())
                lows.append(steps.low(grid[:, t] >> self.config.low_bits))
                steps.advance(grid[:, t])
        high, low = np.stack(highs, 1), np.stack(lows, 1)
        return [(high[i, : p.count], low[i, : p.count]) for i, p in enumerate(plans)]

    def _no_tables(self) -> tuple[Intervals, Intervals]:
        sizes = self.config.high_size, self.config.low_size
        high, low = (np.zeros((0, size), dtype=np.int64) for size in sizes)
        return high, low

    def _parallel_tables(
        self, plans: Sequence[Layout], codes: Sequence[Codes]
    ) -> tuple[Intervals, Intervals, Intervals]:
        joined = _Joined.of(plans)
        slots = [target_slots(p, c, self.config) for p, c in zip(plans, codes, strict=True)]
        grid = _padded(codes, joined.count)
        with self.model.computing():
            x = self.model.embed(*joined.entries(slots))
            cache = self.model.new_cache(len(plans), x.shape[1])
            allowed = joined.allowed(x.shape[1])
            states = self.model.run(x, allowed, cache, joined.start)[:, joined.start :]
            low = self.model.low_frequencies(states, grid >> self.config.low_bits)
            return self.model.high_frequencies(states), low, grid

    # Receiver ------------------------------------------------------------------------------------

    def decode(self, plans: Sequence[Layout], streams: Sequence[bytes]) -> list[Codes]:
        """The codes of each stream; a damaged stream gives some codes or a `BadMessageError`."""
        decoders = [RangeDecoder(data) for data in streams]
        codes = self.read(plans, decoders)
        for decoder in decoders:
            decoder.finish()
        return codes

    def read(self, plans: Sequence[Layout], decoders: Sequence[RangeDecoder]) -> list[Codes]:
        """The next codes of each stream, which may hold other symbols before and after them.

        Args:
            plans: how the codes were coded.
            decoders: stand at their first symbol; they stand behind the last one afterwards.

        Raises:
            TruncatedError: a stream ended too early.
        """
        if not any(plan.count for plan in plans):
            return [np.zeros(0, dtype=np.int32) for _ in plans]
        kernel = self.kernel
        if kernel is None:
            return self._read_by_steps(plans, decoders)
        lanes = [self._lane(p, d) for p, d in zip(plans, decoders, strict=True)]
        workers = min(len(lanes), _workers())
        if workers < 2:
            return kernel.decode(lanes)
        shares = [lanes[i::workers] for i in range(workers)]
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(kernel.decode, shares))
        return [found[i % workers][i // workers] for i in range(len(lanes))]

    def kernel_tables(
        self, plans: Sequence[Layout], streams: Sequence[bytes]
    ) -> list[tuple[Intervals, Intervals]]:
        """All frequencies that the compiled decoder meets while it decodes the streams."""
        assert self.kernel is not None
        c = self.config
        largest = max(c.high_size, c.low_size)
        records = [np.zeros((plan.count, 2, largest), dtype=np.int64) for plan in plans]
        rows = zip(plans, map(RangeDecoder, streams), records, strict=True)
        with suppress(BadMessageError):  # then the tables differ, which is what is asked
            self.kernel.decode([self._lane(*row) for row in rows])
        return [(each[:, 0, : c.high_size], each[:, 1, : c.low_size]) for each in records]

    def _lane(self, plan: Layout, decoder: RangeDecoder, record: Record | None = None) -> Lane:
        joined = _Joined.of([plan])
        with self.model.computing():
            both = self._filled_cache(joined).as_int8()
        keys, values = (np.ascontiguousarray(each[:, 0]) for each in both)  # the only sequence's
        return Lane(decoder, plan, keys, values, joined.start, record)

    def _read_by_steps(
        self, plans: Sequence[Layout], decoders: Sequence[RangeDecoder]
    ) -> list[Codes]:
        with self.model.computing():
            steps = _Steps(self, _Joined.of(plans))
            found = np.zeros((len(plans), steps.joined.count), dtype=np.int32)
            for t in range(steps.joined.count):
                live = [t < plan.count for plan in plans]
                high = _read(decoders, live, steps.high())
                low = _read(decoders, live, steps.low(high))
                found[:, t] = (high << self.config.low_bits) | low
                steps.advance(found[:, t])
        return [row[: plan.count] for row, plan in zip(found, plans, strict=True)]

    def _filled_cache(self, joined: _Joined) -> KeyCache:
        cache: KeyCache = self.model.new_cache(len(joined.plans), joined.start + joined.count)
        if joined.start:
            x = self.model.embed(*joined.prefix_entries())
            self.model.run(x, joined.allowed(joined.start), cache, joined.start)
        return cache


def kernel_of(weights: ExactWeights) -> Kernel | None:
    """The compiled decoder for these weights, where this machine has it."""
    module = find_kernel().module
    return Kernel(module, weights) if module else None


class _Steps:
    """B sequences decoded side by side, one target at a time, by the model itself."""

    def __init__(self, engine: Engine, joined: _Joined) -> None:
        self.engine, self.joined = engine, joined
        self.cache = engine._filled_cache(joined)
        self.valid = np.ones((len(joined.plans), 1, joined.start + joined.count), dtype=bool)
        self.valid[:, 0, : joined.start] = joined.valid()
        self.codes = np.zeros((len(joined.plans), joined.count), dtype=np.int32)
        self.boards = [plan.board.copy() for plan in joined.plans]
        self.places = _padded([plan.target_places for plan in joined.plans], joined.count)
        self.kinds = np.array([[plan.target_kind] for plan in joined.plans])
        self.at = 0
        self._advance_state()

    def high(self) -> Intervals:
        """(B, 64) frequencies of the next high part."""
        return self.engine.model.high_frequencies(self.state)

    def low(self, high: Intervals) -> Intervals:
        """(B, 128) frequencies of the next low part, given the high parts (B,)."""
        return self.engine.model.low_frequencies(self.state, high)

    def advance(self, codes: npt.NDArray[np.integer[Any]]) -> None:
        """Take in the codes (B,) of this step."""
        self.codes[:, self.at] = codes
        for plan, board, code in zip(self.joined.plans, self.boards, codes, strict=True):
            if self.at < plan.count:
                row, column = plan.target_places[self.at] + 1
                board[row, column] = code
        self.at += 1
        if self.at < self.joined.count:
            self._advance_state()

    def _advance_state(self) -> None:
        model, places = self.engine.model, self.places[:, self.at]
        slots = np.stack([self._slots(i, place) for i, place in enumerate(places)])
        text = np.zeros((len(places), 0), dtype=np.int64)
        x = model.embed(text, slots[:, None], places[:, None], self.kinds)
        allowed = self.valid[:, :, : self.joined.start + self.at + 1]
        self.state = model.run(x, allowed, self.cache, self.joined.start)[:, 0]  # (B, D)

    def _slots(self, index: int, place: Intervals) -> Intervals:
        last = self.codes[index, self.at - 1] if self.at else self.engine.config.outside_row
        rows, columns = (place + 1 + _NEIGHBOURS).T
        return np.array([last, *self.boards[index][rows, columns]], dtype=np.int64)


_NEIGHBOURS = np.array(NEIGHBOURS)


def _workers() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _padded(rows: Sequence[Codes], length: int) -> Intervals:
    """Stack arrays along a new first axis, zeros behind the shorter ones; int64."""
    out = np.zeros((len(rows), length, *rows[0].shape[1:]), dtype=np.int64)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def _interval(tables: Intervals, symbols: Intervals) -> Intervals:
    """(..., V) frequencies and (...) symbols -> (..., 3) start, frequency, total."""
    sums = tables.cumsum(-1)
    end = np.take_along_axis(sums, symbols[..., None], -1)
    frequency = np.take_along_axis(tables, symbols[..., None], -1)
    return np.concatenate([end - frequency, frequency, sums[..., -1:]], axis=-1)


def _read(decoders: Sequence[RangeDecoder], live: Sequence[bool], tables: Intervals) -> Intervals:
    sums = tables.cumsum(-1)
    symbols = np.zeros(len(decoders), dtype=np.int64)
    for index, decoder in enumerate(decoders):
        if live[index]:
            symbols[index] = _read_symbol(decoder, sums[index])
    return symbols


def _read_symbol(decoder: RangeDecoder, sums: Intervals) -> int:
    total = int(sums[-1])
    symbol = int(np.searchsorted(sums, decoder.target(total), side="right"))
    start = int(sums[symbol - 1]) if symbol else 0
    decoder.advance(start, int(sums[symbol]) - start, total)
    return symbol
