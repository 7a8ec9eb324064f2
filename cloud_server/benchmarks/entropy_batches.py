"""How long encoding and decoding of many messages takes on a GPU, beside the CPU's ways.

It does not know what a message is of: all are whole pictures of 256 noise codes with a text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cloud_server.benchmarks.tables import Cell, Setup, Table, seconds
from shared_protocol.bundles.find import load_bundle
from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.compute import Compute
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.exact_torch import TorchModel
from shared_protocol.entropy.scenarios import Layout, layout
from shared_protocol.selfcheck.probes import probe
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

BATCHES, FEW = (1, 4, 16, 64), (1, 2)
SIDE, SMALL_SIDE = 16, 4
TEXT_IDS = 12
ROUNDS = 3
SLOW_S = 0.5
"""What takes longer is timed once."""
EIGHTHS = 8
"""All positions are targets."""


@dataclass(frozen=True)
class _Batch:
    """Messages, and what they are coded into."""

    codes: list[Codes]
    contexts: list[CodingContext]
    plans: list[Layout]
    streams: list[bytes]


Way = Callable[[_Batch], Any]


def entropy_batches(setup: Setup) -> Iterator[Table]:
    """Milliseconds of each way, for one and many messages at once."""
    models = load_bundle().entropy
    for scenario in (Scenario.GENERIC, Scenario.TEXT_CONDITIONED):
        ways = dict(_ways(models, scenario, setup))
        counts = FEW if setup.small else BATCHES
        rows = [_row(_batch(models, scenario, count, setup), ways, setup) for count in counts]
        title = f"{scenario.slug}, milliseconds for all messages together"
        yield Table(title, ["messages", *ways, "all equal"], rows)


def _ways(models: EntropyModels, scenario: Scenario, setup: Setup) -> Iterator[tuple[str, Way]]:
    cpu = EntropyModels(models.paths)
    yield "encode, CPU", lambda batch: cpu.encode_batch(scenario, batch.codes, batch.contexts)
    yield (
        "decode, CPU and C",
        lambda batch: cpu.decode_batch(scenario, batch.streams, batch.contexts),
    )
    if not setup.on_gpu:
        return
    gpu = EntropyModels(models.paths, Compute.CUDA)
    steps = Engine(TorchModel(load(models.paths[scenario]), setup.device))
    yield "encode, CUDA", lambda batch: gpu.encode_batch(scenario, batch.codes, batch.contexts)
    yield (
        "decode, CUDA and C",
        lambda batch: gpu.decode_batch(scenario, batch.streams, batch.contexts),
    )
    yield "decode, CUDA stepwise", lambda batch: steps.decode(batch.plans, batch.streams)


def _batch(models: EntropyModels, scenario: Scenario, count: int, setup: Setup) -> _Batch:
    config, side = models.engine(scenario).config, SMALL_SIDE if setup.small else SIDE
    some = [
        probe(n, (side, side), config.codebook_size, config.text_size, TEXT_IDS, EIGHTHS)
        for n in range(count)
    ]
    codes, contexts = [row for row, _ in some], [context for _, context in some]
    plans = [layout(scenario, context, config) for context in contexts]
    return _Batch(codes, contexts, plans, models.encode_batch(scenario, codes, contexts))


def _row(batch: _Batch, ways: dict[str, Way], setup: Setup) -> list[Cell]:
    cells: list[Cell] = [len(batch.codes)]
    equal = True
    for name, way in ways.items():
        began = time.monotonic()
        found = way(batch)  # warms
        slow = time.monotonic() - began > SLOW_S
        if name.startswith("encode"):
            equal &= found == batch.streams
        else:
            equal &= all(map(np.array_equal, found, batch.codes))
        work = partial(way, batch)
        cells.append(1000 * seconds(work, setup, 1 if setup.small or slow else ROUNDS))
    return [*cells, equal]
