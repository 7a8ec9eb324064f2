"""Messages that are damaged, foreign, forged or of another version, and golden ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bundle import (
    GOLDEN,
    ToyBundle,
    answer,
    requests,
)

from shared_protocol.errors import (
    BadMessageError,
    BundleMismatchError,
    ChecksumError,
    LabelsMismatchError,
    TrailingBytesError,
    TruncatedError,
)
from shared_protocol.message import bitstream
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    inspect,
)
from shared_protocol.messages import Request
from shared_protocol.tokens import KnownTokens

REQUESTS = requests()
REFUSALS = (BadMessageError, BundleMismatchError, LabelsMismatchError)
"""Labels begin with two bytes of the name of their set, which damage may turn into another's."""
Decoder = Callable[[bytes], object]


@pytest.fixture(scope="module")
def bundle() -> ToyBundle:
    return ToyBundle()


def messages() -> list[tuple[str, bytes, Decoder]]:
    """Every kind of message with the decoder that it is meant for."""
    toy = ToyBundle()
    found: list[tuple[str, bytes, Decoder]] = []
    for name, request in REQUESTS.items():
        up = encode_request(request, toy).data
        down = encode_response(answer(request), request, toy).data
        found.append((f"{name}.uplink", up, lambda data: decode_request(data, toy).value))
        found.append(
            (
                f"{name}.downlink",
                down,
                lambda data, request=request: decode_response(data, request, toy).value,
            )
        )
    known = left_half(REQUESTS["inpaint"])
    data = encode_request(REQUESTS["inpaint"], toy, known=known).data
    found.append(
        ("inpaint_known.uplink", data, lambda data: decode_request(data, toy, known).value)
    )
    return found


def left_half(request: Request) -> KnownTokens:
    assert request.image is not None
    flags = np.zeros(request.image.shape, dtype=bool)
    flags[:, : flags.shape[1] // 2] = True
    return KnownTokens(request.image.codes, flags)


MESSAGES = messages()
each_message = pytest.mark.parametrize(
    ("data", "decode"), [m[1:] for m in MESSAGES], ids=[m[0] for m in MESSAGES]
)


@pytest.mark.parametrize(("name", "data"), [m[:2] for m in MESSAGES], ids=[m[0] for m in MESSAGES])
def test_golden_messages_never_change(name: str, data: bytes) -> None:
    golden = (GOLDEN / "bitstream" / f"{name}.hex").read_text(encoding="ascii")
    assert data == bytes.fromhex(golden), "changed bytes mean a new format version"


@each_message
def test_a_message_cut_at_any_byte_is_truncated(data: bytes, decode: Decoder) -> None:
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            decode(data[:end])


@each_message
def test_bytes_after_a_message_are_refused(data: bytes, decode: Decoder) -> None:
    with pytest.raises(TrailingBytesError, match=r"^3 bytes follow the message"):
        decode(data + b"\0\0\0")


@each_message
def test_a_flipped_bit_is_refused_or_changes_nothing(data: bytes, decode: Decoder) -> None:
    sent = decode(data)
    for position in [*range(min(40, len(data))), len(data) // 2, len(data) - 1]:
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            try:
                received = decode(bytes(damaged))
            except REFUSALS:
                continue
            assert repr(received) == repr(sent)


@given(st.sampled_from(MESSAGES), st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_gives_a_typed_error(
    message: tuple[str, bytes, Decoder], draw: st.DataObject
) -> None:
    _, data, decode = message
    body = bytearray(data)
    start = draw.draw(st.integers(0, len(data) - 1))
    stop = draw.draw(st.integers(start, len(data)))
    body[start:stop] = draw.draw(st.binary(max_size=20))
    try:
        decode(bytes(body))
    except REFUSALS:
        return


def test_another_bundle_is_named_with_the_remedy(bundle: ToyBundle) -> None:
    other = dataclasses.replace(bundle, fingerprint=bytes(32))
    data = encode_request(REQUESTS["t2i"], bundle).data
    with pytest.raises(BundleMismatchError) as caught:
        decode_request(data, other)
    assert bundle.fingerprint[:2].hex() in str(caught.value)
    assert "0000" in str(caught.value)
    assert "same bundle" in str(caught.value)


def test_a_bundle_with_the_same_prefix_is_found_out_by_the_checksum(bundle: ToyBundle) -> None:
    twin = dataclasses.replace(bundle, fingerprint=bundle.fingerprint[:2] + bytes(30))
    with pytest.raises(ChecksumError):
        decode_request(encode_request(REQUESTS["t2i"], bundle).data, twin)


@each_message
def test_inspect_tells_lengths_without_a_bundle(data: bytes, decode: Decoder) -> None:
    anatomy = inspect(data)
    assert anatomy.sizes.total == len(data)
    assert anatomy.counts is None
    assert anatomy.version == 2


@pytest.mark.parametrize(
    "parameters",
    [
        {0: (0, 16)},
        {0: (65, 16)},
        {0: (16,)},
        {0: 16},
        {2: 0},
        {2: (1, 2)},
        {3: 10_000},
        {4: 2**33},
        {6: 9},
        {7: 1},
        {1: (1, 0, 0, 0)},
    ],
)
def test_parameters_out_of_range_are_bad_messages(
    parameters: dict[int, int], bundle: ToyBundle
) -> None:
    frame = bitstream.unpack(encode_request(REQUESTS["vqa"], bundle).data)
    forged = bitstream.pack(dataclasses.replace(frame, parameters=parameters))
    with pytest.raises(BadMessageError):
        decode_request(forged, bundle)
