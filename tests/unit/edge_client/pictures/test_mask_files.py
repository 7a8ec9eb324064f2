"""Masks as people make them: opacity, brightness, colours, shapes, turned photos, soft edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_client.pictures.geometry import Geometry, Span
from edge_client.pictures.images import Picture
from edge_client.pictures.mask_files import (
    Mask,
    draw_shapes,
    load_mask_file,
    parse_shape,
)
from edge_client.pictures.masks import lost_share, placed
from edge_client.pictures.opening import Photo, open_photo
from shared_protocol.errors import MaskError

SIZE = (320, 256)


def photo(size: tuple[int, int] = SIZE, orientation: int = 1) -> Photo:
    noise = np.random.default_rng(3).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Photo("photo.jpg", Image.fromarray(noise), size, orientation=orientation)


def mask(folder: Path, image: Image.Image, of: Photo | None = None, **options: object) -> Mask:
    path = folder / "mask.png"
    image.save(path)
    return load_mask_file(path, of or photo(), **options)  # type: ignore[arg-type]


def layer(colour: tuple[int, int, int], opacity: int = 255) -> Image.Image:
    image = Image.new("RGBA", SIZE, (*colour, 0))
    image.paste((*colour, opacity), (64, 64, 128, 128))
    return image


def lit(found: Mask) -> tuple[float, ...] | None:
    return found.span(SIZE)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (255, 0, 0), (9, 99, 9)])
def test_on_a_transparent_layer_paint_is_the_mask_whatever_its_colour(
    tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    found = mask(tmp_path, layer(colour))
    assert lit(found) == (64, 64, 128, 128)
    assert found.warnings == ()


def test_an_opaque_picture_with_an_alpha_channel_is_read_by_brightness(tmp_path: Path) -> None:
    image = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    image.paste((255, 255, 255, 255), (64, 64, 128, 128))
    assert lit(mask(tmp_path, image)) == (64, 64, 128, 128)


@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_white_may_be_written_in_any_way(tmp_path: Path, white: int, kind: str) -> None:
    if kind == "u1" and white > 255:
        return
    values = np.zeros((SIZE[1], SIZE[0]), dtype=kind)
    values[64:128, 64:128] = white
    found = mask(tmp_path, Image.fromarray(values))
    assert (lit(found), found.brightest) == ((64, 64, 128, 128), 255)


def test_an_index_mask_is_read_by_its_indices_where_its_palette_is_dark(tmp_path: Path) -> None:
    image = Image.new("P", SIZE, 0)
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.paste(1, (64, 64, 128, 128))
    assert lit(mask(tmp_path, image)) == (64, 64, 128, 128)


def test_a_coloured_mask_is_warned_of_and_its_darkness_named(tmp_path: Path) -> None:
    image = Image.new("RGB", SIZE, (0, 0, 0))
    image.paste((255, 0, 0), (64, 64, 128, 128))
    found = mask(tmp_path, image)
    assert "is coloured: its brightness decides" in found.warnings[0]
    picture = Picture("photo.jpg", np.zeros((256, 256, 3), np.uint8), Geometry(SIZE, (256, 256)))
    with pytest.raises(MaskError, match=r"brightest value is 76.*128 to 255.*threshold to 76"):
        placed(found, picture, 16)


def test_a_grey_mask_in_a_colour_file_is_not_called_coloured(tmp_path: Path) -> None:
    assert mask(tmp_path, Image.new("RGB", SIZE, (255, 255, 255))).warnings == ()


def test_the_photo_itself_as_a_mask_is_recognised(tmp_path: Path) -> None:
    of = photo()
    told = mask(tmp_path, of.image.resize((160, 128)), of).warnings
    assert told == ("the mask mask.png looks like the photo itself; paint it black and white",)


def test_the_threshold_moves_the_border(tmp_path: Path) -> None:
    image = Image.new("L", SIZE, 0)
    image.paste(90, (64, 64, 128, 128))
    picture = Picture("photo.jpg", np.zeros((256, 256, 3), np.uint8), Geometry(SIZE, (256, 256)))
    with pytest.raises(MaskError, match="lower --mask-threshold to 90"):
        placed(mask(tmp_path, image), picture, 16)
    tokens, _ = placed(mask(tmp_path, image, threshold=90), picture, 16)
    assert tokens.count == 16


def test_black_is_refused_with_the_way_to_invert(tmp_path: Path) -> None:
    picture = Picture("photo.jpg", np.zeros((256, 256, 3), np.uint8), Geometry(SIZE, (256, 256)))
    with pytest.raises(MaskError, match=r"brightest value is 0.*--invert-mask"):
        placed(mask(tmp_path, Image.new("L", SIZE)), picture, 16)


def test_a_gradient_is_soft_and_a_smoothed_stroke_is_not(tmp_path: Path) -> None:
    from PIL import ImageFilter

    hard = Image.new("L", SIZE, 0)
    hard.paste(255, (64, 64, 192, 192))
    assert not mask(tmp_path, hard).soft
    assert not mask(tmp_path, hard.filter(ImageFilter.GaussianBlur(1))).soft
    assert mask(tmp_path, hard.filter(ImageFilter.GaussianBlur(25))).soft


def test_thin_strokes_are_repainted_where_they_touch(tmp_path: Path) -> None:
    of = photo((4000, 3000))
    image = Image.new("L", (4000, 3000))
    image.paste(255, (1000, 1500, 3000, 1503))
    picture = Picture("photo.jpg", np.zeros((256, 256, 3), np.uint8), Geometry(of.size, (256, 256)))
    tokens, told = placed(mask(tmp_path, image, of), picture, 16)
    assert tokens.count == len(range(2, 14))
    assert "thinner than a token" in told[0]


def test_what_of_a_mask_lies_outside_of_the_crop_is_counted(tmp_path: Path) -> None:
    of = photo((640, 256))
    image = Image.new("L", (640, 256))
    image.paste(255, (0, 0, 640, 64))
    found, geometry = mask(tmp_path, image, of), Geometry((640, 256), (256, 256))
    assert lost_share(found, geometry) == pytest.approx(0.6)
    picture = Picture("photo.jpg", np.zeros((256, 256, 3), np.uint8), geometry)
    told = placed(found, picture, 16)[1]
    assert told[0].startswith("60% of mask.png lies outside the part of photo.jpg")
    assert "--fit pad" in told[0]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_drawn_on_the_stored_pixels_is_turned_like_the_photo(
    tmp_path: Path, orientation: int
) -> None:
    stored = Image.new("RGB", (320, 200), (50, 50, 50))
    stored.paste((250, 0, 0), (10, 20, 60, 80))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    of = open_photo(tmp_path / "photo.png")
    assert of.orientation == orientation
    drawn = Image.new("L", (320, 200))
    drawn.paste(255, (10, 20, 60, 80))
    found = mask(tmp_path, drawn, of, drawn="stored")
    red = np.asarray(of.image)[..., 0] > 200
    assert np.array_equal(np.asarray(found.image) == 255, red)
    told = mask(tmp_path, drawn, of).warnings
    assert ("drawn on the unturned picture" in told[0]) == (orientation >= 5)
    assert ("does not tell" in told[0]) == (orientation < 5)


def test_shapes_are_drawn_where_they_are_said() -> None:
    shapes = [
        parse_shape("box", "10,20,30,40"),
        parse_shape("ellipse", "100, 100, 50, 50"),
        parse_shape("polygon", "200,10 300,10 250,100"),
    ]
    drawn = np.asarray(draw_shapes(shapes, "photo.jpg", SIZE).image) == 255
    assert drawn[20:60, 10:40].all()
    assert drawn[125, 125]
    assert not drawn[101, 101]
    assert drawn[40, 250]
    assert not drawn[95, 210]
    assert drawn.sum() == pytest.approx(1200 + 3.14159 * 625 + 4500, rel=0.03)
    assert draw_shapes(shapes[:1], "photo.jpg", SIZE).span(SIZE) == Span(10, 20, 40, 60)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("box", "1,2,3"), ("box", "a,b,c,d"), ("polygon", "1,2 3,4"), ("polygon", "1,2 3,4 5"),
     ("ellipse", ""), ("box", "nan,0,1,1"), ("box", "1e9,0,1,1")],
)  # fmt: skip
def test_a_shape_that_is_none_is_named_with_how_to_write_it(kind: str, text: str) -> None:
    with pytest.raises(MaskError, match=f"is no {kind} .*in pixels of the photo"):
        parse_shape(kind, text)


@pytest.mark.parametrize("text", ["0,0,0,10", "10,10,-5,5", "-50,0,20,20", "900,0,9,9"])
def test_a_shape_that_covers_nothing_is_refused(text: str) -> None:
    with pytest.raises(MaskError, match=r"covers nothing of the photo.*photo\.jpg is 320x256"):
        draw_shapes([parse_shape("box", text)], "photo.jpg", SIZE)


def test_shapes_and_files_are_joined_and_inverted(tmp_path: Path) -> None:
    file = mask(tmp_path, layer((0, 0, 0)).resize((160, 128)))
    box = draw_shapes([parse_shape("box", "200,100,20,20")], "photo.jpg", SIZE)
    both = file.joined(box)
    assert both.span(SIZE) == Span(64, 64, 220, 128)
    assert np.asarray(both.inverted().image)[0, 0] == 255
