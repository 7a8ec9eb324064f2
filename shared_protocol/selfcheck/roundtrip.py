"""Does this machine decode what it encodes? A fixed picture at every start, thousands on demand.

It does not know the other end; two machines compare the digest that each computes.
`python -m shared_protocol.selfcheck.roundtrip --messages 10000` packs and reads random messages,
and real ones where `--tokens` names shards of codes, in every scenario; with `--state` it goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_protocol.coding.image_codec import nothing_known
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.files import write_atomically
from shared_protocol.message.parts import CodecBundle
from shared_protocol.selfcheck import witness
from shared_protocol.tasks import Scenario

if TYPE_CHECKING:
    from shared_protocol.selfcheck.trials import TrialBundle, Trials

_SPREAD = 2654435761
"""Multiplies positions into codes all over the codebook."""
_SAVE_EVERY = 100
"""Messages between two notes of how far a run is."""


def round_trip_digest(bundle: CodecBundle) -> str:
    """SHA-256 of the streams; equal on every machine that holds the same bundle and works.

    Raises:
        CheckpointError: a model does not decode on this machine what it encoded.
    """
    models = bundle.entropy
    height, width = bundle.grid
    size = bundle.vocabulary.codebook_size
    codes = (np.arange(height * width, dtype=np.int64) * _SPREAD % size).astype(np.int32)
    context = nothing_known(height, width, text=np.arange(4, dtype=np.int32))
    digest = hashlib.sha256()
    for scenario in models.available():
        data = models.encode(scenario, codes, context)
        if not np.array_equal(models.decode(scenario, data, context), codes):
            raise CheckpointError(
                f"the {scenario.slug} model decodes on this machine what it did not encode",
                "install the bundle again; if that does not help, report the machine",
            )
        digest.update(data)
    return digest.hexdigest()


class Progress:
    """How many messages of each scenario are done, kept in a file if one is named.

    Raises:
        ConfigError: the file belongs to a run with other weights or another seed.
    """

    def __init__(self, path: Path | None, run: str) -> None:
        self._path, self._run = path, run
        self.done: dict[str, int] = {}
        if path is not None and path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["run"] != run:
                raise ConfigError(f"{path} belongs to another run", "name another --state file")
            self.done = content["done"]

    def note(self, scenario: Scenario, count: int) -> None:
        """`count` messages of `scenario` are done."""
        self.done[scenario.name] = count
        if self._path is not None:
            write_atomically(self._path, json.dumps({"run": self._run, "done": self.done}))


def run_scenario(trials: Trials, scenario: Scenario, count: int, progress: Progress) -> list[str]:
    """Messages up to number `count` of one scenario; what went wrong, a line each."""
    faults: list[str] = []
    start = progress.done.get(scenario.name, 0)
    for number in range(start, count):
        fault = trials.run(scenario, number)
        faults += [fault] if fault else []
        if (number + 1) % _SAVE_EVERY == 0 and not faults:
            progress.note(scenario, number + 1)
    if not faults:
        progress.note(scenario, max(start, count))
    return faults


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials; 1 if any message did not come back exactly or was too long."""
    from shared_protocol.selfcheck.trials import Trials, real_pictures

    parser = _parser()
    args = parser.parse_args(argv)
    if args.witness and not witness.is_available():
        parser.error("; ".join(witness.MISSING))
    bundle = _bundle(args)
    pictures = [codes for folder in args.tokens for codes in real_pictures(folder)]
    files = b"".join(path.read_bytes() for path in sorted(set(bundle.entropy.paths.values())))
    run = hashlib.sha256(files + str((args.seed, len(pictures))).encode()).hexdigest()
    progress, good = Progress(args.state, run), True
    for scenario in [Scenario[name] for name in args.scenario] or bundle.entropy.available():
        trials, began = Trials(bundle, pictures, args.seed, args.witness), time.monotonic()
        before = progress.done.get(scenario.name, 0)
        faults = run_scenario(trials, scenario, args.messages, progress)
        seconds = time.monotonic() - began
        sys.stdout.writelines(f"{fault}\n" for fault in faults)
        sizes = trials.sizes
        sys.stdout.write(
            f"{scenario.slug:<16} {args.messages} messages, {len(faults)} faults, "
            f"{max(args.messages - before, 0)} of them now in {seconds:.0f} s; "
            f"{sizes.compared} sizes: {sizes.coded} bytes, ideal {sizes.ideal:.1f}, "
            f"{sizes.too_long} over the promise"
        )
        if args.witness:
            sys.stdout.write(f"; constriction {sizes.witness} bytes, {sizes.disputed} disputed")
        sys.stdout.write("\n")
        sys.stdout.flush()
        good = good and not faults and not sizes.too_long and not sizes.disputed
    return int(not good)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared_protocol.selfcheck.roundtrip", description=__doc__
    )
    parser.add_argument("--messages", type=int, default=100, help="a scenario [%(default)s]")
    parser.add_argument("--bundle", default="builtin", help="name or folder of a bundle")
    parser.add_argument("--weights", type=Path, help="other entropy weights, for all scenarios")
    parser.add_argument("--tokens", type=Path, action="append", default=[], help="real codes, .npy")
    names = [scenario.name for scenario in Scenario if scenario is not Scenario.UNIFORM]
    parser.add_argument("--scenario", action="append", default=[], type=str.upper, choices=names)
    parser.add_argument("--state", type=Path, help="file that remembers how far the run is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--witness", action="store_true", help="compare lengths with constriction's; needs [bench]"
    )
    return parser


def _bundle(args: argparse.Namespace) -> TrialBundle:
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.entropy.coder import EntropyModels
    from shared_protocol.selfcheck.trials import with_models

    bundle = load_bundle(args.bundle)
    if args.weights is None:
        return with_models(bundle, bundle.entropy)
    scenarios = [scenario for scenario in Scenario if scenario is not Scenario.UNIFORM]
    return with_models(bundle, EntropyModels.load(dict.fromkeys(scenarios, args.weights)))


if __name__ == "__main__":
    sys.exit(main())
