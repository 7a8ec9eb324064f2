"""The same frequency tables computed in every way that a machine has, compared bit for bit.

It does not know messages or recorded digests. The reference is numpy's pass over a padded
batch; every other way (stepwise, alone, padded further, threads, the compiled decoder, torch and
its carriers of integers, kernels for other processors, a GPU) must give the same integers.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared_protocol.compute import Compute
from shared_protocol.entropy.coder import EntropyModels, write_stream
from shared_protocol.selfcheck import witness
from shared_protocol.selfcheck.probes import probe, sequence
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

if TYPE_CHECKING:
    from shared_protocol.entropy.engine import Engine

Table = npt.NDArray[np.int64]
Tables = list[tuple[Table, Table]]
"""For each sequence all frequencies of the high parts (M, 64) and of the low parts (M, 128)."""
Way = Callable[[list[Any], list[Codes]], Tables]

CHUNK = 25
"""Sequences computed side by side."""
THREADS = (1, 2, 4)
NEIGHBOUR_SEED = 1_000_003
"""Probe number of the longer sequence."""
BLAS_KERNELS = ("Nehalem", "Sandybridge", "Haswell", "SkylakeX", "Zen")
"""Processors for which OpenBLAS brings matrix products of their own, on x86-64."""
TORCH_KERNELS: dict[str, dict[str, str]] = {
    "no vector extensions": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}
"""Which processor torch takes this machine for -> the variables that make it do so."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One way to compute the tables of one scenario: how many differ from the reference."""

    name: str
    sequences: int
    tables: int
    different: int

    @property
    def ok(self) -> bool:
        """Whether not one table differs, and there was something to compare."""
        return self.different == 0 and self.tables > 0

    def __str__(self) -> str:
        verdict = "identical" if self.ok else f"{self.different} DIFFER"
        return f"{self.name:<52} {self.sequences:5d} sequences {self.tables:7d} tables  {verdict}"


@dataclass
class _Tally:
    """What one way has been compared with so far."""

    tables: int = 0
    different: int = 0

    def add(self, reference: Tables, found: Tables) -> None:
        self.tables += sum(len(high) + len(low) for high, low in reference)
        self.different += differences(reference, found)


@dataclass
class _Chunks:
    """The layouts and codes of `count` fixed sequences of one scenario, a chunk at a time."""

    engine: Engine
    scenario: Scenario
    count: int
    sizes: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[list[Any], list[Codes]]]:
        from shared_protocol.entropy.scenarios import layout

        for start in range(0, self.count, CHUNK):
            some = [
                sequence(index, self.engine.config)
                for index in range(start, min(start + CHUNK, self.count))
            ]
            plans = [layout(self.scenario, context, self.engine.config) for _, context in some]
            self.sizes.append(2 * sum(len(codes) for codes, _ in some))
            yield plans, [codes for codes, _ in some]


def battery(
    models: EntropyModels,
    scenario: Scenario,
    sequences: int = 2 * CHUNK,
    processors: bool = False,
    report: Report = lambda line: None,
) -> list[Check]:
    """Compute the tables of one scenario in every way this machine has.

    Args:
        models: the models; `scenario` must be among them.
        scenario: which.
        sequences: how many fixed sequences.
        processors: also start processes that use the kernels for other processors.
        report: told how far it is.

    Returns:
        One check for each way.
    """
    engine = models.engine(scenario)
    ways = dict(_ways(models, scenario))
    tallies = {name: _Tally() for name in ways}
    seen = _Tally()
    digests: list[str] = []
    chunks = _Chunks(engine, scenario, sequences)
    for plans, codes in chunks:
        reference = engine.tables(plans, codes)
        digests.append(digest(reference))
        for name, compute in ways.items():
            tallies[name].add(reference, compute(plans, codes))
        if witness.is_available():
            streams = [write_stream(intervals) for intervals in engine.intervals(plans, codes)]
            seen.different += _not_witnessed(reference, codes, streams)
            seen.tables += sum(2 * len(row) for row in codes)
        report(f"{scenario.slug}: {min(len(digests) * CHUNK, sequences)} of {sequences}")
    checks = [Check(n, sequences, t.tables, t.different) for n, t in tallies.items()]
    if witness.is_available():
        name = "constriction: symbols and lengths of the streams"
        checks.append(Check(name, sequences, seen.tables, seen.different))
    if processors:
        checks += _processor_checks(models, scenario, digests, chunks)
    return checks


def differences(first: Tables, second: Tables) -> int:
    """How many frequency tables of `first` are not the same in `second`."""
    pairs = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    return sum(int((a != b).any(axis=1).sum()) for a, b in pairs)


def _not_witnessed(tables: Tables, codes: Sequence[Codes], streams: Sequence[bytes]) -> int:
    """Symbols of the sequences for which constriction gives others, or another length."""
    different = 0
    for (high, low), row, ours in zip(tables, codes, streams, strict=True):
        both = [table for pair in zip(high.tolist(), low.tolist(), strict=True) for table in pair]
        symbols = [part for code in row.tolist() for part in divmod(code, low.shape[1])]
        theirs = witness.encode(symbols, both)
        same = witness.decode(theirs, both) == symbols
        if not same or not witness.agrees(len(ours), len(theirs)):
            different += len(symbols)
    return different


def digest(tables: Tables) -> str:
    """SHA-256 of tables; equal if every frequency is."""
    whole = hashlib.sha256()
    for high, low in tables:
        whole.update(high.astype("<i8").tobytes())
        whole.update(low.astype("<i8").tobytes())
    return whole.hexdigest()


def _ways(models: EntropyModels, scenario: Scenario) -> Iterator[tuple[str, Way]]:
    engine = models.engine(scenario)
    yield "numpy, one by one", _one_by_one(engine.tables)
    yield "numpy, beside a longer sequence", _beside_a_longer(engine, scenario)
    yield "numpy, stepwise", engine.stepwise_tables
    yield "numpy, stepwise, one by one", _one_by_one(engine.stepwise_tables)
    if engine.kernel is not None:
        yield "compiled decoder", _one_by_one(_compiled(engine))
        yield "compiled decoder, all at once", _compiled(engine)
    if find_spec("torch") is not None:
        yield from _torch_ways(models.paths[scenario])


def _torch_ways(path: Path) -> Iterator[tuple[str, Way]]:
    import torch

    from shared_protocol.entropy.checkpoint import load
    from shared_protocol.entropy.engine import Engine
    from shared_protocol.entropy.exact_torch import GEMMS, TorchModel

    weights = load(path)
    for gemm in GEMMS:
        engine = Engine(TorchModel(weights, gemm=gemm))
        yield f"torch, {gemm} products", engine.tables
        yield f"torch, {gemm} products, stepwise", engine.stepwise_tables
    engine = Engine(TorchModel(weights))
    for threads in THREADS:
        yield f"torch, {threads} threads", _with_threads(engine.tables, threads)
    if torch.cuda.is_available():
        gpu = Engine(TorchModel(weights, "cuda"))
        yield "CUDA", gpu.tables
        yield "CUDA, stepwise", gpu.stepwise_tables


def _one_by_one(compute: Way) -> Way:
    return lambda plans, codes: [compute([p], [c])[0] for p, c in zip(plans, codes, strict=True)]


def _beside_a_longer(engine: Engine, scenario: Scenario) -> Way:
    """A batch with one more sequence, so that all others are padded to its length."""
    from shared_protocol.entropy.scenarios import layout

    config = engine.config
    codes, context = probe(
        NEIGHBOUR_SEED, (17, 13), config.codebook_size, config.text_size, config.text_limit
    )
    longer = layout(scenario, context, config)
    return lambda plans, rows: engine.tables([longer, *plans], [codes, *rows])[1:]


def _with_threads(compute: Way, threads: int) -> Way:
    def run(plans: list[Any], codes: list[Codes]) -> Tables:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return compute(plans, codes)
        finally:
            torch.set_num_threads(before)

    return run


def _compiled(engine: Engine) -> Way:
    def run(plans: list[Any], codes: list[Codes]) -> Tables:
        streams = [write_stream(intervals) for intervals in engine.intervals(plans, codes)]
        return engine.kernel_tables(plans, streams)

    return run


# Other processors --------------------------------------------------------------------------------


def elsewhere_ways() -> dict[str, tuple[dict[str, str], Compute]]:
    """What a new process may be told: name of the way -> variables, and what computes."""
    ways = {
        f"numpy, BLAS for {name}": ({"OPENBLAS_CORETYPE": name}, Compute.NUMPY)
        for name in BLAS_KERNELS
        if platform.machine() in ("x86_64", "AMD64")
    }
    ways |= {
        f"numpy, {count} threads": ({"OPENBLAS_NUM_THREADS": str(count)}, Compute.NUMPY)
        for count in THREADS
    }
    ways["numpy, no vector extensions"] = (
        {"NPY_DISABLE_CPU_FEATURES": " ".join(_numpy_features())}, Compute.NUMPY,
    )  # fmt: skip
    if find_spec("torch") is not None:
        ways |= {
            f"torch, kernels for {name}": (variables, Compute.TORCH)
            for name, variables in TORCH_KERNELS.items()
        }
    return ways


def _numpy_features() -> list[str]:
    """The vector extensions that numpy uses here beyond those that it was built to need."""
    where = "numpy._core" if find_spec("numpy._core") else "numpy.core"  # before numpy 2
    core = importlib.import_module(f"{where}._multiarray_umath")
    return [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]


def _processor_checks(
    models: EntropyModels, scenario: Scenario, digests: Sequence[str], chunks: _Chunks
) -> Iterator[Check]:
    for name, (variables, compute) in elsewhere_ways().items():
        found = elsewhere(models, scenario, chunks.count, variables, compute)
        pairs = zip(digests, found, chunks.sizes, strict=True)
        different = sum(size for ours, theirs, size in pairs if ours != theirs)
        yield Check(name, chunks.count, sum(chunks.sizes), different)


def elsewhere(
    models: EntropyModels,
    scenario: Scenario,
    count: int,
    variables: dict[str, str],
    compute: Compute = Compute.NUMPY,
) -> list[str]:
    """The digest of every chunk of sequences, computed by a new process.

    Args:
        models: for their files.
        scenario: which.
        count: how many sequences.
        variables: environment variables of that process.
        compute: what computes there.

    Raises:
        subprocess.CalledProcessError: the process failed.
    """
    command = [sys.executable, "-m", "shared_protocol.selfcheck.battery"]
    command += [scenario.name, str(models.paths[scenario]), str(count), compute.value]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the digest of every chunk as JSON; `elsewhere` reads it."""
    parser = argparse.ArgumentParser(prog="python -m shared_protocol.selfcheck.battery")
    parser.add_argument("scenario", choices=[scenario.name for scenario in Scenario])
    parser.add_argument("weights", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("compute", choices=[each.value for each in Compute])
    given = parser.parse_args(argv)
    scenario = Scenario[given.scenario]
    models = EntropyModels.load({scenario: given.weights}, Compute(given.compute))
    engine = models.engine(scenario)
    chunks = _Chunks(engine, scenario, given.count)
    sys.stdout.write(json.dumps([digest(engine.tables(plans, codes)) for plans, codes in chunks]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
