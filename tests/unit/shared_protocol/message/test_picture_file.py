"""Picture files: written, read, damaged, and read after the rest of the bundle has changed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bundle import CODEBOOK, GOLDEN, ToyBundle, image, requests

from shared_protocol.errors import (
    BadMagicError,
    BadMessageError,
    BundleMismatchError,
    ChecksumError,
    InvalidInputError,
    TokenRangeError,
    TrailingBytesError,
    TruncatedError,
    UnsupportedVersionError,
)
from shared_protocol.message import picture_file
from shared_protocol.message.codec import encode_request
from shared_protocol.message.picture_file import (
    Coding,
    Metadata,
    inspect_picture,
    read_picture,
    write_picture,
)
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import ImageTokens

BUNDLE = ToyBundle()
SPECIFICATION = Path(picture_file.__file__).parent / "FILE.md"
METADATA: Metadata = {
    "photo_sha256": hashlib.sha256(b"photo").hexdigest(),
    "photo_size": [4032, 3024],
    "prompt": "a fox, naïve",
    "seed": 2**32 - 1,
}
FILES = {
    "durable": write_picture(image(4, 5), BUNDLE, Coding.DURABLE),
    "smallest": write_picture(image(), BUNDLE),
    "described": write_picture(image(4, 4), BUNDLE, Coding.DURABLE, {"seed": 7, "prompt": "fox"}),
}
each_file = pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())


@pytest.mark.parametrize("coding", Coding)
@pytest.mark.parametrize("grid", [(16, 16), (1, 1), (64, 64), (9, 20)])
def test_a_picture_comes_back_from_its_file(grid: tuple[int, int], coding: Coding) -> None:
    data = write_picture(image(*grid), BUNDLE, coding, METADATA)
    stored = read_picture(data, BUNDLE)
    assert stored.image == image(*grid)
    assert stored.metadata == METADATA
    assert stored.anatomy.total == len(data)
    known, metadata = inspect_picture(data)
    assert dataclasses.replace(stored.anatomy, uniform=None) == known
    assert metadata == METADATA


def test_the_envelope_takes_seventeen_bytes_and_the_name_of_a_model_four_more() -> None:
    durable = read_picture(write_picture(image(), BUNDLE, Coding.DURABLE), BUNDLE).anatomy
    assert (durable.envelope, durable.metadata, durable.image) == (17, 0, 416)
    smallest = read_picture(write_picture(image(), BUNDLE), BUNDLE).anatomy
    assert smallest.entropy is not None
    assert smallest.envelope == 21
    assert smallest.image < durable.image
    assert smallest.uniform == 416


def test_what_a_model_would_make_longer_is_written_plainly() -> None:
    noise = ImageTokens(np.random.default_rng(0).integers(0, CODEBOOK, (16, 16)), CODEBOOK)
    assert write_picture(noise, BUNDLE) == write_picture(noise, BUNDLE, Coding.DURABLE)


def test_a_durable_file_outlives_everything_but_the_tokenizer() -> None:
    durable = write_picture(image(), BUNDLE, Coding.DURABLE)
    smallest = write_picture(image(), BUNDLE)
    retrained = ToyBundle(
        fingerprint=hashlib.sha256(b"after training").digest(), entropy_name=b"new models"
    )
    assert read_picture(durable, retrained).image == image()
    with pytest.raises(BundleMismatchError, match="durable files need no entropy model"):
        read_picture(smallest, retrained)
    without = ToyBundle(entropy_name=b"")
    assert read_picture(durable, without).image == image()
    with pytest.raises(
        BundleMismatchError, match=r"the bundle toy here has none.*edge-client fetch"
    ):
        read_picture(smallest, without)


def test_a_file_of_another_tokenizer_is_refused_by_both_names() -> None:
    other = ToyBundle(tokenizer_fingerprint=hashlib.sha256(b"other").digest())
    for data in FILES.values():
        with pytest.raises(BundleMismatchError) as caught:
            read_picture(data, other)
        for bundle in (BUNDLE, other):
            assert bundle.tokenizer_fingerprint[:4].hex() in str(caught.value)
        assert "the bundle toy here" in caught.value.message
        assert "--bundle; 'edge-client fetch'" in caught.value.remedy


def test_a_tokenizer_with_the_same_first_bytes_is_found_out_by_the_checksum() -> None:
    twin = ToyBundle(tokenizer_fingerprint=BUNDLE.tokenizer_fingerprint[:4] + bytes(28))
    with pytest.raises(ChecksumError):
        read_picture(FILES["durable"], twin)


def test_without_a_model_every_file_is_durable() -> None:
    bare = ToyBundle(entropy_name=b"")
    assert write_picture(image(), bare) == write_picture(image(), bare, Coding.DURABLE)


@each_file
def test_every_truncation_is_refused(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            read_picture(data[:end], BUNDLE)
        with pytest.raises(TruncatedError):
            inspect_picture(data[:end])


@each_file
def test_every_flipped_bit_is_refused(data: bytes) -> None:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((BadMessageError, BundleMismatchError)):
            read_picture(bytes(damaged), BUNDLE)


@given(st.sampled_from(list(FILES.values())), st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_gives_a_typed_error(data: bytes, draw: st.DataObject) -> None:
    body = bytearray(data)
    start = draw.draw(st.integers(0, len(data) - 1))
    stop = draw.draw(st.integers(start, len(data)))
    body[start:stop] = draw.draw(st.binary(max_size=20))
    try:
        read_picture(bytes(body), BUNDLE)
    except (BadMessageError, BundleMismatchError):
        return
    assert bytes(body) == data


@each_file
def test_bytes_after_a_file_are_refused(data: bytes) -> None:
    with pytest.raises(TrailingBytesError, match=r"^3 bytes follow the file"):
        read_picture(data + b"\0\0\0", BUNDLE)


def test_other_bytes_and_other_versions_are_told_apart() -> None:
    with pytest.raises(BadMagicError):
        read_picture(b"\x89PNG\r\n", BUNDLE)
    later = bytearray(FILES["durable"])
    later[4] += 0x10
    with pytest.raises(UnsupportedVersionError, match="file version 2"):
        read_picture(bytes(later), BUNDLE)
    message = encode_request(requests()["vqa"], BUNDLE).data
    with pytest.raises(UnsupportedVersionError, match="encode the picture again"):
        read_picture(message, BUNDLE)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": 1.5},
        {"a": None},
        {"a": [1, "b"]},
        {"a": {"b": 1}},
        {"a": b"bytes"},
        {"a": True},
        {"a": 2**64},
        {3: "a"},
        {"a": "x" * 70_000},
    ],
)
def test_metadata_of_another_kind_or_size_are_refused(metadata: Metadata) -> None:
    with pytest.raises(InvalidInputError, match="metadata"):
        write_picture(image(), BUNDLE, metadata=metadata)


def test_keys_of_later_versions_are_kept() -> None:
    metadata: Metadata = {"from_the_future": ["a", "b"]}
    assert read_picture(write_picture(image(), BUNDLE, metadata=metadata), BUNDLE).metadata == (
        metadata
    )


def test_codes_of_another_codebook_are_refused() -> None:
    with pytest.raises(TokenRangeError):
        write_picture(ImageTokens(np.zeros((4, 4), dtype=int), 64), BUNDLE)


@pytest.mark.parametrize("name", FILES)
def test_golden_files_never_change(name: str) -> None:
    golden = (GOLDEN / "files" / f"{name}.hex").read_text(encoding="ascii")
    assert FILES[name] == bytes.fromhex(golden), "changed bytes mean a new file version"


def annotated() -> str:
    """The dump in FILE.md: the golden file with metadata, byte by byte."""
    data = FILES["described"]
    fields = [
        (4, "magic 'UMIC'"),
        (1, "version 1, flags: metadata"),
        (4, "first bytes of the tokenizer's fingerprint"),
        (2, "4 rows, 4 columns"),
        (1, "length of the metadata"),
        (data[11], "{'prompt': 'fox', 'seed': 7}"),
        (1, "length of the codes"),
        (26, "16 codes of 13 bits"),
        (4, "CRC-32"),
    ]
    lines, position = [], 0
    for length, meaning in fields:
        for start in range(position, position + length, 8):
            chunk = data[start : min(start + 8, position + length)].hex(" ")
            said = meaning if start == position else ""
            lines.append(f"{start:04x}  {chunk:<23}  {said}".rstrip())
        position += length
    assert position == len(data)
    return "\n".join(lines)


def test_the_annotated_dump_in_the_specification_is_what_the_code_writes() -> None:
    assert annotated() in SPECIFICATION.read_text(encoding="utf-8")


def test_the_toy_bundle_codes_pictures_with_a_model_of_its_own() -> None:
    assert BUNDLE.entropy_fingerprint(Scenario.GENERIC)


if __name__ == "__main__":
    print(annotated())
