"""Image tokens that a request leaves out: on the wire, at both ends, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_bundle import ToyBundle, answer, half_mask, image, text

from shared_protocol.coding.drop_codec import decode_dropped, encode_dropped, even_order, first_even
from shared_protocol.errors import BadMessageError, ChecksumError, InvalidInputError, MaskError
from shared_protocol.message import bitstream
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.message.parts import response_context
from shared_protocol.messages import Request
from shared_protocol.tasks import Extension, Part, Task
from shared_protocol.tokens import TokenMask

BUNDLE = ToyBundle()
WORDS = text(17, 18, 300)


def stripes(height: int = 16, width: int = 16) -> TokenMask:
    """Every third column, but nothing under `half_mask`."""
    flags = np.zeros((height, width), dtype=bool)
    flags[:, ::3] = True
    return TokenMask(flags & ~half_mask(height, width).flags)


REQUESTS = {
    "inpaint": Request(Task.INPAINT, WORDS, image(), half_mask(), dropped=stripes()),
    "oblong": Request(Task.INPAINT, WORDS, image(9, 20), half_mask(9, 20), dropped=stripes(9, 20)),
    "outpaint": Request(
        Task.OUTPAINT, WORDS, image(), extension=Extension(left=2, down=5), dropped=stripes()
    ),
    "vqa": Request(Task.VQA, WORDS, image(), dropped=stripes()),
}
each_request = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())


@each_request
def test_all_but_the_dropped_tokens_arrive(request_: Request) -> None:
    assert request_.image is not None
    assert request_.left_out is not None
    received = decode_request(encode_request(request_, BUNDLE).data, BUNDLE).value
    assert received.dropped == request_.dropped
    assert received.mask == request_.mask
    assert received.image is not None
    sent = ~request_.left_out
    assert np.array_equal(received.image.codes[sent], request_.image.codes[sent])
    assert not received.image.codes[~sent].any()


@each_request
def test_what_is_dropped_does_not_reach_the_bytes(request_: Request) -> None:
    assert request_.image is not None
    assert request_.dropped is not None
    other = np.where(request_.dropped.flags, 4_711, request_.image.codes)
    changed = replace(request_, image=replace(request_.image, codes=other))
    assert encode_request(changed, BUNDLE).data == encode_request(request_, BUNDLE).data


@each_request
def test_the_response_is_merged_into_the_tokens_of_the_sender(request_: Request) -> None:
    at_cloud = decode_request(encode_request(request_, BUNDLE).data, BUNDLE).value
    reply = encode_response(answer(at_cloud), at_cloud, BUNDLE)
    decoded = decode_response(reply.data, request_, BUNDLE).value
    assert decoded == answer(request_)


@pytest.mark.parametrize("name", ["inpaint", "outpaint"])
def test_both_ends_code_the_reply_in_the_same_context(name: str) -> None:
    request = REQUESTS[name]
    at_cloud = decode_request(encode_request(request, BUNDLE).data, BUNDLE).value
    ours, theirs = (response_context(one, BUNDLE.grid) for one in (request, at_cloud))
    for field in ("targets", "known", "known_codes", "text"):
        assert np.array_equal(getattr(ours, field), getattr(theirs, field))
    assert not (ours.known & request.gaps(BUNDLE.grid)).any()


@pytest.mark.parametrize("name", ["inpaint", "outpaint"])
def test_the_cloud_may_fill_the_gaps_as_it_likes(name: str) -> None:
    at_cloud = decode_request(encode_request(REQUESTS[name], BUNDLE).data, BUNDLE).value
    made = answer(at_cloud)
    assert made.image is not None
    codes = np.where(at_cloud.gaps(BUNDLE.grid), 99, made.image.codes)
    filled = replace(made, image=replace(made.image, codes=codes))
    data = encode_response(filled, at_cloud, BUNDLE).data
    assert data == encode_response(made, at_cloud, BUNDLE).data


def test_the_mark_of_a_dropped_token_is_part_of_the_anatomy() -> None:
    anatomy = encode_request(REQUESTS["vqa"], BUNDLE).anatomy
    assert anatomy.sizes.dropped > 0
    assert anatomy.counts is not None
    assert anatomy.uniform is not None
    assert (anatomy.counts.dropped_flags, anatomy.uniform.dropped) == (256, 32)
    assert anatomy.counts.image_codes == 256 - stripes().count
    assert anatomy.sizes.total == len(encode_request(REQUESTS["vqa"], BUNDLE).data)


def test_flags_under_uniform_coding_fill_whole_bytes() -> None:
    anatomy = encode_request(REQUESTS["oblong"], BUNDLE).anatomy
    assert anatomy.counts is not None
    assert anatomy.uniform is not None
    assert (anatomy.counts.mask_flags, anatomy.uniform.mask) == (180, 23)
    assert (anatomy.counts.dropped_flags, anatomy.uniform.dropped) == (180, 23)
    codes = anatomy.counts.image_codes
    assert anatomy.uniform.image == (codes * 13 + 7) // 8


def test_a_request_without_gaps_says_nothing_of_them() -> None:
    whole = replace(REQUESTS["inpaint"], dropped=None)
    frame = bitstream.unpack(encode_request(whole, BUNDLE).data)
    assert not frame.head[1] & 0x40
    assert Part.DROPPED not in frame.parts
    assert not whole.gaps(BUNDLE.grid).any()


@pytest.mark.parametrize(
    ("flags", "frozen"),
    [
        (
            np.eye(4, dtype=bool),
            "c71e554d 26660f53 7f2dad53 81009204 0402c551 0300ede4 ec0cf78f 2a41dcea 84",
        ),
        (
            first_even(8, np.ones((4, 4), dtype=bool)),
            "c71b554d 26660f53 6fa956e6 81009204 0402c551 0108cced fedcd5b5 e675",
        ),
    ],
    ids=["marked", "even"],
)
def test_a_request_with_gaps_keeps_its_bytes(flags: np.ndarray, frozen: str) -> None:
    small = Request(Task.VQA, text(10, 11), image(4, 4), dropped=TokenMask(flags))
    assert encode_request(small, BUNDLE).data.hex(" ", -4) == frozen


def test_the_checksum_covers_which_tokens_are_dropped() -> None:
    frame = bitstream.unpack(encode_request(REQUESTS["vqa"], BUNDLE).data)
    moved = TokenMask(np.roll(stripes().flags, 1, axis=0))
    other = bitstream.unpack(encode_request(replace(REQUESTS["vqa"], dropped=moved), BUNDLE).data)
    parts = {**frame.parts, Part.DROPPED: other.parts[Part.DROPPED]}
    with pytest.raises(ChecksumError):
        decode_request(bitstream.pack(replace(frame, parts=parts)), BUNDLE)


def with_bit(data: bytes) -> bytes:
    """`data` claiming that tokens are dropped."""
    frame = bitstream.unpack(data)
    packed = bytearray(bitstream.pack(frame))
    packed[packed.index(frame.head) + 1] |= 0x40
    return bytes(packed)


def test_messages_without_tokens_to_drop_refuse_the_bit() -> None:
    prompt = encode_request(Request(Task.T2I, WORDS), BUNDLE).data
    reply = encode_response(answer(REQUESTS["inpaint"]), REQUESTS["inpaint"], BUNDLE).data
    for data in (prompt, reply):
        with pytest.raises(BadMessageError, match="cannot drop"):
            bitstream.unpack(with_bit(data))


def test_a_claim_without_the_part_is_refused() -> None:
    whole = encode_request(replace(REQUESTS["vqa"], dropped=None), BUNDLE).data
    with pytest.raises(BadMessageError):
        decode_request(with_bit(whole), BUNDLE)


def test_every_cut_of_a_message_with_gaps_is_refused() -> None:
    data = encode_request(REQUESTS["inpaint"], BUNDLE).data
    for length in range(len(data)):
        with pytest.raises(BadMessageError):
            decode_request(data[:length], BUNDLE)


def test_contradictory_gaps_are_refused() -> None:
    none, all_ = np.zeros((16, 16), dtype=bool), np.ones((16, 16), dtype=bool)
    with pytest.raises(InvalidInputError, match="no image"):
        Request(Task.T2I, WORDS, dropped=stripes())
    with pytest.raises(MaskError, match="16x15"):
        Request(Task.VQA, WORDS, image(), dropped=stripes(16, 15))
    with pytest.raises(MaskError, match="under the mask"):
        Request(Task.INPAINT, WORDS, image(), half_mask(), dropped=half_mask())
    with pytest.raises(MaskError, match="leave `dropped` out"):
        Request(Task.VQA, WORDS, image(), dropped=TokenMask(none))
    for request, dropped in (
        (Request(Task.VQA, WORDS, image()), all_),
        (Request(Task.INPAINT, WORDS, image(), half_mask()), ~half_mask().flags),
    ):
        with pytest.raises(MaskError, match="keep at least one"):
            replace(request, dropped=TokenMask(dropped))


def test_gaps_of_a_source_stand_where_its_window_is() -> None:
    request = REQUESTS["outpaint"]
    gaps = request.gaps(BUNDLE.grid)
    assert gaps.shape == (21, 18)
    assert np.array_equal(gaps[:16, 2:], stripes().flags)
    assert gaps.sum() == stripes().count
    context = response_context(request, BUNDLE.grid)
    assert not (context.known & gaps).any()
    assert context.count == 21 * 18 - 256


def test_the_even_order_is_one_of_all_places_and_even() -> None:
    order = even_order(64, 64)
    assert sorted(order.ravel().tolist()) == list(range(64 * 64))
    half = first_even(128, np.ones((16, 16), dtype=bool))
    assert (half.sum(axis=0) == 8).all()
    assert (half.sum(axis=1) == 8).all()


@pytest.mark.parametrize("grid", [(16, 16), (9, 20), (1, 1), (64, 64)])
@pytest.mark.parametrize("masked", [False, True])
def test_an_even_choice_costs_two_bytes_and_comes_back(grid: tuple[int, int], masked: bool) -> None:
    mask = half_mask(*grid).flags if masked and min(grid) > 4 else None
    free = np.ones(grid, dtype=bool) if mask is None else ~mask
    for count in {1, int(free.sum()) // 3 + 1, int(free.sum())}:
        flags = first_even(count, free)
        assert flags.sum() == count
        assert not (flags & ~free).any()
        data = encode_dropped(flags, mask, BUNDLE.mask_prior)
        assert len(data) <= 2
        assert np.array_equal(decode_dropped(data, grid, mask, BUNDLE.mask_prior), flags)


def test_a_count_beyond_the_free_tokens_or_with_a_tail_is_refused() -> None:
    for data in (b"\x11", b"\x01\x00", b"", b"\x80\x00"):
        with pytest.raises(BadMessageError):
            decode_dropped(data, (4, 4), None, None)
