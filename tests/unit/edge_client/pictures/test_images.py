"""Pictures of every kind, good and bad, become the tokenizer's pixels or a typed error."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from edge_fakes import FakeBundle
from PIL import Image

from edge_client.pictures.geometry import Fit, Geometry
from edge_client.pictures.images import load_picture
from edge_client.pictures.masks import box_mask, load_mask
from edge_client.pictures.opening import open_photo
from edge_client.pictures.outputs import check_folder, check_output, save_picture
from edge_client.pictures.sources import open_source
from shared_protocol.errors import ImageError, MaskError


@pytest.fixture
def gradient() -> Image.Image:
    """A 96x64 picture whose corners differ: left dark, right red, bottom green."""
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, 96).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 255, 64).astype(np.uint8)[:, None]
    return Image.fromarray(pixels)


def saved(folder: Path, image: Image.Image, name: str = "photo.png", **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def test_a_picture_of_the_right_size_is_passed_through_untouched(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    picture = load_picture(saved(tmp_path, Image.fromarray(pixels)), 256, 256)
    assert np.array_equal(picture.pixels, pixels)
    assert picture.description == "photo.png 256x256, as it is"


def test_a_landscape_is_resized_by_its_shorter_side_and_centre_cropped(
    tmp_path: Path, gradient: Image.Image
) -> None:
    picture = load_picture(saved(tmp_path, gradient), 32, 32)
    by_hand = gradient.resize((48, 32), Image.Resampling.BICUBIC).crop((8, 0, 40, 32))
    assert np.array_equal(picture.pixels, np.asarray(by_hand))
    assert picture.description == "photo.png 96x64, resized and centre-cropped to 32x32"


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [
        ((4032, 3024), (341, 256), (42, 0)),
        ((3024, 4032), (256, 341), (0, 42)),
        ((500, 333), (384, 256), (64, 0)),
        ((257, 256), (257, 256), (0, 0)),
        ((100, 100), (256, 256), (0, 0)),
    ],
)
def test_the_crop_is_torchvisions(
    size: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    geometry = Geometry(size, (256, 256))
    assert (geometry.resized, geometry.corner) == (resized, corner)


def test_padding_keeps_the_whole_picture_and_says_so(tmp_path: Path, gradient: Image.Image) -> None:
    picture = load_picture(saved(tmp_path, gradient), 48, 48, Fit.PAD)
    assert (picture.pixels[:8] == 255).all()
    assert (picture.pixels[-8:] == 255).all()
    assert not (picture.pixels[8:-8] == 255).all()
    assert picture.description.endswith("resized and padded with white to 48x48")


def test_stretching_uses_every_pixel(tmp_path: Path, gradient: Image.Image) -> None:
    picture = load_picture(saved(tmp_path, gradient), 48, 48, Fit.STRETCH)
    assert picture.pixels[0, 0, 0] < 10
    assert picture.pixels[0, -1, 0] > 245
    assert "stretched to 48x48" in picture.description


def test_a_small_picture_is_enlarged_and_says_so(tmp_path: Path) -> None:
    picture = load_picture(saved(tmp_path, Image.new("RGB", (16, 20), (9, 9, 9))), 32, 32)
    assert "enlarged and centre-cropped" in picture.description


def test_exif_rotation_is_applied_and_said(tmp_path: Path, gradient: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    path = saved(tmp_path, gradient, exif=exif)
    picture = load_picture(path, 32, 32)
    upright = gradient.transpose(Image.Transpose.ROTATE_270)
    assert picture.geometry.source == (64, 96)
    assert np.array_equal(picture.pixels, load_picture(saved(tmp_path, upright), 32, 32).pixels)
    assert "photo.png 64x96, rotated by EXIF, resized" in picture.description


def test_damaged_exif_does_not_hide_a_good_picture(tmp_path: Path, gradient: Image.Image) -> None:
    path = saved(tmp_path, gradient, "photo.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert load_picture(path, 32, 32).pixels.shape == (32, 32, 3)


def test_transparency_is_laid_on_white_and_said(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 16, 32))
    picture = load_picture(saved(tmp_path, image), 32, 32)
    assert tuple(picture.pixels[5, 25]) == (255, 255, 255)
    assert tuple(picture.pixels[5, 5]) == (0, 0, 255)
    assert "transparency laid on white" in picture.description


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 250, 10, 10])
    picture = load_picture(saved(tmp_path, image, transparency=1), 32, 32)
    assert (picture.pixels == 255).all()


@pytest.mark.parametrize(
    ("mode", "colour", "seen", "said"),
    [
        ("L", 77, (77, 77, 77), "grey converted to RGB"),
        ("1", 1, (255, 255, 255), "black and white converted"),
        ("P", 0, (0, 0, 0), "palette converted"),
        ("CMYK", (0, 255, 255, 0), (254, 0, 0), "CMYK converted"),
    ],
)
def test_other_colour_modes_are_converted_and_said(
    tmp_path: Path, mode: str, colour: object, seen: tuple[int, ...], said: str
) -> None:
    image = Image.new(mode, (32, 32), colour)  # type: ignore[arg-type]
    name = "photo.jpg" if mode == "CMYK" else "photo.png"
    picture = load_picture(saved(tmp_path, image, name), 32, 32)
    assert np.abs(picture.pixels[0, 0].astype(int) - seen).max() <= 2
    assert said in picture.description


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    deep = np.full((32, 32), 32896, dtype=np.uint16)  # 128 * 257
    picture = load_picture(saved(tmp_path, Image.fromarray(deep)), 32, 32)
    assert (picture.pixels == 128).all()
    assert "16-bit grey reduced to 8 bits" in picture.description


def test_only_the_first_frame_of_an_animation_is_used(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    path = saved(tmp_path, frames[0], "a.webp", save_all=True, append_images=frames[1:])
    assert "first frame only" in load_picture(path, 32, 32).description


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_a_tiny_picture_is_enlarged_and_that_is_told(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = load_picture(saved(tmp_path, Image.new("RGB", size)), 256, 256)
    assert picture.pixels.shape == (256, 256, 3)
    told = " ".join(picture.told(16))
    assert f"only {size[0]}x{size[1]} pixels" in told
    assert f"enlarged {256 / min(size):.0f} times" in told


def test_an_endless_strip_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="too narrow"):
        load_picture(saved(tmp_path, Image.new("1", (16, 9000))), 256, 256)


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims many pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) * 2


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    with pytest.raises(ImageError, match=r"of such a PNG|more than the 450 MiB"):
        load_picture(path, 256, 256)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="cut"):
        load_picture(path, 32, 32)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"hello, I am text", "is a text file"),
        (b'{"error": "not found"}', "is a text file"),
        (bytes(range(256)), "is not a picture"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=complaint):
        load_picture(path, 32, 32)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"there is no file .*none\.png"):
        load_picture(tmp_path / "none.png", 32, 32)
    with pytest.raises(ImageError, match="is a folder"):
        load_picture(tmp_path, 32, 32)


def test_a_mask_takes_the_same_way_as_its_photo(tmp_path: Path, gradient: Image.Image) -> None:
    picture = load_picture(saved(tmp_path, gradient), 32, 32)
    mask = Image.new("L", gradient.size, 0)
    mask.paste(255, (40, 10, 70, 40))
    from_file = load_mask(saved(tmp_path, mask, "mask.png"), picture)
    assert from_file.shape == (32, 32)
    assert np.array_equal(from_file, box_mask([(40, 10, 30, 30)], picture))
    assert from_file[12, 18] == 255
    assert from_file[30, 2] == 0


def test_a_mask_of_another_shape_is_refused_with_both_sizes(
    tmp_path: Path, gradient: Image.Image
) -> None:
    picture = load_picture(saved(tmp_path, gradient), 32, 32)
    mask = saved(tmp_path, Image.new("L", (64, 64)), "mask.png")
    with pytest.raises(MaskError, match=r"mask\.png is 64x64, the photo photo\.png 96x64"):
        load_mask(mask, picture)


def test_a_mask_of_the_same_shape_may_be_smaller(tmp_path: Path, gradient: Image.Image) -> None:
    picture = load_picture(saved(tmp_path, gradient), 32, 32)
    mask = saved(tmp_path, Image.new("L", (48, 32), 255), "mask.png")
    assert (load_mask(mask, picture) == 255).all()


def test_transparent_parts_of_a_mask_keep_the_photo(tmp_path: Path, gradient: Image.Image) -> None:
    picture = load_picture(saved(tmp_path, gradient), 32, 32)
    mask = Image.new("RGBA", gradient.size, (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (0, 0, 48, 64))
    pixels = load_mask(saved(tmp_path, mask, "mask.png"), picture)
    assert (pixels[:, :14] == 255).all()
    assert (pixels[:, 18:] == 0).all()


def test_padding_is_never_regenerated(tmp_path: Path, gradient: Image.Image) -> None:
    picture = load_picture(saved(tmp_path, gradient), 48, 48, Fit.PAD)
    pixels = box_mask([(0, 0, 96, 64)], picture)
    assert (pixels[:8] == 0).all()
    assert (pixels[8:-8] == 255).all()


@pytest.mark.parametrize("box", [(100, 0, 10, 10), (0, 0, 0, 10), (-20, 0, 10, 10)])
def test_a_box_beside_the_photo_is_refused(
    tmp_path: Path, gradient: Image.Image, box: tuple[int, int, int, int]
) -> None:
    picture = load_picture(saved(tmp_path, gradient), 32, 32)
    with pytest.raises(MaskError, match=r"covers nothing.*96x64"):
        box_mask([box], picture)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_a_saved_picture_reads_back_without_metadata(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    save_picture(tmp_path / name, pixels)
    with Image.open(tmp_path / name) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels)
        assert not image.getexif()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_output_paths_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"'a\.txt'.*\.png"):
        check_output(tmp_path / "a.txt")
    with pytest.raises(ImageError, match="cannot write into"):
        check_output(tmp_path / "missing" / "a.png")
    (tmp_path / "b.umic").mkdir()
    with pytest.raises(ImageError, match="is a folder"):
        check_folder(tmp_path / "b.umic")


def test_heic_pictures_are_read_with_the_extra(tmp_path: Path, gradient: Image.Image) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    path = saved(tmp_path, gradient, "photo.heic", quality=95)
    picture = load_picture(path, 64, 96)
    assert np.abs(picture.pixels.astype(int) - np.asarray(gradient).astype(int)).mean() < 6


def test_heic_pictures_name_the_extra_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(64))
    with pytest.raises(ImageError, match=r"HEIC picture.*pip install pillow-heif"):
        load_picture(path, 32, 32)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x00\x00\x00\x20ftypisom", "a video"),
        (b"8BPS\x00\x01", "a Photoshop document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\xef\xbb\xbf <!DOCTYPE HTML>", "a web page"),
        (b"<?xml version='1.0'?>\n<svg xmlns=''/>", "a vector drawing"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ],
)
def test_what_a_stranger_is_is_said_where_it_can_be_told(
    tmp_path: Path, head: bytes, what: str
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(head + bytes(100))
    with pytest.raises(ImageError, match=what) as failure:
        load_picture(path, 32, 32)
    assert failure.value.remedy


@pytest.mark.parametrize("path", ["nul\0byte.png", "x" * 300, "none.png", "a/b/c.png"])
def test_odd_names_are_refused_as_names(path: str) -> None:
    with pytest.raises(ImageError, match=r"there is no file|cannot read"):
        load_picture(Path(path), 32, 32)


def test_a_huge_jpeg_is_read_at_a_part_of_its_size_and_not_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient: Image.Image
) -> None:
    big = gradient.resize((960, 640))
    path = saved(tmp_path, big, "big.jpg")
    whole = load_picture(path, 32, 32).pixels.astype(int)
    monkeypatch.setattr("edge_client.pictures.opening.picture_bytes", lambda: 1_300_000)
    monkeypatch.setattr("edge_client.pictures.opening.memory_for_pictures", nullcontext)
    picture = load_picture(path, 32, 32)
    assert "read at 480x320" in picture.description
    assert picture.geometry.source == (960, 640)
    assert np.abs(picture.pixels.astype(int) - whole).mean() < 2
    with pytest.raises(ImageError, match=r"960x640, over the 260,000 pixels of such a PNG"):
        load_picture(saved(tmp_path, big, "big.png"), 32, 32)
    with pytest.raises(ImageError, match=r"over the 104,838 pixels.*full size.*--native"):
        open_photo(path, whole=True)


def test_a_pipe_a_device_and_a_dead_link_are_told_and_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "dead.png").symlink_to("nowhere.png")
    for path in (tmp_path / "fifo.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="is no regular file"):
            open_source(path, FakeBundle())
    with pytest.raises(ImageError, match="is a link to nothing"):
        open_source(tmp_path / "dead.png", FakeBundle())


@pytest.mark.parametrize("name", ["file:///tmp/a.png", "https://e.org/a.png", "data:image/png;x"])
def test_addresses_are_told_with_what_to_do(name: str) -> None:
    with pytest.raises(ImageError, match="is an address") as failure:
        open_source(Path(name), FakeBundle())
    assert failure.value.remedy
