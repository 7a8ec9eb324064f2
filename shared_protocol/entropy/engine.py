"""One set of weights at work: layouts and codes in, intervals and codes out, in batches.

It does not know scenarios, files or the range coder's bytes. The sender's single parallel pass and
the receiver's steps give the same integers, since no integer here depends on the batch, the
padding or the number of entries computed at once.

```
 encode   [ prefix | all targets, teacher-forced ] ── one pass ──► an interval for every symbol
 decode   [ prefix ] ── one pass ──► keys, values ──► target after target (kernel, or eager steps)
```
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared_protocol.coding.range_coder import RangeDecoder
from shared_protocol.entropy.exact import Cache, ExactModel, Gemm, exact_arithmetic
from shared_protocol.entropy.scenarios import Layout, target_slots
from shared_protocol.entropy.weights import ExactWeights
from shared_protocol.errors import BadMessageError
from shared_protocol.tokens import Codes

if TYPE_CHECKING:
    from shared_protocol.entropy.kernel import Kernel

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


class Engine:
    """An exact model with its compiled decoder, if there is one.

    Args:
        weights: certified integer weights.
        device: where the eager passes run.
        gemm: the carrier of matrix products.
        use_kernel: decode with the compiled kernel where numba is installed; eager steps otherwise.
    """

    def __init__(
        self,
        weights: ExactWeights,
        device: torch.device | str = "cpu",
        gemm: Gemm = "float32",
        use_kernel: bool = True,
    ) -> None:
        self.config = weights.config
        self.model = ExactModel(weights, device, gemm)
        self.kernel = _kernel(weights) if use_kernel else None

    # Sender --------------------------------------------------------------------------------------

    def intervals(self, plans: Sequence[Layout], codes: Sequence[Codes]) -> list[Intervals]:
        """For each layout (M, 2, 3): start, frequency and total of the high and the low part."""
        if not any(plan.count for plan in plans):
            return [np.zeros((0, 2, 3), np.int64) for _ in plans]
        with exact_arithmetic():
            high_tables, low_tables, grid = self._parallel_tables(plans, codes)
            high = _interval(high_tables, grid >> self.config.low_bits)
            low = _interval(low_tables, grid & (self.config.low_size - 1))
            both = torch.stack([high, low], dim=2).cpu().numpy()  # (B, M, 2, 3)
        return [both[i, : plan.count] for i, plan in enumerate(plans)]

    def tables(
        self, plans: Sequence[Layout], codes: Sequence[Codes]
    ) -> list[tuple[Intervals, Intervals]]:
        """For each layout all frequencies, (M, 64) and (M, 128), by the parallel pass."""
        if not any(plan.count for plan in plans):
            return [self._no_tables() for _ in plans]
        with exact_arithmetic():
            high, low, _ = self._parallel_tables(plans, codes)
            pair = high.cpu().numpy(), low.cpu().numpy()
        return [(pair[0][i, : p.count], pair[1][i, : p.count]) for i, p in enumerate(plans)]

    def stepwise_tables(
        self, plans: Sequence[Layout], codes: Sequence[Codes]
    ) -> list[tuple[Intervals, Intervals]]:
        """The same frequencies as `tables`, computed one target at a time."""
        if not any(plan.count for plan in plans):
            return [self._no_tables() for _ in plans]
        with exact_arithmetic():
            joined = _Joined.of(plans)
            grid = self._codes(joined, codes)
            steps = _Steps(self, joined)
            highs, lows = [], []
            for t in range(joined.count):
                highs.append(steps.high())
                lows.append(steps.low(grid[:, t] >> self.config.low_bits))
                steps.advance(grid[:, t].cpu().numpy().astype(np.int32))
            high, low = torch.stack(highs, 1).cpu().numpy(), torch.stack(lows, 1).cpu().numpy()
        return [(high[i, : p.count], low[i, : p.count]) for i, p in enumerate(plans)]

    def _no_tables(self) -> tuple[Intervals, Intervals]:
        sizes = self.config.high_size, self.config.low_size
        high, low = (np.zeros((0, size), dtype=np.int64) for size in sizes)
        return high, low

    def _parallel_tables(
        self, plans: Sequence[Layout], codes: Sequence[Codes]
    ) -> tuple[Tensor, Tensor, Tensor]:
        joined = _Joined.of(plans)
        slots = [target_slots(p, c, self.config) for p, c in zip(plans, codes, strict=True)]
        entries = self._targets(joined, slots)
        prefix = self._prefix(joined)
        x = torch.cat([prefix, entries], dim=1)
        cache = self.model.new_cache(len(plans), x.shape[1])
        allowed = self._allowed(joined, x.shape[1])
        states = self.model.run(x, allowed, cache, joined.start)[:, joined.start :]
        grid = self._codes(joined, codes)
        low = self.model.low_frequencies(states, grid >> self.config.low_bits)
        return self.model.high_frequencies(states), low, grid

    # Receiver ------------------------------------------------------------------------------------

    def decode(self, plans: Sequence[Layout], streams: Sequence[bytes]) -> list[Codes]:
        """The codes of each stream; a damaged stream gives some codes or a `BadMessageError`."""
        if not any(plan.count for plan in plans):
            return [_finish(RangeDecoder(data)) for data in streams]
        kernel = self.kernel
        if kernel is None or self.model.device.type != "cpu":
            return self._decode_eagerly(plans, streams)
        workers = min(len(plans), torch.get_num_threads())
        if workers < 2:
            return [self._decode_one(kernel, p, s) for p, s in zip(plans, streams, strict=True)]
        with ThreadPoolExecutor(workers) as pool:  # the kernel does not hold the interpreter's lock
            return list(pool.map(self._decode_one, [kernel] * len(plans), plans, streams))

    def kernel_tables(self, plan: Layout, data: bytes) -> tuple[Intervals, Intervals]:
        """All frequencies that the compiled decoder meets while it decodes `data`."""
        assert self.kernel is not None
        c = self.config
        record = np.zeros((plan.count, 2, max(c.high_size, c.low_size)), dtype=np.int64)
        with suppress(BadMessageError):  # then the tables differ, which is what is asked
            self._decode_one(self.kernel, plan, data, record)
        return record[:, 0, : c.high_size], record[:, 1, : c.low_size]

    def _decode_one(
        self, kernel: Kernel, plan: Layout, data: bytes, record: Intervals | None = None
    ) -> Codes:
        with exact_arithmetic():
            joined = _Joined.of([plan])
            cache = self._filled_cache(joined)
            keys = cache.keys[:, 0].to(torch.int8).numpy()  # (L, heads, capacity, D / heads)
            values = cache.values[:, 0].to(torch.int8).numpy()
        return kernel.decode(data, plan, keys, values, joined.start, record)

    def _decode_eagerly(self, plans: Sequence[Layout], streams: Sequence[bytes]) -> list[Codes]:
        decoders = [RangeDecoder(data) for data in streams]
        with exact_arithmetic():
            steps = _Steps(self, _Joined.of(plans))
            found = np.zeros((len(plans), steps.joined.count), dtype=np.int32)
            for t in range(steps.joined.count):
                live = [t < plan.count for plan in plans]
                high = _read(decoders, live, steps.high())
                low = _read(decoders, live, steps.low(torch.from_numpy(high).to(self.model.device)))
                found[:, t] = (high << self.config.low_bits) | low
                steps.advance(found[:, t])
        for decoder in decoders:
            decoder.finish()
        return [row[: plan.count] for row, plan in zip(found, plans, strict=True)]

    # Entries and masks ---------------------------------------------------------------------------

    def _filled_cache(self, joined: _Joined) -> Cache:
        cache = self.model.new_cache(len(joined.plans), joined.start + joined.count)
        if joined.start:
            allowed = self._allowed(joined, joined.start)
            self.model.run(self._prefix(joined), allowed, cache, joined.start)
        return cache

    def _prefix(self, joined: _Joined) -> Tensor:
        """(B, start, D) residual integers of text and grid prefix."""
        plans, device = joined.plans, self.model.device
        text = _padded([plan.text for plan in plans], joined.text, device)
        slots = _padded([plan.prefix_slots for plan in plans], joined.prefix, device)
        places = _padded([plan.prefix_places for plan in plans], joined.prefix, device)
        kinds = _padded([plan.prefix_kinds for plan in plans], joined.prefix, device)
        grid = self.model.embed_grid(slots, places, kinds)
        return torch.cat([self.model.embed_text(text), grid], dim=1)

    def _targets(self, joined: _Joined, slots: Sequence[Codes]) -> Tensor:
        """(B, M, D) residual integers of target entries with the given slots."""
        plans, device = joined.plans, self.model.device
        places = _padded([plan.target_places for plan in plans], joined.count, device)
        kinds = torch.tensor([plan.target_kind for plan in plans], device=device)
        kinds = kinds[:, None].expand(-1, joined.count)
        return self.model.embed_grid(_padded(slots, joined.count, device), places, kinds)

    def _allowed(self, joined: _Joined, length: int) -> Tensor:
        """(B, length, length) bool: an entry sees the prefix and what came before it."""
        steps = np.arange(length)
        keys = np.ones((len(joined.plans), length), dtype=bool)
        keys[:, : joined.start] = joined.valid()
        seen = (steps[None, :] < joined.start) | (steps[None, :] <= steps[:, None])
        return torch.from_numpy(keys[:, None, :] & seen).to(self.model.device)

    def _codes(self, joined: _Joined, codes: Sequence[Codes]) -> Tensor:
        return _padded(codes, joined.count, self.model.device)


class _Steps:
    """B sequences decoded side by side, one target at a time, in eager torch."""

    def __init__(self, engine: Engine, joined: _Joined) -> None:
        self.engine, self.joined = engine, joined
        self.cache = engine._filled_cache(joined)
        valid = np.ones((len(joined.plans), 1, joined.start + joined.count), dtype=bool)
        valid[:, 0, : joined.start] = joined.valid()
        self.valid = torch.from_numpy(valid).to(engine.model.device)
        self.codes = np.zeros((len(joined.plans), joined.count), dtype=np.int32)
        self.boards = [plan.board.copy() for plan in joined.plans]
        self.at = 0
        self._advance_state()

    def high(self) -> Tensor:
        """(B, 64) frequencies of the next high part."""
        return self.engine.model.high_frequencies(self.state)

    def low(self, high: Tensor) -> Tensor:
        """(B, 128) frequencies of the next low part, given the high parts (B,)."""
        return self.engine.model.low_frequencies(self.state, high)

    def advance(self, codes: Codes) -> None:
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
        model, device = self.engine.model, self.engine.model.device
        places = [_at(plan.target_places, self.at) for plan in self.joined.plans]
        kinds = torch.tensor([[plan.target_kind] for plan in self.joined.plans], device=device)
        slots = np.stack([self._slots(i, place) for i, place in enumerate(places)])
        x = model.embed_grid(
            torch.from_numpy(slots[:, None]).to(device),
            torch.from_numpy(np.stack(places)[:, None]).to(device),
            kinds,
        )
        allowed = self.valid[:, :, : self.joined.start + self.at + 1]
        self.state = model.run(x, allowed, self.cache, self.joined.start)[:, 0]  # (B, D)

    def _slots(self, index: int, place: Intervals) -> Intervals:
        from shared_protocol.entropy.config import NEIGHBOURS

        config, board = self.engine.config, self.boards[index]
        last = self.codes[index, self.at - 1] if self.at else config.outside_row
        row, column = place + 1
        around = [board[row + down, column + right] for down, right in NEIGHBOURS]
        return np.array([last, *around], dtype=np.int64)


def _at(places: Codes, index: int) -> Intervals:
    empty: Intervals = np.zeros(2, dtype=np.int64)
    return places[index].astype(np.int64) if index < len(places) else empty


def _padded(rows: Sequence[Codes], length: int, device: torch.device) -> Tensor:
    """Stack arrays along a new first axis, zeros behind the shorter ones; int64."""
    out = np.zeros((len(rows), length, *rows[0].shape[1:]), dtype=np.int64)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(out).to(device)


def _interval(tables: Tensor, symbols: Tensor) -> Tensor:
    """(..., V) frequencies and (...) symbols -> (..., 3) start, frequency, total."""
    sums = tables.cumsum(-1)
    end = sums.gather(-1, symbols[..., None])
    frequency = tables.gather(-1, symbols[..., None])
    return torch.cat([end - frequency, frequency, sums[..., -1:]], dim=-1)


def _read(decoders: Sequence[RangeDecoder], live: Sequence[bool], tables: Tensor) -> Intervals:
    sums = tables.cumsum(-1).cpu().numpy()
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


def _finish(decoder: RangeDecoder) -> Codes:
    decoder.finish()
    return np.zeros(0, dtype=np.int32)


def _kernel(weights: ExactWeights) -> Kernel | None:
    try:
        from shared_protocol.entropy.kernel import Kernel
    except ImportError:
        return None
    return Kernel(weights)
