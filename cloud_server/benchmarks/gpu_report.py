"""One report about a machine with a GPU: exactness, speed, memory, training, entropy coding.

It does not know how anything is measured. Run it with `make gpu`, or as
`python -m cloud_server.benchmarks.gpu_report --out FOLDER`: within ten minutes it prints Markdown
and writes it and the same as JSON. A part that fails is reported with its error, and the others
still run; the exit status tells. Without a GPU, and with `--small`, every part runs at toy size:
that shows that it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cloud_server.benchmarks.decoding import decoding
from cloud_server.benchmarks.entropy_batches import entropy_batches
from cloud_server.benchmarks.exactness import exactness
from cloud_server.benchmarks.tables import Measure, Report, Section, Setup, machine, say
from cloud_server.benchmarks.training_steps import training_steps
from cloud_server.serving.load import choose_device

PARTS: dict[str, Measure] = {
    "exactness": exactness,
    "decoding": decoding,
    "entropy": entropy_batches,
    "training": training_steps,
}
TITLES = {
    "exactness": "Entropy models: the same integers",
    "decoding": "Pictures and answers",
    "entropy": "Entropy coding of many messages",
    "training": "Training",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 if a part failed."""
    given = _parser().parse_args(argv)
    device = choose_device("auto")
    setup = Setup(device, given.small or device == "cpu")
    if not setup.on_gpu:
        say("no GPU here: every part runs on the processor, at toy size\n")
    size = "toy sizes" if setup.small else "full size"
    report = Report(f"GPU report, {size}", machine(setup), [])
    written = report.write(given.out, given.name)
    for name in given.parts:
        say(f"# {TITLES[name]}")
        report.sections.append(Section.measured(TITLES[name], PARTS[name], setup))
        report.write(given.out, given.name)  # what is known if the run is broken off
    say(report.markdown())
    say("written: " + ", ".join(map(str, written)))
    if report.failed:
        say("FAILED: " + ", ".join(report.failed))
    return int(bool(report.failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cloud_server.benchmarks.gpu_report", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("gpu_out"), help="folder [%(default)s]")
    parser.add_argument("--name", default="gpu_report", help="of the files [%(default)s]")
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="some of them [all]"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
