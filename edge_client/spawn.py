"""Starts a cloud server as a process of its own, for demonstrations and measurements.

It knows the server by its command and its ready file only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import TransportError

START_TIMEOUT = 120.0
STOP_TIMEOUT = 15.0
LOG_LINES = 20


@dataclass(frozen=True)
class SpawnedServer:
    """A server that is ready.

    Args:
        urls: where it listens: HTTP first, then what was asked for by flags.
        process: it.
    """

    urls: tuple[str, ...]
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it listens for HTTP and WebSocket."""
        return self.urls[0]


def program(name: str, module: str) -> list[str]:
    """The installed command beside this interpreter, or the module behind it."""
    script = Path(sys.executable).parent / name
    return [str(script)] if script.is_file() else [sys.executable, "-m", module]


@contextmanager
def spawned_server(
    log: Path, bundle: str = BUILTIN, flags: Sequence[str] = ()
) -> Iterator[SpawnedServer]:
    """A server on a free port, stopped at the end.

    Args:
        log: file for its output.
        bundle: name or folder.
        flags: more of `cloud-server`'s.

    Raises:
        TransportError: it does not become ready; the end of its log is in the message.
    """
    command = program("cloud-server", "cloud_server.cli")
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as output:
        ready = Path(folder) / "ready"
        process = subprocess.Popen(
            [*command, "--port", "0", "--ready-file", str(ready), "--bundle", bundle, *flags],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is the caller's to handle
        )
        try:
            yield SpawnedServer(_await_urls(process, ready, log), process)
        finally:
            _stop(process)


def _await_urls(process: subprocess.Popen[bytes], ready: Path, log: Path) -> tuple[str, ...]:
    deadline = time.monotonic() + START_TIMEOUT
    while not ready.exists():
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            what = "took too long" if code is None else f"ended with exit code {code}"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            tail = "\n".join(["", "the end of its log:", *lines])
            raise TransportError(f"the server {what} before it was ready{tail}", f"see {log}")
        time.sleep(0.1)
    return tuple(ready.read_text(encoding="utf-8").splitlines())


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
