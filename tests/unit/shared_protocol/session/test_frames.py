"""Hello, small frames, previews and framing: there and back, and what is refused."""

import numpy as np
import pytest
from toy_bundle import ToyBundle, answer, image, requests, text

from shared_protocol.errors import (
    BadMessageError,
    ConfigError,
    LimitError,
    OverloadedError,
    PromptError,
    RateLimitError,
    ServiceError,
    UnsupportedVersionError,
)
from shared_protocol.messages import Request
from shared_protocol.session.frames import (
    decode_cancel,
    decode_error,
    decode_progress,
    decode_reset,
    decode_unknown,
    encode_cancel,
    encode_error,
    encode_progress,
    encode_reset,
    encode_unknown,
)
from shared_protocol.session.framing import MAX_FRAME, FrameCutter, framed
from shared_protocol.session.hello import (
    Hello,
    Status,
    Welcome,
    decode_hello,
    decode_welcome,
    encode_hello,
    encode_welcome,
)
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS, Down, Up
from shared_protocol.session.port import Reader
from shared_protocol.session.previews import PREVIEW_CODES, Preview
from shared_protocol.session.state import SessionState
from shared_protocol.tasks import Task

STATE = SessionState(b"sessions", 70_000)


def after_kind(data, odds, kind):
    reader = Reader(data)
    assert reader.symbol(odds) == kind
    return reader


@pytest.mark.parametrize(
    "hello",
    [
        Hello(b"abcd", b"sessions"),
        Hello(b"abcd", b"sessions", 300, 15, True, "key-1", (b"picture1", b"picture2")),
    ],
)
def test_a_hello_goes_there_and_back(hello):
    assert decode_hello(encode_hello(hello)) == hello


def test_a_hello_without_pictures_takes_fifteen_bytes():
    assert len(encode_hello(Hello(b"abcd", b"sessions"))) == 15


def test_a_hello_of_another_version_is_told_apart_from_a_broken_one():
    data = bytearray(encode_hello(Hello(b"abcd", b"sessions")))
    data[0] = 9
    with pytest.raises(UnsupportedVersionError, match="9"):
        decode_hello(bytes(data))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1] + b"\x40",
        lambda data: data + b"1234567",
        lambda data: data + b"picture1" * 2,
        lambda data: data + b"".join(f"{n:08}".encode() for n in range(33)),
        lambda data: data[:-1] + b"\x20" + b"\x04\xff\xff\xff\xff",
        lambda data: data[:-1] + b"\x20\x7f",
    ],
)
def test_a_broken_hello_is_refused(change):
    with pytest.raises(BadMessageError):
        decode_hello(change(encode_hello(Hello(b"abcd", b"sessions"))))


@pytest.mark.parametrize(
    ("welcome", "offered"),
    [
        (Welcome(known=()), 0),
        (Welcome(known=(True, False, True, True, False, False, False, False, True)), 9),
        (Welcome(Status.VERSION, version=3), 2),
        (Welcome(Status.BUNDLE, fingerprint=bytes(range(32))), 0),
    ],
)
def test_a_welcome_goes_there_and_back(welcome, offered):
    assert decode_welcome(encode_welcome(welcome), offered) == welcome


def test_a_welcome_may_bring_an_error():
    data = encode_welcome(Welcome(Status.ERROR, error=OverloadedError("full", "later", 2.0)))
    error = decode_welcome(data, 3).error
    assert isinstance(error, OverloadedError)
    assert (error.message, error.remedy, error.retry_after) == ("full", "later", 2.0)


@pytest.mark.parametrize(
    "data", [b"", b"\x07", b"\x00\x80", b"\x02short", b"\x01", b"\x01\x01\x01"]
)
def test_a_broken_welcome_is_refused(data):
    with pytest.raises(BadMessageError):
        decode_welcome(data, 0)


def test_reset_cancel_and_unknown_are_for_this_conversation_only():
    reset = after_kind(encode_reset(STATE), UP_ODDS, Up.RESET)
    assert decode_reset(reset, b"sessions") == 70_000
    decode_cancel(after_kind(encode_cancel(STATE), UP_ODDS, Up.CANCEL), b"sessions")
    decode_unknown(after_kind(encode_unknown(STATE), DOWN_ODDS, Down.UNKNOWN), b"sessions")
    with pytest.raises(BadMessageError):
        decode_cancel(after_kind(encode_cancel(STATE), UP_ODDS, Up.CANCEL), b"another1")


@pytest.mark.parametrize("step", range(32))
def test_progress_takes_two_bytes(step):
    data = encode_progress(step, 32)
    assert len(data) <= 2
    done, total = decode_progress(after_kind(data, DOWN_ODDS, Down.PROGRESS))
    assert done / total <= step / 32 < (done + 1) / total


def test_an_error_keeps_its_kind_words_and_time():
    data = encode_error(PromptError("the text has 99 tokens", "use at most 77"))
    error = decode_error(after_kind(data, DOWN_ODDS, Down.ERROR))
    assert type(error) is PromptError
    assert str(error) == "the text has 99 tokens (use at most 77)"
    assert error.retry_after is None


def test_an_error_of_a_kind_without_a_number_is_still_told():
    class OddError(ConfigError):
        code = "odd"

    error = decode_error(after_kind(encode_error(OddError("x" * 900)), DOWN_ODDS, Down.ERROR))
    assert type(error) is ServiceError
    assert error.message == "x" * 500


def test_a_character_is_never_cut_in_two():
    data = encode_error(PromptError("a" + "ä" * 300))
    assert decode_error(after_kind(data, DOWN_ODDS, Down.ERROR)).message == "a" + "ä" * 249


def test_terminal_controls_in_an_error_are_made_harmless():
    data = encode_error(PromptError("red\x1b[31m"))
    assert "\x1b" not in decode_error(after_kind(data, DOWN_ODDS, Down.ERROR)).message


@pytest.mark.parametrize("name", ["t2i", "inpaint", "outpaint"])
def test_previews_show_sixteen_more_tokens_each_until_all_are_shown(name):
    request, bundle = requests()[name], ToyBundle()
    theirs, ours = (Preview.of(request, STATE, bundle) for _ in range(2))
    codes = answer(request).image.codes
    shown = 0
    while (data := theirs.encode(codes)) is not None:
        ours.decode(after_kind(data, DOWN_ODDS, Down.PREVIEW))
        assert 0 < int(ours.shown.sum()) - shown <= PREVIEW_CODES
        shown = int(ours.shown.sum())
    assert np.array_equal(ours.codes, codes)


def test_an_answer_in_words_has_no_preview():
    assert Preview.of(Request(Task.VQA, text(5), image()), STATE, ToyBundle()) is None


def test_frames_are_cut_out_of_whatever_pieces_arrive():
    frames = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 20_000]
    stream = b"".join(framed(frame) for frame in frames)
    for size in (1, 2, 3, 1000, len(stream)):
        cutter = FrameCutter()
        found = []
        for start in range(0, len(stream), size):
            found += cutter.feed(stream[start : start + size])
        assert found == frames


def test_a_frame_up_to_127_bytes_costs_one_byte_more():
    assert len(framed(b"x" * 127)) == 128
    assert len(framed(b"x" * 128)) == 130


def test_a_frame_over_the_limit_is_refused_by_its_length():
    head = framed(b"x" * MAX_FRAME)[:3]
    assert list(FrameCutter().feed(head)) == []
    with pytest.raises(LimitError, match="65536"):
        list(FrameCutter().feed(b"\x81\x80\x04"))
    for bad in (b"\xff\xff\xff", b"\x80\x00\x00"):
        with pytest.raises(BadMessageError):
            list(FrameCutter().feed(bad))


def test_a_limit_of_a_key_travels_as_overloaded_and_keeps_its_kind():
    data = encode_error(RateLimitError("60 of 60", "wait", 12.0))
    error = decode_error(after_kind(data, DOWN_ODDS, Down.ERROR))
    assert type(error) is RateLimitError
    assert (error.message, error.remedy, error.retry_after) == ("60 of 60", "wait", 12.0)
    # What a device reads that knows no such kind.
    plain = encode_error(OverloadedError("rate_limited: 60 of 60", "wait", 12.0))
    assert plain == data
    other = encode_error(PromptError("rate_limited: not at all"))
    assert type(decode_error(after_kind(other, DOWN_ODDS, Down.ERROR))) is PromptError
