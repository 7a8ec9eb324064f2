"""A negative prompt travels with a request, decides its result, and costs nothing without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_bundle import ToyBundle, half_mask, image, text

from shared_protocol.errors import BadMessageError, InvalidInputError, PromptError, TokenRangeError
from shared_protocol.message.bitstream import pack, unpack
from shared_protocol.message.codec import decode_request, encode_request
from shared_protocol.message.parameters import Parameter, request_digest
from shared_protocol.messages import Options, Request
from shared_protocol.session.kinds import UP_ODDS
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_turn, encode_turn
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import TextTokens

BUNDLE = ToyBundle()
NEGATIVE = text(12, 300, 0)
REQUESTS = {
    "t2i": Request(Task.T2I, text(5), negative=NEGATIVE),
    "inpaint": Request(Task.INPAINT, text(), image(), half_mask(), negative=NEGATIVE),
    "outpaint": Request(
        Task.OUTPAINT, text(5), image(), extension=Extension(left=3), negative=NEGATIVE
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_it_goes_there_and_back(name: str) -> None:
    request = REQUESTS[name]
    sent = encode_request(request, BUNDLE)
    assert decode_request(sent.data, BUNDLE).value.negative == NEGATIVE
    state = SessionState(b"sessions")
    up, _ = encode_turn(request, state, BUNDLE)
    reader = Reader(up.data)
    reader.symbol(UP_ODDS)
    assert decode_turn(reader, len(up.data), state, BUNDLE).request.negative == NEGATIVE
    plain = replace(request, negative=None)
    assert len(encode_request(plain, BUNDLE).data) <= len(sent.data) - 2 * len(NEGATIVE)
    assert len(encode_turn(plain, state, BUNDLE)[0].data) <= len(up.data) - 3


def test_it_decides_the_result() -> None:
    request = REQUESTS["t2i"]
    others = [None, text(12, 300), text(12, 300, 1)]
    digests = {request_digest(replace(request, negative=each)) for each in others}
    assert len({*digests, request_digest(request)}) == 4


def test_a_question_and_an_empty_one_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="a question takes no negative prompt"):
        Request(Task.VQA, text(5), image(), negative=NEGATIVE)
    with pytest.raises(InvalidInputError, match="the negative prompt is empty"):
        Request(Task.T2I, text(5), negative=text())
    with pytest.raises(InvalidInputError, match="guidance is 0"):
        Request(Task.T2I, text(5), options=Options(guidance=0.0), negative=NEGATIVE)


def test_ids_of_another_vocabulary_and_too_many_of_them_are_refused() -> None:
    other = TextTokens([1, 2], 17)
    long = text(*([5] * (BUNDLE.max_text_tokens + 1)))
    state = SessionState(b"sessions")
    for negative, error in ((other, TokenRangeError), (long, PromptError)):
        request = replace(REQUESTS["t2i"], negative=negative)
        with pytest.raises(error):
            encode_request(request, BUNDLE)
        with pytest.raises(InvalidInputError):
            encode_turn(request, state, BUNDLE)


def test_it_has_one_id_to_as_many_as_a_prompt_may_have() -> None:
    shortest, longest = text(5), text(*([5] * BUNDLE.max_text_tokens))
    for negative in (shortest, longest):
        frame = unpack(encode_request(replace(REQUESTS["t2i"], negative=negative), BUNDLE).data)
        assert decode_request(pack(frame), BUNDLE).value.negative == negative
    longer = (*longest.ids.tolist(), 5)
    broken = replace(frame, parameters={**frame.parameters, int(Parameter.NEGATIVE): longer})
    wanted = f"not a list of 1 to {BUNDLE.max_text_tokens} text ids"
    with pytest.raises(BadMessageError, match=wanted):
        decode_request(pack(broken), BUNDLE)


@pytest.mark.parametrize("value", [5, (), (1 << 20,), tuple([3] * 200), tuple([3] * 600)])
def test_a_malformed_one_is_refused(value: object) -> None:
    frame = unpack(encode_request(REQUESTS["t2i"], BUNDLE).data)
    broken = replace(frame, parameters={**frame.parameters, int(Parameter.NEGATIVE): value})
    with pytest.raises(BadMessageError):
        decode_request(pack(broken), BUNDLE)


def test_a_question_that_carries_one_is_refused() -> None:
    frame = unpack(encode_request(Request(Task.VQA, text(5), image()), BUNDLE).data)
    broken = replace(frame, parameters={int(Parameter.NEGATIVE): (1, 2)})
    with pytest.raises((BadMessageError, InvalidInputError)):
        decode_request(pack(broken), BUNDLE)
