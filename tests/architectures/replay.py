"""Whether other processors compute the same: the kernel and numpy, cross-compiled and emulated.

    python tests/architectures/replay.py --sequences 100

Records sequences of every scenario of the built-in bundle, decodes them with the kernel compiled
for this machine in several ways and for aarch64, armv7 and riscv64 (Debian's cross compilers, run
by qemu-user), and compares every code, every frequency and the range decoder's last state. Then
runs the entropy encoder in numpy's aarch64 wheel, under Debian's aarch64 Python, and compares
digests of all tables. PyPI has no numpy wheels for armv7 and riscv64: there the kernel alone is
compared. `install.sh` installs what this needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from shared_protocol.bundles.find import load_bundle
from shared_protocol.coding.range_coder import RangeDecoder
from shared_protocol.entropy import native
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.coder import EntropyModels, write_stream
from shared_protocol.entropy.scenarios import layout
from shared_protocol.selfcheck.battery import CHUNK, elsewhere
from shared_protocol.selfcheck.probes import sequence
from shared_protocol.tasks import Scenario

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KERNEL = ROOT / "shared_protocol" / "entropy"
PACKAGES = (
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0",
    "liblzma5", "libuuid1", "libcrypt1", "libsqlite3-0", "libtinfo6", "libreadline8",
    "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal",
)  # fmt: skip
"""Debian's aarch64 Python, unpacked and not installed."""
WHEELS = ("numpy==2.4.6", "safetensors==0.8.0")


@dataclass(frozen=True)
class Build:
    """One way to compile the kernel, and what runs it.

    Args:
        name: for people.
        compiler: and its flags.
        runner: an emulator, or nothing.
    """

    name: str
    compiler: tuple[str, ...]
    runner: tuple[str, ...] = ()


_ARM64 = ("aarch64-linux-gnu-gcc", "-O3", "-static")
_ARMV7 = ("arm-linux-gnueabihf-gcc", "-O3", "-static", "-march=armv7-a", "-mfpu=neon-vfpv4")
BUILDS = (
    Build("this machine, -O3", ("cc", "-O3")),
    Build("this machine, -O0", ("cc", "-O0")),
    Build("this machine, -Os", ("cc", "-Os")),
    Build(
        "sanitised", ("cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    ),
    Build("AVX2, contracted", ("cc", "-O3", "-march=x86-64-v3", "-ffp-contract=fast")),
    Build("this machine, clang", ("clang", "-O3")),
    Build("aarch64", _ARM64, ("qemu-aarch64",)),
    Build("aarch64, contracted", (*_ARM64, "-ffp-contract=fast"), ("qemu-aarch64",)),
    Build("armv7 with NEON", _ARMV7, ("qemu-arm",)),
    Build("riscv64", ("riscv64-linux-gnu-gcc", "-O3", "-static"), ("qemu-riscv64",)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each build; 1 if one differs, 2 if a tool is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=100, help="of each scenario [100]")
    parser.add_argument("--numpy-sequences", type=int, default=50, help="for numpy [50]")
    parser.add_argument("--without-numpy", action="store_true", help="the kernel alone")
    given = parser.parse_args(arguments)
    missing = [tool for build in BUILDS for tool in (build.compiler[0], *build.runner[:1])
               if shutil.which(tool) is None and tool != "clang"]  # fmt: skip
    if missing:
        sys.stderr.write(
            f"not installed: {', '.join(sorted(set(missing)))}; see {HERE / 'install.sh'}\n"
        )
        return 2
    models = load_bundle().entropy
    with TemporaryDirectory() as folder:
        good = compare_builds(models, given.sequences, Path(folder))
        good = compare_old_processor() and good
        if not given.without_numpy:
            good = compare_numpy(models, given.numpy_sequences, Path(folder)) and good
    return int(not good)


# The kernel --------------------------------------------------------------------------------------


def compare_builds(models: EntropyModels, count: int, folder: Path) -> bool:
    """Whether every build gives what numpy gives, in every scenario."""
    programs = dict(compiled(folder))
    good = True
    for scenario in models.available():
        recording = folder / f"{scenario.slug}.recording"
        expected = record(models, scenario, count, recording)
        for build, program in programs.items():
            began = time.monotonic()
            words = [*build.runner, program, recording]
            # The recording's blocks are given back by the end of the process.
            environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
            done = subprocess.run(words, capture_output=True, check=True, env=environment)
            same = hashlib.sha256(done.stdout).hexdigest() == expected
            good = good and same
            tell(scenario, build.name, count, began, same)
    return good


def compiled(folder: Path) -> Iterator[tuple[Build, Path]]:
    """The builds that this machine has a compiler for, and their programs."""
    for number, build in enumerate(BUILDS):
        if shutil.which(build.compiler[0]) is None:
            say(f"{build.name}: no {build.compiler[0]} here")
            continue
        program = folder / f"replay{number}"
        words = [*build.compiler, "-I", KERNEL, HERE / "replay.c", "-o", program, "-lm"]
        subprocess.run(words, check=True)
        yield build, program


def record(models: EntropyModels, scenario: Scenario, count: int, path: Path) -> str:
    """Write sequences for `replay.c`; SHA-256 of what it must print, by numpy's steps."""
    engine = models.engine(scenario)
    weights = load(models.paths[scenario])
    largest = max(engine.config.high_size, engine.config.low_size)
    expected = hashlib.sha256()
    with path.open("wb") as file:
        file.write(native.packed_sizes(weights))
        write_blocks(file, native.packed_weights(weights))
        for index in range(count):
            codes, context = sequence(index, engine.config)
            plan = layout(scenario, context, engine.config)
            if not plan.count:
                continue
            (intervals,) = engine.intervals([plan], [codes])
            ((high, low),) = engine.tables([plan], [codes])
            data = write_stream(intervals)
            lane = engine._lane(plan, RangeDecoder(data))
            numbers = (
                plan.count, plan.target_kind, engine.config.outside_row, plan.board.shape[1],
                lane.keys.shape[2], lane.start,
            )  # fmt: skip
            write_blocks(
                file, np.frombuffer(data, np.uint8), np.array(numbers, np.int32),
                plan.target_places.astype(np.int32), plan.board.astype(np.int32),
                lane.keys, lane.values,
            )  # fmt: skip
            expected.update(codes.astype("<i4").tobytes())
            expected.update(frequencies_seen(high, low, largest))
            expected.update(last_state(data, intervals))
    return expected.hexdigest()


def frequencies_seen(high: Any, low: Any, largest: int) -> bytes:
    """The record of the kernel: for each code both tables, in rows of one length."""
    record = np.zeros((len(high), 2, largest), dtype="<i8")
    record[:, 0, : high.shape[1]] = high
    record[:, 1, : low.shape[1]] = low
    return record.tobytes()


def last_state(data: bytes, intervals: Any) -> bytes:
    """Code, range and position of a range decoder behind the last symbol."""
    decoder = RangeDecoder(data)
    for start, frequency, total in intervals.reshape(-1, 3).tolist():
        decoder.advance(start, frequency, total)
    return np.array(decoder.state, dtype="<i8").tobytes()


def write_blocks(file: Any, *arrays: np.ndarray) -> None:
    """Each array's bytes behind their number."""
    for array in arrays:
        data = np.ascontiguousarray(array).tobytes()
        file.write(len(data).to_bytes(8, "little") + data)


def compare_old_processor() -> bool:
    """Whether this installation's kernel and numpy give the same streams on a processor of 2008."""
    began = time.monotonic()
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from shared_protocol.bundles.find import load_bundle\n"
        "from shared_protocol.selfcheck.roundtrip import round_trip_digest\n"
        "bundle = load_bundle(); print(bundle.entropy.decoded_by, round_trip_digest(bundle))\n"
    )
    here = run(sys.executable, "-c", script)
    there = run("qemu-x86_64", "-cpu", "Nehalem", sys.executable, "-c", script)
    say(f"{'all':<17} x86-64 without AVX     {time.monotonic() - began:12.0f} s  "
        f"{'identical' if here == there else 'DIFFERS'} by {here.partition(')')[0]})")  # fmt: skip
    return here == there and here.startswith("C ")


# numpy -------------------------------------------------------------------------------------------


def compare_numpy(models: EntropyModels, count: int, folder: Path) -> bool:
    """Whether numpy's aarch64 wheel computes the tables that numpy computes here."""
    root, site = folder / "aarch64", folder / "site"
    unpack_python(root)
    platforms = [f"--platform={name}_aarch64" for name in ("manylinux_2_28", "manylinux2014")]
    words = [*platforms, "--python-version", "3.11", "--no-deps"]
    run(sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:",
        "--disable-pip-version-check", *words, "--target", site, *WHEELS)  # fmt: skip
    good = True
    for scenario in models.available():
        began = time.monotonic()
        expected = elsewhere(models, scenario, count, {})
        script = (
            f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(site)!r}]\n"
            "from shared_protocol.selfcheck.battery import main; sys.exit(main())\n"
        )
        python = ["qemu-aarch64", "-L", root, root / "usr/bin/python3.11", "-S", "-c", script]
        words = [scenario.name, str(models.paths[scenario]), str(count), "numpy"]
        found = json.loads(run(*python, *words))
        same = found == expected and len(found) == -(-count // CHUNK)
        good = good and same
        tell(scenario, "aarch64, numpy wheel", count, began, same)
    return good


def unpack_python(root: Path) -> None:
    """Debian's aarch64 Python with the libraries that it needs, under `root`."""
    debs = root.parent / "debs"
    debs.mkdir()
    run("apt-get", "download", *(f"{name}:arm64" for name in PACKAGES), cwd=debs)
    for deb in debs.glob("*.deb"):
        run("dpkg", "-x", deb, root)


def run(*words: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def tell(scenario: Scenario, name: str, count: int, began: float, same: bool) -> None:
    seconds = time.monotonic() - began
    verdict = "identical" if same else "DIFFERS"
    say(f"{scenario.slug:<17} {name:<22} {count} sequences, {seconds:4.0f} s  {verdict}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
