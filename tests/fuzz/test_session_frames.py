"""Damaged frames: none crashes, and next to none is taken for another turn or reply."""

import numpy as np
import pytest
from toy_bundle import ToyBundle, answer, image, requests, text

from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import UnimicError
from shared_protocol.messages import Request, Response
from shared_protocol.session.framing import FrameCutter, framed
from shared_protocol.session.hello import decode_hello, decode_welcome
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS, Down, Up
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_reply, decode_turn, encode_reply, encode_turn
from shared_protocol.tasks import Task
from shared_protocol.tokens import ImageTokens, TokenMask

MOST_ACCEPTED = 1e-4


def conversation(bundle, script, respond):
    """(frame, way to read it) of every turn and reply of a conversation."""
    state, frames = SessionState(b"sessions"), []
    for request in script:
        up, reference = encode_turn(request, state, bundle)
        response = respond(request)
        down = encode_reply(response, request, state, bundle)
        frames.append((up.data, turn_reader(state, bundle)))
        frames.append((down.data, reply_reader(request, state, bundle)))
        state = state.after(request, reference, response)
    return frames


def turn_reader(state, bundle):
    def read(data):
        reader = Reader(data)
        if reader.symbol(UP_ODDS) == Up.TURN:
            decode_turn(reader, len(data), state, bundle)
            return True
        return False

    return read


def reply_reader(request, state, bundle):
    def read(data):
        reader = Reader(data)
        if reader.symbol(DOWN_ODDS) == Down.REPLY:
            decode_reply(reader, len(data), request, state, bundle)
            return True
        return False

    return read


def damaged(rng, frames, at):
    """A flipped bit, or a splice of one frame's end to another's beginning."""
    data = bytearray(frames[at][0])
    if rng.random() < 0.8 or len(data) < 3:
        for _ in range(rng.integers(1, 3)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        return bytes(data)
    other = frames[rng.integers(len(frames))][0]
    return bytes(data[: rng.integers(1, len(data))]) + other[rng.integers(len(other)) :]


def accepted(frames, trials):
    rng, taken = np.random.default_rng(7), 0
    originals = {data for data, _ in frames}
    for _ in range(trials):
        at = int(rng.integers(len(frames)))
        data = damaged(rng, frames, at)
        if data in originals:
            continue
        try:
            taken += frames[at][1](data)
        except UnimicError:
            continue
    return taken


def toy_frames():
    script = [
        Request(Task.VQA, text(5, 6), image()),
        Request(Task.VQA, text(7), image()),
        requests()["inpaint"],
        requests()["outpaint"],
        requests()["t2i_tuned"],
    ]
    return conversation(ToyBundle(), script, answer)


TOY_TRIALS, REAL_TRIALS = 50_000, 500
"""Times --fuzz-scale, which is 1 unless given; 20 makes a million and ten thousand."""


@pytest.mark.slow
def test_damaged_frames_of_the_toy_bundle_are_refused(request):
    trials = TOY_TRIALS * request.config.getoption("--fuzz-scale")
    assert accepted(toy_frames(), trials) <= trials * MOST_ACCEPTED


@pytest.mark.slow
def test_damaged_frames_of_the_builtin_bundle_are_refused(request):
    trials = REAL_TRIALS * request.config.getoption("--fuzz-scale")
    assert accepted(real_frames(), trials) <= max(1, trials * MOST_ACCEPTED)


def real_frames():
    bundle = load_bundle()
    rng = np.random.default_rng(3)
    codes = np.full((16, 16), 17, dtype=np.int32)
    codes[4:9, 5:12] = rng.integers(0, 8192, (5, 7))
    picture = ImageTokens(codes, 8192)
    flags = np.zeros((16, 16), dtype=bool)
    flags[2:5, 3:7] = True
    words = bundle.text_tokenizer.encode

    def respond(request):
        if request.task is Task.VQA:
            return Response(request.task, text=words("a fox"))
        known, targets = request.known(bundle.grid)
        return Response(request.task, ImageTokens(np.where(targets, 5, known), 8192))

    script = [
        Request(Task.VQA, words("is there a fox?"), picture),
        Request(Task.VQA, words("what is left of the tree?"), picture),
        Request(Task.INPAINT, words("a fox"), picture, TokenMask(flags)),
        Request(Task.VQA, words("describe the picture"), picture),
    ]
    return conversation(bundle, script, respond)


def test_noise_is_no_hello_no_welcome_and_no_stream_of_frames():
    rng = np.random.default_rng(5)
    for _ in range(3_000):
        data = rng.bytes(int(rng.integers(0, 40)))
        for read in (decode_hello, lambda data: decode_welcome(data, 3)):
            try:
                read(data)
            except UnimicError:
                continue
        try:
            list(FrameCutter().feed(data))
        except UnimicError:
            continue


def test_frames_glued_together_are_cut_apart_again():
    frames = [data for data, _ in toy_frames()]
    stream = b"".join(framed(frame) for frame in frames)
    assert list(FrameCutter().feed(stream)) == frames
