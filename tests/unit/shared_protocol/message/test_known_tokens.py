"""Tokens that both ends have already: they do not travel, serve as context, and are checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toy_bundle import CODEBOOK, ToyBundle, half_mask, image, requests, text

from shared_protocol.errors import BadMessageError, ChecksumError, InvalidInputError
from shared_protocol.message.codec import decode_request, encode_request
from shared_protocol.messages import Request
from shared_protocol.tasks import Scenario, Task
from shared_protocol.tokens import ImageTokens, KnownTokens, TokenMask

BUNDLE = ToyBundle()
REQUESTS = requests()
WITH_PICTURE = ["inpaint", "inpaint_oblong", "outpaint", "vqa"]


def half_known(request: Request) -> KnownTokens:
    """The left half of the request's picture."""
    assert request.image is not None
    flags = np.zeros(request.image.shape, dtype=bool)
    flags[:, : flags.shape[1] // 2] = True
    return KnownTokens(request.image.codes, flags)


def all_known(request: Request) -> KnownTokens:
    assert request.image is not None
    return KnownTokens(request.image.codes, np.ones(request.image.shape, dtype=bool))


@pytest.mark.parametrize("scenario", [None, Scenario.UNIFORM, Scenario.GENERIC])
@pytest.mark.parametrize("name", WITH_PICTURE)
def test_known_tokens_do_not_travel_and_the_picture_arrives_whole(
    name: str, scenario: Scenario | None
) -> None:
    request = REQUESTS[name]
    known = half_known(request)
    encoded = encode_request(request, BUNDLE, scenario, known=known)
    decoded = decode_request(encoded.data, BUNDLE, known)
    assert decoded.anatomy == encoded.anatomy
    ours, theirs = request.known(BUNDLE.grid)[0], decoded.value.known(BUNDLE.grid)[0]
    assert np.array_equal(ours, theirs)
    whole = encode_request(request, BUNDLE, scenario)
    assert encoded.anatomy.counts is not None
    assert whole.anatomy.counts is not None
    readable = ~request.left_out if request.left_out is not None else np.ones(known.shape, bool)
    assert whole.anatomy.counts.image_codes == readable.sum()
    assert encoded.anatomy.counts.image_codes == (readable & ~known.flags).sum()
    assert encoded.anatomy.sizes.image < whole.anatomy.sizes.image


@pytest.mark.parametrize("name", WITH_PICTURE)
def test_a_picture_that_is_known_whole_costs_next_to_nothing(name: str) -> None:
    request = REQUESTS[name]
    known = all_known(request)
    encoded = encode_request(request, BUNDLE, known=known)
    assert encoded.anatomy.sizes.image == 0
    back = decode_request(encoded.data, BUNDLE, known).value
    assert np.array_equal(back.known(BUNDLE.grid)[0], request.known(BUNDLE.grid)[0])


def test_knowing_nothing_is_the_message_without_known_tokens() -> None:
    request = REQUESTS["vqa"]
    plain = encode_request(request, BUNDLE).data
    assert decode_request(plain, BUNDLE).value.image == request.image
    told = encode_request(request, BUNDLE, known=KnownTokens.none((16, 16))).data
    assert len(told) == len(plain)


def test_dropped_tokens_stay_dropped_beside_known_ones() -> None:
    flags = np.zeros((16, 16), dtype=bool)
    flags[::2, ::2] = True
    request = dataclasses.replace(REQUESTS["vqa"], dropped=TokenMask(flags))
    known = half_known(request)
    back = decode_request(encode_request(request, BUNDLE, known=known).data, BUNDLE, known).value
    assert back.dropped == request.dropped
    assert back.image is not None
    assert request.image is not None
    assert np.array_equal(back.image.codes[~flags], request.image.codes[~flags])
    assert not back.image.codes[flags].any()


def test_what_is_known_under_the_mask_does_not_reach_the_receiver() -> None:
    request = REQUESTS["inpaint"]
    known = all_known(request)
    back = decode_request(encode_request(request, BUNDLE, known=known).data, BUNDLE, known).value
    assert back.image is not None
    assert not back.image.codes[half_mask().flags].any()


def test_ends_that_know_other_tokens_find_out() -> None:
    request = REQUESTS["vqa"]
    known = half_known(request)
    other_codes = known.codes.copy()
    other_codes[3, 3] ^= 1
    data = encode_request(request, BUNDLE, Scenario.UNIFORM, known=known).data
    with pytest.raises(ChecksumError, match="tokens that they had before"):
        decode_request(data, BUNDLE, KnownTokens(other_codes, known.flags))
    for forgotten in (None, KnownTokens.none((16, 16)), all_known(request)):
        with pytest.raises(BadMessageError):
            decode_request(data, BUNDLE, forgotten)


def test_a_sender_may_not_call_known_what_its_picture_does_not_have() -> None:
    request = REQUESTS["vqa"]
    assert request.image is not None
    codes = request.image.codes.copy()
    codes[0, :5] ^= 1
    with pytest.raises(InvalidInputError, match="5 tokens"):
        encode_request(request, BUNDLE, known=KnownTokens(codes, np.ones((16, 16), dtype=bool)))


@pytest.mark.parametrize("request_", [Request(Task.T2I, text(1)), REQUESTS["inpaint_oblong"]])
def test_known_tokens_of_another_picture_are_refused(request_: Request) -> None:
    known = KnownTokens(image().codes, np.ones((16, 16), dtype=bool))
    with pytest.raises(InvalidInputError, match="16x16"):
        encode_request(request_, BUNDLE, known=known)
    data = encode_request(request_, BUNDLE).data
    with pytest.raises(BadMessageError, match="16x16"):
        decode_request(data, BUNDLE, known)


def test_the_value_refuses_codes_and_flags_of_two_shapes() -> None:
    from shared_protocol.errors import TokenRangeError

    with pytest.raises(TokenRangeError, match="one"):
        KnownTokens(np.zeros((4, 4), dtype=int), np.zeros((4, 5), dtype=bool))
    picture = ImageTokens(np.full((4, 4), 7), CODEBOOK)
    known = KnownTokens(picture.codes, np.eye(4, dtype=bool))
    assert known.codes.sum() == 4 * 7, "what is not known reads as 0"
