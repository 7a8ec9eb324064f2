"""Runs evaluation cases against a server, every one a real request over HTTP, and keeps records.

It does not judge what comes back. A record says what was answered or drawn, whether the known
tokens came back as they were, what it cost in bytes by part, and where the time went. A run that
was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_client.client import EdgeBundle, EdgeClient, Interaction
from edge_client.evaluation.data import token_mask_of
from edge_client.pictures.images import load_picture
from edge_client.pictures.outputs import save_picture
from edge_client.report import interaction_report
from edge_client.spawn import spawned_server
from edge_client.transport.base import Transport
from edge_client.transport.http import HttpTransport
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.cases import DATA, RECORDS, TASKS, Case, CaseRecord, Records, load_cases
from shared_protocol.errors import ConfigError, InvalidInputError, UnimicError
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension

logger = logging.getLogger(__name__)

PICTURES = "pictures"
FACTS = "run.json"
MAX_FAILURES = 10
"""So many failures one after another end a run: the server is not there any more."""


class CaseRunner:
    """Turns cases into records.

    Args:
        bundle: must be the server's, too.
        transport: carries messages.
        data: folder that the cases' pictures are relative to.
        out: folder for records and pictures.
        steps, guidance: decoding settings; None = the bundle's.
    """

    def __init__(
        self,
        bundle: EdgeBundle,
        transport: Transport,
        data: Path,
        out: Path,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        self._session = EdgeClient(bundle, transport)
        self._grid: tuple[int, int] = bundle.grid
        self._patch = bundle.image_tokenizer().stride
        self._data, self._out = data, out
        self._steps, self._guidance = steps, guidance
        self.records = Records(out / RECORDS)

    def run(self, cases: Sequence[Case], show: Callable[[Case], None] | None = None) -> int:
        """Run the cases that have no good record yet, and return how many failed.

        Args:
            cases: in the order in which they are run.
            show: called after each.

        Raises:
            UnimicError: that of the last failure, if too many followed one another.
        """
        (self._out / PICTURES).mkdir(parents=True, exist_ok=True)
        done, failed, streak = self.records.done(), 0, 0
        for case in cases:
            if case.id not in done:
                try:
                    self.records.add(self.record(case).to_dict())
                    streak = 0
                except UnimicError as error:
                    self.records.add(failure_record(case, error).to_dict())
                    failed, streak = failed + 1, streak + 1
                    if streak >= MAX_FAILURES:
                        raise
            if show is not None:
                show(case)
        return failed

    def record(self, case: Case) -> CaseRecord:
        """Ask the server for one case; its picture is saved.

        Raises:
            UnimicError: whatever went wrong.
        """
        start = time.perf_counter()
        talk = self.ask(case)
        wall = time.perf_counter() - start
        picture = None
        if talk.pixels is not None:
            picture = f"{PICTURES}/{case.id}.png"
            save_picture(self._out / picture, talk.pixels)
        grid = talk.response.image
        return CaseRecord(
            case.id,
            case.task,
            talk.answer,
            picture,
            None if grid is None else grid.codes.tolist(),
            _known_unchanged(talk),
            _bytes(talk),
            _seconds(talk, wall),
            list(talk.warnings),
        )

    def ask(self, case: Case) -> Interaction:
        """One interaction, as a user of the session would have it.

        Raises:
            UnimicError: whatever went wrong.
        """
        options = Options(steps=self._steps, guidance=self._guidance, seed=case.seed)
        if case.image is None:
            return self._session.t2i(case.prompt, options)
        height, width = (side * self._patch for side in self._grid)
        picture = load_picture(self._data / case.image, height, width)
        mask = token_mask_of(self._data, case, picture, self._grid)
        if mask is not None:
            return self._session.inpaint(picture.pixels, mask, case.prompt, options)
        if case.extend is not None:
            extension = Extension(**case.extend)
            return self._session.outpaint(picture.pixels, extension, case.prompt, options)
        return self._session.vqa(picture.pixels, case.prompt, Options(seed=case.seed))


def _known_unchanged(talk: Interaction) -> bool | None:
    """Whether every token that the edge sent stands where it stood; None if none was to be kept."""
    source, result = talk.request.image, talk.response.image
    if source is None or result is None:
        return None
    _, targets = talk.request.known(source.shape)
    kept = np.array(result.codes)[~targets]
    sent = source.codes if talk.request.mask is None else source.codes[~targets]
    return bool(np.array_equal(kept, sent.ravel()))


def _bytes(talk: Interaction) -> dict[str, Any]:
    report = interaction_report(talk)
    up, down = report["uplink"], report["downlink"]
    return {
        "up": up["bytes"]["total"],
        "down": down["bytes"]["total"],
        "up_parts": up["bytes"],
        "down_parts": down["bytes"],
        "up_uniform": up["uniform"]["bytes"],
        "down_uniform": down["uniform"]["bytes"],
        "up_symbols": up["symbols"],
        "down_symbols": down["symbols"],
        "scenarios": {"up": up["scenario"], "down": down["scenario"]},
        "canvas": report["canvas"],
        "bodies": report["wire"],
    }


def _seconds(talk: Interaction, wall: float) -> dict[str, float]:
    """Seconds by stage; "total" is the wall clock."""
    stages = {name: spent / 1000.0 for name, spent in talk.milliseconds.items()}
    return {name: round(spent, 5) for name, spent in {**stages, "total": wall}.items()}


def failure_record(case: Case, error: UnimicError) -> CaseRecord:
    """The record of a case that nothing came of."""
    return CaseRecord(case.id, case.task, error=f"{error.code}: {error}")


def check_same_run(out: Path, facts: dict[str, Any]) -> None:
    """Note in `out` what its records were made with, or see that it is the same.

    Raises:
        ConfigError: `out` holds records of other weights, data or settings.
    """
    path = out / FACTS
    if path.is_file():
        noted = json.loads(path.read_text(encoding="utf-8"))
        for name, value in facts.items():
            if noted.get(name) != value:
                raise ConfigError(
                    f"{out} holds records with {name} {noted.get(name)}, now it is {value}",
                    "name another folder with --out, or remove that one",
                )
        return
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def run_facts(bundle: Bundle, data: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What decides the results of a run, JSON-ready."""
    described = data / DATA
    about = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else {}
    return {
        "bundle": bundle.name,
        "fingerprint": bundle.fingerprint.hex(),
        "data": about.get("name", data.name),
        "data_seed": about.get("seed"),
        "steps": given.steps,
        "guidance": given.guidance,
    }


@contextmanager
def connected(server: str | None, bundle: str, log: Path) -> Iterator[HttpTransport]:
    """A transport to `server`, or to one that is started for it and stopped again.

    Raises:
        TransportError: the started server does not become ready.
    """
    if server is not None:
        with HttpTransport(server) as transport:
            yield transport
        return
    with spawned_server(log, bundle) as spawned, HttpTransport(spawned.url) as transport:
        yield transport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, required=True, help="folder with cases.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for records and pictures")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--server", help="address of a running server [one is started]")
    where.add_argument("--spawn", action="store_true", help="start a server (the default)")
    parser.add_argument("--bundle", default=BUILTIN, help="bundle name or folder [builtin]")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--limit", type=int, help="at most so many cases of each task")
    parser.add_argument("--steps", type=int, help="decoding steps [the bundle's]")
    parser.add_argument("--guidance", type=float, help="weight of the prompt [the bundle's]")


def run(given: argparse.Namespace) -> int:
    """Run what was asked for; 1 if a case failed.

    Raises:
        UnimicError: nothing can be run, or nothing more.
    """
    cases = load_cases(given.data, given.tasks, given.limit)
    if not cases:
        raise InvalidInputError(f"{given.data} holds no cases of {' '.join(given.tasks)}")
    bundle = load_bundle(given.bundle)
    given.out.mkdir(parents=True, exist_ok=True)
    check_same_run(given.out, run_facts(bundle, given.data, given))
    with connected(given.server, given.bundle, given.out / "server.log") as transport:
        runner = CaseRunner(bundle, transport, given.data, given.out, given.steps, given.guidance)
        with progress_bar(len(cases)) as show:
            failed = runner.run(cases, show)
    sys.stdout.write(f"{len(cases)} cases, {failed} failed: {runner.records.path}\n")
    return 1 if failed else 0


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Case], None]]:
    """A function to call after every case; draws a bar where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # a bar is a comfort, not a need
        yield lambda case: None
        return
    with tqdm(total=total, unit="case", mininterval=1.0) as bar:

        def show(case: Case) -> None:
            bar.set_postfix_str(case.task, refresh=False)
            bar.update()

        yield show


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module alone."""
    parser = argparse.ArgumentParser(
        prog="python -m edge_client.evaluation.run_cases", description=__doc__
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except UnimicError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
