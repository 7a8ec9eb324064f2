"""Transcripts whose bytes never change, and SESSION.md against them and against the code.

`python tests/unit/shared_protocol/session/test_transcripts.py` writes them again, which is right
for a new version of the protocol only.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3] / "fakes"), str(Path(__file__).parents[4])]

import numpy as np
import pytest
from toy_bundle import CODEBOOK, LABELS, ToyBundle, answer, half_mask, image, text

from shared_protocol.errors import OverloadedError
from shared_protocol.messages import Options, Request
from shared_protocol.session import fields, hello, kinds
from shared_protocol.session.frames import (
    ERROR_CODES,
    encode_cancel,
    encode_error,
    encode_progress,
    encode_reset,
    encode_unknown,
)
from shared_protocol.session.framing import MAX_FRAME
from shared_protocol.session.hello import Hello, Status, Welcome, encode_hello, encode_welcome
from shared_protocol.session.paths import SESSION_PATH
from shared_protocol.session.port import Reader
from shared_protocol.session.previews import Preview
from shared_protocol.session.state import MAX_PICTURES, SessionState
from shared_protocol.session.turns import decode_reply, decode_turn, encode_reply, encode_turn
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, TokenMask

GOLDEN = Path(__file__).parents[3] / "golden" / "session"
SPECIFICATION = Path(hello.__file__).with_name("SESSION.md").read_text()
SESSION = b"sessions"
SMALL = ToyBundle(grid=(4, 4))
USUAL = ToyBundle()


def talk(bundle, script):
    """(direction, frame) of a conversation: hello, welcome, then every turn and reply."""
    state = SessionState(SESSION)
    frames = [
        ("up", encode_hello(Hello(bundle.fingerprint[:4], SESSION))),
        ("down", encode_welcome(Welcome())),
    ]
    for request in script:
        up, reference = encode_turn(request, state, bundle)
        reader = Reader(up.data)
        reader.symbol(kinds.UP_ODDS)
        turn = decode_turn(reader, len(up.data), state, bundle)
        response = answer(turn.request)
        down = encode_reply(response, turn.request, state, bundle)
        frames += [("up", up.data), ("down", down.data)]
        reader = Reader(down.data)
        reader.symbol(kinds.DOWN_ODDS)
        got = decode_reply(reader, len(down.data), request, state, bundle).response
        state = state.after(request, reference, got)
        assert state.digest == replace(state).digest
    return frames


def questions():
    picture = image(4, 4)
    return talk(SMALL, [Request(Task.VQA, text(*ids), picture) for ids in ((5, 6), (7,))])


def all_tasks():
    """Every task and every field, pictures old and new, a window, dropped tokens."""
    flags = np.zeros((16, 16), dtype=bool)
    flags[1::2, ::3] = True
    odd = flags.copy()
    odd[0, 0] = True
    other = ImageTokens((image().codes + 1) % CODEBOOK, CODEBOOK)
    wide = answer(Request(Task.OUTPAINT, text(9), other, extension=Extension(right=8))).image
    tuned = Options(steps=12, guidance=2.5, seed=70_000, max_new_tokens=20)
    return talk(
        USUAL,
        [
            Request(Task.T2I, text(17, 18, 300), options=tuned),
            Request(Task.INPAINT, text(5), other, half_mask(), options=tuned),
            Request(Task.VQA, text(7, 0, 8), other),
            Request(Task.OUTPAINT, text(9), other, extension=Extension(right=8)),
            Request(Task.VQA, text(6), ImageTokens(wide.codes[:, 5:21], CODEBOOK)),
            Request(Task.INPAINT, text(4), image(9, 20), half_mask(9, 20)),
            Request(
                Task.OUTPAINT,
                text(3),
                ImageTokens((image().codes + 2) % CODEBOOK, CODEBOOK),
                extension=Extension(left=2, up=1),
                options=Options(reply=Scenario.UNIFORM),
                dropped=TokenMask(odd),
            ),
            Request(Task.VQA, text(2), image()),
            Request(Task.T2I, text(11), negative=text(12, 300)),
        ],
    )


def labels():
    """Labels with names, then without, more of them, and of a window; a question between."""
    wide = answer(Request(Task.OUTPAINT, text(9), image(), extension=Extension(right=8))).image
    part = ImageTokens(wide.codes[:, 5:21], CODEBOOK)
    return talk(
        USUAL,
        [
            Request(Task.CLASSIFY, text(), image(), options=Options(names=True)),
            Request(Task.CLASSIFY, text(), image(), held=LABELS),
            Request(Task.CLASSIFY, text(), image(), options=Options(top=7), held=LABELS),
            Request(Task.CLASSIFY, text(), image(), options=Options(top=7), held=LABELS),
            Request(Task.VQA, text(7), image()),
            Request(Task.OUTPAINT, text(9), image(), extension=Extension(right=8)),
            Request(Task.CLASSIFY, text(), part, options=Options(top=255), held=LABELS),
        ],
    )


def small_frames():
    """One of each kind that is no turn and no reply."""
    state = SessionState(SESSION, 300)
    request = Request(Task.INPAINT, text(5), image(), half_mask())
    preview = Preview.of(request, state, USUAL)
    codes = answer(request).image.codes
    offers = (b"picture1", b"picture2")
    full = Hello(USUAL.fingerprint[:4], SESSION, 300, 4, True, "a-key", offers)
    busy = OverloadedError("the queue is full", "retry later", 2.5)
    return [
        ("up", encode_hello(full)),
        ("down", encode_welcome(Welcome(known=(True, False)))),
        ("down", encode_welcome(Welcome(Status.VERSION))),
        ("down", encode_welcome(Welcome(Status.BUNDLE, fingerprint=USUAL.fingerprint))),
        ("down", encode_welcome(Welcome(Status.ERROR, error=busy))),
        ("up", encode_reset(state)),
        ("up", encode_cancel(state)),
        ("down", encode_unknown(state)),
        ("down", encode_progress(5, 16)),
        ("down", preview.encode(codes)),
        ("down", preview.encode(codes)),
        ("down", encode_error(busy)),
    ]


TRANSCRIPTS = {
    "questions": questions,
    "all_tasks": all_tasks,
    "labels": labels,
    "small_frames": small_frames,
}


def as_json(frames):
    return json.dumps([[way, frame.hex()] for way, frame in frames], indent=0) + "\n"


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_the_bytes_of_a_transcript_never_change(name):
    assert as_json(TRANSCRIPTS[name]()) == (GOLDEN / f"{name}.json").read_text()


def test_the_example_of_the_specification_is_the_transcript():
    dump = SPECIFICATION.split("```")[1]
    said = re.findall(r"^(up|down) +((?:[0-9a-f]{2} ?)+)", dump, re.M)
    shown = [[way, bytes.fromhex(frame).hex()] for way, frame in said]
    assert shown == json.loads((GOLDEN / "questions.json").read_text())


def test_the_specification_names_the_odds_and_limits_of_the_code():
    rows = {name: int(freq) for name, freq in re.findall(r"\d (\w+) \| (\d+) \|", SPECIFICATION)}
    for each, odds in ((kinds.Up, kinds.UP_ODDS), (kinds.Down, kinds.DOWN_ODDS)):
        assert [rows[kind.name.lower()] for kind in each] == list(odds)
    tasks = re.search(r"\| task \| always \| (.*), of 16", SPECIFICATION).group(1)
    assert re.findall(r"\d+(?=,|$)", tasks) == [str(n) for n in fields.TASK_ODDS.values()]
    assert "current 28, older 2, new 2, of 32" in SPECIFICATION
    assert fields.REFERENCE_ODDS == (28, 2, 2)
    sides = fields.SIDE_ODDS
    assert f"frequency {sides['none']} for 0, {sides['half']} for half" in SPECIFICATION
    for number, code in enumerate(ERROR_CODES):
        assert re.search(rf"\b{number} {code}\b", SPECIFICATION)
    assert f"{MAX_FRAME:,} bytes" in SPECIFICATION
    assert f"at most {MAX_PICTURES} pictures" in SPECIFICATION
    assert f"`{SESSION_PATH}`" in SPECIFICATION
    assert f"version = {kinds.VERSION}" in SPECIFICATION


if __name__ == "__main__":
    for name, make in TRANSCRIPTS.items():
        (GOLDEN / f"{name}.json").write_text(as_json(make()))
    for way, frame in questions():
        print(f"{way:5} {frame.hex(' ')}")
