"""What the edge takes of a device: megabytes, time to the first byte, memory, time of a command.

It makes a fresh environment with the base install, as the README says, and runs its `edge-client`
against a server of this environment; where torch is installed here, the same commands run here
with `--compute torch` beside it. Every figure is a median; it does not judge.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from edge_client.evaluation.task_bench import MEBIBYTE, SAMPLES, first_byte, run_command
from edge_client.report import table
from edge_client.spawn import program, spawned_server
from shared_protocol.errors import ConfigError

ROOT = Path(__file__).parents[2]
OWN = ("edge_client", "cloud_server", "shared_protocol", "unimic-")
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence", "wheel")
"""What an environment holds before anything is installed into it."""
MEGABYTE = 1_000_000
QUESTION = "how many objects are there?"


@dataclass(frozen=True)
class Edge:
    """An `edge-client` to measure.

    Args:
        name: for the table.
        command: how it is started.
        compute: what computes.
    """

    name: str
    command: Sequence[str]
    compute: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m edge_client.evaluation.edge_bench", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs behind each median [5]")
    parser.add_argument(
        "--show-o",
        action="store_true",
        help="also time a tokenizer of Show-o's size with random weights, here (needs torch)",
    )
    given = parser.parse_args(arguments)
    if not (ROOT / "pyproject.toml").is_file():
        raise ConfigError("this is no source tree", "run it in a clone of the project")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # commands start as they do for a user
    say(f"# {os.cpu_count()} cores of {platform.machine()}; medians of {given.rounds}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh = installed(folder)
        say(size_table(fresh, folder) + "\n")
        edges = [
            Edge("fresh, C decoder", [str(fresh / "bin" / "edge-client")], "auto"),
            Edge("fresh, numpy alone", [str(fresh / "bin" / "edge-client")], "numpy"),
        ]
        if find_spec("torch") is not None:
            edges.append(Edge("here, torch", program("edge-client", "edge_client.cli"), "torch"))
        with spawned_server(folder / "log") as server:
            say(command_table(edges, server.url, folder, given.rounds) + "\n")
        coder = [fresh / "bin" / "python", "-m", "shared_protocol.selfcheck.coder_bench"]
        say(run(*coder, "--rounds", given.rounds, cwd=folder))
        if given.show_o:
            say(large_tokenizer_table(folder, min(given.rounds, 3)) + "\n")
        used = site_sizes(fresh)[0] / MEGABYTE
        say(f"dependencies with the bytecode that these commands have written: {used:.1f} MB")
    return 0


def installed(folder: Path) -> Path:
    """A new environment with the base install; its folder."""
    place, wheels = folder / "venv", folder / "wheels"
    run(sys.executable, "-m", "venv", place)
    pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    # A build takes what it finds in the tree: leftovers of other builds stay out of it.
    source = folder / "source"
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, source)
    constraints = ROOT / "docker" / "constraints.txt"
    (wheel,) = wheels.iterdir()
    run(*pip, "install", "--quiet", "--no-compile", "-c", constraints, wheel)
    return place


def size_table(place: Path, folder: Path) -> str:
    """Megabytes of the dependencies, and of the project's own wheel."""
    dependencies, parts = site_sizes(place)
    (wheel,) = (folder / "wheels").iterdir()
    largest = sorted(parts.items(), key=lambda part: -part[1])[:6]
    rows = [
        ["all dependencies", f"{dependencies / MEGABYTE:.1f}"],
        *[[f"  {name}", f"{size / MEGABYTE:.1f}"] for name, size in largest],
        [
            "the project's wheel, both ends and all weights",
            f"{wheel.stat().st_size / MEGABYTE:.1f}",
        ],
    ]
    return table(["site-packages of `pip install --no-compile .`", "MB"], rows)


def site_sizes(place: Path) -> tuple[int, dict[str, int]]:
    """Bytes of all dependencies in an environment, and by what lies at its top."""
    (site,) = place.glob("lib/python*/site-packages")
    parts: dict[str, int] = {}
    for path in site.rglob("*"):
        top = path.relative_to(site).parts[0]
        if path.is_file() and not top.startswith((*OWN, *TOOLS)):
            parts[top] = parts.get(top, 0) + path.stat().st_size
    return sum(parts.values()), parts


def command_table(edges: Sequence[Edge], url: str, folder: Path, rounds: int) -> str:
    """Milliseconds and peak memory of every command, for each edge."""
    picture, stream = str(sorted(SAMPLES.glob("*.webp"))[0]), str(folder / "picture.umic")
    server, steps = ["--server", url], ["--steps", "4"]
    png = ["-o", str(folder / "out.png")]
    box = ["--box", "144,80,96,96", "a penguin"]
    asks = {
        "question": ["vqa", picture, QUESTION],
        "picture": ["t2i", "a fox on a beach", *png, *steps],
        "inpainting": ["inpaint", picture, *box, *png, *steps],
    }
    whole = {
        **{name: [*words, *server] for name, words in asks.items()},
        "encode": ["encode", picture, "-o", stream],
        "decode": ["decode", stream, *png],
        "inspect": ["inspect", stream],
    }
    columns = [_column(edge, asks, whole, rounds) for edge in edges]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return table(["ms / peak MiB", *(edge.name for edge in edges)], rows)


def _column(
    edge: Edge, asks: Mapping[str, list[str]], whole: Mapping[str, list[str]], rounds: int
) -> dict[str, str]:
    words = [*edge.command, "--compute", edge.compute]
    cells = {}
    for name, ask in asks.items():
        cells[f"{name}, first byte"] = _median(partial(first_byte, [*words, *ask]), rounds)
    for name, command in whole.items():
        cells[name] = _median(partial(run_command, [*words, *command]), rounds)
    return cells


def _median(measure: Callable[[], tuple[float, float]], rounds: int) -> str:
    measure()  # files are read from disk once
    times, peaks = zip(*(measure() for _ in range(rounds)), strict=True)
    return f"{statistics.median(times):,.0f} / {statistics.median(peaks) / MEBIBYTE:,.0f}"


_TOKENIZE = """
import re, sys, time
from pathlib import Path
import numpy
from shared_protocol.compute import Compute
from shared_protocol.tokenizers.image import NetworkTokenizer
from shared_protocol.tokenizers.load import load_network
network = load_network("magvitv2", Path(sys.argv[1]), Compute(sys.argv[2]))
tokenizer = NetworkTokenizer(lambda: network, network.config.stride, 1 << network.config.bits)
pixels = numpy.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(numpy.uint8)
start = time.perf_counter()
tokens = tokenizer.tokenize(pixels)
middle = time.perf_counter()
tokenizer.detokenize(tokens)
end = time.perf_counter()
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024
print(middle - start, end - middle, peak)
"""
"""A new process: seconds to tokenise, seconds to make pixels again, peak MiB; weights included."""


def large_tokenizer_table(folder: Path, rounds: int) -> str:
    """Seconds and memory of a tokenizer of Show-o's size, whatever computes it here."""
    import torch
    from safetensors.torch import save_file

    from shared_protocol.tokenizers.magvitv2 import MagvitV2

    torch.manual_seed(0)
    path = folder / "magvitv2.safetensors"
    save_file(MagvitV2().state_dict(), path)
    rows = []
    for compute, package in (("numpy", "numpy"), ("onnx", "onnxruntime"), ("torch", "torch")):
        if find_spec(package) is None:
            continue
        command = [sys.executable, "-c", _TOKENIZE, path, compute]
        runs = [[float(word) for word in run(*command).split()] for _ in range(rounds)]
        tokenise, detokenise, peak = (statistics.median(each) for each in zip(*runs, strict=True))
        rows.append([package, f"{tokenise:.2f}", f"{detokenise:.2f}", f"{peak:,.0f}"])
    return table(["Show-o's size, 256 px", "tokenise s", "pixels s", "peak MiB"], rows)


def run(*words: object, cwd: Path | None = None) -> str:
    """What a command prints.

    Raises:
        ConfigError: it failed; the end of what it said is in the message.
    """
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"{words[0]} failed: {done.stderr[-2000:]}", "see its message")
    return done.stdout


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
