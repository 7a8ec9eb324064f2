"""New parts go back into photos: nothing else changes, whatever the mode, size and profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_fakes import FakeBundle
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from edge_client.pictures.colour import like, to_rgb
from edge_client.pictures.edits import Look, Wish, for_inpainting, for_outpainting
from edge_client.pictures.mask_files import Shape, draw_shapes
from edge_client.pictures.opening import Photo, open_photo
from edge_client.pictures.outputs import destination, save_source
from edge_client.pictures.pasting import inpainted, levelled, outpainted, rendered
from edge_client.pictures.sources import Source, open_source
from shared_protocol.tasks import Extension, merge
from shared_protocol.tokens import ImageTokens

BUNDLE = FakeBundle(grid=(16, 16))
NEW = 200
ALL = Look()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 120, (height, width, 3), dtype=np.uint8))


def source_of(image: Image.Image, profile: bytes | None = None) -> Source:
    return Source("photo", BUNDLE, Photo("photo", image, image.size, profile=profile))


def inpaint(source: Source, shape: Shape, look: Look = ALL, edge: float | None = None) -> Source:
    """What an inpainting by a cloud that paints everything in one grey gives."""
    mask = draw_shapes([shape], source.name, source.size)
    picture, flags, _ = for_inpainting(source, mask, look)
    tokenizer = BUNDLE.image_tokenizer()
    tokens = picture.tokens or tokenizer.tokenize(picture.pixels)
    painted = np.full(flags.count, NEW, dtype=np.int32)
    result = ImageTokens(merge(tokens.codes, flags.flags, painted), 8192)
    step = inpainted(tokenizer.detokenize(result), picture, mask, flags, edge)
    return source.edited(step, result, picture.geometry)


def outpaint(source: Source, wish: Wish) -> tuple[Source, Extension]:
    grown = for_outpainting(source, wish, Look())
    tokenizer = BUNDLE.image_tokenizer()
    tokens = grown.picture.tokens or tokenizer.tokenize(grown.picture.pixels)
    codes = grown.extension.place(tokens.codes, NEW)
    result = ImageTokens(codes, 8192)
    step, geometry = outpainted(
        tokenizer.detokenize(result), grown.picture, grown.extension, BUNDLE.stride
    )
    return grown.source.edited(step, result, geometry), grown.extension


def pixels_of(source: Source) -> np.ndarray:
    assert source.base is not None
    return np.asarray(rendered(source.base, source.steps)[0]).astype(int)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_pixel_outside_of_mask_and_soft_edge_stays(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(60, 900)), data.draw(st.integers(60, 900))
    x, y = data.draw(st.integers(0, width - 20)), data.draw(st.integers(0, height - 20))
    wide = data.draw(st.integers(10, width - x))
    high = data.draw(st.integers(10, height - y))
    edge = data.draw(st.one_of(st.none(), st.integers(0, 60).map(float)))
    look = data.draw(st.sampled_from([Look(), Look(around=0.5), Look(around=0.0)]))
    source = source_of(noise(width, height))
    before = np.asarray(source.base.image).astype(int)
    after = pixels_of(inpaint(source, Shape("box", (x, y, wide, high)), look, edge))
    assert after.shape == before.shape
    reach = min(width, height) / 256 * 8 if edge is None else edge
    changed = np.argwhere((after != before).any(axis=2))
    if not changed.size:
        return
    # A pixel of the model, and one of rounding, on top of the edge.
    slack = max(1.0, min(width, height) / 256) + 1
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert left >= x - reach - slack
    assert top >= y - reach - slack
    assert right <= x + wide + reach + slack
    assert bottom <= y + high + reach + slack


def test_under_the_mask_the_new_part_is_there_in_full() -> None:
    source = source_of(noise(1000, 800))
    after = pixels_of(inpaint(source, Shape("box", (300, 200, 300, 300))))
    inside = after[230:470, 330:570]
    assert abs(inside - NEW).max() <= 33  # brought to the photo's shade by 32 at most


@pytest.mark.parametrize("edge", [0.0, 40.0, 90.0])
def test_the_edge_is_as_wide_as_it_is_told(edge: float) -> None:
    plain = source_of(Image.new("RGB", (1000, 1000), (60, 60, 60)))
    after = inpaint(plain, Shape("box", (312, 312, 376, 376)), edge=edge)
    row = after.steps[0].weights[500].astype(int)  # this photo is computed at its own size
    inside, outside = np.flatnonzero(row == 255)[0], np.flatnonzero(row)[0]
    assert abs(inside - 312) <= 2
    assert abs(312 - outside - edge) <= max(3, edge / 10)
    assert np.all(np.diff(row[outside:inside]) >= 0), "it rises towards the new part"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_the_mode_stays_where_new_colours_fit_in(mode: str) -> None:
    grey = np.full((300, 400), 40, dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey).convert(mode)
    source = source_of(image)
    after = inpaint(source, Shape("box", (150, 100, 100, 100)))
    shown, _, notes = rendered(after.base, after.steps)
    assert (shown.mode, shown.size, notes) == (mode, (400, 300), [])
    values, old = np.asarray(shown).astype(int), np.asarray(image).astype(int)
    assert np.array_equal(values[:, :120], old[:, :120])
    scale = 257 if mode == "I;16" else 1
    assert (values[150, 200].ravel()[0]) / scale > 150
    grown, _ = outpaint(source, Wish({"left": "2", "down": "25%"}))
    assert rendered(grown.base, grown.steps)[0].mode == mode


@pytest.mark.parametrize(
    ("mode", "becomes", "note"),
    [
        ("CMYK", "RGB", "CMYK becomes RGB"),
        ("P", "RGB", "palette becomes RGB"),
        ("1", "L", "black and white becomes 8-bit grey"),
        ("YCbCr", "RGB", "YCbCr becomes RGB"),
        ("F", "L", "grey of many bits becomes 8-bit grey"),
    ],
)
def test_a_mode_without_room_for_new_colours_is_changed_and_that_is_noted(
    mode: str, becomes: str, note: str
) -> None:
    after = inpaint(
        source_of(noise(300, 300).convert("L").convert(mode)), Shape("box", (9, 9, 99, 99))
    )
    shown, _, notes = rendered(after.base, after.steps)
    assert (shown.mode, notes) == (becomes, [note])


def exchanged_profile() -> bytes:
    """sRGB's profile with red and blue exchanged, under another name."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in ("sRGB".encode("utf-16-be"), b"sRGB"):
        data = data.replace(name, name.replace(b"s", b"t", 1))
    return data.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def test_colours_are_read_and_written_by_a_photos_own_profile() -> None:
    profile, red = exchanged_profile(), Image.new("RGB", (300, 300), (220, 30, 30))
    seen, notes = to_rgb(red, profile)
    assert (seen.getpixel((0, 0)), notes) == ((30, 30, 220), ["its colour profile applied"])
    assert like(Image.new("RGB", (8, 8), (220, 30, 30)), "RGB", profile).getpixel((0, 0)) == (
        30,
        30,
        220,
    )
    after = inpaint(source_of(red, profile), Shape("box", (100, 100, 100, 100)))
    shown, kept, _ = rendered(after.base, after.steps)
    assert kept == profile
    assert shown.getpixel((9, 9)) == (220, 30, 30)


def test_transparency_stays_outside_and_what_is_new_is_opaque() -> None:
    image = Image.new("RGBA", (300, 300), (10, 20, 30, 0))
    after = pixels_of(inpaint(source_of(image), Shape("box", (100, 100, 100, 100))))
    assert after[150, 150, 3] == 255
    assert after[20, 20].tolist() == [10, 20, 30, 0]


def test_a_colour_profile_stays(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "photo.jpg"
    noise(300, 300).save(path, icc_profile=lab)
    after = inpaint(open_source(path, BUNDLE), Shape("box", (100, 100, 100, 100)))
    out = tmp_path / "out.png"
    save_source(destination(out, out), after)
    assert open_photo(out).profile == lab


@pytest.mark.slow
def test_three_edits_of_a_large_photo_change_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    noise(4000, 3000).save(path, compress_level=1)
    before = np.asarray(Image.open(path)).astype(int)
    boxes = [(1800, 1300, 400, 400), (60, 60, 300, 300), (3500, 2500, 400, 300)]
    kept = []
    for number, box in enumerate(boxes):
        source = open_source(path, BUNDLE, whole=True)
        kept.append(source.tokens is not None)
        after = inpaint(source, Shape("box", box))
        path = tmp_path / f"edit{number}.png"
        save_source(destination(path, path), after)
    with Image.open(path) as image:
        assert (image.size, image.mode) == ((4000, 3000), "RGB")
        result = np.asarray(image).astype(int)
    assert kept == [False, True, True]
    touched = np.zeros((3000, 4000), dtype=bool)
    reach = round(3000 / 256 * 9) + 2
    for x, y, wide, high in boxes:
        touched[max(0, y - reach) : y + high + reach, max(0, x - reach) : x + wide + reach] = True
    assert np.array_equal(result[~touched], before[~touched])
    for x, y, wide, high in boxes:
        middle = result[y + high // 2, x + wide // 2]
        assert abs(middle - NEW).max() <= 33


def test_a_picture_grows_again_and_again(tmp_path: Path) -> None:
    source = source_of(noise(640, 480))
    before = np.asarray(source.base.image).astype(int)
    first, added = outpaint(source, Wish({"right": "25%"}))
    assert added == Extension(right=6)
    assert first.size == (640 + 183, 480)
    second, _ = outpaint(first, Wish({"left": "64px", "up": "2"}))
    third, _ = outpaint(second, Wish({}, (16, 9)))
    path = tmp_path / "wide.png"
    save_source(destination(path, path), third)
    again = open_source(path, BUNDLE)
    assert again.tokens == third.tokens
    assert again.size == third.size
    width, height = again.size
    assert abs(width / height / (16 / 9) - 1) < 0.05
    result = pixels_of(third)
    # The first picture lies somewhere inside, unchanged but for the seams.
    left = second.size[0] - first.size[0] + (third.size[0] - second.size[0]) // 2
    top = second.size[1] - first.size[1] + (third.size[1] - second.size[1]) // 2
    core = result[top + 40 : top + 440, left - 20 : left + 580]
    assert any(
        np.array_equal(core[:, shift : shift + 500], before[40:440, 30:530]) for shift in range(90)
    )


def test_shades_are_brought_together_where_both_show_the_same() -> None:
    made = np.full((256, 256, 3), 110, dtype=np.uint8)
    before = np.full((256, 256, 3), 100, dtype=np.uint8)
    known = np.ones((16, 16), dtype=bool)
    known[4:9, 4:9] = False
    made[64:144, 64:144] = 210
    before[64:144, 64:144] = 7  # what was there before the edit: of no meaning
    found = levelled(made, before, known)
    assert (found[:40] == 100).all()
    assert (found[90:110, 90:110] == 200).all()
    assert (levelled(made, before, np.zeros((16, 16), dtype=bool)) == made).all()


def test_a_token_file_finds_the_photo_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    noise(640, 480).save(path)
    after = inpaint(open_source(path, BUNDLE), Shape("box", (200, 100, 200, 200)))
    out = tmp_path / "edited.png"
    saved = save_source(destination(out, out), after)
    assert saved.tokens == tmp_path / "edited.umic"
    found = open_source(saved.tokens, BUNDLE)
    assert (found.size, found.tokens) == ((640, 480), after.tokens)
    out.rename(tmp_path / "elsewhere.png")
    alone = open_source(saved.tokens, BUNDLE)
    assert (alone.base, alone.size) == (None, (256, 256))
    named = open_source(saved.tokens, BUNDLE, photo=tmp_path / "elsewhere.png")
    assert named.size == (640, 480)


@pytest.mark.parametrize("x", [0, 100, 120, 600, 1180])
def test_the_crop_shows_what_is_around_a_mask_where_the_photo_has_any(x: int) -> None:
    source = source_of(noise(1280, 400))
    mask = draw_shapes([Shape("box", (x, 150, 100, 100))], source.name, source.size)
    seen = for_inpainting(source, mask, ALL).picture.geometry.seen
    assert seen.left <= max(0, x - 50) + 2
    assert seen.right >= min(1280, x + 150) - 2
