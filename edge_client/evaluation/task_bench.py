"""Times, memory and bytes of every task against a server of its own: medians, never a verdict.

It does not judge quality, and knows the server only by its address and its process.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_client.client import EdgeClient, Interaction
from edge_client.evaluation.energy import POWERCAP, measured
from edge_client.evaluation.tables.output import shown
from edge_client.pictures.images import load_picture
from edge_client.report import STAGES, interaction_report, table
from edge_client.spawn import SpawnedServer, program, spawned_server
from edge_client.transport.http import HttpTransport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension
from shared_protocol.tokens import TokenMask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared_protocol.bundles.bundle import Bundle

SAMPLES = Path(__file__).parents[1] / "samples"
MEBIBYTE = 1 << 20
CONCURRENT = 4


@dataclass(frozen=True)
class Ask:
    """One benchmarked request: its name and how a session makes it."""

    name: str
    run: Callable[[EdgeClient, Options], Interaction]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every measurement and print it as it is done."""
    given = _parser().parse_args(arguments)
    bundle = load_bundle()
    _say(
        f"# {os.cpu_count()} cores of {platform.machine()}, {platform.system()}; "
        f"medians of {given.rounds}\n"
    )
    _say(command_table(given.rounds) + "\n")
    with tempfile.TemporaryDirectory() as folder, spawned_server(Path(folder) / "log") as server:
        _say(task_tables(server, bundle, given.rounds) + "\n")
        _say(energy_table(server, bundle, given.rounds) + "\n")
        _say(throughput_table(server, bundle, given.rounds) + "\n")
        _say(f"server peak memory: {peak_memory(server.process.pid) / MEBIBYTE:.0f} MiB\n")
    _say(coder_table(bundle, given.rounds))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edge_client.evaluation.task_bench", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs behind each median [5]")
    return parser


def asks(bundle: Bundle) -> list[Ask]:
    """The four tasks on the sample pictures."""
    first, second = (
        load_picture(path, 256, 256).pixels for path in sorted(SAMPLES.glob("*.webp"))[:2]
    )
    flags = np.zeros(bundle.grid, dtype=bool)
    flags[4:10, 4:10] = True
    mask, wider = TokenMask(flags), Extension(left=8, right=8)
    return [
        Ask("t2i", lambda s, o: s.t2i("a fox left of a red balloon on a beach", o)),
        Ask("inpaint", lambda s, o: s.inpaint(first, mask, "a penguin", o)),
        Ask("outpaint", lambda s, o: s.outpaint(second, wider, "a meadow", o)),
        Ask("vqa", lambda s, o: s.vqa(first, "describe the picture", o)),
    ]


def task_tables(server: SpawnedServer, bundle: Bundle, rounds: int) -> str:
    """Milliseconds by stage and bytes by direction of each task, server and edge warm."""
    times, sizes = [], []
    with HttpTransport(server.url) as transport:
        session = EdgeClient(bundle, transport)
        for ask in asks(bundle):
            ask.run(session, Options())  # warm
            reports = [
                interaction_report(ask.run(session, Options(seed=seed))) for seed in range(rounds)
            ]
            stages = [[r["milliseconds"].get(stage, 0.0) for r in reports] for stage in STAGES]
            totals = [report["total_milliseconds"] for report in reports]
            times.append([ask.name, *map(_ms, stages), _ms(totals)])
            sizes += [_size_row(ask.name, way, reports) for way in ("uplink", "downlink")]
    heading = ["message", "coded", "framing", "parameters", "all", "uniform", "ratio"]
    return "\n\n".join(
        [
            table(["ms, warm", *STAGES, "all"], times),
            table(heading, sizes),
        ]
    )


def _size_row(name: str, way: str, reports: Sequence[Mapping[str, Any]]) -> list[str]:
    total, framing, extras = (
        statistics.median(report[way]["bytes"][key] for report in reports)
        for key in ("total", "container", "parameters")
    )
    uniform = statistics.median(report[way]["uniform"]["bytes"]["total"] for report in reports)
    cells = (total - framing - extras, framing, extras, total, uniform)
    return [f"{name} {way}", *(f"{cell:.0f}" for cell in cells), f"{total / uniform:.2f}"]


def energy_table(server: SpawnedServer, bundle: Bundle, rounds: int, root: Path = POWERCAP) -> str:
    """Joules and CPU seconds of each task; the edge's own, the server being another process."""
    rows = []
    with HttpTransport(server.url) as transport:
        session = EdgeClient(bundle, transport)
        for ask in asks(bundle):
            ask.run(session, Options())  # warm
            with measured(root) as energy:
                for seed in range(rounds):
                    ask.run(session, Options(seed=seed))
            joules = shown(
                None if energy.joules is None else energy.joules / rounds, "joules a task"
            )
            cells = energy.cpu_seconds / rounds, energy.seconds / rounds
            rows.append([ask.name, joules, *(f"{cell:.3f}" for cell in cells)])
    told = (
        "joules are those of the whole processor, the server's work included where it shares it; "
        "CPU seconds are the edge's alone"
    )
    heading = ["a task, warm", "joules", "edge's CPU s", "s"]
    return table(heading, rows) + "\n" + told


def throughput_table(server: SpawnedServer, bundle: Bundle, rounds: int) -> str:
    """Requests a second, one by one against many at once."""
    rows = []
    for ask in asks(bundle):
        alone = _requests_per_second(server.url, bundle, ask, min(rounds, 2), 1)
        together = _requests_per_second(server.url, bundle, ask, CONCURRENT, CONCURRENT)
        rows.append([ask.name, f"{alone:.2f}", f"{together:.2f}", f"{together / alone:.2f}"])
    return table(["requests/s", "one by one", f"{CONCURRENT} at once", "ratio"], rows)


def _requests_per_second(url: str, bundle: Bundle, ask: Ask, count: int, workers: int) -> float:
    def one(seed: int) -> None:
        with HttpTransport(url) as transport:
            ask.run(EdgeClient(bundle, transport), Options(seed=seed))

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(count)))
    return count / (time.perf_counter() - start)


def command_table(rounds: int) -> str:
    """What a user waits for before anything is sent, and what the edge's process takes."""
    edge = program("edge-client", "edge_client.cli")
    picture = str(sorted(SAMPLES.glob("*.webp"))[0])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stream = str(Path(folder) / "picture.umic")
        commands = {
            "--help": ["--help"],
            "encode": ["encode", picture, "-o", stream],
            "inspect": ["inspect", stream],
            "decode": ["decode", stream, "-o", str(Path(folder) / "picture.png")],
        }
        for name, words in commands.items():
            runs = [run_command([*edge, *words]) for _ in range(rounds)]
            rows.append([name, _ms([run[0] for run in runs]), _mib([run[1] for run in runs])])
    first = [
        first_byte([*edge, "vqa", picture, "how many objects are there?"]) for _ in range(rounds)
    ]
    rows.append(
        ["vqa, to first byte sent", _ms([f[0] for f in first]), _mib([f[1] for f in first])]
    )
    return table(["edge-client, cold start", "ms", "peak MiB"], rows)


def run_command(command: list[str]) -> tuple[float, float]:
    """Wall-clock milliseconds and peak bytes of one command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = _wait(process)
    return (time.perf_counter() - start) * 1000.0, peak


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for a child; its peak memory in bytes."""
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_maxrss * 1024.0


def first_byte(command: list[str]) -> tuple[float, float]:
    """Milliseconds from the start of a command to the first byte that it sends, and peak bytes."""
    with _listener() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--server", url, "--timeout", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            elapsed = (time.perf_counter() - start) * 1000.0
    return elapsed, _wait(process)


@contextmanager
def _listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(120)
        yield listener


def peak_memory(pid: int) -> float:
    """Peak resident bytes of a process (Linux)."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return float(found.group(1)) * 1024 if found else 0.0
    return 0.0


def coder_table(bundle: Bundle, rounds: int) -> str:
    """Milliseconds to code the 256 tokens of a sample picture with each entropy model."""
    from shared_protocol.coding.image_codec import nothing_known

    picture = load_picture(sorted(SAMPLES.glob("*.webp"))[0], 256, 256).pixels
    codes = bundle.image_tokenizer().tokenize(picture).codes
    text = bundle.text_tokenizer.encode("a fox on a beach").ids
    context = nothing_known(codes.shape[0], codes.shape[1], text)
    models, rows = bundle.entropy, []
    for scenario in models.available():
        data = models.encode(scenario, codes.ravel(), context)
        encode = [
            _timed(lambda s=scenario: models.encode(s, codes.ravel(), context))
            for _ in range(rounds)
        ]
        decode = [
            _timed(lambda s=scenario, d=data: models.decode(s, d, context)) for _ in range(rounds)
        ]
        bits = len(data) * 8 / codes.size
        rows.append([scenario.slug, _ms(encode), _ms(decode), f"{bits:.2f}"])
    return table(["256 image tokens", "encode ms", "decode ms", "bits/token"], rows)


def _timed(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - start) * 1000.0


def _ms(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f}"


def _mib(values: Sequence[float]) -> str:
    return f"{statistics.median(values) / MEBIBYTE:,.0f}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
