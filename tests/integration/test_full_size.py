"""Show-o in its full size, with random weights: does it load and serve within its bounds?

    pytest tests/integration/test_full_size.py --full-size FOLDER -s

takes 3.3 GB of disk, minutes on a GPU and much longer on a CPU, and prints what it measured.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from official_files import full_size_files

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "edge_client" / "samples" / "scene1.webp"
MAX_WEIGHTS_GB = 5.0
MAX_PEAK_GB = 8.0
PATIENCE_S = 3600
TASKS = {
    "t2i": ["t2i", "a fox on a beach", "-o", "t2i.png", "--steps", "2"],
    "inpaint": [
        *("inpaint", str(PHOTO), "a fox", "--box", "64,64,96,96", "-o", "inpaint.png"),
        *("--steps", "2"),
    ],
    "outpaint": [
        *("outpaint", str(PHOTO), "a fox", "--right", "4", "-o", "outpaint.png", "--steps", "2"),
    ],
    "vqa": ["vqa", str(PHOTO), "what is it?", "--max-new-tokens", "4"],
}


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    chosen: Path | None = request.config.getoption("--full-size", default=None)
    if chosen is None:
        pytest.skip("needs --full-size FOLDER")
    return chosen if (chosen / "phi-1_5").exists() else full_size_files(chosen)


class Server:
    """A server process of the full-size model, and what it said."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.log = place / "server.log"
        self.ready = place / "ready"
        words = ["--bundle", str(folder), "--port", "0", "--ready-file", str(self.ready)]
        words += ["--request-timeout", str(PATIENCE_S), "--dtype", "bfloat16"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cloud_server.cli", *words], stderr=log, cwd=ROOT
            )

    def wait(self) -> str:
        """Its URL, once it is ready."""
        give_up = time.monotonic() + PATIENCE_S
        while not self.ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up
            time.sleep(0.2)
        return self.ready.read_text().strip()

    def memory_gb(self, field: str) -> float:
        """A line of /proc/PID/status."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{field}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024 / 1e9

    def weights_gb(self) -> float:
        found = re.search(r"weights: ([\d.]+) GB", self.log.read_text())
        assert found is not None
        return float(found[1])


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(folder, tmp_path_factory.mktemp("server"))
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


def test_full_size_weights_are_served_within_bounds(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    url = server.wait()
    report: dict[str, float] = {
        "seconds until ready": time.monotonic() - began,
        "GB at peak until ready": server.memory_gb("VmHWM"),
    }
    for task, words in TASKS.items():
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "edge_client.cli", *words, "--json"],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "UNIMIC_SERVER": url,
                "UNIMIC_BUNDLE": str(folder),
                "UNIMIC_TIMEOUT": str(PATIENCE_S),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        report[f"seconds of {task}"] = time.monotonic() - began
        assert json.loads(done.stdout)
    report |= {
        "GB of weights": server.weights_gb(),
        "GB at peak": server.memory_gb("VmHWM"),
        "GB resident": server.memory_gb("VmRSS"),
    }
    print(json.dumps({name: round(value, 2) for name, value in report.items()}, indent=2))
    assert report["GB of weights"] < MAX_WEIGHTS_GB
    assert report["GB at peak"] < MAX_PEAK_GB
