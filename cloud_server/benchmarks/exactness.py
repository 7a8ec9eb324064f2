"""Does a GPU compute the entropy models' integers? Digests, and tables of many sequences.

It does not know messages. The reference is numpy's parallel pass; the digests were recorded when
the weights were made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from cloud_server.benchmarks.tables import Setup, Table, seconds
from shared_protocol.bundles.find import load_bundle
from shared_protocol.compute import Compute
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.exact_torch import TorchModel
from shared_protocol.entropy.scenarios import layout
from shared_protocol.entropy.weights import ExactWeights
from shared_protocol.selfcheck.battery import CHUNK, Tables, Way, differences
from shared_protocol.selfcheck.probes import sequence
from shared_protocol.selfcheck.recorded_digests import DIGESTS_FILE, selfcheck_digests
from shared_protocol.tokens import Codes

SEQUENCES, FEW = 100, 6
"""Sequences of a scenario; one in a hundred is a whole picture."""
STEPWISE = 25
"""Of which so many are computed step by step as well."""
SHORTER = {"TF32": "high", "bfloat16": "medium"}
"""Products of reduced precision -> what torch calls that setting."""


def exactness(setup: Setup) -> Iterator[Table]:
    """Tables of digests, and of differing frequency tables."""
    models = load_bundle().entropy
    yield _digests(models, setup)
    yield _sequences(models, setup)


def _digests(models: EntropyModels, setup: Setup) -> Table:
    folder = next(iter(models.paths.values())).parent
    recorded = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
    wanted = {"numpy": Compute.AUTO, "torch, CPU": Compute.TORCH}
    if setup.on_gpu:
        wanted["torch, CUDA"] = Compute.CUDA
    found = {
        name: selfcheck_digests(EntropyModels(models.paths, compute))
        for name, compute in wanted.items()
    }
    rows = [
        [slug, digest[:16], *(each[slug] == digest for each in found.values())]
        for slug, digest in sorted(recorded.items())
    ]
    columns = ["scenario", "recorded digest", *found]
    return Table("Do digests of frequency tables equal the recorded ones?", columns, rows)


def _sequences(models: EntropyModels, setup: Setup) -> Table:
    count, few = (FEW, FEW) if setup.small else (SEQUENCES, STEPWISE)
    rows: list[list[Any]] = []
    for scenario in models.available():
        weights, reference = load(models.paths[scenario]), models.engine(scenario)
        some = [sequence(index, weights.config) for index in range(count)]
        plans = [layout(scenario, context, weights.config) for _, context in some]
        codes = [row for row, _ in some]
        expected: Tables = []
        _compute(reference.tables, plans, codes, expected, count)
        for name, engine, method, number in _ways(weights, setup, count, few):
            found: list[Any] = []
            work = partial(_compute, getattr(engine, method), plans, codes, found)
            taken = seconds(partial(work, number), setup)
            different = differences(expected[-number:], found)
            tables = sum(len(high) + len(low) for high, low in found)
            rows.append([scenario.slug, name, number, tables, different, taken])
    columns = ["scenario", "way", "sequences", "tables", "differing", "seconds"]
    return Table("Frequency tables that differ from numpy's", columns, rows)


def _compute(way: Way, plans: list[Any], codes: list[Codes], found: Tables, number: int) -> None:
    """Put the tables of the last sequences, in chunks that fit any memory, into `found`."""
    some, rows = plans[-number:], codes[-number:]
    for start in range(0, number, CHUNK):
        found += way(some[start : start + CHUNK], rows[start : start + CHUNK])


def _ways(
    weights: ExactWeights, setup: Setup, count: int, few: int
) -> Iterator[tuple[str, Engine, str, int]]:
    """Name, engine, method and number of sequences of every way to compute tables here."""
    device, name = setup.device, "CUDA" if setup.on_gpu else "torch"
    engine = Engine(TorchModel(weights, device))
    yield f"{name}, one pass", engine, "tables", count
    yield f"{name}, stepwise", engine, "stepwise_tables", few
    if setup.on_gpu:
        for kind, precision in SHORTER.items():
            shorter = Engine(_Unlocked(weights, device, precision))
            yield f"{name}, one pass, {kind} products allowed", shorter, "tables", count


class _Unlocked(TorchModel):
    """A model that lets torch multiply in reduced precision, which must not matter."""

    def __init__(self, weights: ExactWeights, device: str, precision: str) -> None:
        super().__init__(weights, device)
        self._precision = precision

    @contextmanager
    def computing(self) -> Iterator[None]:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self._precision)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_float32_matmul_precision(before)
