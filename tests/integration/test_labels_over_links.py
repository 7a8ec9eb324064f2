"""Labels from a server to a device over every kind of link, real sockets and a neck of a fake."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving_fakes import FakeClassifier, LiveServer, fake_settings, with_neck

from edge_client import Session
from edge_client.cli import main
from edge_client.client import EdgeClient
from edge_client.exchange.label_names import LabelNames
from edge_client.pictures.images import load_picture
from edge_client.rate_control import Budget
from edge_client.spawn import program
from edge_client.transport.schemes import open_transport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import InvalidInputError
from shared_protocol.http.contract import Preferences
from shared_protocol.messages import Options
from shared_protocol.tokens import ImageTokens

pytestmark = pytest.mark.slow
BUNDLE = load_bundle()
LABELS = tuple(f"thing {number}" for number in range(1000))
SAMPLES = Path(__file__).parents[2] / "edge_client" / "samples"
PHOTO = SAMPLES / "scene1.webp"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNIMIC_HISTORY", str(tmp_path / "kept"))
    return tmp_path / "cache"


@pytest.fixture
def classifier() -> FakeClassifier:
    return FakeClassifier(LABELS)


@pytest.fixture
def server(classifier: FakeClassifier) -> Iterator[LiveServer]:
    settings = fake_settings(port=0, tcp=0)
    with LiveServer(settings, bundle=BUNDLE, **with_neck(classifier)) as found:
        yield found


@pytest.fixture
def bare_server() -> Iterator[LiveServer]:
    """A server without a neck."""
    with LiveServer(fake_settings(port=0, tcp=0), bundle=BUNDLE) as found:
        yield found


def pipe(server: str) -> str:
    command = [*program("cloud-server", "cloud_server.cli"), "pipe", "--server", server]
    return "exec:" + shlex.join(command)


def scene() -> ImageTokens:
    return BUNDLE.image_tokenizer().tokenize(load_picture(PHOTO, 256, 256).pixels)


def expected(classifier: FakeClassifier) -> str:
    """The likeliest label of the picture that the neck saw last."""
    return LABELS[int(classifier.seen[-1].sum()) % len(LABELS)]


@pytest.mark.parametrize("way", ["WebSocket", "TCP", "pipe"])
def test_a_session_classifies_over_every_link(
    way: str, server: LiveServer, classifier: FakeClassifier
) -> None:
    address = {"WebSocket": server.url, "TCP": server.bare, "pipe": pipe(server.bare)}[way]
    with Session(address, bundle=BUNDLE, history="one") as session:
        picture = session.open(PHOTO)
        first = picture.classify()
        assert session.way == way
        assert first.labels[0].name == expected(classifier)
        assert abs(first.labels[0].probability - 0.5) < 0.0125
        second = picture.classify()
        assert second == first
        third = picture.classify(top=3)
    assert first.cost.image_sent == 256
    assert (second.cost.image_sent, third.cost.image_sent) == (0, 0)
    assert second.cost.payload_up <= 3, "the other end holds the picture"
    assert second.cost.payload_down <= 14, "five labels of a thousand"
    assert third.labels == first.labels[:3]
    with Session(address, bundle=BUNDLE, history="two") as session:
        again = session.open(PHOTO).classify()
    assert again == first
    assert again.cost.payload_down <= 14, "the names were kept on this device"


def test_single_messages_and_turns_bring_the_same_labels(server: LiveServer) -> None:
    with open_transport(server.url, None, 30.0, Preferences(steps=4)) as transport:
        client = EdgeClient(BUNDLE, transport, names=LabelNames())
        tokens = scene()
        done = client.classify(tokens, top=7)
        steps: list[tuple[int, int]] = []
        listening = EdgeClient(BUNDLE, transport, lambda *step: steps.append(step), LabelNames())
        streamed = listening.classify(tokens, top=7)
    with Session(server.bare, bundle=BUNDLE) as session:
        labels = session.open(PHOTO).classify(top=7).labels
    assert done.labels == streamed.labels == labels
    assert steps


def test_a_question_and_labels_of_one_picture_send_it_once(server: LiveServer) -> None:
    with Session(server.url, bundle=BUNDLE) as session:
        picture = session.open(PHOTO)
        picture.ask("how many objects are there?")
        assert picture.classify().cost.image_sent == 0


def test_dropped_tokens_are_filled_in_before_the_neck_looks(
    server: LiveServer, classifier: FakeClassifier
) -> None:
    noise = np.random.default_rng(7).integers(0, 8192, (16, 16)).astype(np.int32)
    tokens = ImageTokens(noise, 8192)
    with open_transport(server.url, None, 30.0, Preferences()) as transport:
        client = EdgeClient(BUNDLE, transport, names=LabelNames())
        whole = client.classify(tokens)
        half = client.classify(tokens, budget=Budget(keep_ratio=0.5))
        small = client.classify(tokens, budget=Budget(target_bytes=300))
    assert half.request.dropped is not None
    assert half.request.dropped.count == 128
    assert small.uplink.sizes.total <= 300 < whole.uplink.sizes.total
    kept = ~half.request.dropped.flags
    seen = classifier.seen[1].reshape(16, 16)
    assert np.array_equal(seen[kept], tokens.codes[kept])
    assert not np.array_equal(seen, tokens.codes)


@pytest.mark.parametrize("link", ["url", "bare"])
def test_a_server_without_a_neck_is_told_with_the_remedy(
    link: str, bare_server: LiveServer
) -> None:
    with Session(getattr(bare_server, link), bundle=BUNDLE) as session:
        picture = session.open(PHOTO)
        for _ in range(2):
            with pytest.raises(InvalidInputError, match="--neck FILE"):
                picture.classify()
            picture.ask("how many objects are there?")
    assert [turn.task for turn in session.history] == ["vqa", "vqa"]


def test_the_command_over_real_http(
    server: LiveServer, classifier: FakeClassifier, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["classify", str(PHOTO), "--top", "3", "--server", server.url]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["thing", expected(classifier).split()[1], "51", "%"]
    assert main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["labels"][0]["name"] == expected(classifier)
    assert data["downlink"]["bytes"]["labels"] > 0
    main(["info", "--server", server.url, "--json"])
    info = json.loads(capsys.readouterr().out)["info"]
    assert info["neck"]["labels"] == 1000
    assert info["neck"]["labels_fingerprint"] == data["labels_fingerprint"]


def test_the_command_tells_of_a_server_without_a_neck(
    bare_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(PHOTO), "--server", bare_server.url]) == 2
    assert "--neck FILE" in capsys.readouterr().err


def test_other_tasks_are_served_by_a_server_with_a_neck(server: LiveServer) -> None:
    with open_transport(server.url, None, 30.0, Preferences()) as transport:
        done = EdgeClient(BUNDLE, transport).t2i("a fox", Options(steps=2))
    assert done.pixels is not None
