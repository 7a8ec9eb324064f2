"""Pictures that keep their tokens: in a PNG, beside any picture, and when they are not believed."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_bundle import CODEBOOK, ToyBundle

from edge_client.pictures.carried_tokens import CHUNK, beside, find_chunk
from edge_client.pictures.geometry import Fit
from edge_client.pictures.outputs import destination, save_picture, save_source
from edge_client.pictures.sources import load_source, of_tokens
from shared_protocol.errors import BundleMismatchError
from shared_protocol.message.picture_file import Coding, write_picture
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens


class Tokenizer:
    """A token is drawn as one colour, and read as another."""

    stride = 16

    def tokenize(self, pixels: Pixels) -> ImageTokens:
        raise AssertionError("the tokens that are there must be used")

    def detokenize(self, tokens: ImageTokens) -> Pixels:
        grey = np.kron(tokens.codes % 251, np.ones((16, 16), dtype=np.int64))
        return np.stack([grey, grey // 2, 255 - grey], axis=2).astype(np.uint8)


class Bundle(ToyBundle):
    stride = 16

    def image_tokenizer(self) -> Tokenizer:
        return Tokenizer()


BUNDLE = Bundle()


def tokens(height: int = 16, width: int = 16) -> ImageTokens:
    codes = np.arange(height * width, dtype=np.int64).reshape(height, width) * 7919 % CODEBOOK
    return ImageTokens(codes, CODEBOOK)


def saved(path: Path, shape: tuple[int, int] = (16, 16)) -> Pixels:
    pixels = Tokenizer().detokenize(tokens(*shape))
    save_source(destination(path, path), of_tokens(tokens(*shape), BUNDLE, "a"))
    return pixels


@pytest.mark.parametrize("shape", [(16, 16), (16, 24), (9, 20)])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_saved_picture_gives_its_tokens_back(tmp_path, suffix, shape) -> None:
    saved(tmp_path / f"a{suffix}", shape)
    picture = load_source(tmp_path / f"a{suffix}", BUNDLE)
    assert picture.tokens == tokens(*shape)
    assert picture.grid(16) == shape
    assert "its tokens kept" in picture.description


def test_a_png_alone_carries_them(tmp_path) -> None:
    saved(tmp_path / "a.png")
    beside(tmp_path / "a.png").unlink()
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert load_source(tmp_path / "b.png", BUNDLE).tokens == tokens()


def test_a_token_file_is_a_picture_whatever_it_is_called(tmp_path) -> None:
    (tmp_path / "a.jpg").write_bytes(write_picture(tokens(), BUNDLE, Coding.DURABLE))
    picture = load_source(tmp_path / "a.jpg", BUNDLE)
    assert picture.tokens == tokens()
    assert np.array_equal(picture.pixels, Tokenizer().detokenize(tokens()))


def test_a_token_file_of_another_tokenizer_says_so(tmp_path) -> None:
    other = Bundle(tokenizer_fingerprint=bytes(32))
    (tmp_path / "a.umic").write_bytes(write_picture(tokens(), other, Coding.DURABLE))
    with pytest.raises(BundleMismatchError):
        load_source(tmp_path / "a.umic", BUNDLE)


def test_the_chunk_is_private_ancillary_and_unsafe_to_copy(tmp_path) -> None:
    saved(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert [bool(letter & 0x20) for letter in CHUNK] == [True, True, False, False]
    assert find_chunk(BytesIO(data)) is not None
    with Image.open(tmp_path / "a.png") as image:
        image.verify()


def edited(path: Path) -> None:
    """A program that changes a pixel and copies the chunk all the same."""
    chunk = find_chunk(BytesIO(path.read_bytes()))
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[3, 3] ^= 1
    save_picture(path, pixels, chunk)


def test_changed_pixels_are_not_taken_for_the_tokens(tmp_path) -> None:
    saved(tmp_path / "a.png")
    edited(tmp_path / "a.png")
    assert load_source(tmp_path / "a.png", BUNDLE).tokens is None


def test_a_file_beside_belongs_to_its_picture_only(tmp_path) -> None:
    saved(tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as image:
        image.save(tmp_path / "a.webp", lossless=True, method=0)
    assert load_source(tmp_path / "a.webp", BUNDLE).tokens is None


@pytest.mark.parametrize("place", [0, 10, 30, -1])
def test_a_damaged_chunk_is_left_out(tmp_path, place) -> None:
    saved(tmp_path / "a.png")
    beside(tmp_path / "a.png").unlink()
    chunk = bytearray(find_chunk(BytesIO((tmp_path / "a.png").read_bytes())) or b"")
    chunk[place] ^= 0x10
    pixels = Tokenizer().detokenize(tokens())
    save_picture(tmp_path / "a.png", pixels, bytes(chunk))
    assert load_source(tmp_path / "a.png", BUNDLE).tokens is None


def test_a_chunk_with_a_wrong_sum_or_cut_short_is_left_out(tmp_path) -> None:
    saved(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    place = data.index(CHUNK)
    assert find_chunk(BytesIO(data[: place + 20])) is None
    wrong = data[: place + 12] + bytes([data[place + 12] ^ 1]) + data[place + 13 :]
    assert find_chunk(BytesIO(wrong)) is None
    huge = data[: place - 4] + b"\xff\xff\xff\xff" + data[place:]
    assert find_chunk(BytesIO(huge)) is None
    assert zlib.crc32(b"") == 0


def test_another_bundle_or_another_fit_tokenises_anew(tmp_path) -> None:
    saved(tmp_path / "a.png")
    assert load_source(tmp_path / "a.png", Bundle(tokenizer_fingerprint=bytes(32))).tokens is None
    saved(tmp_path / "wide.png", (16, 24))
    assert load_source(tmp_path / "wide.png", BUNDLE, Fit.PAD).tokens is None


def test_without_tokens_nothing_is_left_in_the_picture_or_beside_it(tmp_path) -> None:
    path = tmp_path / "a.png"
    saved = save_source(destination(path, path), of_tokens(tokens(), BUNDLE, "a"), tokens=False)
    assert (saved.path, saved.tokens) == (path, None)
    assert find_chunk(BytesIO((tmp_path / "a.png").read_bytes())) is None
    assert not beside(tmp_path / "a.png").exists()
