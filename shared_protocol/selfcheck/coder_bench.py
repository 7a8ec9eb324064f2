"""How long exact coding takes here, beside what the memory allows and what eager floats take.

It does not judge; every figure is a median of one run, and ratios compare within that run.
`python -m shared_protocol.selfcheck.coder_bench` prints Markdown. Wall-clock times depend on what
else the machine does; the processor time of the coding thread stands beside them, and the ratio to
eager floats is one of processor times.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from shared_protocol.coding.image_codec import CodingContext, nothing_known
from shared_protocol.compute import Compute
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

if TYPE_CHECKING:
    from shared_protocol.entropy.model import Batch
    from shared_protocol.entropy.scenarios import Layout

SIDE = 16
TOKENS = SIDE * SIDE
BATCHES = (1, 4, 16, 32)
LARGER = {"width": 384, "layers": 6, "heads": 6, "hidden": 1536, "code_width": 64, "low_width": 384}
"""Sizes of the second model, of about 11 million parameters."""
EAGER_TOKENS = 64
"""Targets that the eager decoders are timed on; they are slow and their steps are alike."""
COPY_BYTES = 1 << 28
MEBIBYTE = 1 << 20

_MEMORY = """
import re, sys, time
import numpy
def peak():  # Linux; getrusage would tell of the parent process, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))
before = peak()
start = time.perf_counter()
from pathlib import Path
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.coding.image_codec import nothing_known
from shared_protocol.tasks import Scenario
models = EntropyModels.load({Scenario.GENERIC: Path(sys.argv[1])})
models.warm_up()
loaded = time.perf_counter() - start
codes = (numpy.arange(256) * 2654435761 % 8192).astype(numpy.int32)
context = nothing_known(16, 16)
start = time.perf_counter()
data = models.encode(Scenario.GENERIC, codes, context)
assert (models.decode(Scenario.GENERIC, data, context) == codes).all()
first = time.perf_counter() - start
print(loaded, first, (peak() - before) * 1024)
"""
"""A new process: load and warm seconds, seconds of the first coding, peak bytes over numpy's."""


@dataclass(frozen=True)
class Timing:
    """Medians of several runs, in milliseconds."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} ({self.processor:.1f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run every measurement and print it as it is done."""
    given = _parser().parse_args(argv)
    _say(f"# Entropy coding: {os.cpu_count()} cores of {platform.machine()}, {platform.system()}\n")
    _say(f"ms for {TOKENS} tokens: wall clock (processor), medians of {given.rounds}\n")
    with TemporaryDirectory() as folder:
        rows = [_model_row("shipped", _shipped(given.bundle), given)]
        if find_spec("torch") is not None:
            path = Path(folder) / "larger.safetensors"
            random_weights(replace(EntropyConfig(), **LARGER), path)
            rows.append(_model_row("random, larger", path, given))
    _say(_table(_HEADING, rows) + "\n")
    _say(batch_table(_shipped(given.bundle), given) + "\n")
    _say(process_table(_shipped(given.bundle), given.rounds) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared_protocol.selfcheck.coder_bench", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=7, help="runs behind each median [7]")
    parser.add_argument("--bundle", default="builtin", help="name or folder of the bundle")
    parser.add_argument(
        "--batches", type=int, nargs="*", default=BATCHES, help="images decoded at once"
    )
    return parser


def timed(work: Callable[[], object], rounds: int) -> Timing:
    """Medians over `rounds` calls, after one that is not counted."""
    work()
    walls, processors = [], []
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.thread_time()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.thread_time() - processor)
    return Timing(statistics.median(walls) * 1000, statistics.median(processors) * 1000)


def random_weights(config: EntropyConfig, path: Path) -> None:
    """Write a certified model of this shape that nobody trained; its streams are long, not slow."""
    import torch

    from shared_protocol.entropy.checkpoint import quantise, save
    from shared_protocol.entropy.model import EntropyModel
    from shared_protocol.entropy.scenarios import layout

    torch.manual_seed(0)
    model = EntropyModel(config)
    for parameter in model.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.05)
    plan = layout(Scenario.GENERIC, nothing_known(SIDE, SIDE), config)
    save(quantise(model, [whole_batch(plan, picture(0), config)]), path)


def whole_batch(plan: Layout, codes: Codes, config: EntropyConfig) -> Batch:
    """A batch of one picture that nothing is known of."""
    import torch

    from shared_protocol.entropy.model import Batch
    from shared_protocol.entropy.scenarios import target_slots

    kinds = np.full(plan.count, plan.target_kind)
    rows = (target_slots(plan, codes, config), plan.target_places, kinds, codes)
    slots, places, target_kinds, targets = (
        torch.from_numpy(row.astype(np.int64))[None] for row in rows
    )
    none = torch.zeros((1, 0), dtype=torch.int64)
    ends = torch.tensor([0]), torch.tensor([plan.count])
    return Batch(none, none.bool(), slots, places, target_kinds, *ends, targets)


def picture(seed: int) -> Codes:
    """(256,) codes in runs, as pictures have them."""
    codes = np.random.default_rng(seed).integers(0, 8192, TOKENS // 4)
    return np.repeat(codes, 4).astype(np.int32)


def _shipped(bundle: str) -> Path:
    from shared_protocol.bundles.find import load_bundle

    return load_bundle(bundle).entropy.paths[Scenario.GENERIC]


_HEADING = [
    "model", "parameters", "bytes", "encode", "decode", "decode, numpy", "decode, torch integers",
    "decode, torch float32", "float32 / decode", "floor", "decode / floor",
]  # fmt: skip


def _model_row(name: str, path: Path, given: argparse.Namespace) -> list[str]:
    from shared_protocol.entropy.checkpoint import load

    weights = load(path)
    read = _bytes_a_step(weights.config)
    models = EntropyModels.load({Scenario.GENERIC: path})
    context, codes = nothing_known(SIDE, SIDE), picture(1)
    data = models.encode(Scenario.GENERIC, codes, context)
    encode = timed(lambda: models.encode(Scenario.GENERIC, codes, context), given.rounds)
    decode = timed(lambda: models.decode(Scenario.GENERIC, data, context), given.rounds)
    steps = _steps(path, Compute.NUMPY, given.rounds)
    floor = 1000 * TOKENS * read / memory_bandwidth()
    return [
        name,
        f"{sum(array.size for array in weights.arrays.values()) / 1e6:.2f} M",
        f"{path.stat().st_size:,}",
        *map(str, (encode, decode, steps)),
        *_torch_cells(path, weights.config, decode, given.rounds),
        f"{floor:.1f}",
        f"{decode.wall / floor:.2f}x",
    ]


def _torch_cells(path: Path, config: EntropyConfig, decode: Timing, rounds: int) -> list[str]:
    """What torch takes for the same, where it is installed, on one thread."""
    if find_spec("torch") is None:
        return ["-"] * 3
    import torch

    torch.set_num_threads(1)
    floats = _eager_floats(config, rounds)
    integers = _steps(path, Compute.TORCH, rounds)
    return [str(integers), str(floats), f"{floats.processor / decode.processor:.1f}x"]


def _bytes_a_step(c: EntropyConfig) -> int:
    """Bytes of weights that one token reads: all matrices, and nine rows of the code table."""
    block = 3 * c.width**2 + c.width**2 + 2 * c.width * c.hidden
    join = 9 * c.code_width * c.width + 9 * c.code_width
    head = c.width * (c.high_size + c.low_width) + c.low_width * c.low_size
    return c.layers * block + join + head


def memory_bandwidth() -> float:
    """Bytes a second that one core reads and writes while it copies what no cache holds."""
    source = np.ones(COPY_BYTES // 8)
    target = np.empty_like(source)
    return 2 * COPY_BYTES / (timed(lambda: np.copyto(target, source), 3).wall / 1000)


def _steps(path: Path, compute: Compute, rounds: int) -> Timing:
    """One target after the other without the compiled decoder, scaled up from a part."""
    models = EntropyModels({Scenario.GENERIC: path}, compute)
    context = nothing_known(EAGER_TOKENS // SIDE, SIDE)
    data = models.encode(Scenario.GENERIC, picture(1)[:EAGER_TOKENS], context)
    part = timed(lambda: models.decode(Scenario.GENERIC, data, context), min(rounds, 3))
    return _scaled(part)


def _eager_floats(config: EntropyConfig, rounds: int) -> Timing:
    """Float32 steps of a network of the same size, scaled up from a part of the picture."""
    import torch

    from shared_protocol.entropy.model import EntropyModel
    from shared_protocol.entropy.scenarios import layout, target_slots
    from shared_protocol.selfcheck.float_steps import FloatSteps

    model = EntropyModel(config).eval()
    plan = layout(Scenario.GENERIC, nothing_known(EAGER_TOKENS // SIDE, SIDE), config)
    codes = picture(1)[:EAGER_TOKENS]
    slots = torch.from_numpy(target_slots(plan, codes, config).astype(np.int64))
    places = torch.from_numpy(plan.target_places.astype(np.int64))

    def decode() -> None:
        steps = FloatSteps(model, TOKENS)
        for row, place in zip(slots, places, strict=True):
            high, low = steps.step(row, place)
            int(high.argmax()), int(low.argmax())  # a decoder has to look at every result

    with torch.inference_mode():
        return _scaled(timed(decode, min(rounds, 3)))


def _scaled(part: Timing) -> Timing:
    factor = TOKENS / EAGER_TOKENS
    return Timing(part.wall * factor, part.processor * factor)


def batch_table(path: Path, given: argparse.Namespace) -> str:
    """Images a second when many are decoded at once: compiled, and in numpy side by side."""
    compiled = EntropyModels.load({Scenario.GENERIC: path})
    steps = EntropyModels({Scenario.GENERIC: path}, Compute.NUMPY)
    rows = []
    for count in given.batches:
        ours = _images_a_second(compiled, count, given.rounds)
        theirs = _images_a_second(steps, count, 1)
        rows.append([str(count), f"{ours:.1f}", f"{theirs:.1f}"])
    return _table(["images at once", "images/s, compiled", "images/s, numpy"], rows)


def _images_a_second(models: EntropyModels, count: int, rounds: int) -> float:
    context = nothing_known(SIDE, SIDE)
    contexts: list[CodingContext] = [context] * count
    pictures = [picture(seed) for seed in range(count)]
    streams = models.encode_batch(Scenario.GENERIC, pictures, contexts)

    def decode() -> None:
        models.decode_batch(Scenario.GENERIC, streams, contexts)

    return 1000 * count / timed(decode, max(1, rounds * 4 // (count + 3))).wall


def process_table(path: Path, rounds: int) -> str:
    """A new process: seconds until the first picture can be coded, and what memory that takes."""
    command = [sys.executable, "-c", _MEMORY, str(path)]
    runs = []
    for _ in range(min(rounds, 3)):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append([float(word) for word in done.stdout.split()])
    loaded, first, peak = (statistics.median(column) for column in zip(*runs, strict=True))
    cells = [f"{loaded:.2f} s", f"{first * 1000:.0f} ms", f"{peak / MEBIBYTE:.0f} MiB"]
    return _table(["new process, beyond numpy", "load and warm", "first picture", "peak"],
                  [["", *cells]])  # fmt: skip


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
