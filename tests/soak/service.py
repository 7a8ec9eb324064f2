"""A real server with good and bad clients at once, killed and started again at random.

    python tests/soak/service.py --minutes 10 --server-flags "--max-queue 16"

Good clients ask for what was asked before in quiet, and must get the same tokens within their
time; they and the server do whatever they do about restarts by themselves.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
for folder in (ROOT, ROOT / "tests" / "fakes", ROOT / "tests" / "soak"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import server_process  # noqa: E402
from clients import (  # noqa: E402 - the project is reachable only now
    CLIENTS,
    MAX_GRID,
    MAX_STEPS,
    Field,
    good_requests,
    key_of,
)
from tally import Memory, Tally  # noqa: E402

from edge_client.exchange.coded_exchange import SingleMessages, Stopwatch  # noqa: E402
from edge_client.transport.schemes import open_transport  # noqa: E402
from shared_protocol.bundles.find import load_bundle  # noqa: E402
from shared_protocol.errors import UnimicError  # noqa: E402
from shared_protocol.messages import Response  # noqa: E402

FLAGS = ("--max-grid", str(MAX_GRID), "--max-steps", str(MAX_STEPS), "--log-level", "warning")
SHARES = {
    "good messages": 2,
    "conversation": 2,
    "slow": 1,
    "dropping": 1,
    "over limit": 1,
    "hostile": 2,
}
"""Clients of each kind."""
LEAST_LIFE_S, MOST_LIFE_S = 5.0, 25.0
"""How long a server lives until it is killed."""
QUIET_S = 3.0
server_process._READY_S = 300.0  # with so many clients beside it, a start takes its time
REFERENCE = "reference"
RESULTS = "{folder}"
"""Stands for a folder of the soak's own in the server's flags."""


def references(field: Field) -> dict[str, Response]:
    """The answers of a server that has nothing else to do."""
    with open_transport(field.server, field.key(REFERENCE), field.patience) as transport:
        exchange = SingleMessages(field.bundle, transport)
        return {
            name: exchange.hold(request, Stopwatch()).response
            for name, request in field.requests.items()
        }


def write_keys(file: Path) -> None:
    """A key for each kind of client, so that the server tells them apart."""
    kinds = (*CLIENTS, REFERENCE)
    file.touch(mode=0o600)
    file.write_text("".join(f"{kind.replace(' ', '-')} {key_of(kind)}\n" for kind in kinds))


class Soak:
    """One run.

    Args:
        seconds: how long clients ask.
        patience: seconds that a good client gives a request.
        kill: whether the server is killed at times.
        flags: of the server.
        seed: of everything that is drawn.
        names: of the good requests to ask; none = all.
    """

    def __init__(
        self,
        seconds: float,
        patience: float,
        kill: bool,
        flags: Sequence[str],
        seed: int,
        names: Sequence[str] = (),
    ) -> None:
        self.seconds, self.patience, self.kill, self.seed = seconds, patience, kill, seed
        self.names = names
        self.server = server_process.ServerProcess(*FLAGS, *flags)
        self.tally, self.memory, self.own = Tally(), Memory(), Memory()
        self.kills, self.slowest_start = 0, 0.0
        self.late: list[str] = []

    def run(self) -> bool:
        """Soak; whether nothing was lost and nothing wrong."""
        bundle = load_bundle()
        requests, stop = good_requests(bundle), threading.Event()
        requests = {name: requests[name] for name in self.names or requests}
        with self.server as server:
            print(f"the server answers; soaking for {self.seconds:.0f} s", flush=True)
            field = Field(bundle, server.port, stop, self.tally, requests, {}, self.patience)
            field.references = references(field)
            threads = self._clients(field)
            self._look()
            for thread in threads:
                thread.start()
            self._live(field)
            stop.set()
            print("the time is up; waiting for the last answers", flush=True)
            for thread in threads:
                thread.join(self.patience + 30)
            self.late = [thread.name for thread in threads if thread.is_alive()]
            time.sleep(QUIET_S)
            self._look()
            self._compare(field)
        return not (self.tally.total("lost") or self.tally.total("wrong") or self.late)

    def _compare(self, field: Field) -> None:
        """Once it is quiet again, the server answers as before."""
        self.tally.note("afterwards", "asked")
        try:
            again = references(field)
        except UnimicError as error:
            self.tally.note("afterwards", "lost", str(error))
            return
        self.tally.note("afterwards", "answered")
        if again != field.references:
            self.tally.note("afterwards", "wrong", "the server answers otherwise than before")

    def _clients(self, field: Field) -> list[threading.Thread]:
        kinds = [kind for kind, count in SHARES.items() for _ in range(count)]
        return [
            threading.Thread(
                target=CLIENTS[kind],
                args=(field, random.Random(self.seed * 1000 + place)),
                name=kind,
                daemon=True,
            )
            for place, kind in enumerate(kinds)
        ]

    def _live(self, field: Field) -> None:
        """Kill the server and start it again until the time is up."""
        rng, end = random.Random(self.seed), time.monotonic() + self.seconds
        death = time.monotonic() + rng.uniform(LEAST_LIFE_S, MOST_LIFE_S)
        while time.monotonic() < end:
            time.sleep(0.5)
            self._look()
            # Near the end clients get the time that they need.
            if self.kill and time.monotonic() > death:
                self.server.kill()
                field.restarts += 1
                self.kills += 1
                time.sleep(rng.uniform(0.0, 2.0))
                began = time.monotonic()
                self.server.start()
                self.slowest_start = max(self.slowest_start, time.monotonic() - began)
                death = time.monotonic() + rng.uniform(LEAST_LIFE_S, MOST_LIFE_S)

    def _look(self) -> None:
        if self.server.process is not None:
            self.memory.look(self.server.process.pid)
        self.own.look(os.getpid())

    def report(self) -> list[str]:
        """What came of it."""
        return [
            *self.tally.lines(),
            f"the server was killed {self.kills} times, the slowest start took "
            f"{self.slowest_start:.0f} s; {self.memory}, {self.memory.files} files",
            f"the clients together: {self.own}",
            f"lost {self.tally.total('lost')}, wrong {self.tally.total('wrong')}"
            + (f"; these clients hang: {', '.join(self.late)}" if self.late else ""),
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Soak; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="[%(default)s]")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds a request [120]")
    parser.add_argument("--no-kill", action="store_true", help="let the server live")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument(
        "--server-flags",
        default="",
        help=f"more of cloud-server's; {RESULTS} is a new folder that outlives restarts",
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        write_keys(keys)
        more = shlex.split(args.server_flags.replace(RESULTS, folder))
        flags = ["--api-keys", str(keys), *more]
        soak = Soak(args.minutes * 60, args.patience, not args.no_kill, flags, args.seed)
        print(f"seed {args.seed}", flush=True)
        good = soak.run()
    print("\n".join(soak.report()))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
