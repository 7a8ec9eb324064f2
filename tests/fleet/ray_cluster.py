"""Ray of an environment of its own: a cluster of one host, and the server deployed on it.

Knows Ray by its commands and by the dashboard's REST interface, which KubeRay uses, too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from shared_protocol.session.paths import ROUTE_HEADER

ROOT = Path(__file__).parents[2]
QUICK = ("--mend=off", "--settle=off", "--threads=1")
HA = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
      "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "hdr(session)"}  # fmt: skip
"""Ray's proxy in C; the last line keeps a conversation on its replica."""
_READY_S = 120.0


def environment(home: Path) -> Path:
    """The folder of commands of an environment with the extra `scale`."""
    if not (home / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check", "-c", str(ROOT / "docker" / "constraints.txt")]
        subprocess.run([*pip, "torch"], check=True)
        subprocess.run([*pip, "-e", f"{ROOT}[cloud,scale]"], check=True)
        (home / "done").touch()
    return home / "bin"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def ends(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process and what is in its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


class Cluster:
    """A cluster that runs, with at most one application.

    Args:
        programs: folder of Ray's commands.
        folder: for logs and configurations.
        variables: more of the environment.
    """

    def __init__(self, programs: Path, folder: Path, variables: Mapping[str, str]) -> None:
        ports = free_ports(8)
        self.http, self._gcs, self._board, agent, client, metrics, stats, numbers = ports
        self._programs, self._folder = programs, folder
        haproxy = {
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/haproxy/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": f"{folder}/haproxy",
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/haproxy/server-state",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        }
        # On loopback, for a minute; a token would be kept in the home folder.
        ours = {"RAY_AUTH_MODE": "disabled", "RAY_SERVE_SESSION_ID_HEADER_KEY": ROUTE_HEADER}
        ours |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._environment = {**os.environ, **haproxy, **ours, **variables}
        self._environment["RAY_ADDRESS"] = f"127.0.0.1:{self._gcs}"
        self.log = folder / "ray.log"
        command = [
            str(programs / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1",
            f"--port={self._gcs}", f"--dashboard-port={self._board}", "--num-cpus=8",
            f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
            f"--metrics-export-port={numbers}", "--disable-usage-stats", f"--temp-dir={folder}/r",
            "--object-store-memory=100000000",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self._ray = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def config(self, replicas: int) -> dict[str, Any]:
        """What docker/rayservice.yaml deploys, with the built-in bundle and no GPU."""
        text = (ROOT / "docker" / "rayservice.yaml").read_text(encoding="utf-8")
        found: dict[str, Any] = yaml.safe_load(yaml.safe_load(text)["spec"]["serveConfigV2"])
        found["http_options"] = {"host": "127.0.0.1", "port": self.http}
        (application,) = found["applications"]
        args = application["args"]
        args |= {"min_replicas": replicas, "max_replicas": replicas, "cpus": 0.1, "gpus": 0}
        args |= {"bundle": "builtin", "device": "cpu"}
        args |= dict(flag.removeprefix("--").split("=") for flag in QUICK)
        return found

    def run(self, replicas: int) -> None:
        """Deploy by the command `serve run`."""
        file = self._folder / "serve.yaml"
        file.write_text(yaml.safe_dump(self.config(replicas)), encoding="utf-8")
        self._until(self._board_answers, "the dashboard did not answer")
        command = [str(self._programs / "serve"), "run", "--non-blocking", str(file)]
        with self.log.open("ab") as log:
            subprocess.run(
                command, stdout=log, stderr=log, env=self._environment, check=True, cwd=ROOT,
                timeout=_READY_S,
            )  # fmt: skip
        self.await_replicas(replicas)

    def scale(self, replicas: int) -> None:
        """Have another number of replicas, as KubeRay asks for it; returns at once."""
        address = f"http://127.0.0.1:{self._board}/api/serve/applications/"
        httpx.put(address, json=self.config(replicas), timeout=30).raise_for_status()

    def await_replicas(self, count: int) -> None:
        """Wait until exactly so many serve, and the proxy knows."""
        self._until(
            lambda: len(self.replicas()) == count and self._serves(), f"no {count} replicas"
        )

    def replicas(self) -> list[int]:
        """Process ids of those that serve; [] where any is coming or going."""
        address = f"http://127.0.0.1:{self._board}/api/serve/applications/"
        said = httpx.get(address, timeout=30).json()["applications"].get("unimic", {})
        found = said.get("deployments", {}).get("unimic", {}).get("replicas", [])
        if any(each["state"] != "RUNNING" for each in found):
            return []
        return [each["pid"] for each in found]

    def _board_answers(self) -> bool:
        address = f"http://127.0.0.1:{self._board}/api/version"
        return httpx.get(address, timeout=10).status_code == 200

    def _serves(self) -> bool:
        answer = httpx.get(f"{self.url}/readyz", timeout=10)
        return answer.status_code == 200 and "ready" in answer.text

    def _until(self, true: Any, complaint: str) -> None:
        give_up = time.monotonic() + _READY_S
        while True:
            try:
                if true():
                    return
            except (httpx.HTTPError, json.JSONDecodeError):
                pass
            if time.monotonic() > give_up or self._ray.poll() is not None:
                raise SystemExit(f"{complaint}\n{self.log.read_text()[-3000:]}")
            time.sleep(0.2)

    def busiest(self) -> int:
        """The replica that works the most just now."""
        before = {pid: _ticks(pid) for pid in self.replicas()}
        time.sleep(0.4)
        return max(before, key=lambda pid: _ticks(pid) - before[pid])

    def end(self) -> None:
        """End Ray, and what it started: its proxy in C leaves the group of its parents."""
        ends(self._ray, 20)
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if str(self._folder).encode() in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


@contextmanager
def cluster(programs: Path, **variables: str) -> Iterator[Cluster]:
    """A cluster whose files are gone at the end; its folder is short, since sockets lie there."""
    with tempfile.TemporaryDirectory(prefix="u", ignore_cleanup_errors=True) as folder:
        found = Cluster(programs, Path(folder), variables)
        try:
            yield found
        finally:
            found.end()


@contextmanager
def plain_server(programs: Path) -> Iterator[str]:
    """The same server on uvicorn, to compare with."""
    with tempfile.TemporaryDirectory() as name:
        ready, log = Path(name) / "ready", Path(name) / "log"
        command = [str(programs / "cloud-server"), "--port=0", f"--ready-file={ready}", *QUICK]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        try:
            give_up = time.monotonic() + _READY_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > give_up:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            yield ready.read_text().strip()
        finally:
            ends(process, 20)
