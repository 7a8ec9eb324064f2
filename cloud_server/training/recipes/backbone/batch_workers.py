"""Processes that make the batches of the next training steps while the network learns.

It does not know what is in a batch. A GPU learns from a batch in less time than one processor
takes to make it; batches are a function of the step, so that who makes them changes nothing but
the clock::

    step t ──► network            workers ──► batches of t + 1, t + 2, ... wait
               share of t                     made for the share at which they were ordered
"""

from __future__ import annotations

import math
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cloud_server.training.recipes.backbone.batch import Batch, Links
from cloud_server.training.recipes.backbone.batch_source import StepBatches

AHEAD = 3
"""Steps that are ordered ahead, for each worker."""


class Source(Protocol):
    """What gives the batches of a step, see `BatchSource`."""

    def batches(self, step: int, share: float) -> StepBatches:
        """Of one step."""
        ...


class BatchWorkers:
    """A `Source` that is asked ahead, in processes of its own.

    Args:
        count: how many processes.
        build: makes the source there; a function of a module, or a `partial` of one.
    """

    def __init__(self, count: int, build: Callable[[], Source]) -> None:
        # Not forked: a process that has used a GPU must not be.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            count, mp_context=context, initializer=_begin, initargs=(build,)
        )
        self._ordered: dict[int, Future[bytes]] = {}
        self._ahead = AHEAD * count

    def batches(self, step: int, share: float) -> StepBatches:
        """Of a step; the steps after it are ordered, too."""
        for number in range(step, step + self._ahead):
            if number not in self._ordered:
                self._ordered[number] = self._pool.submit(_make, number, share)
        made = pickle.loads(self._ordered.pop(step).result())
        return [(name, _whole(parts)) for name, parts in made]

    def close(self) -> None:
        """End the processes; what they have not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


_source: Source | None = None


def _begin(build: Callable[[], Source]) -> None:
    global _source
    torch.set_num_threads(1)
    _source = build()


def _make(step: int, share: float) -> bytes:
    assert _source is not None
    made = [(name, _parts(batch)) for name, batch in _source.batches(step, share)]
    return pickle.dumps(made, protocol=pickle.HIGHEST_PROTOCOL)


# Tensors travel as arrays: by themselves they take a file descriptor each, or a file's headers. A
# flag travels as a bit: masks are most of a batch.


def _parts(value: Any) -> Any:
    """A batch, links or a tensor as arrays."""
    if isinstance(value, Batch | Links):
        return [_parts(getattr(value, name)) for name in value.__dataclass_fields__]
    array = value.numpy()
    return (array.shape, np.packbits(array)) if array.dtype == np.bool_ else array


def _whole(parts: Sequence[Any]) -> Batch:
    """The batch of these parts."""
    fields: list[Any] = [
        Links(*map(_tensor, part)) if isinstance(part, list) else _tensor(part) for part in parts
    ]
    return Batch(*fields)


def _tensor(part: Any) -> Tensor:
    if isinstance(part, tuple):
        shape, bits = part
        part = np.unpackbits(bits, count=math.prod(shape)).reshape(shape).view(np.bool_)
    return torch.from_numpy(part)
