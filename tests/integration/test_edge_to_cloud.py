"""The edge against a real server over a real socket; only the model and the tokenizer are fake."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_fakes import FakeBundle
from serving_fakes import FakeEngine, LiveServer, SlowEngine, fake_settings

from edge_client import cli
from edge_client.client import EdgeClient, Interaction
from edge_client.pictures.outputs import save_picture
from edge_client.transport.http import HttpTransport
from shared_protocol.errors import (
    BundleMismatchError,
    DeadlineError,
    InvalidInputError,
    OverloadedError,
    ServerTimeoutError,
    TransportError,
    UnauthorizedError,
)
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension, Scenario
from shared_protocol.tokens import TokenMask

GREY = np.full((64, 64, 3), 77, dtype=np.uint8)
HOLE = TokenMask(np.arange(16).reshape(4, 4) == 5)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0), bundle=FakeBundle()) as live:
        yield live


opened: list[HttpTransport] = []


@pytest.fixture(autouse=True)
def closed_transports() -> Iterator[None]:
    """Whatever a test opened is closed after it."""
    yield
    while opened:
        opened.pop().close()


def session(server: LiveServer, bundle: FakeBundle | None = None, **options: Any) -> EdgeClient:
    on_step = options.pop("on_step", None)
    transport = HttpTransport(server.url, **options)
    opened.append(transport)
    return EdgeClient(bundle or FakeBundle(), transport, on_step)


def test_all_four_tasks_run_over_one_connection(server: LiveServer) -> None:
    steps: list[tuple[int, int]] = []
    talk = session(server, on_step=lambda *step: steps.append(step))
    made = talk.t2i("a fox", Options(seed=3, steps=4))
    assert made.pixels is not None
    assert steps
    assert all(0 <= done <= total == 4 for done, total in steps)
    filled = talk.inpaint(GREY, HOLE, "a ball")
    assert filled.pixels is not None
    outside = np.kron(HOLE.flags, np.ones((16, 16))) == 0
    assert (filled.pixels[outside] == 77).all()
    wide = talk.outpaint(GREY, Extension(left=1, right=2), "a beach")
    assert wide.pixels is not None
    assert wide.pixels.shape == (64, 112, 3)
    assert (wide.pixels[:, 16:80] == 77).all()
    assert talk.vqa(GREY, "abc").answer == "cba"


def test_times_and_bytes_are_those_that_were_measured(server: LiveServer) -> None:
    done = session(server).inpaint(GREY, HOLE, "a ball")
    for stage in ("server decode", "server queue", "model", "server encode", "network"):
        assert done.milliseconds[stage] >= 0
    assert done.wire.sent > done.uplink.sizes.total + 100, "heads are counted"
    assert done.wire.received > done.downlink.sizes.total + 100
    assert done.wire.attempts == 1


def test_ends_with_other_entropy_models_still_give_the_right_picture(server: LiveServer) -> None:
    agreed = session(server).inpaint(GREY, HOLE, "a ball", Options(seed=9))
    differing = session(server, FakeBundle(entropy_key=7))
    done = differing.inpaint(GREY, HOLE, "a ball", Options(seed=9))
    assert np.array_equal(done.pixels, agreed.pixels)
    assert done.downlink.scenario is Scenario.UNIFORM
    assert len(done.warnings) == 1


def test_a_reply_that_does_not_decode_costs_no_second_generation() -> None:
    engine = FakeEngine()
    with LiveServer(fake_settings(port=0), engine, bundle=FakeBundle()) as live:
        done = session(live, FakeBundle(entropy_key=7)).t2i("a fox")
    assert done.wire.attempts == 2
    assert done.warnings
    assert len(engine.requests) == 1


class CutWire:
    """Forwards to a server, but drops the first connection once the reply begins."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with near, socket.create_connection(("127.0.0.1", self._target)) as far:
                near.settimeout(0.2)
                self._forward(near, far)
                if self.connections == 1:
                    far.recv(1)
                    continue
                while chunk := far.recv(65536):
                    near.sendall(chunk)

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        try:
            while chunk := near.recv(65536):
                far.sendall(chunk)
        except TimeoutError:
            return

    def close(self) -> None:
        self._listener.close()


def test_a_connection_cut_after_sending_is_tried_again_and_runs_the_model_once() -> None:
    engine = SlowEngine(0.05)
    with LiveServer(fake_settings(port=0), engine, bundle=FakeBundle()) as live:
        wire = CutWire(live.port)
        transport = HttpTransport(wire.url, timeout=20.0)
        opened.append(transport)
        transport._client.headers["Connection"] = "close"
        try:
            done = EdgeClient(FakeBundle(), transport).t2i("a fox")
        finally:
            wire.close()
    assert done.pixels is not None
    assert done.wire.attempts == 2
    assert len(engine.requests) == 1


def test_a_key_is_asked_for_and_accepted() -> None:
    with LiveServer(fake_settings(port=0, api_key="secret"), bundle=FakeBundle()) as live:
        with pytest.raises(UnauthorizedError, match="UNIMIC_API_KEY"):
            session(live).t2i("a fox")
        assert session(live, api_key="secret").t2i("a fox").pixels is not None


def test_other_bundles_are_refused_with_both_fingerprints(server: LiveServer) -> None:
    with pytest.raises(BundleMismatchError, match=r"abababababababab.*0000000000000000"):
        session(server, FakeBundle(fingerprint=b"\xab" * 32)).t2i("a fox")


def test_what_the_server_does_not_allow_comes_back_typed() -> None:
    with LiveServer(fake_settings(port=0, max_steps=5), bundle=FakeBundle()) as live:
        talk = session(live)
        with pytest.raises(InvalidInputError, match="steps is 6"):
            talk.t2i("a fox", Options(steps=6))


@pytest.mark.slow
def test_a_full_server_is_asked_again_until_it_has_room() -> None:
    settings = fake_settings(port=0, max_queue=1)
    with LiveServer(settings, SlowEngine(0.3), bundle=FakeBundle()) as live:
        outcomes: list[Interaction | OverloadedError] = []

        def ask(seed: int) -> None:
            try:
                options = Options(seed=seed, steps=2)
                outcomes.append(session(live, timeout=20.0).t2i("a fox", options))
            except OverloadedError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    done = [outcome for outcome in outcomes if isinstance(outcome, Interaction)]
    assert len(outcomes) == 4
    assert max(outcome.wire.attempts for outcome in done) > 1 or len(done) < 4


def test_a_late_failure_in_a_stream_is_typed() -> None:
    settings = fake_settings(port=0, request_timeout=0.3)
    with LiveServer(settings, SlowEngine(0.25), bundle=FakeBundle()) as live:
        talk = session(live, timeout=0.9)
        with pytest.raises((DeadlineError, ServerTimeoutError)):
            talk.t2i("a fox")


def test_a_server_slower_than_the_timeout_is_reported() -> None:
    with LiveServer(fake_settings(port=0), SlowEngine(0.5), bundle=FakeBundle()) as live:
        talk = session(live, timeout=0.4)
        with pytest.raises(ServerTimeoutError, match=r"did not finish in 0\.4 s"):
            talk.t2i("a fox")


def test_a_port_where_nothing_listens_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    transport = HttpTransport(f"http://127.0.0.1:{port}", timeout=5.0)
    with pytest.raises(TransportError, match="start it with cloud-server"):
        EdgeClient(FakeBundle(), transport).t2i("a fox")


def test_the_command_line_runs_against_the_server(
    server: LiveServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("shared_protocol.bundles.find.load_bundle", lambda *given: FakeBundle())
    save_picture(tmp_path / "photo.png", GREY)
    words = ["outpaint", "photo.png", "a beach", "--right", "4", "--json", "--server", server.url]
    assert cli.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["canvas"] == [128, 64]
    assert report["milliseconds"]["exchange"] > 0
    assert report["wire"]["way"] == "WebSocket"
    assert (tmp_path / report["output"]).is_file()


def test_both_ends_publish_the_same_self_check() -> None:
    from cloud_server.serving.load import check_entropy
    from shared_protocol.selfcheck.roundtrip import round_trip_digest

    assert check_entropy(FakeBundle())["digest"] == round_trip_digest(FakeBundle())
    assert round_trip_digest(FakeBundle()) != round_trip_digest(FakeBundle(entropy_key=1))
