"""`cloud-server --stub`: every path and way without a model, soon, and said to be what it is."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
from server_process import ServerProcess

from cloud_server.stub import ANSWER, StubClassifier, StubEngine
from edge_client import Session
from edge_client.client import EdgeClient
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Wishes
from edge_client.transport.schemes import open_transport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension
from shared_protocol.tokens import ImageTokens, TokenMask

BUNDLE = load_bundle()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--stub") as process:
        yield process


def all_tasks(client: EdgeClient, seed: int) -> list[np.ndarray | str | None]:
    """What each of the four tasks gives."""
    size = BUNDLE.vocabulary.codebook_size
    picture = ImageTokens(np.arange(256, dtype=np.int32).reshape(16, 16) % size, size)
    flags = np.zeros((16, 16), dtype=bool)
    flags[4:9, 3:12] = True
    options = Options(seed=seed)
    made = client.t2i("a fox on a beach", options)
    held = client.inpaint(picture, TokenMask(flags), "an owl", options)
    wide = client.outpaint(picture, Extension(right=8), "a forest", options)
    said = client.vqa(picture, "what is it?", options)
    assert held.response.image is not None
    assert np.array_equal(held.response.image.codes[~flags], picture.codes[~flags])
    assert wide.response.image is not None
    assert np.array_equal(wide.response.image.codes[:, :16], picture.codes)
    return [made.pixels, held.pixels, wide.pixels, said.answer]


@pytest.mark.slow
def test_every_task_over_every_way_gives_the_same_for_the_same_seed(server: ServerProcess) -> None:
    found = []
    with open_transport(server.url) as transport:
        found.append(all_tasks(EdgeClient(BUNDLE, transport), 7))
    for address in (server.url, server.bare):
        with closing(BestExchange(BUNDLE, address)) as exchange:
            found.append(all_tasks(EdgeClient(BUNDLE, exchange), 7))
            other = all_tasks(EdgeClient(BUNDLE, exchange), 8)
    first = found[0]
    for again in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert str(first[3]).startswith(ANSWER)


@pytest.mark.slow
def test_it_finds_the_same_labels_in_every_picture(server: ServerProcess) -> None:
    size = BUNDLE.vocabulary.codebook_size
    picture = ImageTokens(np.zeros((16, 16), dtype=np.int32), size)
    with closing(BestExchange(BUNDLE, server.url)) as exchange:
        labels = EdgeClient(BUNDLE, exchange).classify(picture, top=2).labels
    assert [label.name for label in labels] == list(StubClassifier.labels[:2])
    assert [label.number for label in labels] == [0, 1]


@pytest.mark.slow
def test_progress_and_previews_come_as_from_a_model(server: ServerProcess) -> None:
    steps: list[tuple[int, int]] = []
    shown: list[int] = []
    wishes = Wishes(
        lambda *step: steps.append(step), 8, lambda codes, there: shown.append(int(there.sum()))
    )
    with closing(BestExchange(BUNDLE, server.url, wishes=wishes)) as exchange:
        EdgeClient(BUNDLE, exchange).t2i("a fox", Options(steps=16))
    assert steps
    assert shown == sorted(shown)
    assert shown
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    posted: list[tuple[int, int]] = []
    with open_transport(server.url) as transport:
        EdgeClient(BUNDLE, transport, lambda *step: posted.append(step)).t2i("a fox")
    assert posted[0][0] == 0
    assert posted[-1][0] <= posted[-1][1]


@pytest.mark.slow
def test_it_says_what_it_is_and_gives_its_bundle_away(server: ServerProcess) -> None:
    info = httpx.get(f"{server.url}/v1/info").json()
    assert info["stub"] is True
    assert "stub" in info["device"]
    assert "is a stub" in server.log.read_text()
    listing = httpx.get(f"{server.url}/v1/bundles/{info['fingerprint']}").json()
    assert {file["name"] for file in listing["files"]} >= {"bundle.json"}
    words = [sys.executable, "-m", "edge_client.cli", "info", "--server", server.url]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stub: no model" in done.stdout
    with Session(server.url) as session:
        picture = session.new("a fox on a beach", seed=3)
        assert str(picture.ask("what is it?")).startswith(ANSWER)


@pytest.mark.slow
def test_it_is_ready_soon_and_without_torch() -> None:
    started = time.monotonic()
    with ServerProcess("--stub"):
        seconds = time.monotonic() - started
    assert seconds < 10, "2 s where nothing else runs"
    code = (
        "import sys; from cloud_server import cli; import cloud_server.http.host as host\n"
        "host.serve = lambda settings, load, say: load()\n"
        "assert cli.main(['--stub']) == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'no model, no torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_equal_work_has_equal_results_whatever_its_batch() -> None:
    from cloud_server.generation.work import AnswerWork, PictureWork

    engine = StubEngine(BUNDLE)
    ids = np.arange(3)
    works = [PictureWork("t2i", ids, seed=4), PictureWork("t2i", ids, seed=5)]
    together, (alone,) = engine.run(works), engine.run(works[1:])
    assert np.array_equal(together[1].codes, alone.codes)  # type: ignore[union-attr]
    (short,) = engine.run([AnswerWork(ids, np.zeros((16, 16), int), max_new_tokens=2, seed=1)])
    assert len(short.text_ids) == 2  # type: ignore[union-attr]
    assert not short.finished  # type: ignore[union-attr]
