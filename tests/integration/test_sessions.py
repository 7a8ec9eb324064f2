"""Conversations with a real server process, the built-in weights and sockets that break.

Every disturbed run must end with the tokens and words of an undisturbed one.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from server_process import ServerProcess

from edge_client.evaluation.counting_proxy import CountingProxy
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.exchange.conversation import Conversation
from edge_client.transport.links import open_link
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import LimitError, UnimicError, WorkCancelledError
from shared_protocol.messages import Options, Request, Response
from shared_protocol.session.framing import FrameCutter, framed
from shared_protocol.session.hello import Hello, encode_hello
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import ImageTokens, TokenMask

pytestmark = pytest.mark.slow

BUNDLE = load_bundle()
FAST = Options(steps=3)
SLOW = Options(steps=60)


def picture() -> ImageTokens:
    from edge_client.pictures.images import load_picture

    samples = Path(__file__).parents[2] / "edge_client" / "samples"
    pixels = load_picture(samples / "scene1.webp", 256, 256).pixels
    return BUNDLE.image_tokenizer().tokenize(pixels)


SCENE = picture()


def words(text: str):
    return BUNDLE.text_tokenizer.encode(text)


def hole() -> TokenMask:
    flags = np.zeros((16, 16), dtype=bool)
    flags[5:11, 9:15] = True
    return TokenMask(flags)


Step = Callable[[dict[str, ImageTokens]], Request]
SCRIPT: list[tuple[str, Step]] = [
    ("", lambda p: Request(Task.VQA, words("how many objects are there?"), SCENE)),
    ("", lambda p: Request(Task.VQA, words("is there a fox?"), SCENE)),
    ("one", lambda p: Request(Task.INPAINT, words("a penguin on a beach at night"), SCENE, hole(),
                              options=FAST)),
    ("", lambda p: Request(Task.VQA, words("is there a penguin?"), p["one"])),
    ("two", lambda p: Request(Task.OUTPAINT, words("a beach at night"), p["one"],
                              extension=Extension(right=8), options=FAST)),
    ("", lambda p: Request(Task.VQA, words("describe the picture"), SCENE)),
]  # fmt: skip


def run(talk: Conversation | BestExchange, before: Callable[[int], None] = lambda turn: None):
    """The script, with something done before each turn; returns what was held."""
    pictures: dict[str, ImageTokens] = {}
    held = []
    for turn, (name, step) in enumerate(SCRIPT):
        before(turn)
        done = talk.hold(step(pictures), Stopwatch())
        if name:
            assert done.response.image is not None
            pictures[name] = done.response.image
        held.append(done)
    talk.close()
    return held


def results(held) -> list[Response]:
    return [each.response for each in held]


def talk_to(url: str, **options) -> Conversation:
    return Conversation(BUNDLE, lambda left: open_link(url, None, left), **options)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def undisturbed(server: ServerProcess) -> list[Response]:
    return results(run(talk_to(server.bare)))


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_the_bytes_that_are_told_are_those_of_the_wire(server, undisturbed, kind) -> None:
    port = server.port if kind == "http" else server.tcp
    with CountingProxy(port) as proxy:
        talk = talk_to(f"{kind}://127.0.0.1:{proxy.port}")
        seen = (0, 0)
        pictures: dict[str, ImageTokens] = {}
        for name, step in SCRIPT:
            done = talk.hold(step(pictures), Stopwatch())
            if name:
                pictures[name] = done.response.image
            now = proxy.counted
            assert (done.wire.sent, done.wire.received) == (now[0] - seen[0], now[1] - seen[1])
            seen = now
        talk.close()
        assert proxy.connections == 1


def test_over_websocket_the_same_comes_out(server, undisturbed) -> None:
    best = BestExchange(BUNDLE, server.url)
    assert results(run(best)) == undisturbed
    assert best.way == "WebSocket"


def test_single_messages_give_the_same_tokens(server, undisturbed) -> None:
    from edge_client.exchange.coded_exchange import SingleMessages
    from edge_client.transport.schemes import open_transport

    with open_transport(server.url) as transport:
        posts = SingleMessages(BUNDLE, transport)
        pictures: dict[str, ImageTokens] = {}
        for (name, step), expected in zip(SCRIPT, undisturbed, strict=True):
            response = posts.hold(step(pictures), Stopwatch()).response
            assert response == expected
            if name:
                pictures[name] = response.image


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_a_server_that_is_killed_between_any_two_turns_loses_nothing(undisturbed, kind) -> None:
    with ServerProcess() as process:
        url = process.url if kind == "http" else process.bare
        turns = (1, 2, 3, 4, 5) if kind == "tcp" else (3,)

        def restart(turn: int) -> None:
            if turn in turns:
                process.kill()
                process.start()

        held = run(talk_to(url), restart)
    assert results(held) == undisturbed
    assert all(held[turn].wire.attempts >= 2 for turn in turns)


def test_a_server_that_is_killed_in_mid_turn_loses_nothing(undisturbed) -> None:
    request = Request(Task.T2I, words("a fox on a beach"), options=Options(steps=40, seed=3))
    with ServerProcess() as process:
        calm_talk, talk = talk_to(process.bare), talk_to(process.bare)
        calm = calm_talk.hold(request, Stopwatch()).response
        calm_talk.close()
        talk.hold(SCRIPT[0][1]({}), Stopwatch())
        done: list[Response] = []
        waiting = threading.Thread(
            target=lambda: done.append(talk.hold(request, Stopwatch()).response)
        )
        waiting.start()
        time.sleep(0.7)
        process.kill()
        process.start()
        waiting.join(60)
        talk.close()
    assert done == [calm]


def test_two_replicas_without_stickiness_lose_nothing(server, undisturbed) -> None:
    with ServerProcess() as other, CountingProxy([server.tcp, other.tcp]) as proxy:
        held = run(talk_to(f"tcp://127.0.0.1:{proxy.port}"), lambda turn: proxy.cut())
        assert proxy.connections == len(SCRIPT)
    assert results(held) == undisturbed


def test_a_reply_that_is_lost_is_not_made_again(server, undisturbed) -> None:
    with CountingProxy(server.tcp) as proxy:
        batches = server.metric("batch_size_count")

        def lose(turn: int) -> None:
            if turn:
                proxy.cut_down_after = 0

        held = run(talk_to(f"tcp://127.0.0.1:{proxy.port}"), lose)
    assert results(held) == undisturbed
    assert server.metric("batch_size_count") - batches == len(SCRIPT)
    assert [each.wire.attempts for each in held] == [1, 2, 2, 2, 2, 2]


def test_a_turn_that_is_cut_on_its_way_is_sent_again(server, undisturbed) -> None:
    with CountingProxy(server.tcp) as proxy:

        def cut(turn: int) -> None:
            proxy.cut_up_after = 3 if turn else None

        held = run(talk_to(f"tcp://127.0.0.1:{proxy.port}"), cut)
    assert results(held) == undisturbed


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_a_proxy_that_cuts_idle_links_is_not_noticed(server, undisturbed, kind) -> None:
    port = server.port if kind == "http" else server.tcp
    # Longer than a turn that says nothing meanwhile may take on a busy machine.
    with CountingProxy(port, idle_s=8.0) as proxy:
        held = run(
            talk_to(f"{kind}://127.0.0.1:{proxy.port}"),
            lambda turn: time.sleep(8.5) if turn in (2, 5) else None,
        )
        assert proxy.connections == 3
    assert results(held) == undisturbed


def test_a_cancelled_turn_frees_the_model(server) -> None:
    talk, failures = talk_to(server.url), []
    talk.hold(SCRIPT[0][1]({}), Stopwatch())

    def ask() -> None:
        try:
            talk.hold(Request(Task.T2I, words("a fox"), options=SLOW), Stopwatch())
        except WorkCancelledError as error:
            failures.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.5)
    talk.cancel()
    waiting.join(10)
    assert len(failures) == 1
    began = time.monotonic()
    talk.hold(SCRIPT[1][1]({}), Stopwatch())
    assert time.monotonic() - began < 2.0
    talk.close()


def test_two_hundred_conversations_at_once_are_all_answered(server, undisturbed) -> None:
    answers: list[Response] = []

    def ask() -> None:
        talk = talk_to(server.bare)
        answers.append(talk.hold(SCRIPT[1][1]({}), Stopwatch()).response)
        talk.close()

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert answers == [undisturbed[1]] * 200


def test_a_reader_that_takes_nothing_and_a_hello_that_never_comes_hold_nobody_up(server) -> None:
    silent = socket.create_connection(("127.0.0.1", server.tcp))
    stuck = socket.create_connection(("127.0.0.1", server.tcp))
    hello = Hello(BUNDLE.fingerprint[:4], b"stuckone")
    stuck.sendall(framed(encode_hello(hello)) + framed(b"\x00" * 40) * 500)
    talk = talk_to(server.bare)
    assert talk.hold(SCRIPT[1][1]({}), Stopwatch()).response.text is not None
    talk.close()
    silent.close()
    stuck.close()


def test_a_frame_over_the_limit_ends_the_link_and_nothing_else(server) -> None:
    with socket.create_connection(("127.0.0.1", server.tcp), 10) as raw:
        raw.sendall(framed(encode_hello(Hello(BUNDLE.fingerprint[:4], b"toolarge"))))
        cutter, frames = FrameCutter(), []
        while not frames:
            frames += cutter.feed(raw.recv(1000))
        with pytest.raises(LimitError):
            list(FrameCutter().feed(b"\xff\xff\x7f"))
        raw.sendall(b"\xff\xff\x7f")
        assert raw.recv(1000) == b""


def test_another_keys_picture_is_as_unknown_as_one_that_never_was(tmp_path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann key-a\nbob key-b\n")
    keys.chmod(0o600)

    def key_talk(url: str, key: str) -> Conversation:
        return Conversation(BUNDLE, lambda left: open_link(url, key, left), key=key)

    with ServerProcess("--api-keys", str(keys)) as process:
        ann = key_talk(process.bare, "key-a")
        ann.hold(SCRIPT[0][1]({}), Stopwatch())
        known = ann.state.pictures
        for key, travels in (("key-a", 0), ("key-b", 256)):
            other = key_talk(process.bare, key)
            other.advance(other.state.restart(0, known))
            held = other.hold(SCRIPT[1][1]({}), Stopwatch())
            assert held.uplink.counts.image_codes == travels
            other.close()
        stranger = key_talk(process.url, "key-c")
        with pytest.raises(UnimicError, match="key"):
            stranger.hold(SCRIPT[1][1]({}), Stopwatch())
        assert "key-a" not in process.log.read_text()
        assert "fox" not in process.log.read_text()
        assert "key=ann" in process.log.read_text()
        ann.close()


def test_sigterm_lets_the_turn_under_way_end(undisturbed) -> None:
    with ServerProcess() as process:
        for url in (process.url, process.bare):
            if process.process is None or process.process.poll() is not None:
                process.start()
            talk, done = talk_to(url), []
            talk.hold(SCRIPT[0][1]({}), Stopwatch())
            request = Request(Task.T2I, words("a fox"), options=Options(steps=20))
            waiting = threading.Thread(
                target=lambda talk=talk, done=done, request=request: done.append(
                    talk.hold(request, Stopwatch())
                )
            )
            waiting.start()
            time.sleep(0.4)
            assert process.stop() == 0
            waiting.join(20)
            talk.close()
            assert len(done) == 1
            assert done[0].wire.attempts == 1
