"""`edge-client ui` in front of a cloud server, both as processes: bytes as a proxy counts them, a
server that is killed in the middle of a round, and the command of the demo's containers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from page_browser import PageAt
from server_process import ROOT, ServerProcess

from edge_client.evaluation.counting_proxy import CountingProxy
from edge_client.spawn import program
from shared_protocol.bundles.find import load_bundle
from shared_protocol.message.picture_file import read_picture

pytestmark = pytest.mark.slow

READY_S = 240.0
SCENE = ROOT / "edge_client" / "samples" / "scene1.webp"
COMMAND = ("ui", "--no-open", "--port", "0")
GRID = 16


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--mend", "off", "--settle", "off") as found:
        yield found


@contextmanager
def page_server(folder: Path, *words: str, **environment: str) -> Iterator[str]:
    """The address of `edge-client` with these words, which serves until the end."""
    ready = folder / "ready"
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [*program("edge-client", "edge_client.cli"), *words, "--ready-file", str(ready)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.DEVNULL,
    )
    try:
        give_up = time.monotonic() + READY_S
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield ready.read_text().strip()
    finally:
        process.terminate()
        process.wait(30)


def few_steps(at: PageAt) -> None:
    at.page.click("#settings summary")
    at.page.fill("#steps", "4")
    at.page.fill("#seed", "5")
    at.page.select_option("#mend", "0")
    at.page.click("#settings summary")
    at.page.set_input_files("#file", str(SCENE))
    at.page.wait_for_selector(".round")
    at.shown()


def test_two_rounds_and_a_question_cost_what_a_proxy_counts_and_keep_their_tokens(
    chromium: Any, server: ServerProcess, tmp_path: Path
) -> None:
    bundle = load_bundle()
    with (
        CountingProxy(server.port) as proxy,
        page_server(tmp_path, *COMMAND, UNIMIC_SERVER=f"http://127.0.0.1:{proxy.port}") as url,
        PageAt(chromium, url) as at,
    ):

        def tokens() -> np.ndarray[Any, Any]:
            path = f"{url}/v1/unimic/desk/rounds/{at.current}/tokens.umic"
            return np.asarray(read_picture(httpx.get(path).content, bundle).image.codes)

        few_steps(at)
        before = tokens()
        for column in (3, 9):
            at.stroke((column, 8.5), (column + 3, 8.5), grid=GRID)
            marked = at.cells(GRID, GRID)
            assert marked
            at.take("a red apple")
            after = tokens()
            changed = {(int(c), int(r)) for r, c in np.argwhere(before != after)}
            assert changed
            assert changed <= marked
            before = after
        counted = proxy.counted
        at.ask("what is on the left?")
        words_up = proxy.counted[0] - counted[0]
        shown = tuple(
            int((at.page.get_attribute(f"#total-{way}", "title") or "").split()[0])
            for way in ("up", "down")
        )
        assert shown == proxy.counted
        assert words_up < 40, "a question sends its words, and no picture"


def test_a_server_killed_in_the_middle_of_a_round_is_told_of_and_the_page_goes_on(
    chromium: Any, tmp_path: Path
) -> None:
    with (
        ServerProcess("--mend", "off", "--settle", "off") as server,
        page_server(tmp_path, *COMMAND, "--timeout", "20", UNIMIC_SERVER=server.url) as url,
        PageAt(chromium, url) as at,
    ):
        few_steps(at)
        at.stroke((3, 8.5), (6, 8.5), grid=GRID)
        marked = at.cells(GRID, GRID)
        at.page.click("#settings summary")
        at.page.fill("#steps", "100")
        at.page.fill("#prompt", "a red apple")
        at.page.click("#run")
        at.page.wait_for_selector("#status:has-text('Step')")
        server.kill()
        at.page.wait_for_selector("#alert:not([hidden])")
        assert at.page.is_visible("#cloud.lost")
        assert at.cells(GRID, GRID) == marked
        assert at.page.input_value("#prompt") == "a red apple"
        server.start()
        at.page.fill("#steps", "4")
        at.take("a red apple")
        assert at.page.is_hidden("#cloud.lost")


def test_the_command_of_the_demos_containers_serves_the_page(
    server: ServerProcess, tmp_path: Path
) -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    command = services["edge"]["command"]
    assert command[0] == "edge-client"
    assert services["edge"]["ports"] == [f"127.0.0.1:8401:{command[command.index('--port') + 1]}"]
    with page_server(tmp_path, *command[1:], "--port", "0", UNIMIC_SERVER=server.url) as url:
        port = url.rpartition(":")[2]
        page = httpx.get(f"http://127.0.0.1:{port}/")
        assert "<title>UniMIC</title>" in page.text
        told = httpx.get(f"http://127.0.0.1:{port}/v1/unimic/desk").json()
        assert told["server"] == server.url
        check = services["edge"]["healthcheck"]["test"][2:]
        probe = [sys.executable, *(word.replace("8401", port) for word in check)]
        assert subprocess.run(probe, check=False).returncode == 0


def test_make_ui_starts_a_server_of_its_own(tmp_path: Path) -> None:
    recipe = (ROOT / "Makefile").read_text().split("\nui:", 1)[1].split("\n\n")[0]
    assert "edge-client ui --spawn" in recipe
    with page_server(tmp_path, *COMMAND, "--spawn") as url:
        told = httpx.get(f"{url}/v1/unimic/desk").json()
        wish = {"task": "t2i", "text": "a fox", "steps": 2, "mend": 0}
        reply = httpx.post(f"{url}/v1/unimic/desk/turns", json=wish, timeout=120)
    assert told["server"].startswith("http://127.0.0.1:")
    assert "event: turn" in reply.text
