"""Several real servers, and a proxy of docker/ before them that is a program of Debian's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from server_process import ServerProcess

DOCKER = Path(__file__).parents[2] / "docker"
REQUIRED = "UNIMIC_FLEET_TESTS"
"""Set to "required" where a missing proxy is a failure."""
PREFIX = "/unimic"
_READY_S = 20.0
_QUICK = ("--mend", "off", "--settle", "off", "--threads", "1")
_PLACES = (8401, 8402)
_FRONT = 8443


class Fleet:
    """Servers of which each can be told by `limits.queue`, since nothing else differs.

    Attributes:
        servers: they.
    """

    def __init__(self, servers: list[ServerProcess]) -> None:
        self.servers = servers

    def asked(self) -> list[float]:
        """How many requests and turns each has answered."""
        return [server.metric("requests_total") for server in self.servers]


@contextmanager
def fleet(count: int = len(_PLACES)) -> Iterator[Fleet]:
    """So many servers below the prefix, started together."""
    with ExitStack() as owned:
        servers = [
            ServerProcess("--root-path", PREFIX, "--max-queue", str(64 + number), *_QUICK)
            for number in range(count)
        ]
        with ThreadPoolExecutor(count) as pool:
            for server in pool.map(lambda each: each.__enter__(), servers):
                owned.callback(server.__exit__, None, None, None)
        yield Fleet(servers)


def _adapted(file: Path, servers: list[ServerProcess], folder: Path, port: int) -> str:
    """A configuration with this test's ports and files in the place of its own."""
    text = file.read_text(encoding="utf-8")
    for place, server in zip(_PLACES, servers, strict=True):
        assert f"127.0.0.1:{place}" in text
        text = text.replace(f"127.0.0.1:{place}", f"127.0.0.1:{server.port}")
    for old, new in (
        (f":{_FRONT} ", f":{port} "),
        (f"listen {_FRONT} ", f"listen 127.0.0.1:{port} "),
        ("/etc/unimic/", f"{folder}/"),
        ("/run/nginx.pid", f"{folder}/nginx.pid"),
        ("/var/log/nginx/", f"{folder}/"),
    ):
        text = text.replace(old, new)
    return text


def _command(kind: str, config: Path) -> list[str]:
    if kind == "nginx":
        return [kind, "-c", str(config), "-g", "daemon off;"]
    return [kind, "run", "--config", str(config), "--adapter", "caddyfile"]


@contextmanager
def proxy(kind: str, servers: list[ServerProcess], folder: Path) -> Iterator[str]:
    """The address below the prefix at which "nginx" or "caddy" shows the servers.

    Args:
        kind: of proxy.
        servers: what stands behind it.
        folder: with cert.pem and key.pem; takes configuration and logs.
    """
    need(kind)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / kind
    source = {"nginx": "nginx.conf", "caddy": "Caddyfile"}[kind]
    config.write_text(_adapted(DOCKER / source, servers, folder, port), encoding="utf-8")
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(
            _command(kind, config), stdout=log, stderr=log, env={**os.environ, **home}
        )
    try:
        give_up = time.monotonic() + _READY_S
        while not _answers(port, folder):
            said = (folder / f"{kind}.log").read_text()[-2000:]
            assert process.poll() is None, said
            assert time.monotonic() < give_up, said
            time.sleep(0.05)
        yield f"https://127.0.0.1:{port}{PREFIX}"
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int, folder: Path) -> bool:
    import ssl

    trusting = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    try:
        url = f"https://127.0.0.1:{port}/proxyz"
        return httpx.get(url, verify=trusting, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def need(program: str) -> None:
    """Leave a test out where a program is missing, unless such tests are required."""
    if shutil.which(program):
        return
    reason = f"{program} is not installed: tests/fleet/install.sh gets it"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(reason)
    pytest.skip(reason)
