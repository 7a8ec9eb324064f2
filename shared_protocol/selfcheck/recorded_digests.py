"""Does this machine compute the probabilities that every other machine computes?

It does not know messages. `selfcheck_digest` condenses the frequency tables of fixed probes into
one line to compare between machines, and shipped weights have the digests recorded beside them.
`python -m shared_protocol.selfcheck.recorded_digests` prints that line; with `--battery` it also
computes tables in every way this machine has and names the ways that differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.errors import CheckpointError
from shared_protocol.files import write_atomically
from shared_protocol.selfcheck.battery import CHUNK, battery, digest
from shared_protocol.selfcheck.probes import probe
from shared_protocol.tasks import Scenario

DIGESTS_FILE = "entropy_digests.json"
PROBE_SIDE = 8


def selfcheck_digests(models: EntropyModels) -> dict[str, str]:
    """Scenario name to SHA-256 of all frequency tables of one probe, computed by the encoder."""
    digests = {}
    for scenario in models.available():
        engine = models.engine(scenario)
        config = engine.config
        codes, context = probe(7, (PROBE_SIDE, PROBE_SIDE), config.codebook_size, config.text_size)
        tables = engine.tables([_layout(models, scenario, context)], [codes])
        digests[scenario.slug] = digest(tables)
    return digests


def selfcheck_digest(models: EntropyModels) -> str:
    """One line for all scenarios; machines that print the same line understand each other."""
    return _together(selfcheck_digests(models))


def write_digests(models: EntropyModels, folder: Path) -> Path:
    """Record the digests of shipped weights beside them."""
    path = folder / DIGESTS_FILE
    write_atomically(path, json.dumps(selfcheck_digests(models), indent=2, sort_keys=True) + "\n")
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
            "run python -m shared_protocol.selfcheck.recorded_digests --battery and report it",
        )
    return _together(found)


def check_probabilities(models: EntropyModels) -> None:
    """Compare what this machine computes with the digests recorded beside the weights, if any.

    Raises:
        CheckpointError: it computes other probabilities, so other machines would not follow.
    """
    for folder in {path.parent for path in models.paths.values()}:
        if (folder / DIGESTS_FILE).is_file():
            check_digests(models, folder)


def _layout(models: EntropyModels, scenario: Scenario, context: CodingContext) -> Any:
    from shared_protocol.entropy.scenarios import layout

    return layout(scenario, context, models.engine(scenario).config)


def _together(digests: dict[str, str]) -> str:
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the digest of a bundle's entropy models, and with --battery every check."""
    parser = argparse.ArgumentParser(prog="python -m shared_protocol.selfcheck.recorded_digests")
    parser.add_argument("weights", nargs="*", metavar="SCENARIO=FILE", help="default: the bundle")
    parser.add_argument("--bundle", default="builtin", help="name or folder of a bundle")
    parser.add_argument("--battery", action="store_true", help="compare all ways to compute")
    parser.add_argument(
        "--sequences", type=int, default=2 * CHUNK, help="for --battery, a scenario [%(default)s]"
    )
    parser.add_argument(
        "--record", type=Path, metavar="FOLDER", help="write the digests beside the weights there"
    )
    args = parser.parse_args(argv)
    models = _models(args)
    if args.record:
        write_digests(models, args.record)
    good = not args.battery or _print_battery(models, args.sequences)
    sys.stdout.write(selfcheck_digest(models) + "\n")
    return int(not good)


def _print_battery(models: EntropyModels, sequences: int) -> bool:
    """Run and print the battery of every scenario; whether all ways agree."""
    good = True
    for scenario in models.available():
        began = time.monotonic()
        checks = battery(models, scenario, sequences, processors=True, report=_progress)
        seconds = time.monotonic() - began
        sys.stdout.write(f"{scenario.slug}, {seconds:.0f} s\n")
        sys.stdout.writelines(f"  {check}\n" for check in checks)
        sys.stdout.flush()
        good = good and all(check.ok for check in checks)
    return good


def _progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _models(args: argparse.Namespace) -> EntropyModels:
    if args.weights:
        named = (text.split("=", 1) for text in args.weights)
        return EntropyModels.load({Scenario[name.upper()]: Path(path) for name, path in named})
    from shared_protocol.bundles.find import load_bundle

    return load_bundle(args.bundle).entropy


if __name__ == "__main__":
    sys.exit(main())
