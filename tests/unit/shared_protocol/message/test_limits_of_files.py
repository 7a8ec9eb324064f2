"""Messages and picture files that hold what theirs never hold."""

from __future__ import annotations

import dataclasses

import msgpack
import numpy as np
import pytest
from toy_bundle import CODEBOOK, TEXT_SIZE, ToyBundle, answer, image, requests

from shared_protocol.errors import (
    BadMessageError,
    InvalidInputError,
    LimitError,
    TokenRangeError,
    TruncatedError,
    UnsupportedVersionError,
)
from shared_protocol.message import bitstream, picture_file
from shared_protocol.message.codec import decode_response, encode_response
from shared_protocol.message.picture_file import (
    MAX_FILE,
    MAX_METADATA,
    Coding,
    FileAnatomy,
    inspect_picture,
    read_picture,
    write_picture,
)
from shared_protocol.tokens import ImageTokens
from shared_protocol.vocabulary import Vocabulary

BUNDLE = ToyBundle()
DURABLE = write_picture(image(4, 5), BUNDLE, Coding.DURABLE)


@pytest.mark.parametrize("name", ["t2i", "vqa"])
def test_a_reply_with_parameters_is_refused(name: str) -> None:
    request = requests()[name]
    data = encode_response(answer(request), request, BUNDLE).data
    frame = dataclasses.replace(bitstream.unpack(data), parameters={0: 5})
    with pytest.raises(BadMessageError, match="a downlink message has no parameters"):
        decode_response(bitstream.pack(frame), request, BUNDLE)
    assert decode_response(data, request, BUNDLE).value == answer(request)


@pytest.mark.parametrize("size", [5000, 8191])
def test_codes_beyond_a_codebook_that_is_no_power_of_two_are_refused(size: int) -> None:
    bundle = ToyBundle(vocabulary=Vocabulary(TEXT_SIZE, size))
    for code in (size - 1, size):
        data = write_picture(
            ImageTokens(np.full((2, 3), code, np.int32), CODEBOOK), BUNDLE, Coding.DURABLE
        )
        if code < size:
            assert int(read_picture(data, bundle).image.codes.max()) == code
        else:
            with pytest.raises(BadMessageError, match=rf"an image code is outside 0\.\.{size - 1}"):
                read_picture(data, bundle)
    with pytest.raises(TokenRangeError, match=f"codes are of 8192, the bundle's are of {size}"):
        write_picture(image(), bundle)


def test_a_file_over_the_limit_is_refused_by_its_length() -> None:
    with pytest.raises(UnsupportedVersionError, match="file version 0") as caught:
        read_picture(b"UMIC".ljust(MAX_FILE, b"\0"), BUNDLE)
    assert caught.value.remedy == "this release reads 1"
    with pytest.raises(LimitError, match="1,048,577 bytes is over the limit of 1,048,576"):
        read_picture(b"UMIC".ljust(MAX_FILE + 1, b"\0"), BUNDLE)


@pytest.mark.parametrize("flag", [4, 8])
def test_flags_of_later_versions_are_refused(flag: int) -> None:
    data = DURABLE[:4] + bytes([DURABLE[4] | flag]) + DURABLE[5:]
    with pytest.raises(BadMessageError, match=f"flags 0x{flag:x} that version 1 has not"):
        inspect_picture(data)


@pytest.mark.parametrize("side", [0, 65])
def test_grids_beyond_the_largest_are_refused(side: int) -> None:
    for grid in (bytes([side, 5]), bytes([4, side])):
        with pytest.raises(BadMessageError):
            inspect_picture(DURABLE[:9] + grid + DURABLE[11:])


def test_metadata_of_just_the_limit_are_taken() -> None:
    room = MAX_METADATA - len(msgpack.packb({"a": "x" * 65_000})) + 65_000
    data = write_picture(image(2, 2), BUNDLE, metadata={"a": "x" * room})
    assert read_picture(data, BUNDLE).anatomy.metadata == MAX_METADATA == 65_536
    with pytest.raises(InvalidInputError, match="the metadata take 65,537 bytes") as caught:
        write_picture(image(2, 2), BUNDLE, metadata={"a": "x" * (room + 1)})
    assert caught.value.remedy == "at most 65,536 fit"


@pytest.mark.parametrize("value", [-(2**63), 2**64 - 1, [], [0], ["a", "b"], ""])
def test_the_last_values_of_metadata_come_back(value: picture_file.Value) -> None:
    data = write_picture(image(2, 2), BUNDLE, metadata={"b": 1, "a": value})
    assert inspect_picture(data)[1] == {"a": value, "b": 1}


@pytest.mark.parametrize("value", [-(2**63) - 1, 2**64, [2**64], [True], [[1]], [1, "a"], None])
def test_the_first_values_beyond_are_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match="metadata 'a' is") as caught:
        write_picture(image(2, 2), BUNDLE, metadata={"a": value})  # type: ignore[dict-item]
    assert caught.value.remedy == "use text, whole numbers of 64 bits, and lists of either"


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"\x80", "the metadata are not a map with entries"),
        (b"\x91\x01", "the metadata are not a map with entries"),
        (b"\xc1", "the metadata cannot be read"),
        (b"\x82\xa1b\x01\xa1a\x01", "the metadata are not in their canonical form"),
        (b"\x81\xa1a\xcc\x01", "the metadata are not in their canonical form"),
        (b"\x81\xa1a\xc3", "metadata 'a' is bool"),
        (b"\x81\x01\x01", "metadata 1 is int"),
        (b"\x81\xa1a\xc4\x01x", "the metadata cannot be read"),
        (b"\x81\xa1a\xd4\x01x", "the metadata cannot be read"),
    ],
)
def test_metadata_that_no_writer_writes_are_refused(packed: bytes, said: str) -> None:
    head = DURABLE[:4] + bytes([DURABLE[4] | 2]) + DURABLE[5:11]
    with pytest.raises(BadMessageError, match=said):
        inspect_picture(head + bytes([len(packed)]) + packed + DURABLE[11:])


def test_a_file_says_how_many_bytes_it_needs_and_has() -> None:
    with pytest.raises(TruncatedError, match=f"a file of {len(DURABLE) - 1} bytes ends too early"):
        read_picture(DURABLE[:-1], BUNDLE)
    assert FileAnatomy(1, (1, 1), b"", None, 3, 4, 5).total == 12
    stored = read_picture(DURABLE, BUNDLE).anatomy
    assert (stored.version, stored.grid, stored.entropy, stored.uniform) == (1, (4, 5), None, 33)
    assert inspect_picture(DURABLE)[0].uniform is None
