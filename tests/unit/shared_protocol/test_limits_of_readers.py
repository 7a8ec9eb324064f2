"""Limits that readers keep before they pay: each test fails where its limit is taken away."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import brotli
import msgpack
import pytest
from toy_bundle import TEXT_SIZE, ToyBundle, ToyEntropy, half_mask, image, text

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.coding.range_coder import RangeDecoder
from shared_protocol.coding.text_codec import TextCoder, decode_text
from shared_protocol.errors import InvalidInputError, LimitError
from shared_protocol.message.bitstream import EXT_TYPE, Limits, frame_length, unpack
from shared_protocol.message.codec import decode_request, encode_request
from shared_protocol.messages import Claims, Options, Request
from shared_protocol.session.kinds import UP_ODDS
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_turn, encode_turn
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import Codes

HEADER = bytes([0x4D, 0x20, 0x20]) + bytes(6)
"""A t2i uplink of version 2 with parameters."""


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes of memory that `work` takes at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_brotli_bomb_is_not_unpacked() -> None:
    bomb = brotli.compress(bytes(50_000_000))

    def read() -> None:
        with pytest.raises(LimitError):
            decode_text(bomb, TextCoder.BROTLI, TEXT_SIZE)

    assert peak_of(read) < 2_000_000


def test_a_message_over_the_limit_is_refused_by_its_first_bytes() -> None:
    head = b"\xc9" + (1 << 20).to_bytes(4, "big") + bytes([EXT_TYPE])
    with pytest.raises(LimitError, match="over the limit of 1048576"):
        frame_length(head)
    assert frame_length(b"\xc9" + (1 << 16).to_bytes(4, "big") + bytes([EXT_TYPE])) == 65542
    with pytest.raises(LimitError, match="over the limit of 100"):
        frame_length(b"\xc7\x78" + bytes([EXT_TYPE]), Limits(frame_bytes=100))


def _with_parameters(packed: bytes) -> bytes:
    data: bytes = msgpack.packb(msgpack.ExtType(EXT_TYPE, HEADER + packed + b"\x00" * 300))
    return data


@pytest.mark.parametrize(
    "parameters",
    [
        dict.fromkeys(range(17), 1),
        {7: list(range(513))},
        {2: "x" * 10},
        {2: b"x" * 10},
        {2: msgpack.ExtType(1, b"xxxx")},
    ],
    ids=["entries", "values", "text", "bytes", "extension"],
)
def test_parameters_over_a_limit_are_refused_by_the_reader_of_the_map(parameters: object) -> None:
    with pytest.raises(LimitError, match="the parameters cannot be read"):
        unpack(_with_parameters(msgpack.packb(parameters)))


@pytest.mark.parametrize("head", [b"\xdf\xff\xff\xff\xff", b"\x81\x07\xdd\xff\xff\xff\xff"])
def test_lengths_that_lie_cost_no_memory(head: bytes) -> None:
    def read() -> None:
        with pytest.raises(LimitError):
            unpack(_with_parameters(head))

    assert peak_of(read) < 2_000_000


# ---- what a request claims is judged before any of its symbols ---------------------------------


class Untouched(ToyEntropy):
    """Entropy models that must not be asked."""

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        raise AssertionError("symbols were decoded")

    def read(self, scenario: Scenario, context: CodingContext, decoder: RangeDecoder) -> Codes:
        raise AssertionError("symbols were decoded")


def refuse(claims: Claims) -> None:
    if max(claims.canvas) > 16 or (claims.options.steps or 0) > 20:
        raise InvalidInputError(f"{claims.canvas} or {claims.options.steps} steps are too much")


LARGE = [
    Request(Task.VQA, text(5), image(24, 24)),
    Request(Task.OUTPAINT, text(5), image(), extension=Extension(right=8)),
    Request(Task.VQA, text(5), image(), options=Options(steps=50)),
]


@pytest.mark.parametrize("request_", LARGE, ids=["grid", "canvas", "steps"])
def test_a_message_is_refused_before_a_symbol_is_decoded(request_: Request) -> None:
    data = encode_request(request_, ToyBundle(), Scenario.GENERIC).data
    bundle = ToyBundle(entropy=Untouched())
    with pytest.raises(InvalidInputError, match="too much"):
        decode_request(data, bundle, admit=refuse)
    with pytest.raises(AssertionError):
        decode_request(data, bundle)


@pytest.mark.parametrize("request_", LARGE, ids=["grid", "canvas", "steps"])
def test_a_turn_is_refused_before_its_codes_are_decoded(request_: Request) -> None:
    state = SessionState(b"sessions")
    data = encode_turn(request_, state, ToyBundle(), Scenario.GENERIC)[0].data
    reader = Reader(data)
    reader.symbol(UP_ODDS)
    with pytest.raises(InvalidInputError, match="too much"):
        decode_turn(reader, len(data), state, ToyBundle(entropy=Untouched()), refuse)


def test_what_is_admitted_comes_out_as_it_was() -> None:
    seen: list[Claims] = []
    asked = Request(Task.INPAINT, text(5), image(), half_mask(), options=Options(steps=9))
    data = encode_request(asked, ToyBundle()).data
    found = decode_request(data, ToyBundle(), admit=seen.append).value
    assert found.options == asked.options
    assert seen == [Claims(Task.INPAINT, (16, 16), (16, 16), asked.options)]
