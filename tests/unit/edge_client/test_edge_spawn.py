"""A server that is started for a while: awaited, stopped, and shown with its log if it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_client import spawn
from shared_protocol.errors import TransportError


def server_script(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Starts a script in place of the real server."""
    script = folder / "server.py"
    script.write_text("import sys, time, pathlib\nprint('loading', flush=True)\n" + body)
    monkeypatch.setattr(spawn, "program", lambda name, module: [sys.executable, str(script)])


READY = "pathlib.Path(sys.argv[sys.argv.index('--ready-file') + 1]).write_text('http://h:1\\n')\n"


def test_a_spawned_server_is_awaited_and_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    at_end = f"import signal\ndef end(*_): pathlib.Path({str(gone)!r}).touch(); sys.exit()\n"
    body = at_end + "signal.signal(signal.SIGTERM, end)\n" + READY + "time.sleep(60)\n"
    server_script(monkeypatch, tmp_path, body)
    with spawn.spawned_server(tmp_path / "log") as server:
        assert server.url == "http://h:1"
        assert server.process.poll() is None
        assert not gone.exists()
    assert gone.exists()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("print('no weights'); sys.exit(3)", "ended with exit code 3 before it was ready"),
        ("print('no weights', flush=True); time.sleep(60)", "took too long before it was ready"),
    ],
)
def test_a_server_that_does_not_start_is_shown_with_its_log(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    body: str,
    complaint: str,
) -> None:
    monkeypatch.setattr(spawn, "START_TIMEOUT", 0.5)
    server_script(monkeypatch, tmp_path, body)
    server = spawn.spawned_server(tmp_path / "log")
    with pytest.raises(TransportError, match=f"{complaint}(.|\n)*no weights"):
        server.__enter__()
