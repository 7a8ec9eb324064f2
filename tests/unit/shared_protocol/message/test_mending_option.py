"""How often a picture is mended travels with a request, decides it, and is free if unsaid."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_bundle import ToyBundle, text

from shared_protocol.errors import InvalidInputError
from shared_protocol.message.codec import decode_request, encode_request
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import MAX_MENDS, Options, Request
from shared_protocol.session.kinds import UP_ODDS
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_turn, encode_turn
from shared_protocol.tasks import Task

BUNDLE = ToyBundle()
PLAIN = Request(Task.T2I, text(5))


@pytest.mark.parametrize("mend", [0, 3, MAX_MENDS])
def test_it_goes_there_and_back(mend: int) -> None:
    request = replace(PLAIN, options=Options(mend=mend))
    sent = encode_request(request, BUNDLE)
    assert decode_request(sent.data, BUNDLE).value.options.mend == mend
    state = SessionState(b"sessions")
    up, _ = encode_turn(request, state, BUNDLE)
    reader = Reader(up.data)
    reader.symbol(UP_ODDS)
    assert decode_turn(reader, len(up.data), state, BUNDLE).request.options.mend == mend
    assert len(encode_request(PLAIN, BUNDLE).data) < len(sent.data)


def test_it_decides_the_result() -> None:
    asked = [Options(), Options(mend=0), Options(mend=1)]
    assert len({request_digest(replace(PLAIN, options=each)) for each in asked}) == 3


def test_a_number_beyond_the_limit_is_named() -> None:
    with pytest.raises(InvalidInputError, match=f"mend is {MAX_MENDS + 1}"):
        Options(mend=MAX_MENDS + 1)
