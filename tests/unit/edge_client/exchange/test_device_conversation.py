"""The device's end of a conversation, against a cloud in memory that fails in every way."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from session_cloud import ToyCloud, ToyLink
from toy_bundle import CODEBOOK, ToyBundle, image, requests, text

from edge_client.exchange import conversation as module
from edge_client.exchange.coded_exchange import Stopwatch, Wishes
from edge_client.exchange.conversation import Conversation
from edge_client.transport.base import LinkDownError, NoSessionsError
from shared_protocol.errors import (
    BadMessageError,
    BundleMismatchError,
    OverloadedError,
    PromptError,
    RateLimitError,
    ServerTimeoutError,
    UnauthorizedError,
)
from shared_protocol.messages import Request
from shared_protocol.session.framing import framed
from shared_protocol.session.hello import Status, Welcome
from shared_protocol.session.kinds import UP_ODDS, Up
from shared_protocol.session.port import Reader
from shared_protocol.tasks import Scenario, Task
from shared_protocol.tokens import ImageTokens


class NamedToy(ToyBundle):
    name = "toy"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def talk_to(cloud: ToyCloud, **options: object) -> Conversation:
    return Conversation(NamedToy(), cloud.link, **options)  # type: ignore[arg-type]


SCRIPT = [
    Request(Task.VQA, text(5, 6), image()),
    Request(Task.VQA, text(7), image()),
    requests()["inpaint"],
    replace(requests()["outpaint"], text=text(9)),
    Request(Task.VQA, text(8), image()),
]


def run(talk: Conversation, script: list[Request] = SCRIPT) -> list[module.Held]:
    return [talk.hold(request, Stopwatch()) for request in script]


def codes(held: list[module.Held]) -> list[object]:
    return [h.response.image or h.response.text for h in held]


UNDISTURBED = run(talk_to(ToyCloud()))


def test_a_conversation_opens_one_link_and_sends_a_picture_once() -> None:
    cloud = ToyCloud()
    held = run(talk_to(cloud))
    assert len(cloud.hellos) == 1
    sent = [h.uplink.counts.image_codes for h in held]
    assert sent == [256, 0, 0, 0, 0]
    assert [h.wire.attempts for h in held] == [1] * 5
    assert held[0].opening.sent == 16
    assert all(h.opening.sent == 0 for h in held[1:])
    assert all(h.wire.sent == h.uplink.sizes.total + 1 for h in held[1:])
    assert all(h.wire.received == h.downlink.sizes.total + 1 for h in held[1:])


@pytest.mark.parametrize("turn", range(len(SCRIPT)))
@pytest.mark.parametrize("fault", ["cut_before", "cut_after"])
def test_a_link_that_breaks_in_any_turn_changes_no_result(fault: str, turn: int) -> None:
    cloud = ToyCloud()
    talk = talk_to(cloud)
    held = run(talk, SCRIPT[:turn])
    setattr(cloud, fault, True)
    held += run(talk, SCRIPT[turn:])
    assert codes(held) == codes(UNDISTURBED)
    assert len(cloud.asked) == len(SCRIPT), "the work of every turn was done once"
    assert held[turn].wire.attempts == 2
    assert cloud.hellos[1].turn == turn


@pytest.mark.parametrize("turn", range(len(SCRIPT)))
def test_a_cloud_that_forgets_everything_between_turns_costs_bytes_only(turn: int) -> None:
    cloud = ToyCloud()
    talk = talk_to(cloud)
    held = run(talk, SCRIPT[:turn])
    cloud.store.clear()
    talk.close()
    held += run(talk, SCRIPT[turn:])
    assert codes(held) == codes(UNDISTURBED)
    assert held[turn].uplink.counts is not None
    if turn:
        assert held[turn].uplink.counts.image_codes > 0


def test_a_new_link_names_what_the_cloud_still_has() -> None:
    cloud = ToyCloud()
    talk = talk_to(cloud)
    run(talk, SCRIPT[:3])
    talk.close()
    (again,) = run(talk, [SCRIPT[4]])
    assert again.uplink.counts is not None
    assert again.uplink.counts.image_codes == 0
    assert again.opening.sent <= 16 + 4 * 8


@pytest.mark.parametrize("way", ["spoil_up", "spoil_down"])
@pytest.mark.parametrize("turn", range(len(SCRIPT)))
def test_a_frame_that_was_damaged_is_asked_for_again_in_full(way: str, turn: int) -> None:
    cloud = ToyCloud()
    talk = talk_to(cloud)
    held = run(talk, SCRIPT[:turn])
    setattr(cloud, way, lambda data: data[:-1] + bytes([data[-1] ^ 0x10]))
    held += run(talk, SCRIPT[turn:])
    assert codes(held) == codes(UNDISTURBED)
    assert held[turn].wire.attempts == 2
    assert held[turn].warnings == ()
    assert len(cloud.asked) == len(SCRIPT)


def test_states_that_were_made_to_differ_come_together_again() -> None:
    cloud = ToyCloud()
    links: list[ToyLink] = []

    def opened(seconds: float) -> ToyLink:
        links.append(cloud.link())
        return links[-1]

    talk = Conversation(NamedToy(), opened)
    held = run(talk, SCRIPT[:2])
    state = links[0].state
    assert state is not None
    links[0].state = replace(state, pictures=())
    held += run(talk, SCRIPT[2:])
    assert codes(held) == codes(UNDISTURBED)
    assert held[2].wire.attempts == 2


class OtherEntropy(type(ToyBundle().entropy)):  # type: ignore[misc]
    """Computes other odds, as a broken machine would."""

    def intervals(self, scenario, codes, context):  # type: ignore[no-untyped-def]
        rows = super().intervals(scenario, codes, context)
        rows[:, 1] = np.where(rows[:, 2] == 4096, np.maximum(1, rows[:, 1] - 5), rows[:, 1])
        return rows


def test_ends_that_compute_differently_fall_back_to_uniform_coding() -> None:
    bundle = NamedToy()
    bundle.entropy = OtherEntropy()
    cloud = ToyCloud()
    talk = Conversation(bundle, cloud.link)
    held = talk.hold(SCRIPT[0], Stopwatch())
    assert codes([held]) == codes(UNDISTURBED[:1])
    assert held.uplink.scenario is Scenario.UNIFORM
    assert len(held.warnings) == 1
    assert "uniform coding" in held.warnings[0]


def test_a_frame_that_never_decodes_is_given_up_after_three_attempts() -> None:
    cloud = ToyCloud(bundle=replace(ToyBundle(), fingerprint=NamedToy.fingerprint[:4] + bytes(28)))
    with pytest.raises(BadMessageError, match="could not read"):
        talk_to(cloud).hold(SCRIPT[0], Stopwatch())
    assert not cloud.asked


def test_an_error_is_raised_and_the_next_turn_works() -> None:
    cloud = ToyCloud(errors=[PromptError("too odd", "say it otherwise")])
    talk = talk_to(cloud)
    with pytest.raises(PromptError, match="too odd"):
        talk.hold(SCRIPT[0], Stopwatch())
    assert codes(run(talk)) == codes(UNDISTURBED)


def test_an_overloaded_cloud_is_asked_again() -> None:
    cloud = ToyCloud(errors=[OverloadedError("full", "later", 1.0)] * 3)
    held = talk_to(cloud).hold(SCRIPT[0], Stopwatch())
    assert held.wire.attempts == 4


def test_a_limit_of_a_key_is_not_waited_for_beyond_the_time_of_a_turn() -> None:
    cloud = ToyCloud(errors=[RateLimitError("60 of 60 used", "ask the operator", 130.0)])
    with pytest.raises(RateLimitError, match=r"^60 of 60 used") as caught:
        talk_to(cloud).hold(SCRIPT[0], Stopwatch())
    assert (caught.value.retry_after, caught.value.remedy) == (130.0, "ask the operator")


def test_a_server_that_is_not_there_yet_is_waited_for_and_that_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cloud, tries = ToyCloud(), []

    def late(seconds: float) -> ToyLink:
        tries.append(seconds)
        if len(tries) < 6:
            raise LinkDownError("refused")
        return cloud.link()

    held = Conversation(NamedToy(), late).hold(SCRIPT[0], Stopwatch())
    assert held.wire.attempts == 6
    assert len(caplog.messages) == 1
    assert "refused; trying again for up to 1" in caplog.messages[0]


def test_a_server_that_is_never_there_ends_with_the_time_out() -> None:
    def nothing(seconds: float) -> ToyLink:
        raise LinkDownError("refused")

    started = time.monotonic()
    with pytest.raises(LinkDownError):
        Conversation(NamedToy(), nothing, 2.0).hold(SCRIPT[0], Stopwatch())
    assert time.monotonic() - started < 2.0


def test_a_proxy_that_lost_its_server_lets_conversations_through_again() -> None:
    cloud = ToyCloud()
    refusals = [NoSessionsError("it answered 500", "", retry_after=0.5)] * 2

    def opening(seconds: float) -> ToyLink:
        if cloud.hellos and refusals:
            raise refusals.pop()
        return cloud.link()

    talk = Conversation(NamedToy(), opening)
    run(talk, SCRIPT[:1])
    talk.close()
    assert codes(run(talk, SCRIPT[1:])) == codes(UNDISTURBED[1:])
    assert refusals == []

    refusals.append(NoSessionsError("it answered 500", "", retry_after=0.5))
    with pytest.raises(NoSessionsError):
        run(Conversation(NamedToy(), opening))
    assert refusals == [], "one that never let any through may be one that lets none through"


def test_a_name_that_nobody_knows_is_tried_three_times() -> None:
    tries = []

    def nowhere(seconds: float) -> ToyLink:
        tries.append(seconds)
        raise LinkDownError("no such name") from socket.gaierror(-2, "unknown")

    with pytest.raises(LinkDownError):
        Conversation(NamedToy(), nowhere).hold(SCRIPT[0], Stopwatch())
    assert len(tries) == 3


def test_a_server_that_was_there_is_tried_until_the_time_is_over() -> None:
    cloud, tries = ToyCloud(), []

    def flaky(seconds: float) -> ToyLink:
        tries.append(seconds)
        if 2 <= len(tries) < 9:
            raise LinkDownError("refused")
        return cloud.link()

    talk = Conversation(NamedToy(), flaky)
    talk.hold(SCRIPT[0], Stopwatch())
    talk.close()
    assert talk.hold(SCRIPT[1], Stopwatch()).wire.attempts == 8


def test_no_answer_in_time_is_a_time_out_and_cancels_the_turn() -> None:
    cloud = ToyCloud()
    talk = talk_to(cloud, timeout=0.5)
    talk.hold(SCRIPT[0], Stopwatch())
    link = talk._link
    assert isinstance(link, ToyLink)
    link.send = link.frames.append  # type: ignore[method-assign]
    with pytest.raises(ServerTimeoutError, match=r"0\.5 s"):
        talk.hold(SCRIPT[1], Stopwatch())
    assert Reader(link.frames[-1]).symbol(UP_ODDS) == Up.CANCEL
    assert link.closed


def test_another_thread_may_cancel() -> None:
    cloud = ToyCloud()
    talk = talk_to(cloud)
    talk.hold(SCRIPT[0], Stopwatch())
    link = talk._link
    assert isinstance(link, ToyLink)
    thread = threading.Thread(target=talk.cancel)
    thread.start()
    thread.join()
    assert link.cancelled == 1


@pytest.mark.parametrize(
    ("welcome", "error"),
    [
        (Welcome(Status.VERSION, version=9), NoSessionsError),
        (Welcome(Status.BUNDLE, fingerprint=bytes(32)), BundleMismatchError),
        (Welcome(Status.ERROR, error=UnauthorizedError("no", "key")), UnauthorizedError),
    ],
)
def test_a_hello_that_is_refused_says_why(welcome: Welcome, error: type[Exception]) -> None:
    with pytest.raises(error):
        talk_to(ToyCloud(welcome=welcome)).hold(SCRIPT[0], Stopwatch())


def test_the_bytes_of_a_link_that_did_not_open_are_counted() -> None:
    cloud, links = ToyCloud(), []

    def opened(seconds: float) -> ToyLink:
        links.append(cloud.link())
        if len(links) == 1:
            links[0].receive = broken  # type: ignore[method-assign]
        return links[-1]

    def broken(timeout: float) -> bytes:
        raise LinkDownError("cut")

    held = Conversation(NamedToy(), opened).hold(SCRIPT[0], Stopwatch())
    assert held.wire.attempts == 2
    assert held.opening.sent == 2 * 16
    assert held.wire.sent == 2 * 16 + len(links[1].frames[1]) + 2


def test_progress_is_asked_for_and_counted_apart() -> None:
    cloud, steps = ToyCloud(reports=3), []
    talk = talk_to(cloud, wishes=Wishes(lambda *step: steps.append(step), 3))
    held = talk.hold(SCRIPT[2], Stopwatch())
    assert cloud.hellos[0].progress == 3
    assert steps == [(4, 16), (8, 16), (12, 16)]
    assert 3 < held.progress <= 9, "three frames of at most two bytes, each behind its length"
    answered = held.wire.received - held.opening.received - held.progress
    assert answered == held.downlink.sizes.total + 1


class TogetherLink(ToyLink):
    """All frames that wait arrive in one piece, as on a busy machine."""

    def send(self, frame: bytes) -> None:
        super().send(frame)
        waiting = [each for each in self._waiting if isinstance(each, bytes)]
        self.received += sum(len(framed(each)) for each in waiting)

    def receive(self, timeout: float) -> bytes:
        before = self.received
        frame = super().receive(timeout)
        self.received = before
        return frame


def test_progress_that_arrives_together_with_the_reply_is_counted_apart_as_well() -> None:
    cloud = ToyCloud(reports=3)
    # One name for both: a frame ends with what it is worth under the conversation's name.
    options = {"wishes": Wishes(lambda *step: None, 3), "session": bytes(range(8))}
    talk = Conversation(NamedToy(), lambda seconds: TogetherLink(cloud), **options)
    apart = talk_to(ToyCloud(reports=3), **options).hold(SCRIPT[2], Stopwatch())
    held = talk.hold(SCRIPT[2], Stopwatch())
    assert held.progress == apart.progress > 3
    assert held.wire.received == apart.wire.received


def test_two_tabs_share_no_table() -> None:
    cloud = ToyCloud()
    one, two = talk_to(cloud), talk_to(cloud)
    assert codes(run(one, SCRIPT[:2]) + run(two) + run(one, SCRIPT[2:]))[2:7] == codes(UNDISTURBED)


def test_an_edit_of_an_older_picture_branches_off() -> None:
    cloud = ToyCloud()
    talk = talk_to(cloud)
    run(talk)
    other = ImageTokens((image().codes + 9) % CODEBOOK, CODEBOOK)
    run(talk, [Request(Task.VQA, text(4), other)])
    (back,) = run(talk, [requests()["inpaint"]])
    assert back.uplink.counts is not None
    assert back.uplink.counts.image_codes == 0
