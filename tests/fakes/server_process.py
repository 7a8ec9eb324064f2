"""A real server process with the built-in weights, which may be killed and started again."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from edge_client.spawn import program

ROOT = Path(__file__).parents[2]
_READY_S = 180.0


class ServerProcess:
    """Started on entry, killed at the end.

    Args:
        flags: of the server.
        prefix: words before its command.

    Attributes:
        port: of HTTP and WebSocket; the same after a restart.
        tcp: of bare frames; the same after a restart.
        socket: address of a socket file, noted by whoever asked for one.
    """

    def __init__(self, *flags: str, prefix: Sequence[str] = ()) -> None:
        self._flags = flags
        self._prefix = prefix
        self._folder = tempfile.TemporaryDirectory()
        self.log = Path(self._folder.name) / "log"
        self.port = 0
        self.tcp = 0
        self.socket = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bare(self) -> str:
        return f"tcp://127.0.0.1:{self.tcp}"

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start, on the ports that it had before, and wait until it is ready."""
        ready = Path(self._folder.name) / "ready"
        ready.unlink(missing_ok=True)
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        ports = ["--port", str(self.port), "--tcp", str(self.tcp), "--ready-file", str(ready)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, *program("cloud-server", "cloud_server.cli"), *ports, *self._flags],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths},
            )
        give_up = time.monotonic() + _READY_S
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up, "the server did not get ready"
            time.sleep(0.02)
        found = {url.partition(":")[0]: url for url in ready.read_text().split()}
        web, bare = found["http"], found.get("tcp") or found["tls"]
        self.port, self.tcp = (int(url.rpartition(":")[2]) for url in (web, bare))

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def metric(self, name: str) -> float:
        """The sum of a counter over its labels."""
        text = httpx.get(f"{self.url}/metrics").text
        rows = [line for line in text.splitlines() if line.startswith(f"unimic_{name}")]
        return sum(float(row.rpartition(" ")[2]) for row in rows)


def make_certificate(folder: Path) -> Path:
    """A certificate of this host's own in `folder`, cert.pem and key.pem, made by openssl."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is not installed")
    return folder
