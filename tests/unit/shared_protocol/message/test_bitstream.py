from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bundle import ToyBundle, image, text

from shared_protocol.coding.text_codec import TextCoder
from shared_protocol.errors import (
    BadMagicError,
    BadMessageError,
    LimitError,
    TrailingBytesError,
    TruncatedError,
    UnsupportedVersionError,
)
from shared_protocol.message import bitstream
from shared_protocol.message.bitstream import EXT_TYPE, Frame, Limits, frame_length, pack, unpack
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import TABLE, Direction, Part, Scenario, Task
from shared_protocol.tokens import TokenMask

SPECIFICATION = Path(bitstream.__file__).parent / "BITSTREAM.md"
FRAMING_BYTES = 16
"""Most that container and lengths may take in messages of up to 65,535 bytes."""


def frame(**changes: object) -> Frame:
    fields: dict[str, object] = {
        "task": Task.INPAINT,
        "direction": Direction.UPLINK,
        "text_coder": TextCoder.PRIOR,
        "scenario": Scenario.MASKED,
        "fingerprint_prefix": b"\xab\xcd",
        "checksum": 0xDEADBEEF,
        "parameters": {0: (9, 20), 4: 70_000},
        "parts": {Part.TEXT: b"text", Part.MASK: b"mk", Part.IMAGE: b"image" * 20},
    }
    return Frame(**{**fields, **changes})  # type: ignore[arg-type]


def with_body(change: Callable[[bytearray], None], whole: Frame | None = None) -> bytes:
    """The bytes of a frame after `change` of its ext data (magic at 0, coders at 2)."""
    body = bytearray(msgpack.unpackb(pack(whole or frame())).data)
    change(body)
    return bytes(msgpack.packb(msgpack.ExtType(EXT_TYPE, bytes(body))))


def cells() -> st.SearchStrategy[Frame]:
    def build(cell: tuple[Task, Direction], data: list[bytes], extras: dict[int, int]) -> Frame:
        specs = TABLE[cell[0]].parts(cell[1])
        parts = [spec.part for spec in specs if not spec.optional]
        return frame(
            task=cell[0],
            direction=cell[1],
            text_coder=TextCoder.PACKED if Part.TEXT in parts else None,
            scenario=Scenario.GENERIC if Part.IMAGE in parts else None,
            parameters=extras,
            parts=dict(zip(parts, data, strict=False)),
        )

    data = st.lists(st.binary(max_size=300), min_size=3, max_size=3)
    extras = st.dictionaries(st.integers(0, 9), st.integers(0, 2**32 - 1), max_size=5)
    messages = [(task, direction) for task in TABLE for direction in Direction]
    return st.builds(build, st.sampled_from(messages), data, extras)


@given(cells())
@settings(max_examples=150, deadline=None)
def test_any_frame_comes_back(whole: Frame) -> None:
    assert unpack(pack(whole)) == whole


@given(cells())
@settings(max_examples=60, deadline=None)
def test_container_and_lengths_take_at_most_sixteen_bytes(whole: Frame) -> None:
    parts = list(whole.parts.values())
    coded = sum(map(len, parts)) + len(bitstream.pack_parameters(whole.parameters))
    long_parts = sum(len(part) > 127 for part in parts[:-1])
    assert len(pack(whole)) - coded <= FRAMING_BYTES + max(0, long_parts - 1)


PARTS = (Part.TEXT, Part.MASK, Part.IMAGE)
"""Of an inpainting that sends all its tokens."""


def test_the_header_is_as_specified() -> None:
    data = pack(frame(parameters={}, parts=dict.fromkeys(PARTS, b"")))
    assert data.hex() == "c70b55" + "4d" + "22" + "0a" + "abcd" + "deadbeef" + "00" + "00"


@pytest.mark.parametrize("size", [16 - 9, 100, 300, 70_000])
def test_a_message_is_one_msgpack_value(size: int) -> None:
    only = frame(
        task=Task.T2I,
        direction=Direction.DOWNLINK,
        text_coder=None,
        parameters={},
        parts={Part.IMAGE: bytes(size)},
    )
    value = msgpack.unpackb(pack(only))
    assert value.code == ord("U")
    assert value.data[:1] == b"M"
    assert unpack(pack(only)) == only


def test_a_message_cut_at_any_byte_is_truncated() -> None:
    data = pack(frame())
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            unpack(data[:end])


def test_bytes_after_a_message_are_refused() -> None:
    with pytest.raises(TrailingBytesError, match=r"^3 bytes follow the message"):
        unpack(pack(frame()) + b"\0\0\0")


def test_a_stream_of_messages_can_be_cut_as_bytes_trickle_in() -> None:
    sent = [pack(frame()), pack(frame(parts={p: bytes(9) for p in Part})), pack(frame())]
    buffer, received = b"", []
    for byte in b"".join(sent):
        buffer += bytes([byte])
        length = frame_length(buffer)
        if length is not None and len(buffer) == length:
            received.append(buffer)
            buffer = b""
    assert received == sent
    assert buffer == b""


def test_the_length_is_known_after_the_ext_header() -> None:
    data = pack(frame())
    assert [frame_length(data[:n]) for n in range(3)] == [None] * 3
    assert frame_length(data[:3]) == len(data)


@pytest.mark.parametrize(
    "data", [b"\x00", b"hello world, hello", b"\x81\xa1a\x01", b"\xc7\x10\x56M" + bytes(15)]
)
def test_other_bytes_have_the_wrong_magic(data: bytes) -> None:
    with pytest.raises(BadMagicError):
        unpack(data)


def test_a_wrong_inner_magic_is_refused() -> None:
    with pytest.raises(BadMagicError):
        unpack(with_body(lambda body: body.__setitem__(0, 0x4E)))


@pytest.mark.parametrize("version", [0, 1, 3, 15])
def test_another_version_is_refused_by_its_number(version: int) -> None:
    data = with_body(lambda body: body.__setitem__(1, version << 4 | body[1] & 15))
    with pytest.raises(UnsupportedVersionError, match=f"version {version} "):
        unpack(data)


@pytest.mark.parametrize("number", [5, 6, 7])
def test_an_undefined_task_is_refused(number: int) -> None:
    with pytest.raises(BadMessageError, match=f"no task {number}"):
        unpack(with_body(lambda body: body.__setitem__(1, 0x20 | number << 1)))


@pytest.mark.parametrize("bit", [0x80])
def test_reserved_bits_are_refused(bit: int) -> None:
    with pytest.raises(BadMessageError, match="reserved"):
        unpack(with_body(lambda body: body.__setitem__(2, body[2] | bit)))


@pytest.mark.parametrize("coders", [0x03, 5 << 2, 7 << 2])
def test_undefined_coders_are_refused(coders: int) -> None:
    with pytest.raises(BadMessageError):
        unpack(with_body(lambda body: body.__setitem__(2, coders)))


def test_a_coder_of_a_part_that_is_not_there_is_refused() -> None:
    only = frame(task=Task.T2I, scenario=None, parameters={}, parts={Part.TEXT: b"abcdefgh"})
    with pytest.raises(BadMessageError, match="does not have"):
        unpack(with_body(lambda body: body.__setitem__(2, body[2] | 1 << 2), only))


def test_an_error_names_the_length_of_the_whole_message() -> None:
    with pytest.raises(LimitError, match="a message of 4100 bytes is over the limit of 4096"):
        frame_length(bytes.fromhex("c8100055"), Limits(frame_bytes=4_096))


@pytest.mark.parametrize(
    "header",
    ["c9ffffffff55", "c90010000055", "c8ffff55", "c7ff55"],
)
def test_a_lying_length_is_an_error_before_anything_is_allocated(header: str) -> None:
    with pytest.raises((LimitError, TruncatedError)):
        unpack(bytes.fromhex(header) + b"M\x20\x00" + bytes(20), Limits(frame_bytes=4_096))


@pytest.mark.parametrize("header", ["c80010", "c800c8", "c90000ffff", "c710"])
def test_a_longer_ext_header_than_needed_is_refused(header: str) -> None:
    with pytest.raises(BadMessageError, match="ext header"):
        frame_length(bytes.fromhex(header + "55"))


def test_a_length_of_a_part_beyond_the_message_is_refused() -> None:
    def lie(body: bytearray) -> None:
        body[9] = 0x7F

    with pytest.raises(BadMessageError):
        unpack(with_body(lie, frame(parameters={})))


@pytest.mark.parametrize(
    "packed",
    [
        "80",  # empty map
        "90",  # not a map
        "8100c0",  # nil
        "8100c3",  # true
        "8100ff",  # negative
        "8100cb3ff0000000000000",  # float
        "81a16101",  # text key
        "8100a161",  # text value
        "81009190",  # list in a list
        "8104cc05",  # not the shortest form
        "8205000400",  # keys descending
        "820400",  # ends too early
        "8200010001",  # a key twice
        "df00ffffff00",  # sixteen million entries
        "8100dd00ffffff",  # sixteen million values
        "8100c6ffffffff",  # four gigabytes
        "8100" + "91" * 600 + "00",  # deep nesting
    ],
)
def test_parameters_in_any_other_form_are_refused(packed: str) -> None:
    def replace(body: bytearray) -> None:
        body[2] |= 0x20
        body[9:9] = bytes.fromhex(packed)

    with pytest.raises(BadMessageError):
        unpack(with_body(replace, frame(parameters={}, parts=dict.fromkeys(PARTS, b""))))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_typed_error_or_a_frame(data: bytes) -> None:
    body = b"\xc7" + bytes([len(data) + 2, EXT_TYPE]) + b"M\x22" + data
    for attempt in (data, body):
        with contextlib.suppress(BadMessageError):
            unpack(attempt)


def annotated() -> str:
    """The dump in BITSTREAM.md: an inpainting request on a 4x4 grid, byte by byte."""
    flags = np.zeros((4, 4), dtype=bool)
    flags[1:3, 1:3] = True
    options = Options(steps=12, seed=7)
    request = Request(Task.INPAINT, text(10, 11, 3), image(4, 4), TokenMask(flags), options=options)
    data = encode_request(request, ToyBundle(), Scenario.UNIFORM).data
    whole = unpack(data)
    extras = bitstream.pack_parameters(whole.parameters)
    rows: list[tuple[bytes, str]] = []
    fields = [
        (3, "ext 8, length, type 'U'"),
        (1, "magic 'M'"),
        (1, "version 2, task 1 (inpaint), direction 0 (uplink)"),
        (1, "text coder 2 (prior), scenario 0 (uniform), parameters present"),
        (2, "first bytes of the bundle's fingerprint"),
        (4, "CRC-32 of fingerprint, header, parameters and symbols"),
        (len(extras), "{0: [4, 4] grid, 2: 12 steps, 4: seed 7}"),
        (1, "length of the text part"),
        (len(whole.parts[Part.TEXT]), "text: ids 10, 11, 3 and the end"),
        (1, "length of the mask part"),
        (len(whole.parts[Part.MASK]), "mask: rectangle, rows 1-2, columns 1-2"),
        (len(whole.parts[Part.IMAGE]), "image: 12 codes of 13 bits, 4 bits of padding"),
    ]
    position = 0
    for length, meaning in fields:
        rows.append((data[position : position + length], meaning))
        position += length
    assert position == len(data)
    return _table(rows)


def _table(rows: list[tuple[bytes, str]]) -> str:
    lines, position = [], 0
    for piece, meaning in rows:
        for start in range(0, len(piece), 8):
            chunk = piece[start : start + 8].hex(" ")
            lines.append(
                f"{position + start:04x}  {chunk:<23}  {'' if start else meaning}".rstrip()
            )
        position += len(piece)
    return "\n".join(lines)


def test_the_annotated_dump_in_the_specification_is_what_the_code_writes() -> None:
    assert annotated() in SPECIFICATION.read_text(encoding="utf-8")


if __name__ == "__main__":
    print(annotated())
