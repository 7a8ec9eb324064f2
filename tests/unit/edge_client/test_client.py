"""One interaction from words and pixels to words and pixels, agreement or not."""

from __future__ import annotations

import numpy as np
import pytest
from edge_fakes import ANSWER, FailingCloud, FakeBundle, FakeCloud

from edge_client.client import EdgeClient
from edge_client.report import STAGES
from shared_protocol.errors import (
    BundleMismatchError,
    ChecksumError,
    PromptError,
    TokenRangeError,
    TrailingBytesError,
    TruncatedError,
    UnsupportedVersionError,
)
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import TokenMask

GREY = np.full((64, 64, 3), 77, dtype=np.uint8)
HOLE = TokenMask(np.arange(16).reshape(4, 4) == 5)


def session(cloud: FakeCloud, edge: FakeBundle | None = None) -> EdgeClient:
    return EdgeClient(edge or cloud.bundle, cloud)


def test_t2i_sends_the_prompt_and_shows_what_came() -> None:
    cloud = FakeCloud(FakeBundle())
    done = session(cloud).t2i("a fox", Options(seed=7, steps=3))
    assert bytes(cloud.requests[0].text.ids.tolist()) == b"a fox"
    assert cloud.requests[0].options.seed == 7
    assert done.pixels is not None
    assert done.pixels.shape == (64, 64, 3)
    assert (done.pixels == 200).all()
    assert done.canvas == (64, 64)
    assert done.warnings == ()


def test_inpaint_changes_the_tokens_under_the_mask_and_no_others() -> None:
    done = session(FakeCloud(FakeBundle())).inpaint(GREY, HOLE, "a ball")
    assert done.pixels is not None
    changed = (done.pixels != 77).all(axis=2)
    assert changed[16:32, 16:32].all()
    assert changed.sum() == 256


def test_inpaint_uplink_omits_what_is_under_the_mask() -> None:
    cloud = FakeCloud(FakeBundle())
    session(cloud).inpaint(GREY, HOLE, "a ball")
    image = cloud.requests[0].image
    assert image is not None
    assert image.codes[1, 1] == 0


def test_outpaint_returns_a_larger_picture_around_the_old_one() -> None:
    done = session(FakeCloud(FakeBundle())).outpaint(GREY, Extension(left=2, down=1), "a beach")
    assert done.pixels is not None
    assert done.pixels.shape == (80, 96, 3)
    assert done.canvas == (80, 96)
    assert (done.pixels[:64, 32:] == 77).all()
    assert (done.pixels[64:] == 200).all()
    assert (done.pixels[:, :32] == 200).all()


def test_vqa_returns_words_and_no_picture() -> None:
    done = session(FakeCloud(FakeBundle())).vqa(GREY, "how many balloons?")
    assert (done.answer, done.pixels) == (ANSWER, None)
    assert done.canvas == (64, 64)


def test_every_stage_is_timed_and_the_servers_share_is_its_own() -> None:
    done = session(FakeCloud(FakeBundle())).inpaint(GREY, HOLE, "a ball")
    assert set(done.milliseconds) == set(STAGES) - {"choose", "connect", "exchange"}
    assert (done.milliseconds["model"], done.milliseconds["server queue"]) == (30.0, 2.0)


def test_bytes_on_the_wire_are_counted() -> None:
    cloud = FakeCloud(FakeBundle())
    done = session(cloud).t2i("a fox")
    assert done.wire.sent == len(cloud.messages[0]) == done.uplink.sizes.total
    assert done.wire.received == done.downlink.sizes.total + 9
    assert done.wire.attempts == 1


def test_steps_reach_the_listener() -> None:
    steps: list[tuple[int, int]] = []
    cloud = FakeCloud(FakeBundle())
    EdgeClient(cloud.bundle, cloud, lambda *step: steps.append(step)).t2i("a fox")
    assert steps == [(1, 1)]


def test_each_interaction_has_a_key_of_its_own() -> None:
    cloud = FakeCloud(FakeBundle())
    talk = session(cloud)
    talk.t2i("a fox")
    talk.t2i("a fox")
    assert len(set(cloud.keys)) == 2


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused_before_anything_is_sent(prompt: str) -> None:
    cloud = FakeCloud(FakeBundle())
    with pytest.raises(PromptError, match="prompt is empty"):
        session(cloud).t2i(prompt)
    assert cloud.messages == []


def test_a_prompt_too_long_names_count_and_limit() -> None:
    cloud = FakeCloud(FakeBundle())
    with pytest.raises(
        PromptError, match=r"question has 41 tokens, at most 40 fit \(shorten it: of its 1 words"
    ):
        session(cloud).vqa(GREY, "x" * 41)
    assert cloud.messages == []


def test_a_canvas_beyond_the_limit_is_refused_before_anything_is_sent() -> None:
    cloud = FakeCloud(FakeBundle())
    with pytest.raises(TokenRangeError, match="4x65"):
        session(cloud).outpaint(GREY, Extension(right=61), "a beach")
    assert cloud.messages == []


def test_a_server_that_cannot_decode_us_gets_uniform_coding_under_the_same_key() -> None:
    cloud = FakeCloud(FakeBundle(entropy_key=5))
    done = session(cloud, FakeBundle(entropy_key=0)).inpaint(GREY, HOLE, "a ball")
    assert done.pixels is not None
    assert (done.pixels[16:32, 16:32] == 200).all()
    assert len(cloud.messages) == 2
    assert len(set(cloud.keys)) == 1
    assert done.uplink.scenario is done.downlink.scenario is Scenario.UNIFORM
    assert "the server could not decode this end's" in done.warnings[0]
    assert "edge-client info" in done.warnings[0]
    assert done.wire.sent == sum(map(len, cloud.messages))


def test_a_reply_that_we_cannot_decode_is_asked_for_again_in_uniform_coding() -> None:
    cloud = FakeCloud(FakeBundle(entropy_key=5))
    done = session(cloud, FakeBundle(entropy_key=0)).t2i("a fox")
    assert done.pixels is not None
    assert (done.pixels == 200).all()
    assert [request.options.reply for request in cloud.requests] == [None, Scenario.UNIFORM]
    assert len(set(cloud.keys)) == 1
    assert len(done.warnings) == 1
    assert "this end could not decode the server's" in done.warnings[0]
    assert done.wire.attempts == 2


@pytest.mark.parametrize("fault", [ChecksumError, TruncatedError, TrailingBytesError])
def test_models_that_disagree_may_also_end_early_or_late(fault: type[ChecksumError]) -> None:
    cloud = FakeCloud(FakeBundle())
    cloud.faults = [fault("does not decode")]
    done = session(cloud).inpaint(GREY, HOLE, "a ball")
    assert done.uplink.scenario is Scenario.UNIFORM
    assert cloud.requests[1].options.reply is Scenario.UNIFORM


def test_a_message_that_never_decodes_is_not_sent_for_ever() -> None:
    cloud = FailingCloud(FakeBundle(), lambda: ChecksumError("differs"))
    with pytest.raises(ChecksumError):
        session(cloud).t2i("a fox")


def test_a_version_that_the_server_does_not_speak_is_not_sent_again() -> None:
    cloud = FailingCloud(FakeBundle(), lambda: UnsupportedVersionError("1"))
    with pytest.raises(UnsupportedVersionError):
        session(cloud).t2i("a fox")


def test_a_bundle_mismatch_names_both_fingerprints_and_the_remedy() -> None:
    cloud = FakeCloud(FakeBundle(fingerprint=bytes([0xCD]) * 32))
    edge = FakeBundle(fingerprint=bytes([0xAB]) * 32)
    with pytest.raises(BundleMismatchError) as caught:
        session(cloud, edge).t2i("a fox")
    for part in ("abababababababab", "cdcdcdcdcdcdcdcd", "--bundle"):
        assert part in str(caught.value)


def test_all_tasks_report_both_ways_against_uniform_coding() -> None:
    talk = session(FakeCloud(FakeBundle()))
    interactions = [
        talk.t2i("a fox"),
        talk.inpaint(GREY, HOLE, "a fox"),
        talk.outpaint(GREY, Extension(left=1), "a fox"),
        talk.vqa(GREY, "a fox?"),
    ]
    assert [done.task for done in interactions] == [Task.T2I, Task.INPAINT, Task.OUTPAINT, Task.VQA]
    for done in interactions:
        assert done.uplink.uniform is not None
        assert done.downlink.uniform is not None
