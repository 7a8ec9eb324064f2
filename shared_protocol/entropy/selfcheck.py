"""Does this machine compute the probabilities that every other machine computes?

It does not know messages. `selfcheck_digest` condenses the frequency tables of fixed probes into
one line to compare between machines; `battery` computes the same tables in every way this machine
has and names the ways that differ. `python -m shared_protocol.entropy.selfcheck` does both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.context import CodingContext
from shared_protocol.errors import CheckpointError
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

DIGESTS_FILE = "entropy_digests.json"
PROBE_SIDE = 8
BATTERY_PROBES = 4

Table = npt.NDArray[np.int64]
Tables = list[tuple[Table, Table]]


@dataclass(frozen=True)
class Check:
    """One way to compute the tables: how many of them differ from the reference."""

    name: str
    tables: int
    different: int

    @property
    def ok(self) -> bool:
        """Whether not one table differs."""
        return self.different == 0

    def __str__(self) -> str:
        verdict = "identical" if self.ok else f"{self.different} DIFFER"
        return f"{self.name:<44} {self.tables:6d} tables  {verdict}"


def probe(seed: int, side: int, codebook_size: int, text_size: int) -> tuple[Codes, CodingContext]:
    """Fixed codes and a context with text, holes and known codes; equal for ever and everywhere.

    The numbers come from SHA-256, since random generators may change between library versions.
    """
    draws = _draws(seed, 2 * side * side + 16)
    roll = draws[: side * side].reshape(side, side) % 8
    values = (draws[side * side : 2 * side * side] % codebook_size).reshape(side, side)
    targets, known = roll < 5, roll == 5  # the rest are holes
    text = (draws[2 * side * side :][: seed % 16] % text_size).astype(np.int32)
    codes = values.astype(np.int32)
    context = CodingContext(targets, known, np.where(known, codes, 0).astype(np.int32), text)
    return codes[targets], context


def selfcheck_digests(models: EntropyModels) -> dict[str, str]:
    """Scenario name to SHA-256 of all frequency tables of one probe, computed by the encoder."""
    digests = {}
    for scenario in models.available():
        engine = models.engine(scenario)
        config = engine.config
        codes, context = probe(7, PROBE_SIDE, config.codebook_size, config.text_size)
        tables = engine.tables([_layout(models, scenario, context)], [codes])
        digests[scenario.name.lower()] = _digest(tables)
    return digests


def selfcheck_digest(models: EntropyModels) -> str:
    """One line for all scenarios; machines that print the same line understand each other."""
    return _together(selfcheck_digests(models))


def write_digests(models: EntropyModels, folder: Path) -> Path:
    """Record the digests of shipped weights beside them."""
    path = folder / DIGESTS_FILE
    path.write_text(json.dumps(selfcheck_digests(models), indent=2, sort_keys=True) + "\n")
    return path


def check_digests(models: EntropyModels, folder: Path) -> str:
    """Compare this machine with the recorded digests.

    Returns:
        The digest of all scenarios.

    Raises:
        CheckpointError: a scenario's tables differ here, or nothing readable is recorded.
    """
    try:
        recorded = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"no recorded digests: {error}", "install the bundle again"
        ) from error
    found = selfcheck_digests(models)
    wrong = [name for name, digest in found.items() if recorded.get(name) != digest]
    if wrong:
        raise CheckpointError(
            f"this machine computes other probabilities than recorded for {', '.join(wrong)}",
            "run python -m shared_protocol.entropy.selfcheck --battery and report what it prints",
        )
    return _together(found)


def battery(models: EntropyModels, scenario: Scenario, count: int = BATTERY_PROBES) -> list[Check]:
    """Compute the same tables in every way this machine has.

    The reference is the encoder's pass over all probes at once: float32, padded, torch's threads.
    """
    config = models.engine(scenario).config
    pairs = [probe(i + 3, 6 + i, config.codebook_size, config.text_size) for i in range(count)]
    codes = [pair[0] for pair in pairs]
    plans = [_layout(models, scenario, pair[1]) for pair in pairs]
    reference = models.engine(scenario).tables(plans, codes)
    found = []
    for name, compute in _ways(models, scenario):
        tables = compute(plans, codes)
        found.append(Check(name, 2 * sum(map(len, codes)), _differences(reference, tables)))
    return found


def _ways(
    models: EntropyModels, scenario: Scenario
) -> Iterator[tuple[str, Callable[[list[Any], list[Codes]], Tables]]]:
    import torch

    from shared_protocol.entropy.checkpoint import load
    from shared_protocol.entropy.engine import Engine

    engine = models.engine(scenario)
    weights = load(models.paths[scenario])
    yield "parallel, one by one", _one_by_one(engine.tables)
    yield "stepwise, batch", engine.stepwise_tables
    yield "stepwise, one by one", _one_by_one(engine.stepwise_tables)
    for threads in (1, 2):
        yield f"parallel, {threads} threads", _with_threads(engine.tables, threads)
    for gemm in ("float64", "int64", "int8"):
        other = Engine(weights, gemm=gemm, use_kernel=False)
        yield f"parallel, {gemm} products", other.tables
        yield f"stepwise, {gemm} products", other.stepwise_tables
    if engine.kernel is not None:
        yield (
            "compiled decoder",
            lambda plans, codes: [
                engine.kernel_tables(plan, stream)
                for plan, stream in zip(plans, _streams(engine, plans, codes), strict=True)
            ],
        )
    if torch.cuda.is_available():
        gpu = Engine(weights, device="cuda", use_kernel=False)
        yield "parallel, CUDA", gpu.tables
        yield "stepwise, CUDA", gpu.stepwise_tables


def other_processor_digest(models: EntropyModels, capability: str) -> str:
    """The digest computed by a new process that uses torch's kernels for another processor.

    Args:
        models: for their files.
        capability: value of ATEN_CPU_CAPABILITY, such as "default", "avx2" or "avx512".
    """
    named = [f"{scenario.name}={path}" for scenario, path in models.paths.items()]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    command = [sys.executable, "-m", "shared_protocol.entropy.selfcheck", *named]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def _one_by_one(
    compute: Callable[[list[Any], list[Codes]], Tables],
) -> Callable[[list[Any], list[Codes]], Tables]:
    return lambda plans, codes: [compute([p], [c])[0] for p, c in zip(plans, codes, strict=True)]


def _with_threads(
    compute: Callable[[list[Any], list[Codes]], Tables], threads: int
) -> Callable[[list[Any], list[Codes]], Tables]:
    def run(plans: list[Any], codes: list[Codes]) -> Tables:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return compute(plans, codes)
        finally:
            torch.set_num_threads(before)

    return run


def _streams(engine: Any, plans: list[Any], codes: list[Codes]) -> list[bytes]:
    from shared_protocol.entropy.coder import write_stream

    return [write_stream(intervals) for intervals in engine.intervals(plans, codes)]


def _differences(first: Tables, second: Tables) -> int:
    pairs = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    return sum(int((a != b).any(axis=1).sum()) for a, b in pairs)


def _layout(models: EntropyModels, scenario: Scenario, context: CodingContext) -> Any:
    from shared_protocol.entropy.scenarios import layout

    return layout(scenario, context, models.engine(scenario).config)


def _digest(tables: Tables) -> str:
    digest = hashlib.sha256()
    for high, low in tables:
        digest.update(high.astype("<i8").tobytes())
        digest.update(low.astype("<i8").tobytes())
    return digest.hexdigest()


def _together(digests: dict[str, str]) -> str:
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _draws(seed: int, count: int) -> npt.NDArray[np.uint32]:
    blocks = [hashlib.sha256(f"probe {seed} {i}".encode()).digest() for i in range(-(-count // 8))]
    return np.frombuffer(b"".join(blocks), dtype="<u4")[:count]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the digest of a bundle's entropy models, and with --battery every check."""
    parser = argparse.ArgumentParser(prog="python -m shared_protocol.entropy.selfcheck")
    parser.add_argument("weights", nargs="*", metavar="SCENARIO=FILE", help="default: the bundle")
    parser.add_argument("--bundle", default="builtin", help="name or folder of a bundle")
    parser.add_argument("--battery", action="store_true", help="compare all ways to compute")
    args = parser.parse_args(argv)
    models = _models(args)
    checks = [c for s in models.available() for c in battery(models, s)] if args.battery else []
    lines = [str(check) for check in checks]
    sys.stdout.write("\n".join([*lines, selfcheck_digest(models)]) + "\n")
    return int(not all(check.ok for check in checks))


def _models(args: argparse.Namespace) -> EntropyModels:
    if args.weights:
        named = (text.split("=", 1) for text in args.weights)
        return EntropyModels.load({Scenario[name.upper()]: Path(path) for name, path in named})
    from shared_protocol.bundles import load_bundle

    return load_bundle(args.bundle).entropy


if __name__ == "__main__":
    sys.exit(main())
