"""Two real servers behind nginx and behind Caddy, as docker/ configures them, over TLS and below a
path: everything works, alike goes to alike, and a server that dies in the middle changes no token.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fleet import DOCKER, PREFIX, Fleet, fleet, proxy
from server_process import ServerProcess, make_certificate

from cloud_server.settings import Settings
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.fetching import fetch_from_server
from edge_client.transport.schemes import open_transport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.http.contract import IDEMPOTENCY_KEY, MESSAGE_TYPE, Preferences
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import Options, Request, Response
from shared_protocol.session.paths import ROUTE_HEADER
from shared_protocol.tasks import Task

pytestmark = pytest.mark.slow
BUNDLE = load_bundle()
QUICK, LONG = Options(steps=2), Options(steps=24)


def drawing(text: str, options: Options = QUICK) -> Request:
    return Request(Task.T2I, BUNDLE.text_tokenizer.encode(text), options=options)


def rounds(server: str, before=lambda turn: None, options: Options = QUICK) -> list[Response]:
    """A picture, a question about it, the question again: all in one conversation."""
    talk = BestExchange(BUNDLE, server, None, 60.0)
    held: list[Response] = []
    try:
        for turn in range(3):
            before(turn)
            request = drawing("a fox on a beach", options)
            if turn:
                words = BUNDLE.text_tokenizer.encode("is there a fox?")
                request = Request(Task.VQA, words, held[0].image)
            held.append(talk.hold(request, Stopwatch()).response)
        assert talk.way == "WebSocket"
    finally:
        talk.close()
    return held


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def servers() -> Iterator[Fleet]:
    with fleet() as found:
        yield found


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def address(request, servers: Fleet, folder: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
        with proxy(request.param, servers.servers, folder) as found:
            yield found


@pytest.fixture(scope="module")
def undisturbed(servers: Fleet) -> list[Response]:
    return rounds(servers.servers[0].url)


@pytest.fixture
def client(folder: Path) -> Iterator[httpx.Client]:
    trusting = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    with httpx.Client(verify=trusting, trust_env=False, timeout=30) as found:
        yield found


def test_every_way_leads_to_the_servers(address: str, undisturbed: list[Response]) -> None:
    assert rounds(address) == undisturbed
    posts = BestExchange(BUNDLE, address, None, 60.0)
    posts._posts = posts._single_messages()
    assert posts.hold(drawing("a fox on a beach"), Stopwatch()).response == undisturbed[0]
    posts.close()
    with open_transport(address, None) as transport:
        assert transport.info()["name"] == "unimic"
        assert fetch_from_server(transport).fingerprint == BUNDLE.fingerprint.hex()


def test_alike_goes_to_alike_and_all_of_it_to_everybody(address: str, client: httpx.Client) -> None:
    def server_of(headers: dict[str, str]) -> int:
        return client.get(f"{address}/v1/info", headers=headers).json()["limits"]["queue"]

    for name in (ROUTE_HEADER, IDEMPOTENCY_KEY):
        found = [{server_of({name: f"{n:04x}"}) for _ in range(3)} for n in range(24)]
        assert [len(each) for each in found] == [1] * 24
        assert set.union(*found) == {64, 65}


def test_a_conversation_comes_back_to_its_server(address: str, servers: Fleet) -> None:
    for _ in range(4):
        before = servers.asked()
        talk = BestExchange(BUNDLE, address, None, 60.0)
        for _ in range(4):
            words = BUNDLE.text_tokenizer.encode("a fox")
            talk.hold(Request(Task.T2I, words, options=Options(steps=1)), Stopwatch())
            talk._talk.close()  # only the link
        moved = [now - then for now, then in zip(servers.asked(), before, strict=True)]
        assert sorted(moved) == [0, 4]


def test_work_is_found_by_its_key(address: str, client: httpx.Client) -> None:
    for number in range(8):
        key = f"work-{number}"
        with open_transport(address, None) as transport:
            message = encode_request(drawing("a fox"), BUNDLE).data
            reply = transport.exchange(Task.T2I, message, key)
        found = client.get(f"{address}/v1/jobs/{key}")
        assert (found.status_code, found.content) == (200, reply.message)


def test_progress_is_not_held_back(address: str) -> None:
    began = time.monotonic()
    seen: list[float] = []
    with open_transport(address, None, wish=Preferences(steps=100)) as transport:
        message = encode_request(drawing("a boat at night", LONG), BUNDLE).data
        transport.exchange(Task.T2I, message, "p", lambda *_: seen.append(time.monotonic() - began))
    took = time.monotonic() - began
    assert len(seen) > 10
    assert seen[len(seen) // 4] < 0.6 * took


def test_the_longest_body_is_the_one_of_the_server(address: str, client: httpx.Client) -> None:
    most = Settings().max_body
    limits = re.findall(
        r"client_max_body_size (\d+)|over (\d+)", (DOCKER / "nginx.conf").read_text()
    )
    assert {number for pair in limits for number in pair if number} == {str(most)}
    assert f"max_size {2 * most}\n" in (DOCKER / "Caddyfile").read_text()

    def posted(size: int) -> tuple[int, str]:
        headers = {"Content-Type": MESSAGE_TYPE}
        reply = client.post(f"{address}/v1/t2i", content=bytes(size), headers=headers)
        return reply.status_code, reply.json()["code"]

    assert posted(most) == (400, "bad_magic")
    assert posted(most + 1) == (413, "body_too_large")


def chosen(servers: Fleet, began: list[float]) -> ServerProcess:
    """The server that has answered since `began`."""
    moved = [now - then for now, then in zip(servers.asked(), began, strict=True)]
    assert sum(1 for each in moved if each) == 1
    return servers.servers[moved.index(max(moved))]


def test_a_server_that_dies_between_turns_changes_no_token(
    address: str, servers: Fleet, undisturbed: list[Response]
) -> None:
    began = servers.asked()
    killed: list[ServerProcess] = []

    def kill(turn: int) -> None:
        if turn == 1:
            killed.append(chosen(servers, began))
            killed[0].kill()

    try:
        assert rounds(address, kill) == undisturbed
    finally:
        killed[0].start()


@pytest.mark.parametrize("post", [False, True])
def test_a_server_that_dies_in_the_middle_of_work_changes_no_token(
    address: str, servers: Fleet, post: bool
) -> None:
    request = drawing("a snowman and a rocket at night", LONG)
    expected = BestExchange(BUNDLE, servers.servers[0].url, None, 60.0)
    picture = expected.hold(request, Stopwatch()).response
    expected.close()

    talk = BestExchange(BUNDLE, address, None, 120.0)
    if post:
        talk._posts = talk._single_messages()
    found: list[Response] = []
    worker = threading.Thread(target=lambda: found.append(talk.hold(request, Stopwatch()).response))
    worker.start()
    victim = None
    while victim is None:
        busy = [each for each in servers.servers if each.metric("inflight_requests")]
        victim = busy[0] if busy else None
        assert worker.is_alive(), "it was done before it was looked for"
    time.sleep(0.2)
    victim.kill()
    try:
        worker.join(100)
        talk.close()
        assert found == [picture]
    finally:
        victim.start()


def test_the_path_is_the_one_that_the_servers_are_told() -> None:
    for file in ("nginx.conf", "Caddyfile"):
        text = (DOCKER / file).read_text()
        assert text.count(f"--root-path {PREFIX}") == 2
