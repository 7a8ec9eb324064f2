"""Pixel codecs: round trips, what is counted as header, and rates that match."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edge_client.evaluation import codecs
from edge_client.evaluation.codecs import containers, registry
from edge_client.evaluation.codecs.base import Scaled
from edge_client.evaluation.metrics import psnr
from shared_protocol.errors import BadMessageError, ConfigError, ImageError, InvalidInputError

LEAST_PSNR = 28.0
"""dB at a codec's finest setting, on a picture without edges."""


def smooth(height: int = 64, width: int = 96) -> np.ndarray:
    """(H, W, 3) uint8: slow waves of colour, as a photograph out of focus."""
    y, x = np.mgrid[:height, :width] / 32.0
    waves = np.stack([np.sin(x + y), np.cos(1.3 * x), np.sin(0.7 * y - x)], axis=-1)
    return np.rint(128 + 90 * waves).astype(np.uint8)


@pytest.fixture(params=codecs.NAMES)
def codec(request: pytest.FixtureRequest) -> codecs.PixelCodec:
    if not codecs.available(request.param):
        pytest.skip(f"{request.param} is not available here")
    return codecs.find_codec(request.param)


def test_pictures_come_back_in_their_size_and_nearly_as_they_were(
    codec: codecs.PixelCodec,
) -> None:
    coded = codecs.encode(codec, smooth(), codec.settings[-1])
    pixels = coded.decode()
    assert pixels.shape == (64, 96, 3)
    assert pixels.dtype == np.uint8
    assert psnr(pixels, smooth()) > LEAST_PSNR


def test_finer_settings_take_more_bytes_and_are_nearer(codec: codecs.PixelCodec) -> None:
    coarse = codecs.encode(codec, smooth(), codec.settings[0])
    fine = codecs.encode(codec, smooth(), codec.settings[len(codec.settings) * 3 // 4])
    assert coarse.picture_bytes < fine.picture_bytes
    assert psnr(coarse.decode(), smooth()) < psnr(fine.decode(), smooth())


def test_the_header_does_not_depend_on_the_picture(codec: codecs.PixelCodec) -> None:
    setting = codec.settings[len(codec.settings) // 2]
    first, second = (codecs.encode(codec, p, setting) for p in (smooth(), smooth()[::-1].copy()))
    assert 0 <= first.header_bytes < len(first.payload)
    # Only JPEG's optimised Huffman tables follow the picture; they are left out all the same.
    slack = 120 if codec.name == "jpeg" else 0
    assert abs(first.header_bytes - second.header_bytes) <= slack


def test_bytes_that_are_no_picture_are_refused(codec: codecs.PixelCodec) -> None:
    payload = codec.encode(smooth(), codec.settings[0])
    for broken in (b"", b"no picture at all, but long enough", payload[:9]):
        with pytest.raises(BadMessageError):
            codec.decode(broken)


@pytest.mark.parametrize("name", ["jpeg", "webp", "jxl"])  # quick enough for every setting
def test_the_rate_that_matches_is_the_nearest_there_is(name: str) -> None:
    if not codecs.available(name):
        pytest.skip(f"{name} is not available here")
    codec = codecs.find_codec(name)
    sizes = [codecs.encode(codec, smooth(), setting).picture_bytes for setting in codec.settings]
    target = (min(sizes) + max(sizes)) / 3
    found = codecs.match_rate(codec, smooth(), target)
    assert found.reached
    nearest = min(abs(size - target) for size in sizes)
    assert abs(found.coded.picture_bytes - target) <= max(nearest, 0.05 * target)


def test_a_rate_below_the_coarsest_setting_says_what_is_needed() -> None:
    jpeg = codecs.find_codec("jpeg")
    found = codecs.match_rate(jpeg, smooth(), 5)
    least = codecs.encode(jpeg, smooth(), 1).picture_bytes
    assert (found.reached, found.least_bytes, found.coded.picture_bytes) == (False, least, least)


def test_shrinking_reaches_lower_rates_and_keeps_the_size_of_the_picture() -> None:
    jpeg = codecs.find_codec("jpeg")
    least = codecs.match_rate(jpeg, smooth(), 5).least_bytes
    found = codecs.match_rate(jpeg, smooth(), least - 5, shrink=True)
    assert found.reached
    assert found.shrunk
    assert found.least_bytes == least
    assert found.coded.decode().shape == (64, 96, 3)
    assert codecs.find_codec(found.coded.codec.name).decode(found.coded.payload).shape == (
        64,
        96,
        3,
    )


def test_nothing_reaches_one_byte_and_the_smallest_is_taken() -> None:
    found = codecs.match_rate(codecs.find_codec("jpeg"), smooth(), 1, shrink=True)
    assert not found.reached
    assert found.coded.picture_bytes < found.least_bytes


def test_a_codec_of_a_smaller_size_is_not_shrunk_again() -> None:
    found = codecs.match_rate(codecs.find_codec("jpeg/2"), smooth(), 1, shrink=True)
    assert found.coded.codec.name == "jpeg/2"


def test_a_target_that_is_not_positive_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="0 bytes"):
        codecs.match_rate(codecs.find_codec("jpeg"), smooth(), 0)


def test_a_shrunk_payload_is_read_by_its_own_factor_only() -> None:
    half = Scaled(codecs.find_codec("jpeg"), 2)
    payload = half.encode(smooth(), 50)
    assert half.header_bytes(payload) == codecs.find_codec("jpeg").header_bytes(payload[1:])
    with pytest.raises(BadMessageError):
        Scaled(codecs.find_codec("jpeg"), 4).decode(payload)
    with pytest.raises(ImageError, match="63x96"):
        half.encode(smooth(63), 50)


def test_unknown_and_missing_codecs_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no codec 'gif'"):
        codecs.find_codec("gif")
    with pytest.raises(ConfigError, match="no codec 'jpeg/x'"):
        codecs.find_codec("jpeg/x")
    monkeypatch.setitem(registry._MAKERS, "vvc", lambda: None)
    registry._made.cache_clear()
    try:
        assert not codecs.available("vvc")
        here, missing = codecs.find_codecs(["jpeg", "vvc"])
        with pytest.raises(ConfigError, match=r"vvc is not available here.*bench"):
            codecs.find_codec("vvc/2")
    finally:
        monkeypatch.undo()
        registry._made.cache_clear()
    assert ([one.name for one in here], missing) == (["jpeg"], ["vvc"])


def test_what_is_no_picture_is_not_coded() -> None:
    with pytest.raises(ImageError, match="float64"):
        codecs.encode(codecs.find_codec("jpeg"), smooth().astype(float), 50)


def test_the_header_of_a_jpeg_is_all_but_its_scans() -> None:
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "JPEG", quality=60)
    data = file.getvalue()
    start = data.index(b"\xff\xda")
    scan = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    assert containers.jpeg_header(data) == scan + 2  # the two of the end-of-image marker


def test_the_header_of_a_progressive_jpeg_counts_every_scan() -> None:
    plain, progressive = io.BytesIO(), io.BytesIO()
    Image.fromarray(smooth()).save(plain, "JPEG", quality=60)
    Image.fromarray(smooth()).save(progressive, "JPEG", quality=60, progressive=True)
    data = progressive.getvalue()
    assert data.count(b"\xff\xda") > 3
    picture = len(data) - containers.jpeg_header(data)
    plain_picture = len(plain.getvalue()) - containers.jpeg_header(plain.getvalue())
    assert 0.5 * plain_picture < picture < 1.5 * plain_picture


def test_boxes_and_chunks_are_counted_by_their_lengths() -> None:
    box = (12).to_bytes(4, "big") + b"ftypavif"
    mdat = (11).to_bytes(4, "big") + b"mdatabc"
    assert containers.isobmff_header(box + mdat) == len(box) + 8
    chunk = b"VP8 " + (3).to_bytes(4, "little") + b"abc\0"
    riff = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
    assert containers.webp_header(riff) == len(riff) - 3


def test_units_of_a_raw_stream_are_counted_by_their_type() -> None:
    stream = b"\0\0\0\1" + bytes([9, 9, 9]) + b"\0\0\1" + bytes([1, 7, 7, 7])
    assert containers.annex_b_header(stream, lambda unit: unit[0], {1}) == len(stream) - 4


@pytest.mark.parametrize(
    "read",
    [
        containers.jpeg_header,
        containers.webp_header,
        containers.isobmff_header,
        lambda data: containers.annex_b_header(data, lambda unit: 0, {0}),
    ],
)
def test_headers_of_other_bytes_are_refused(read) -> None:
    with pytest.raises(BadMessageError, match="8 bytes"):
        read(b"12345678")
