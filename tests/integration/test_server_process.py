"""The server as a process: start, ready file, signals, restart and exit codes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from serving_fakes import LONG_S, MSGPACK, a_message, fake_model

from cloud_server import cli
from cloud_server.http.host import listen
from shared_protocol.errors import CheckpointError

FAKE_SERVER = Path(__file__).parents[1] / "fakes" / "fake_server.py"
ROOT = Path(__file__).parents[2]


@contextmanager
def process(*flags, **environment):
    """A server process with a fake model; killed at the end if it still runs."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    running = subprocess.Popen(
        [sys.executable, str(FAKE_SERVER), *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def url_from(running):
    line = running.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return line.split()[-1]


def wait_until_ready(url):
    give_up = time.monotonic() + LONG_S
    while time.monotonic() < give_up:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.01)
    raise AssertionError("the server did not get ready")


def post(url, **options):
    body = a_message(**options)
    return httpx.post(f"{url}/v1/t2i", content=body, headers=MSGPACK, timeout=LONG_S)


@pytest.mark.slow
def test_a_script_finds_the_server_by_its_ready_file_and_can_start_it_again(tmp_path):
    ready = tmp_path / "url"
    ready.write_text("stale")
    with process("--port", 0, "--ready-file", ready, "--log-level", "warning") as running:
        url = url_from(running)
        wait_until_ready(url)
        wait_for_file(ready, url)
        assert post(url).status_code == 200
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=LONG_S)
        assert running.returncode == 0
        assert errors == ""
        assert list(tmp_path.iterdir()) == []
    with process("--port", url.rpartition(":")[2]) as running:
        assert url_from(running) == url
        wait_until_ready(url)
        assert post(url).status_code == 200


def wait_for_file(path, url):
    give_up = time.monotonic() + LONG_S
    while not (path.exists() and path.read_text() == url + "\n"):
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.slow
def test_a_stopping_server_finishes_what_runs_and_refuses_what_waits():
    with process("--port", 0, FAKE_STEP_S="0.1") as running:
        url = url_from(running)
        wait_until_ready(url)
        runs, waits = [], []
        first = threading.Thread(target=lambda: runs.append(post(url, seed=1, steps=15)))
        first.start()
        wait_for_metric(url, "unimic_batch_size_count 1.0")
        second = threading.Thread(target=lambda: waits.append(post(url, seed=2)))
        second.start()
        wait_for_metric(url, "unimic_queue_depth 1.0")
        running.send_signal(signal.SIGTERM)
        first.join(LONG_S)
        second.join(LONG_S)
        _, errors = running.communicate(timeout=LONG_S)
        assert running.returncode == 0
    assert runs[0].status_code == 200
    assert (waits[0].status_code, waits[0].json()["code"]) == (503, "overloaded")
    assert "Traceback" not in errors
    assert errors.count(" task=t2i ") == 2


def wait_for_metric(url, line):
    give_up = time.monotonic() + LONG_S
    while line not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def served_here(monkeypatch, *flags, fault=""):
    """`cloud-server` with a fake model, in this process; returns its exit status."""

    def load_model(settings):
        if fault:
            raise CheckpointError(fault, "a remedy")
        return fake_model()

    loading = types.SimpleNamespace(load_model=load_model)
    monkeypatch.setitem(sys.modules, "cloud_server.serving.load", loading)
    return cli.main([*map(str, flags), "--log-level", "error"])


def test_a_model_that_cannot_be_loaded_is_one_line_and_exit_status_2(monkeypatch, capsys, tmp_path):
    flags = ("--port", 0, "--ready-file", tmp_path / "url")
    assert served_here(monkeypatch, *flags, fault="the weights are torn") == 2
    assert capsys.readouterr().err == "cloud-server: the weights are torn (a remedy)\n"
    assert not (tmp_path / "url").exists()


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
def test_an_address_that_cannot_be_listened_on_is_one_line_and_exit_status_2(
    host, monkeypatch, capsys
):
    assert served_here(monkeypatch, "--host", host, "--port", 0, "--api-key", "k") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot listen on {host}:0" in line


def test_a_port_that_is_taken_is_named(monkeypatch, capsys):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert served_here(monkeypatch, "--port", port) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_ready_file_that_cannot_be_written_stops_the_server(monkeypatch, capsys, tmp_path):
    flags = ("--port", 0, "--ready-file", tmp_path / "no" / "url")
    assert served_here(monkeypatch, *flags) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_hangup_reads_the_keys_again_and_drops_nothing(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("ann key-a\n")
    keys.chmod(0o600)
    with process("--port", 0, "--api-keys", keys) as running:
        url = url_from(running)
        wait_until_ready(url)

        def status(key):
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.get(f"{url}/v1/info", headers=headers).status_code

        assert (status("key-a"), status("key-b")) == (200, 401)
        keys.write_text("ann key-a\nbob key-b\n")
        running.send_signal(signal.SIGHUP)
        give_up = time.monotonic() + LONG_S
        while status("key-b") != 200:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert status("key-a") == 200
        keys.write_text("one two three\n")
        running.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert (status("key-a"), running.poll()) == (200, None)


def batches(url):
    """How often the model ran."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if "batch_size_count" in line)


@pytest.mark.slow
def test_a_deleted_job_frees_the_model_and_a_hung_up_one_is_found(tmp_path):
    keyed = {**MSGPACK, "Idempotency-Key": "once"}
    with process("--port", 0, FAKE_STEP_S="0.1") as running:
        url = url_from(running)
        wait_until_ready(url)
        long = threading.Thread(
            target=lambda: httpx.post(
                f"{url}/v1/t2i", content=a_message(steps=90), headers=keyed, timeout=LONG_S
            )
        )
        long.start()
        time.sleep(0.3)
        assert httpx.delete(f"{url}/v1/jobs/once").status_code == 204
        long.join(LONG_S)
        began = time.monotonic()
        assert post(url, seed=2, steps=1).status_code == 200
        assert time.monotonic() - began < 2.0
        ran = batches(url)
        again = {**keyed, "Idempotency-Key": "lost"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/t2i", content=a_message(steps=8), headers=again, timeout=0.3)
        give_up = time.monotonic() + LONG_S
        while (found := httpx.get(f"{url}/v1/jobs/lost")).status_code == 202:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        assert found.status_code == 200
        reply = httpx.post(f"{url}/v1/t2i", content=a_message(steps=8), headers=again)
        assert reply.content == found.content
        assert batches(url) == ran + 1


def test_head_and_body_of_a_reply_do_not_wait_for_each_other() -> None:
    with listen("127.0.0.1", 0) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
