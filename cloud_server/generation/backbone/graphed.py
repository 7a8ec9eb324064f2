"""A backbone whose repeated passes are captured once as CUDA graphs and then played again.

It does not know requests, ids or sampling. A step of masked decoding and a token of an answer are
the same thousand small kernels each time; a graph starts them all at once. For that, shapes and
addresses must stay: keys and values lie in rooms of rounded width that are lent out again and
again, and a mask hides the columns that are not filled::

    new_cache ─► room (rows, width in steps of 64) ─► pass (B, L), captured at its first use
                                                        embeddings, mask, places ─► copied in
                                                        hidden states ◄─ replay

The embedding before and the scores after a pass stay outside: they depend on what is asked.
Prompts and questions are read by the plain backbone, into the same rooms.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cloud_server.generation.backbone.phi_forward import PhiCache, Rows, picked, read
from cloud_server.generation.backbone.protocol import ALL, NOTHING, KeyValueCache
from cloud_server.generation.backbone.showo import ShowoBackbone, added

COLUMNS = 64
"""Capacities are rounded up to multiples of this."""
IDLE_ROOMS = 8
"""Rooms that are kept, with their graphs, while nobody uses them."""
PASSES = 4
"""Shapes that are captured in one room; further ones are computed plainly."""

Work = Callable[[], Tensor]
Capture = Callable[[Work], tuple[Tensor, Callable[[], None]]]
"""From work to its result's tensor and to what fills that tensor again."""


class CudaCapture:
    """Captures work on a GPU; all graphs share one pool of memory.

    What a graph computes must be used before the next one is played.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> tuple[Tensor, Callable[[], None]]:
        with torch.cuda.device(self._device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                work()  # what libraries set up at a first call must not be captured
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile, for entropy models.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                made = work()
        return made, graph.replay


@dataclass(eq=False)
class _Room:
    """Memory for the keys and values of `rows` sequences, and what was captured in it."""

    rows: int
    width: int
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    passes: dict[tuple[int, int], _Pass] = field(default_factory=dict)


class _Lent(PhiCache):
    """A cache in a room that is given back when nobody holds the cache any more."""

    def __init__(self, room: _Room) -> None:
        super().__init__(room.keys, room.values)
        self.room = room


class _Pinned(PhiCache):
    """A room as a captured pass sees it: written where a tensor says, read as a whole."""

    def __init__(self, room: _Room, places: Tensor) -> None:
        super().__init__(room.keys, room.values)
        self._places = places

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        held_keys, held_values = self._keys[layer], self._values[layer]
        held_keys.index_copy_(2, self._places, keys)
        held_values.index_copy_(2, self._places, values)
        return held_keys, held_values


class _Pass:
    """One captured pass of (B, L) tokens through all layers, in one room.

    Args:
        backbone: the network.
        room: where keys and values are.
        shape: B, L.
        capture: see `Capture`.
    """

    def __init__(
        self, backbone: ShowoBackbone, room: _Room, shape: tuple[int, int], capture: Capture
    ) -> None:
        like, length = backbone.phi.lm_head.weight, shape[1]
        self._embedded = like.new_zeros(*shape, backbone.width)
        self._positions = torch.zeros(shape, dtype=torch.int64, device=like.device)
        self._offsets = torch.arange(length, device=like.device)
        self._places = self._offsets.clone()
        self._mask = like.new_zeros(room.rows, 1, 1, room.width)
        pinned = _Pinned(room, self._places)

        def work() -> Tensor:
            model = backbone.phi.model
            return read(model, self._embedded, self._mask, self._positions, pinned)

        # Captured with places of its own, as the room may hold a prompt already.
        self._places.add_(room.width - length)
        self._hidden, self._replay = capture(work)

    def __call__(
        self, embedded: Tensor, allow: Tensor | None, positions: Tensor, start: int
    ) -> Tensor:
        """(C, L, D) hidden states, valid until the next pass of any room.

        Args:
            embedded: (B, L, D).
            allow: (C or 1, 1, 1, start + L) bool; None: all columns are seen.
            positions: (B, L).
            start: how many tokens the room holds.
        """
        end = start + positions.shape[1]
        self._embedded.copy_(embedded)
        self._positions.copy_(positions)
        torch.add(self._offsets, start, out=self._places)
        self._mask.fill_(-torch.inf)
        mask = added(allow, self._mask.dtype)
        self._mask[..., :end] = 0.0 if mask is None else mask
        self._replay()
        return self._hidden


class GraphedBackbone:
    """A `Backbone` that computes what the plain one computes, with fewer starts of kernels.

    Hidden columns change the order in which attention sums, so that logits may differ from the
    plain backbone's in their last bits. One thread only.

    Args:
        backbone: the network.
        capture: what captures; None = CUDA graphs on the backbone's GPU.
    """

    def __init__(self, backbone: ShowoBackbone, capture: Capture | None = None) -> None:
        self._backbone = backbone
        self._capture = capture or CudaCapture(backbone.device)
        self._idle: list[_Room] = []

    @property
    def device(self) -> torch.device:
        return self._backbone.device

    @property
    def pointing(self) -> tuple[int, int] | None:
        return self._backbone.pointing

    def new_cache(self, rows: int, capacity: int) -> PhiCache:
        cache = _Lent(self._room(rows, -(-capacity // COLUMNS) * COLUMNS))
        weakref.finalize(cache, self._take_back, cache.room)
        return cache

    def stacked(self, caches: Sequence[KeyValueCache], capacity: int) -> PhiCache:
        stacked = self.new_cache(len(caches), capacity)
        stacked.begin_with([cache for cache in caches if isinstance(cache, PhiCache)])
        return stacked

    @torch.inference_mode()
    def logits(
        self,
        token_ids: Tensor,
        allow: Tensor | None,
        position_ids: Tensor,
        *,
        cache: KeyValueCache | None = None,
        rows: Rows = ALL,
        columns: slice = ALL,
    ) -> Tensor:
        """See `Backbone.logits`."""
        repeats = (allow is None or allow.shape[2] == 1) and not _is_nothing(rows)
        found = self._pass(cache, token_ids) if repeats else None
        if found is None or cache is None:
            return self._backbone.logits(
                token_ids, allow, position_ids, cache=cache, rows=rows, columns=columns
            )
        assert isinstance(cache, _Lent)
        embedded = self._backbone.embed(token_ids, position_ids)
        hidden = found(embedded, allow, position_ids, len(cache))
        cache.advance(token_ids.shape[1])
        return self._backbone.scores(picked(hidden, rows), columns)

    def looks(
        self, token_ids: Tensor, allow: Tensor | None, position_ids: Tensor, cache: KeyValueCache
    ) -> Tensor:
        """See `Backbone.looks`."""
        return self._backbone.looks(token_ids, allow, position_ids, cache)

    def _pass(self, cache: KeyValueCache | None, token_ids: Tensor) -> _Pass | None:
        """The captured pass for these tokens; None where there is none and there will be none."""
        if not isinstance(cache, _Lent):
            return None
        room, shape = cache.room, (token_ids.shape[0], token_ids.shape[1])
        if shape not in room.passes and len(room.passes) < PASSES:
            room.passes[shape] = _Pass(self._backbone, room, shape, self._capture)
        return room.passes.get(shape)

    def _room(self, rows: int, width: int) -> _Room:
        for room in self._idle:
            if (room.rows, room.width) == (rows, width):
                self._idle.remove(room)
                return room
        with torch.inference_mode(False):  # rooms outlive the block in which they are made
            keys, values = self._backbone.room(rows, width)
            for tensor in (*keys, *values):
                tensor.zero_()  # a hidden column counts for nothing only if it is finite
        return _Room(rows, width, keys, values)

    def _take_back(self, room: _Room) -> None:
        self._idle.append(room)
        del self._idle[:-IDLE_ROOMS]


def _is_nothing(rows: Rows) -> bool:
    return isinstance(rows, slice) and rows == NOTHING
