"""Requests for labels and the labels that answer them, as whole messages and as turns."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_bundle import LABELS, NAMES, ToyBundle, answer, image, ranking, requests, text

from shared_protocol.errors import BadMessageError, InvalidInputError, LabelsMismatchError
from shared_protocol.labels import LabelSet, Ranking
from shared_protocol.message.bitstream import pack_parameters
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.message.parameters import from_map, request_digest
from shared_protocol.messages import Options, Request, Response
from shared_protocol.session.framing import MAX_FRAME
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_reply, decode_turn, encode_reply, encode_turn
from shared_protocol.tasks import Task

BUNDLE = ToyBundle()
ASKED = Request(Task.CLASSIFY, text(), image(), held=LABELS)
NAMED = replace(ASKED, options=Options(names=True), held=None)
NEW = SessionState(b"sessions")
OTHERS = LabelSet.of([name.upper() for name in NAMES])


def opened(data: bytes, odds: tuple[int, ...]) -> Reader:
    reader = Reader(data)
    reader.symbol(odds)
    return reader


def turn(request: Request, state: SessionState) -> tuple[int, int, Response, SessionState]:
    """Bytes up and down, what came back, and the state after it at both ends."""
    up, reference = encode_turn(request, state, BUNDLE)
    asked = decode_turn(opened(up.data, UP_ODDS), len(up.data), state, BUNDLE)
    assert asked.request.options == request.options
    down = encode_reply(answer(asked.request), asked.request, state, BUNDLE)
    size = len(down.data)
    back = decode_reply(opened(down.data, DOWN_ODDS), size, request, state, BUNDLE)
    after = state.after(request, reference, back.response)
    assert after.digest == state.after(asked.request, asked.reference, back.response).digest
    return len(up.data), size, back.response, after


def test_five_labels_of_a_thousand_take_24_bytes_as_a_message_and_14_as_a_turn() -> None:
    down = encode_response(answer(ASKED), ASKED, BUNDLE)
    assert (len(down.data), down.anatomy.sizes.labels) == (24, 12)
    assert down.anatomy.counts is not None
    assert down.anatomy.counts.labels == 5
    up, size, response, state = turn(NAMED, NEW)
    assert up > 100
    assert response.labels == ranking(NAMED)
    up, size, response, _ = turn(ASKED, state)
    assert (up, size) == (2, 14), "the picture is known, and nothing of it travels"
    assert response.labels == ranking(ASKED).told(ASKED.label_wish)


def test_a_request_for_labels_costs_what_a_question_costs_without_its_words() -> None:
    question = encode_request(Request(Task.VQA, text(), image()), BUNDLE).anatomy.sizes
    labels = encode_request(ASKED, BUNDLE).anatomy.sizes
    assert labels.text == labels.parameters == 0
    assert labels.image == question.image > 0


def test_how_many_labels_are_asked_is_remembered_by_a_conversation() -> None:
    seven = replace(ASKED, options=Options(top=7))
    _, _, _, state = turn(ASKED, NEW)
    first, _, _, state = turn(seven, state)
    again, _, response, state = turn(seven, state)
    assert again < first
    assert response.labels is not None
    assert len(response.labels.numbers) == 7
    assert turn(ASKED, state)[2].labels == ranking(ASKED).told(ASKED.label_wish)


@pytest.mark.parametrize("held", [None, OTHERS])
def test_labels_of_another_set_are_a_typed_error_and_never_wrong_names(
    held: LabelSet | None,
) -> None:
    down = encode_response(answer(ASKED), ASKED, BUNDLE)
    with pytest.raises(LabelsMismatchError, match="ask again"):
        decode_response(down.data, replace(ASKED, held=held), BUNDLE)
    frame = encode_reply(answer(ASKED), ASKED, NEW, BUNDLE).data
    reader = opened(frame, DOWN_ODDS)
    with pytest.raises(LabelsMismatchError, match="ask again"):
        decode_reply(reader, len(frame), replace(ASKED, held=held), NEW, BUNDLE)


def test_a_set_that_begins_alike_is_found_out_by_the_checksum() -> None:
    twin = LabelSet(LABELS.fingerprint[:2] + bytes(30), LABELS.count)
    down = encode_response(answer(ASKED), ASKED, BUNDLE)
    with pytest.raises(BadMessageError):
        decode_response(down.data, replace(ASKED, held=twin), BUNDLE)
    frame = encode_reply(answer(ASKED), ASKED, NEW, BUNDLE).data
    with pytest.raises(BadMessageError):
        decode_reply(opened(frame, DOWN_ODDS), len(frame), replace(ASKED, held=twin), NEW, BUNDLE)


def test_more_labels_than_there_are_bring_all_of_them() -> None:
    few = LabelSet.of(("fox", "hat"))
    asked = replace(ASKED, held=few)
    both = Response(Task.CLASSIFY, labels=Ranking(few, (1, 0), (60, 3), ("hat", "fox")))
    data = encode_response(both, asked, BUNDLE).data
    back = decode_response(data, asked, BUNDLE).value.labels
    assert back is not None
    assert back.numbers == (1, 0)


def test_the_longest_reply_fits_a_frame() -> None:
    asked = replace(NAMED, options=Options(top=255, names=True))
    names = tuple(f"{n:03}" + "界" * 197 for n in range(255))
    most = LabelSet(bytes(32), 1 << 16)
    labels = Ranking(most, tuple(range(65_281, 65_536)), (0,) * 255, names)
    frame = encode_reply(Response(Task.CLASSIFY, labels=labels), asked, NEW, BUNDLE)
    assert len(frame.data) <= MAX_FRAME


def test_names_are_no_part_of_what_a_request_asks_and_the_count_is() -> None:
    assert request_digest(ASKED) == request_digest(NAMED)
    seven = replace(ASKED, options=Options(top=7))
    assert request_digest(seven) != request_digest(ASKED)
    back = decode_request(encode_request(NAMED, BUNDLE).data, BUNDLE).value
    assert back.options.names
    assert request_digest(back) == request_digest(NAMED)


@pytest.mark.parametrize("top", [0, -1, 256])
def test_a_count_of_labels_out_of_range_is_refused_with_the_range(top: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"top is {top} \(use 1\.\.255\)"):
        Options(top=top)


@pytest.mark.parametrize("extras", [{9: 0}, {9: 5}, {9: 256}, {10: 0}, {10: 2}, {9: (5,)}])
def test_parameters_of_labels_have_one_form(extras: dict[int, int]) -> None:
    assert pack_parameters(extras)
    with pytest.raises((BadMessageError, InvalidInputError)):
        from_map(extras, (16, 16))


@pytest.mark.parametrize("options", [Options(top=3), Options(names=True)])
@pytest.mark.parametrize("name", ["t2i", "vqa"])
def test_other_tasks_ask_for_no_labels(name: str, options: Options) -> None:
    with pytest.raises(InvalidInputError, match="names no labels"):
        replace(requests()[name], options=options)
    with pytest.raises(InvalidInputError, match="names no labels"):
        replace(requests()[name], held=LABELS)


def test_what_no_request_for_labels_has_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="takes no text"):
        replace(ASKED, text=text(5))
    with pytest.raises(InvalidInputError, match="needs image"):
        replace(ASKED, image=None)
    with pytest.raises(InvalidInputError, match="negative prompt"):
        replace(ASKED, negative=text(5))
    with pytest.raises(InvalidInputError, match="holds labels only"):
        Response(Task.CLASSIFY, text=text(5))
    with pytest.raises(InvalidInputError, match="holds text only"):
        Response(Task.VQA, labels=ranking(ASKED))
