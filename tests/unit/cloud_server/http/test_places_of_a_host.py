"""What a host listens on for each setting, the file that says so, and what ends it at once."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from serving_fakes import LONG_S, fake_model, fake_settings

from cloud_server.http import host as hosting
from cloud_server.http.patient_protocol import PatientWebSocket
from cloud_server.links.connections import ACCEPTED_AT_ONCE
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.session.framing import MAX_FRAME


class Served:
    """`serve` on a thread, until it is told to stop."""

    def __init__(self, settings, monkeypatch, load=fake_model):
        self.lines, self.hosts, self.error = [], [], None
        build = hosting.build_host

        def noted(*parts):
            self.hosts.append(build(*parts))
            return self.hosts[-1]

        monkeypatch.setattr(hosting, "build_host", noted)
        self._thread = threading.Thread(target=self._run, args=(settings, load))
        self._thread.start()

    def _run(self, *parts):
        try:
            hosting.serve(*parts, self.lines.append)
        except Exception as error:
            self.error = error

    def until(self, condition):
        give_up = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < give_up
            assert self._thread.is_alive(), self.error
            time.sleep(0.005)

    def end(self, stop=True):
        for each in self.hosts if stop else ():
            each.should_exit = True
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()
        return self.error


@contextmanager
def served(settings, monkeypatch):
    found = Served(settings, monkeypatch)
    try:
        yield found
    finally:
        found.end()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ({"port": 0}, ["http"]),
        ({"port": 0, "tcp": 0}, ["http", "tcp"]),
        ({"port": None, "unix": "a.sock"}, ["unix"]),
        ({"port": 0, "unix": "a.sock", "tcp": "free"}, ["http", "unix", "tcp"]),
    ],
)
def test_it_listens_where_it_is_told_says_so_and_leaves_nothing(
    tmp_path, monkeypatch, asked, kinds
):
    ready, asked = tmp_path / "ready", dict(asked)
    ready.write_text("of one before it")
    if "unix" in asked:
        asked["unix"] = tmp_path / asked["unix"]
    if asked.get("tcp"):
        asked["tcp"] = free_port()
    with served(fake_settings(ready_file=ready, **asked), monkeypatch) as found:
        found.until(lambda: len(found.lines) == len(kinds) and ready.exists())
        urls = [line.removeprefix("listening on ") for line in found.lines]
        assert [url.partition(":")[0] for url in urls] == kinds
        found.until(lambda: ready.read_text() == "".join(f"{url}\n" for url in urls))
        for kind, url in zip(kinds, urls, strict=True):
            if kind == "tcp":
                port = int(url.rpartition(":")[2])
                assert not asked["tcp"] or port == asked["tcp"]
                socket.create_connection(("127.0.0.1", port), LONG_S).close()
            else:
                check_health(url)
        assert (found.hosts[0].listener is None) == ("tcp" not in kinds)
    assert found.error is None
    assert not ready.exists()
    assert list(tmp_path.iterdir()) == []


def check_health(url):
    path = url.removeprefix("unix:") if url.startswith("unix:") else None
    base = url if path is None else "http://localhost"
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url=base) as client:
        reply = client.get("/healthz")
    assert reply.json() == {"status": "ok"}
    assert not {"date", "server"} & set(reply.headers), "they tell nobody anything"


@pytest.mark.parametrize("flag", ["port", "tcp"])
def test_a_port_that_is_taken_ends_it_with_the_flag_to_change(monkeypatch, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        found = Served(fake_settings(**{"port": 0, flag: number}), monkeypatch)
        error = found.end(stop=False)
    assert isinstance(error, ConfigError)
    assert f"127.0.0.1:{number}" in error.message
    assert f"--{flag}" in error.remedy
    assert found.lines == []


@pytest.mark.parametrize(("name", "complaint"), [(".", "it is a folder"), ("no/ready", "No such")])
def test_a_ready_file_that_cannot_be_is_told_before_anything_is_loaded(
    tmp_path, monkeypatch, name, complaint
):
    def load():
        raise AssertionError("it was loaded")

    settings = fake_settings(port=0, ready_file=tmp_path / name)
    error = Served(settings, monkeypatch, load).end(stop=False)
    assert isinstance(error, ConfigError)
    assert complaint in error.message
    assert "--ready-file" in error.remedy


def test_a_ready_file_that_cannot_be_written_at_last_ends_it(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hosting, "write_atomically", full)
    found = Served(fake_settings(port=0, ready_file=tmp_path / "ready"), monkeypatch)
    error = found.end(stop=False)
    assert isinstance(error, ConfigError)
    assert error.message == f"cannot write {tmp_path / 'ready'}: No space left on device"


def test_what_keeps_the_model_from_loading_ends_it(monkeypatch):
    def load():
        raise CheckpointError("the weights are torn")

    found = Served(fake_settings(port=0), monkeypatch, load)
    assert isinstance(found.end(stop=False), CheckpointError)
    assert found.lines == []


@pytest.mark.parametrize(
    ("asked", "warned"),
    [
        ({"host": "0.0.0.0", "port": 0}, True),
        ({"host": "0.0.0.0", "port": 0, "api_key": "secret"}, False),
        ({"host": "0.0.0.0", "port": None, "unix": "a.sock"}, False),
        ({"host": "localhost", "port": 0}, False),
        ({"host": "127.0.0.1", "port": 0}, False),
        ({"host": "::1", "port": 0}, False),
    ],
)
def test_serving_everybody_is_warned_of(tmp_path, monkeypatch, caplog, asked, warned):
    def stop(*_):
        raise ConfigError("far enough")

    monkeypatch.setattr(hosting, "_check_ready_file", stop)
    if "unix" in asked:
        asked = {**asked, "unix": tmp_path / asked["unix"]}
    with pytest.raises(ConfigError, match="far enough"):
        hosting.serve(fake_settings(**asked), fake_model, print)
    assert ("serving everybody on 0.0.0.0 without an API key" in caplog.text) is warned


def build(**settings):
    return hosting.build_host(fake_settings(**settings), fake_model, [], print)


def test_the_first_signal_stops_in_good_order_and_the_second_at_once(monkeypatch):
    host, stopped = build(), []
    monkeypatch.setattr(host.service, "stop_now", lambda: stopped.append(1))
    host.handle_exit(signal.SIGTERM, None)
    assert (host.should_exit, host.force_exit, stopped) == (True, False, [])
    host.handle_exit(signal.SIGTERM, None)
    assert (host.should_exit, host.force_exit, stopped) == (True, True, [1])


def test_the_settings_reach_what_serves_them():
    host = build(idle_timeout=1.2, shutdown_timeout=2.5, head_timeout=3, request_timeout=4)
    config = host.config
    said = {name: getattr(config, name) for name in (
        "ws", "ws_max_size", "ws_ping_interval", "ws_per_message_deflate", "access_log",
        "server_header", "date_header", "lifespan", "backlog", "timeout_keep_alive",
        "timeout_graceful_shutdown", "log_config")}  # fmt: skip
    assert said == {
        "ws": PatientWebSocket, "ws_max_size": MAX_FRAME, "ws_ping_interval": None,
        "ws_per_message_deflate": False, "access_log": False, "server_header": False,
        "date_header": False, "lifespan": "on", "backlog": ACCEPTED_AT_ONCE,
        "timeout_keep_alive": 2, "timeout_graceful_shutdown": 8, "log_config": None,
    }  # fmt: skip
    patience = config.http.args[0]
    assert (patience.head, patience.idle, patience.stall) == (3, 1.2, 4)
    assert host.listener is None
    assert build(tcp=0).listener is not None


@pytest.mark.anyio
@pytest.mark.parametrize("forced", [False, True])
async def test_turns_under_way_are_waited_for_unless_it_is_to_stop_at_once(monkeypatch, forced):
    host, waited = build(shutdown_timeout=7), []

    async def drained(grace):
        waited.append(grace)

    async def nothing(*_):
        return None

    monkeypatch.setattr(host.conversations, "drain", drained)
    monkeypatch.setattr(host.service, "drain", nothing)
    monkeypatch.setattr("uvicorn.Server.shutdown", nothing)
    host.force_exit = forced
    await host.shutdown()
    assert waited == ([] if forced else [7])


def test_an_address_is_listened_on_in_its_own_family():
    with hosting.listen("::1", 0) as six, hosting.listen("127.0.0.1", 0) as four:
        assert (six.family, four.family) == (socket.AF_INET6, socket.AF_INET)
        ports = [each.getsockname()[1] for each in (six, four)]
        assert hosting.url_of(six, "::1") == f"http://[::1]:{ports[0]}"
        assert hosting.url_of(four, "127.0.0.1") == f"http://127.0.0.1:{ports[1]}"
        assert four.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(ConfigError, match=f"127.0.0.1:{ports[1]}: .*in use") as caught:
            hosting.listen("127.0.0.1", ports[1])
    assert "--port 0" in caught.value.remedy
