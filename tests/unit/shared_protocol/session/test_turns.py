"""Turns and replies: what one end wrote the other reads, and both then know the same."""

from dataclasses import replace

import numpy as np
import pytest
from toy_bundle import CODEBOOK, ToyBundle, answer, half_mask, image, requests, text

from shared_protocol.errors import BadMessageError, ChecksumError, InvalidInputError
from shared_protocol.messages import Options, Request, Response
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS, Down, Up
from shared_protocol.session.port import Reader
from shared_protocol.session.state import KnownPicture, Reference, SessionState
from shared_protocol.session.turns import decode_reply, decode_turn, encode_reply, encode_turn
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, KnownTokens, TokenMask

BUNDLE = ToyBundle()
NEW = SessionState(b"sessions")


def read_turn(data, state, bundle=BUNDLE):
    reader = Reader(data)
    assert reader.symbol(UP_ODDS) == Up.TURN
    return decode_turn(reader, len(data), state, bundle)


def read_reply(data, request, state, bundle=BUNDLE):
    reader = Reader(data)
    assert reader.symbol(DOWN_ODDS) == Down.REPLY
    return decode_reply(reader, len(data), request, state, bundle)


def exchange(request, state, bundle=BUNDLE, **choice):
    """One turn through both ends; returns bytes up and down, the response and the next state."""
    up, reference = encode_turn(request, state, bundle, **choice)
    turn = read_turn(up.data, state, bundle)
    assert turn.reference == reference
    response = answer(turn.request)
    down = encode_reply(response, turn.request, state, bundle)
    got = read_reply(down.data, request, state, bundle)
    ours = state.after(request, reference, got.response)
    theirs = state.after(turn.request, turn.reference, response)
    assert ours.digest == theirs.digest
    return up, down, got.response, ours


@pytest.mark.parametrize("name", requests())
def test_every_kind_of_turn_goes_there_and_back(name):
    request = requests()[name]
    up, down, response, after = exchange(request, NEW)
    turn = read_turn(up.data, NEW)
    assert turn.request.text == request.text
    assert turn.request.options == request.options
    assert turn.request.mask == request.mask
    assert turn.request.extension == request.extension
    assert after.turn == 1
    assert up.anatomy.sizes.total == len(up.data)
    assert down.anatomy.sizes.total == len(down.data)
    if response.image is not None and request.image is not None and request.extension is None:
        outside = ~request.mask.flags
        assert np.array_equal(response.image.codes[outside], request.image.codes[outside])


def test_a_known_picture_is_named_and_does_not_travel():
    first = Request(Task.VQA, text(5, 6), image())
    up, _, _, state = exchange(first, NEW)
    again, _, _, _ = exchange(replace(first, text=text(7)), state)
    assert up.anatomy.counts.image_codes == 256
    assert again.anatomy.counts.image_codes == 0
    assert len(again.data) <= 7


def test_what_a_mask_hid_travels_when_it_is_asked_about():
    source = ImageTokens((image().codes + 1) % CODEBOOK, CODEBOOK)
    _, _, _, state = exchange(Request(Task.INPAINT, text(5), source, half_mask()), NEW)
    up, _, _, after = exchange(Request(Task.VQA, text(7), source), state)
    assert up.anatomy.counts.image_codes == half_mask().count
    assert np.array_equal(after.pictures[-1].tokens.codes, source.codes)
    assert after.pictures[-1].tokens.flags.all()


def test_dropped_tokens_are_not_taken_for_known():
    flags = np.zeros((16, 16), dtype=bool)
    flags[::2, ::3] = True
    dropped = Request(Task.OUTPAINT, text(5), image(), extension=Extension(right=2),
                      dropped=TokenMask(flags))  # fmt: skip
    _, _, response, state = exchange(dropped, NEW)
    assert all(not p.tokens.flags.all() for p in state.pictures)
    made = Request(Task.INPAINT, text(6), response.image, TokenMask(np.eye(16, 18, dtype=bool)))
    up, _, _, _ = exchange(made, state)
    assert up.anatomy.counts.image_codes == int((flags & ~np.eye(16, dtype=bool)).sum())


def test_an_older_picture_is_found_by_its_content():
    state = NEW
    for seed in range(3):
        picture = ImageTokens(np.full((16, 16), seed, dtype=np.int32), CODEBOOK)
        _, _, _, state = exchange(Request(Task.VQA, text(5), picture), state)
    oldest = ImageTokens(np.zeros((16, 16), dtype=np.int32), CODEBOOK)
    up, reference = encode_turn(Request(Task.VQA, text(6), oldest), state, BUNDLE)
    assert reference == Reference(0)
    assert up.anatomy.counts.image_codes == 0


def test_a_question_may_be_about_a_window_of_a_larger_picture():
    made = Request(Task.OUTPAINT, text(5), image(), extension=Extension(right=8, down=3))
    _, _, response, state = exchange(made, NEW)
    part = ImageTokens(response.image.codes[2:18, 5:21], CODEBOOK)
    up, reference = encode_turn(Request(Task.VQA, text(6), part), state, BUNDLE)
    assert (reference.top, reference.left) == (2, 5)
    assert up.anatomy.counts.image_codes == 0
    turn = read_turn(up.data, state)
    assert turn.request.image == part
    after = state.after(turn.request, turn.reference, Response(Task.VQA, text=text(1)))
    assert after.pictures[-1].tokens.shape == (19, 24)


def test_options_that_stay_cost_nothing_and_others_little():
    tuned = Options(steps=12, guidance=2.5, seed=70_000)
    plain, _, _, _ = exchange(Request(Task.T2I, text(5)), NEW)
    first, _, _, state = exchange(Request(Task.T2I, text(5), options=tuned), NEW)
    again, _, _, _ = exchange(Request(Task.T2I, text(5), options=tuned), state)
    assert len(again.data) <= len(plain.data) + 1 < len(first.data)


def test_a_reply_is_bound_to_its_request_and_to_the_state():
    request = Request(Task.VQA, text(5), image())
    other = replace(request, text=text(6))
    down = encode_reply(answer(request), request, NEW, BUNDLE)
    with pytest.raises(ChecksumError):
        read_reply(down.data, other, NEW)
    with pytest.raises(ChecksumError):
        read_reply(down.data, request, replace(NEW, turn=1))


def test_ends_that_know_different_pictures_notice_it():
    _, _, _, state = exchange(Request(Task.VQA, text(5), image()), NEW)
    codes = image().codes.copy()
    codes[3, 3] ^= 1
    other = KnownPicture(KnownTokens(codes, np.ones((16, 16), dtype=bool)))
    wrong = replace(state, pictures=(other,))
    up, _ = encode_turn(Request(Task.VQA, text(6), image()), state, BUNDLE)
    with pytest.raises(ChecksumError):
        read_turn(up.data, wrong)


def test_another_bundle_of_the_same_sizes_is_noticed():
    up, _ = encode_turn(Request(Task.T2I, text(5)), NEW, BUNDLE)
    with pytest.raises(ChecksumError):
        read_turn(up.data, NEW, replace(BUNDLE, fingerprint=bytes(32)))


def test_uniform_coding_needs_no_model():
    request = Request(Task.VQA, text(5), image())
    up, _ = encode_turn(request, NEW, BUNDLE, Scenario.UNIFORM)
    assert up.anatomy.scenario is Scenario.UNIFORM
    assert read_turn(up.data, NEW).request.image == image()
    wanted = replace(requests()["t2i"], options=Options(reply=Scenario.UNIFORM))
    assert encode_reply(answer(wanted), wanted, NEW, BUNDLE).anatomy.scenario is Scenario.UNIFORM


def test_without_a_prior_text_is_coded_uniformly():
    bundle = replace(BUNDLE, text_prior=None, mask_prior=None)
    _, _, response, _ = exchange(requests()["inpaint"], NEW, bundle)
    assert response.image is not None


def test_the_end_of_text_id_inside_a_text_is_coded_uniformly():
    request = Request(Task.T2I, text(5, 0, 6))
    up, _, _, _ = exchange(request, NEW)
    assert read_turn(up.data, NEW).request.text == request.text


def test_a_text_that_is_too_long_is_refused_before_it_travels():
    long = Request(Task.T2I, text(*range(1, 66)))
    with pytest.raises(InvalidInputError, match="65 tokens"):
        encode_turn(long, NEW, BUNDLE)


def test_the_table_holds_thirty_two_pictures_and_forgets_the_oldest():
    state = NEW
    for seed in range(34):
        picture = ImageTokens(np.full((16, 16), seed, dtype=np.int32), CODEBOOK)
        _, _, _, state = exchange(Request(Task.VQA, text(5), picture), state)
    assert len(state.pictures) == 32
    assert int(state.pictures[0].tokens.codes[0, 0]) == 2


def test_a_turn_cut_anywhere_is_refused():
    up, _ = encode_turn(requests()["inpaint"], NEW, BUNDLE)
    for size in range(len(up.data)):
        with pytest.raises(BadMessageError):
            read_turn(up.data[:size], NEW)


def test_a_turn_with_more_behind_it_is_refused():
    up, _ = encode_turn(requests()["vqa"], NEW, BUNDLE)
    for more in (b"\0", b"\x80", b"\xff\xff"):
        with pytest.raises(BadMessageError):
            read_turn(up.data + more, NEW)
