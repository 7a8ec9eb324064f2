"""The gateway as a process, in front of the built-in server: bytes, masks and pictures are real."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from server_process import ServerProcess

from edge_client.pictures.images import load_picture
from edge_client.spawn import program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCENE = ROOT / "edge_client" / "samples" / "scene1.webp"
FAST = {"steps": 3, "mend": 0}
_READY_S = 60


class GatewayProcess:
    """`edge-client gateway` before a server; stopped at the end."""

    def __init__(self, server: str, folder: Path, *flags: str) -> None:
        self.log = folder / "gateway.log"
        ready = folder / "ready"
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "UNIMIC_SERVER": server, "PYTHONPATH": paths}
        command = [*program("edge-client", "edge_client.cli"), "gateway", "--port", "0"]
        command += ["--ready-file", str(ready), *flags]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_S
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.1)
        self.url = ready.read_text().strip()
        self.ready = ready
        self.client = httpx.Client(base_url=f"{self.url}/v1", timeout=120, trust_env=False)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = self.client.post(f"/{path}", json=body)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def stop(self) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    found = GatewayProcess(server.url, tmp_path_factory.mktemp("gateway"))
    yield found
    found.stop()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def url_of(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def picture_in(body: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(body["data"][0]["b64_json"]))).convert("RGB")


def scene() -> Image.Image:
    return Image.fromarray(load_picture(SCENE, 256, 256).pixels)


def mask(hole: tuple[int, int, int, int]) -> bytes:
    image = Image.new("RGBA", (256, 256), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), hole)
    return png(image)


def question(text: str, picture: bytes) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url_of(picture)}}
    return {"role": "user", "content": [{"type": "text", "text": text}, part]}


def test_the_same_seed_makes_the_same_picture_of_a_few_bytes(gateway: GatewayProcess) -> None:
    asked = {"prompt": "a red balloon", "seed": 3, "unimic": FAST}
    one, two = (gateway.post("images/generations", asked) for _ in range(2))
    assert one["data"] == two["data"]
    assert picture_in(one).size == (256, 256)
    assert 0 < one["unimic"]["bytes_up"] < 60
    assert one["usage"]["output_tokens"] == 256


def test_an_edit_changes_nothing_outside_of_its_soft_edge(gateway: GatewayProcess) -> None:
    before = scene()
    asked = {
        "prompt": "a tree",
        "image": url_of(png(before)),
        "mask": url_of(mask((96, 64, 160, 160))),
    }
    body = gateway.post("images/edits", {**asked, "seed": 1, "unimic": FAST})
    changed = (np.asarray(picture_in(body)) != np.asarray(before)).any(axis=2)
    inside = np.zeros((256, 256), dtype=bool)
    inside[64 - 8 : 160 + 8, 96 - 8 : 160 + 8] = True
    assert not changed[~inside].any()
    assert changed[72:152, 104:152].any()
    again = gateway.post("images/edits", {**asked, "seed": 2, "unimic": FAST})
    assert again["unimic"]["image_tokens_sent"] == 0
    assert again["unimic"]["bytes_up"] < body["unimic"]["bytes_up"]


def test_questions_about_what_was_made_send_words(gateway: GatewayProcess) -> None:
    made = gateway.post("images/generations", {"prompt": "a fox on a beach", "unimic": FAST})
    picture = base64.b64decode(made["data"][0]["b64_json"])
    first = question("what animal is it?", picture)
    body = gateway.post("chat/completions", {"messages": [first]})
    assert body["choices"][0]["message"]["content"]
    assert body["unimic"]["image_tokens_sent"] == 0
    assert body["unimic"]["bytes_up"] < 40


def test_a_file_that_was_made_keeps_its_tokens_past_the_gateway(
    server: ServerProcess, gateway: GatewayProcess, tmp_path: Path
) -> None:
    made = gateway.post("images/generations", {"prompt": "a house", "unimic": FAST})
    other = GatewayProcess(server.url, tmp_path)
    try:
        hole = mask((0, 0, 32, 32))
        asked = {"prompt": "a sun", "image": made["data"][0]["b64_json"], "mask": url_of(hole)}
        body = other.post("images/edits", {**asked, "unimic": FAST})
    finally:
        other.stop()
    apart = np.asarray(picture_in(body)) != np.asarray(picture_in(made))
    assert not apart[48:, 48:].any()


def test_a_transparent_border_is_continued(gateway: GatewayProcess) -> None:
    canvas = Image.new("RGBA", (320, 256), (0, 0, 0, 0))
    canvas.paste(scene(), (64, 0))
    asked = {"prompt": "a meadow", "image": url_of(png(canvas)), "unimic": FAST}
    body = gateway.post("images/edits", asked)
    found = picture_in(body)
    assert found.size == (320, 256)
    assert body["usage"]["output_tokens"] == 64
    assert (np.asarray(found)[:, 80:] == np.asarray(scene())[:, 16:]).all()


def test_partial_pictures_come_from_the_cloud(gateway: GatewayProcess) -> None:
    asked = {
        "prompt": "a house",
        "stream": True,
        "partial_images": 2,
        "unimic": {**FAST, "steps": 8},
    }
    with gateway.client.stream("POST", "/images/generations", json=asked) as reply:
        kinds = [line[7:] for line in reply.iter_lines() if line.startswith("event: ")]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]


def test_partial_pictures_of_a_continued_border_keep_what_was_sent(gateway: GatewayProcess) -> None:
    canvas = Image.new("RGBA", (320, 256), (0, 0, 0, 0))
    canvas.paste(scene(), (64, 0))
    asked = {"prompt": "a meadow", "image": url_of(png(canvas)), "stream": True}
    asked |= {"partial_images": 2, "unimic": {**FAST, "steps": 8}}
    with gateway.client.stream("POST", "/images/edits", json=asked) as reply:
        lines = list(reply.iter_lines())
    kinds = [line[7:] for line in lines if line.startswith("event: ")]
    # A few tokens bring fewer previews than were asked for.
    assert 1 <= kinds.count("image_edit.partial_image") <= 2
    assert kinds[-1] == "image_edit.completed"
    for line in lines:
        if line.startswith("data: "):
            found = Image.open(io.BytesIO(base64.b64decode(json.loads(line[6:])["b64_json"])))
            assert found.size == (320, 256)
            kept = np.asarray(found.convert("RGB"))[:, 80:]
            assert (kept == np.asarray(scene())[:, 16:]).all()


def test_fetching_is_allowed_and_never_from_inside_of_a_network(
    server: ServerProcess, tmp_path: Path
) -> None:
    found = GatewayProcess(server.url, tmp_path, "--allow-fetch")
    address = {"type": "image_url", "image_url": {"url": f"{server.url}/v1/info"}}
    try:
        body = {"messages": [{"role": "user", "content": [address]}]}
        error = found.client.post("/chat/completions", json=body).json()["error"]
    finally:
        found.stop()
    assert error["code"] == "fetch_failed"
    assert "inside of a network" in error["message"]


def test_a_client_that_hangs_up_leaves_the_server_free(gateway: GatewayProcess) -> None:
    slow = {"prompt": "a house", "unimic": {"steps": 100, "mend": 8}}
    with pytest.raises(httpx.ReadTimeout):
        gateway.client.post("/images/generations", json=slow, timeout=1.0)
    deadline = time.monotonic() + 20
    while httpx.get(f"{gateway.url}/healthz").json()["requests"]:
        assert time.monotonic() < deadline, "the work goes on"
        time.sleep(0.1)


def test_it_stops_when_it_is_told_and_takes_its_file_along(
    server: ServerProcess, tmp_path: Path
) -> None:
    found = GatewayProcess(server.url, tmp_path, "--key", "secret")
    assert httpx.get(f"{found.url}/v1/models").status_code == 401
    assert found.stop() == 0
    assert not found.ready.exists()


def test_a_cloud_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = GatewayProcess("http://127.0.0.1:9", tmp_path, "--timeout", "10")
    try:
        reply = found.client.post("/images/generations", json={"prompt": "x"})
    finally:
        found.stop()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "cloud_unreachable")
