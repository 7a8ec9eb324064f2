"""Classifying from the device: a client, a session, chat and the command, and what may go wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from edge_fakes import FakeBundle, FakeCloud
from session_cloud import ToyCloud
from terminal import cloud_of_sessions
from test_edge_cli import Runner, run  # noqa: F401 - a fixture
from toy_bundle import LABELS, NAMES, ToyBundle, answer, image, ranking, text

from edge_client import Labels, Session
from edge_client.client import EdgeClient
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.exchange.conversation import Conversation
from edge_client.exchange.label_names import LabelNames
from edge_client.rate_control import Budget
from edge_client.session.chat import Chat
from edge_client.transport.http import HttpTransport
from shared_protocol.errors import (
    BadMessageError,
    InvalidInputError,
    LabelsMismatchError,
    NotFoundError,
    UnsupportedVersionError,
)
from shared_protocol.http.contract import NO_PATH
from shared_protocol.labels import LabelSet
from shared_protocol.message.codec import encode_response
from shared_protocol.messages import Options, Request, Response
from shared_protocol.tasks import Task

GREY = np.full((64, 64, 3), 77, dtype=np.uint8)
DARK = np.full((64, 64, 3), 9, dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- a client --------------------------------------------------------------------------------


def test_names_travel_once() -> None:
    cloud = FakeCloud(FakeBundle())
    client = EdgeClient(cloud.bundle, cloud)
    first = client.classify(GREY)
    assert [label.name for label in first.labels] == [f"thing {77 + n}" for n in range(5)]
    assert [label.percent for label in first.labels][:2] == ["51 %", "25 %"]
    again = client.classify(GREY)
    assert again.labels == first.labels
    assert [request.options.names for request in cloud.requests] == [True, False]
    assert again.downlink.sizes.labels == 2 + 10
    assert (first.pixels, first.answer, first.canvas) == (None, None, (64, 64))


def test_a_label_whose_name_is_not_known_is_asked_for_and_its_cost_is_told() -> None:
    cloud = FakeCloud(FakeBundle())
    client = EdgeClient(cloud.bundle, cloud)
    client.classify(GREY)
    done = client.classify(DARK, top=2)
    assert [label.number for label in done.labels] == [9, 10]
    assert [request.options.names for request in cloud.requests] == [True, False, True]
    assert done.wire.attempts == 2
    assert done.wire.sent == done.uplink.sizes.total == sum(map(len, cloud.messages[1:]))
    assert done.uplink.counts is not None
    assert done.uplink.counts.image_codes == 2 * 16
    assert done.uplink.uniform is not None
    assert done.uplink.uniform.total > done.uplink.sizes.total
    assert done.downlink.sizes.labels > 2 * 3


def test_where_a_name_was_lacking_others_are_asked_for_at_once_until_none_is_new() -> None:
    cloud = FakeCloud(FakeBundle())
    client = EdgeClient(cloud.bundle, cloud)
    for grey in (77, 9, 100, 100, 100, 77):
        client.classify(np.full((64, 64, 3), grey, dtype=np.uint8))
    asked = [request.options.names for request in cloud.requests]
    assert asked == [True, False, True, True, True, False, False]


def test_a_server_that_has_another_set_now_is_asked_for_its_names_under_the_same_key() -> None:
    cloud = FakeCloud(FakeBundle())
    names = LabelNames()
    client = EdgeClient(cloud.bundle, cloud, names=names)
    client.classify(GREY)
    cloud.names = tuple(f"other {number}" for number in range(300))
    done = client.classify(GREY, top=1)
    assert [label.name for label in done.labels] == ["other 77"]
    assert names.held == LabelSet.of(cloud.names)
    assert cloud.keys[1] == cloud.keys[2] != cloud.keys[0]
    assert done.wire.attempts == 2


def test_fewer_labels_than_were_asked_for_are_all_there_are() -> None:
    cloud = FakeCloud(FakeBundle())
    cloud.names = ("fox", "hat", "sun")
    done = EdgeClient(cloud.bundle, cloud).classify(GREY, top=255)
    assert sorted(label.name for label in done.labels) == ["fox", "hat", "sun"]


def test_a_budget_leaves_out_tokens() -> None:
    cloud = FakeCloud(FakeBundle())
    done = EdgeClient(cloud.bundle, cloud).classify(GREY, budget=Budget(keep_ratio=0.5), seed=3)
    assert done.request.dropped is not None
    assert done.request.dropped.count == 8
    assert cloud.requests[0].options.seed == 3


@pytest.mark.parametrize("top", [0, 256])
def test_a_count_out_of_range_is_refused_before_anything_travels(top: int) -> None:
    cloud = FakeCloud(FakeBundle())
    with pytest.raises(InvalidInputError, match=r"use 1\.\.255"):
        EdgeClient(cloud.bundle, cloud).classify(GREY, top=top)
    assert cloud.messages == []


def test_a_server_that_does_not_know_the_task_is_told_apart_over_http() -> None:
    def old(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/classify"
        body = json.dumps({"code": "not_found", "message": NO_PATH}).encode()
        return httpx.Response(404, stream=httpx.ByteStream(body))

    transport = HttpTransport("http://h", handler=httpx.MockTransport(old))
    with pytest.raises(NotFoundError, match=r"not know the task classify .*update it"):
        EdgeClient(FakeBundle(), transport).classify(GREY)


# ---- turns -----------------------------------------------------------------------------------


class NamedToy(ToyBundle):
    name = "toy"


ASKED = Request(Task.CLASSIFY, text(), image(), held=LABELS)
UNNAMED = Response(Task.CLASSIFY, labels=ranking(ASKED).told(ASKED.label_wish))


def whole(request: Request) -> Response:
    """What a server keeps: labels with their names, whether they are asked for or not."""
    return Response(Task.CLASSIFY, labels=ranking(request))


def talk_to(cloud: ToyCloud) -> Conversation:
    return Conversation(NamedToy(), cloud.link)


def test_a_second_turn_about_the_same_picture_sends_three_bytes_at_most() -> None:
    talk = talk_to(ToyCloud())
    talk.hold(Request(Task.VQA, text(5), image()), Stopwatch())
    held = [talk.hold(ASKED, Stopwatch()) for _ in range(2)]
    assert max(h.uplink.sizes.total for h in held) <= 3
    assert held[0].response == held[1].response == UNNAMED


def test_another_set_costs_one_more_attempt_and_brings_the_names() -> None:
    cloud = ToyCloud(respond=whole)
    stale = replace(ASKED, held=LabelSet.of([name.upper() for name in NAMES]))
    held = talk_to(cloud).hold(stale, Stopwatch())
    assert held.response.labels is not None
    assert held.response.labels.names[0] == "thing 7"
    assert held.wire.attempts == 2
    assert len(cloud.asked) == 1, "the work was done once"


def test_a_mismatch_leaves_a_conversation_that_goes_on() -> None:
    cloud = ToyCloud(respond=whole)
    talk = talk_to(cloud)
    talk.hold(replace(ASKED, held=LabelSet.of(("a", "b"))), Stopwatch())
    assert talk.hold(ASKED, Stopwatch()).uplink.sizes.total <= 3


def test_a_link_that_breaks_changes_no_label() -> None:
    cloud = ToyCloud(cut_after=True)
    assert talk_to(cloud).hold(ASKED, Stopwatch()).response == UNNAMED
    assert len(cloud.asked) == 1


def test_a_cloud_that_does_not_know_the_task_is_told_apart_in_a_conversation() -> None:
    def old(request: Request) -> Response:
        if request.task is Task.CLASSIFY:
            raise BadMessageError("task 4 is of a later version")
        return answer(request)

    talk = talk_to(ToyCloud(respond=old))
    with pytest.raises(UnsupportedVersionError, match=r"from before the task classify.*update it"):
        talk.hold(ASKED, Stopwatch())
    asked = talk.hold(Request(Task.VQA, text(5), image()), Stopwatch())
    assert asked.response.text is not None, "the conversation goes on"


def test_a_typed_refusal_of_the_cloud_reaches_the_caller() -> None:
    refusal = InvalidInputError("this server holds no neck", "start it with --neck FILE")
    with pytest.raises(InvalidInputError, match="--neck FILE"):
        talk_to(ToyCloud(errors=[refusal])).hold(ASKED, Stopwatch())


def test_a_message_without_names_is_never_read_with_none() -> None:
    cloud = FakeCloud(FakeBundle())
    request = Request(Task.CLASSIFY, cloud.bundle.text_tokenizer.encode(""),
                      cloud.bundle.image_tokenizer().tokenize(GREY), options=Options())  # fmt: skip
    from edge_client.exchange.coded_exchange import SingleMessages

    held = SingleMessages(cloud.bundle, cloud).hold(request, Stopwatch())
    assert held.response.labels is not None
    assert held.response.labels.names, "a mismatch asks for the names"
    assert LabelsMismatchError.code == "labels_mismatch"


# ---- sessions, chat and the command -------------------------------------------------------------


class NamedBundle(FakeBundle):
    tokenizer_fingerprint = bytes(32)

    def entropy_fingerprint(self, scenario: object) -> bytes | None:
        return None


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCloud:
    monkeypatch.setenv("UNIMIC_HISTORY", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    return cloud_of_sessions(monkeypatch, NamedBundle())


def test_a_picture_of_a_session_names_what_it_shows(cloud: FakeCloud) -> None:
    with Session("http://h", history="trip") as session:
        labels = session.open(GREY).classify(top=2)
        assert isinstance(labels, Labels)
        assert labels == "thing 77 51 %, thing 78 25 %"
        assert [label.number for label in labels.labels] == [77, 78]
        assert labels.cost.payload_down > 0
        (turn,) = session.history
        assert (turn.task, turn.text, turn.result) == ("classify", "top 2", labels)
    with Session("http://h", history="trip") as session:
        assert session.history[0].result == labels
        session.open(GREY).classify(top=2)
        assert not cloud.requests[-1].options.names, "names were kept with the conversation"


def test_nothing_is_kept_of_labels_where_nothing_is_kept(cloud: FakeCloud, cache: Path) -> None:
    for _ in range(2):
        with Session("http://h") as session:
            session.open(GREY).classify()
        assert cloud.requests[-1].options.names
    assert not cache.exists()


def test_a_wide_picture_is_classified_by_a_window(cloud: FakeCloud) -> None:
    with Session("http://h") as session:
        wide = session.open(GREY).outpaint("a beach", right=4)
        assert wide.classify().window == (0, 2)
        assert "columns 2..5" in wide.classify().warnings[-1]


def test_chat_names_what_the_picture_shows(cloud: FakeCloud) -> None:
    with Session("http://h") as session:
        chat = Chat(session, lambda name: Path(name), {"seed": 0})
        session.open(GREY)
        said = chat.take("/classify 2")
        assert said.text == "thing 77 51 %, thing 78 25 %"
        assert said.data is not None
        assert said.data["labels"][0]["name"] == "thing 77"
        assert len(chat.take("/classify").text.split(", ")) == 5
        with pytest.raises(InvalidInputError, match="no number"):
            chat.take("/classify all")
        with pytest.raises(InvalidInputError, match=r"use 1\.\.255"):
            chat.take("/classify 0")
        assert list(chat.complete("/cl")) == ["/classify "]


def test_the_command_prints_labels_and_bytes(run: Runner) -> None:  # noqa: F811
    code, said, told = run("classify", "photo.png", "--top", "3")
    assert code == 0
    lines = said.splitlines()
    assert [line.split()[-2] for line in lines[:3]] == ["51", "25", "12"]
    assert "labels" in told + said
    assert "image tokens" in told + said
    code, said, _ = run("classify", "photo.png", "--top", "3", "--json")
    data = json.loads(said)
    assert code == 0
    assert [set(label) for label in data["labels"]] == [
        {"name", "number", "probability", "percent"}
    ] * 3
    assert data["downlink"]["bytes"]["labels"] == 2 + -(-3 * 15 // 8)
    assert data["downlink"]["symbols"]["labels"] == 3
    assert len(data["labels_fingerprint"]) == 64


def test_the_command_takes_several_pictures_and_rate_control(run: Runner) -> None:  # noqa: F811
    Path("in").mkdir()
    for name in ("a.png", "b.png"):
        (Path("in") / name).write_bytes(Path("photo.png").read_bytes())
    (Path("in") / "c.png").write_bytes(b"no picture")
    code, said, told = run("classify", "in", "--keep-ratio", "0.5")
    assert code == 1, "one of them is no picture"
    assert [line.partition(":")[0] for line in said.splitlines()[:2]] == ["in/a.png", "in/b.png"]
    assert "2 pictures" in told + said


def test_inspect_shows_the_labels_of_a_message(run: Runner) -> None:  # noqa: F811
    request = replace(ASKED, options=Options(names=True), held=None)
    for name, asked in (("named", request), ("bare", ASKED)):
        data = encode_response(whole(asked), asked, ToyBundle()).data
        Path(name).write_bytes(data)
        code, said, _ = run("inspect", name, "--json")
        report = json.loads(said)
        assert code == 0
        assert (report["task"], report["direction"]) == ("classify", "downlink")
        assert report["bytes"]["labels"] == len(data) - 12
        assert "labels" in run("inspect", name)[1]


@pytest.mark.parametrize("top", ["0", "256", "-1"])
def test_the_command_refuses_a_count_out_of_range(run: Runner, top: str) -> None:  # noqa: F811
    code, _, told = run("classify", "photo.png", f"--top={top}")
    assert code == 2
    assert f"--top is {top} (use 1 to 255)" in told
