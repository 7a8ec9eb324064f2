"""The server under Ray Serve beside the same on uvicorn; prints a table. Run by `make test-scale`.

An environment of its own is kept in the folder that the first argument names. Everything runs under
Ray's proxy in Python, then under its proxy in C: the same bytes, conversations, replicas that are
killed between turns, in a turn and in a request, fewer replicas under load, and what it costs.
"""

from __future__ import annotations

import http.client
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from ray_cluster import HA, Cluster, cluster, environment, plain_server

from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Held, Stopwatch
from edge_client.report import table
from shared_protocol.bundles.find import load_bundle
from shared_protocol.http.contract import IDEMPOTENCY_KEY, MESSAGE_TYPE
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import Options, Request, Response
from shared_protocol.tasks import Scenario, Task

BUNDLE = load_bundle()
QUICK, LONG = Options(steps=2), Options(steps=24)
MOST = 2.5
"""Times that a request may take through Ray's proxy in C, beside uvicorn alone."""
_REPEATS, _ROUNDS = 25, 8


def main(where: Path) -> int:
    """Run all; 1 if anything went wrong."""
    # Whoever ends this, ends the cluster.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    programs = environment(where)
    print(f"environment: {time.monotonic() - began:.0f} s", flush=True)
    rows: list[list[str]] = []
    with plain_server(programs) as plain:
        for name, variables in (("Python proxy", {}), ("HA proxy", HA)):
            started = time.monotonic()
            with cluster(programs, **variables) as ray:
                ray.run(2)
                rows.append([name, "start", "ok", "two replicas", _since(started)])
                print("  ".join(rows[-1]), flush=True)
                rows += Steps(name, plain, ray).run()
    print(table(["proxy", "step", "", "told", "s"], rows, left=4))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return int(any(row[2] != "ok" for row in rows))


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.1f}"


def drawing(text: str, options: Options = QUICK) -> Request:
    return Request(Task.T2I, BUNDLE.text_tokenizer.encode(text), options=options)


def posts(server: str) -> BestExchange:
    """Asks by single messages."""
    found = BestExchange(BUNDLE, server, None, 120.0)
    found._posts = found._single_messages()
    return found


def ask(server: str, request: Request, post: bool) -> Held:
    exchange = posts(server) if post else BestExchange(BUNDLE, server, None, 120.0)
    try:
        return exchange.hold(request, Stopwatch())
    finally:
        exchange.close()


def rounds(server: str, before: Callable[[int], None] = lambda turn: None) -> list[Response]:
    """A picture and two questions about it in one conversation."""
    talk = BestExchange(BUNDLE, server, None, 120.0)
    held: list[Response] = []
    for turn in range(3):
        before(turn)
        request = drawing("a fox on a beach")
        if turn:
            request = Request(Task.VQA, BUNDLE.text_tokenizer.encode("a fox?"), held[0].image)
        held.append(talk.hold(request, Stopwatch()).response)
    assert talk.way == "WebSocket", talk.way
    talk.close()
    return held


class Steps:
    """What is looked at under one of Ray's proxies.

    Args:
        name: of the proxy.
        plain: address of the server on uvicorn.
        ray: the cluster, with two replicas.
    """

    def __init__(self, name: str, plain: str, ray: Cluster) -> None:
        self._name, self._plain, self._ray = name, plain, ray

    def run(self) -> list[list[str]]:
        """The rows; a step that fails does not keep the others from being run."""
        rows = []
        for step in (
            self.same_bytes, self.conversation, self.comes_back, self.cost_of_posts,
            self.cost_of_turns, self.killed_between_turns, self.killed_in_a_turn,
            self.killed_in_a_request, self.drained,
        ):  # fmt: skip
            began = time.monotonic()
            try:
                mark, told = "ok", step()
            except Exception as error:
                mark, told = "FAILED", f"{type(error).__name__}: {error}"[:300]
            name = step.__name__.replace("_", " ")
            rows.append([self._name, name, mark, told, _since(began)])
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
        return rows

    def same_bytes(self) -> str:
        bodies = [Caller(each, "one").post() for each in (self._plain, self._ray.url)]
        assert bodies[0] == bodies[1], "another picture"
        return f"{len(bodies[0])} bytes of a picture"

    def conversation(self) -> str:
        assert rounds(self._ray.url) == rounds(self._plain)
        return "three turns, the tokens of uvicorn"

    def comes_back(self) -> str:
        """Whether a second link finds what the first left, which one of two replicas holds."""
        for _ in range(6):
            talk = BestExchange(BUNDLE, self._ray.url, None, 60.0)
            talk.hold(drawing("a fox"), Stopwatch())
            talk._talk.close()  # the link alone
            talk._talk.ready_link(30.0)
            assert talk._talk.state.pictures, "the replica does not know the conversation"
            talk.close()
        return "6 conversations found their replica again"

    def cost_of_posts(self) -> str:
        plain, ray = Caller(self._plain, "two"), Caller(self._ray.url, "two")
        for caller in (plain, ray):
            for _ in range(20):  # both replicas hold the result, connections are open
                caller.post()
        times = alternately(plain.post, ray.post)
        ratio = times[1] / times[0]
        assert self._name != "HA proxy" or ratio <= MOST, f"{ratio:.2f} times, at most {MOST}"
        body = f"{len(plain.body)} bytes up, {len(plain.post())} down"
        return f"{ratio:.2f} times ({times[1]:.2f} against {times[0]:.2f} ms; {body})"

    def cost_of_turns(self) -> str:
        talks = [BestExchange(BUNDLE, each, None, 60.0) for each in (self._plain, self._ray.url)]
        picture = talks[0].hold(drawing("a fox"), Stopwatch()).response.image
        words = BUNDLE.text_tokenizer.encode("a fox?")
        question = Request(Task.VQA, words, picture, options=Options(max_new_tokens=1))

        def turn(talk: BestExchange) -> Callable[[], object]:
            return lambda: talk.hold(question, Stopwatch())

        def opening(talk: BestExchange) -> Callable[[], object]:
            def again() -> None:
                talk._talk.close()
                talk._talk.ready_link(30.0)

            return again

        turns = alternately(*map(turn, talks), repeats=5)
        openings = alternately(*map(opening, talks), repeats=3)
        for talk in talks:
            talk.close()
        return (
            f"turn {turns[1] / turns[0]:.2f} times ({turns[1]:.1f} against {turns[0]:.1f} ms), "
            f"opening {openings[1] / openings[0]:.2f} times ({openings[1]:.1f}, {openings[0]:.1f})"
        )

    def killed_between_turns(self) -> str:
        expected = rounds(self._plain)

        def kill(turn: int) -> None:
            if turn == 1:
                for pid in self._ray.replicas():  # whichever it was
                    os.kill(pid, signal.SIGKILL)

        assert rounds(self._ray.url, kill) == expected
        self._ray.await_replicas(2)
        return "both replicas killed, the same tokens"

    def killed_in_a_turn(self) -> str:
        return self._killed(post=False)

    def killed_in_a_request(self) -> str:
        return self._killed(post=True)

    def _killed(self, post: bool) -> str:
        request = drawing(f"a boat at night {'p' if post else 't'}", LONG)
        expected = ask(self._plain, request, post)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, self._ray.url, request, post)
            time.sleep(0.3)
            victim = self._ray.busiest()
            assert not asked.done(), "it was done before a replica was killed"
            os.kill(victim, signal.SIGKILL)
            held = asked.result()
        assert held.response == expected.response, "another picture"
        assert held.wire.attempts > 1, "another replica than the one that worked was killed"
        self._ray.await_replicas(2)
        return f"one replica killed, the same tokens in {held.wire.attempts} attempts"

    def drained(self) -> str:
        """From two replicas to one, while both work; nobody has to ask twice."""
        request = drawing("a snowman and a rocket", LONG)
        expected = ask(self._plain, request, post=True).response
        stop = threading.Event()

        def keep_asking(number: int) -> list[Held]:
            found = []
            while not stop.is_set():
                found.append(ask(self._ray.url, request, post=True))
            return found

        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(keep_asking, number) for number in range(3)]
            time.sleep(1.5)
            self._ray.scale(1)
            try:
                self._ray.await_replicas(1)
                time.sleep(1.0)
            finally:
                stop.set()
            held = [each for future in asked for each in future.result()]
        assert all(each.response == expected for each in held), "another picture"
        again = sum(each.wire.attempts - 1 for each in held)
        assert again == 0, f"{again} attempts of {len(held)} were lost"
        return f"{len(held)} requests while one of two replicas went, none lost"


def alternately(*works: Callable[[], object], repeats: int = _REPEATS) -> list[float]:
    """Milliseconds of each, taken in turns: the tenth part's longest, of an undisturbed machine.

    What else the machine does makes most of them longer, and one process more than several.
    """
    times: list[list[float]] = [[] for _ in works]
    for _ in range(_ROUNDS):
        for work, found in zip(works, times, strict=True):
            for _ in range(repeats):
                began = time.perf_counter()
                work()
                found.append((time.perf_counter() - began) * 1000.0)
    return [statistics.quantiles(each, n=10)[0] for each in times]


class Caller:
    """Posts one message again and again under one key: work once, then the kept result.

    Args:
        server: address.
        key: of the work.
    """

    def __init__(self, server: str, key: str) -> None:
        parts = urlsplit(server)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        # Uniform coding of the reply takes no time worth measuring.
        options = Options(steps=2, reply=Scenario.UNIFORM)
        self.body = encode_request(drawing("a fox left of a balloon", options), BUNDLE).data
        self._headers = {"Content-Type": MESSAGE_TYPE, IDEMPOTENCY_KEY: key}

    def post(self) -> bytes:
        """The reply."""
        self._connection.request("POST", "/v1/t2i", self.body, self._headers)
        reply = self._connection.getresponse()
        data = reply.read()
        assert reply.status == 200, data[:200]
        return data


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
