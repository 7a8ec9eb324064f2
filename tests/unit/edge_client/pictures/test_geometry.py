"""Photo to token grid and back: places, what is lost, crops that follow a mask, and metadata."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.pictures.geometry import Fit, Geometry, Span, around

SIDES = st.integers(16, 5000)
SIZES = st.tuples(SIDES, SIDES).filter(lambda size: max(size) <= 60 * min(size))
TARGETS = st.sampled_from([(256, 256), (512, 512), (448, 256), (256, 512)])
GEOMETRIES = st.builds(
    Geometry,
    SIZES,
    TARGETS,
    st.sampled_from(Fit),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)


@given(GEOMETRIES, st.floats(0, 1), st.floats(0, 1))
def test_a_place_goes_there_and_back(geometry: Geometry, across: float, down: float) -> None:
    x, y = across * geometry.source[0], down * geometry.source[1]
    back = geometry.to_photo(*geometry.to_target(x, y))
    assert back == pytest.approx((x, y), abs=1e-6 * max(geometry.source))


@given(GEOMETRIES)
def test_what_is_seen_lies_on_the_photo_and_fills_the_target(geometry: Geometry) -> None:
    seen, (width, height) = geometry.seen, geometry.source
    assert 0 <= seen.left < seen.right <= width
    assert 0 <= seen.top < seen.bottom <= height
    left, top, wide, high = geometry.inside
    assert geometry.to_photo(left, top) == pytest.approx((seen.left, seen.top), abs=1)
    assert geometry.to_photo(left + wide, top + high) == pytest.approx(
        (seen.right, seen.bottom), abs=1
    )


@given(GEOMETRIES, st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_token_is_found_exactly_for_what_is_seen(
    geometry: Geometry, across: float, down: float
) -> None:
    x, y = across * geometry.source[0], down * geometry.source[1]
    token = geometry.token_of(x, y, 16)
    seen = geometry.seen
    inside = seen.left + 1 < x < seen.right - 1 and seen.top + 1 < y < seen.bottom - 1
    outside = not (seen.left - 1 < x < seen.right + 1 and seen.top - 1 < y < seen.bottom + 1)
    if inside:
        assert token is not None
        left, top = geometry.to_photo(token[1] * 16, token[0] * 16)
        right, bottom = geometry.to_photo(token[1] * 16 + 16, token[0] * 16 + 16)
        assert left - 1e-6 <= x <= right + 1e-6
        assert top - 1e-6 <= y <= bottom + 1e-6
    if outside:
        assert token is None


@given(GEOMETRIES)
def test_a_file_can_tell_it_and_have_it_back(geometry: Geometry) -> None:
    found = Geometry.from_metadata(geometry.metadata(), geometry.target)
    assert found is not None
    assert found.same_as(geometry)


@pytest.mark.parametrize(
    "change",
    [
        {"photo_size": [0, 5]},
        {"photo_size": [640]},
        {"resized": [455, 257]},
        {"corner": [10_000, 0]},
        {"fit": "squeeze"},
        {"region": [600, 0, 100, 100]},
        {"photo_size": "640x360"},
        {"corner": [2**70, 0]},
    ],
)
def test_metadata_that_do_not_add_up_are_left_out(change: dict[str, object]) -> None:
    told = {**Geometry((640, 360), (256, 256)).metadata(), **change}
    assert Geometry.from_metadata(told, (256, 256)) is None
    assert Geometry.from_metadata({}, (256, 256)) is None


@given(GEOMETRIES)
def test_the_loss_is_the_share_that_is_not_seen(geometry: Geometry) -> None:
    loss = geometry.loss(16)
    assert 0 <= loss.share <= 1
    assert 0 <= loss.tokens <= loss.of
    if geometry.fit is not Fit.CROP:
        assert loss.share < 0.1  # a row or column of pixels at most, on a small photo


def test_a_panoramas_loss_is_counted_in_tokens_and_per_cent() -> None:
    loss = Geometry((1080, 5200), (256, 256)).loss(16)
    assert (round(loss.share, 2), loss.tokens, loss.of) == (0.79, 976, 1232)


@settings(max_examples=200)
@given(SIZES, st.data())
def test_the_crop_follows_a_mask_and_no_farther_than_it_must(
    size: tuple[int, int], data: st.DataObject
) -> None:
    width, height = size
    crop = min(size)
    x = data.draw(st.integers(0, width - 1))
    y = data.draw(st.integers(0, height - 1))
    wide = data.draw(st.integers(1, min(crop, width - x)))
    high = data.draw(st.integers(1, min(crop, height - y)))
    wanted = Span(x, y, x + wide, y + high)
    plain = Geometry(size, (256, 256))
    moved = plain.showing(wanted)
    each = max(plain.pixels_each)
    seen = moved.seen
    assert seen.left <= wanted.left + each + 1
    assert seen.right >= wanted.right - each - 1
    assert seen.top <= wanted.top + each + 1
    assert seen.bottom >= wanted.bottom - each - 1
    if plain.seen.holds(wanted):
        assert moved == plain


@given(SIZES, st.floats(0, 3), st.data())
def test_a_closer_look_holds_the_mask_and_lies_on_the_photo(
    size: tuple[int, int], margin: float, data: st.DataObject
) -> None:
    width, height = size
    crop = min(size)
    x = data.draw(st.integers(0, width - 1))
    y = data.draw(st.integers(0, height - 1))
    box = Span(
        x,
        y,
        x + data.draw(st.integers(1, min(crop, width - x))),
        y + data.draw(st.integers(1, min(crop, height - y))),
    )
    found = around(box, size, (256, 256), margin)
    if found.region is None:
        return
    left, top, wide, high = found.region
    assert wide == high >= min(256, *size)
    assert left >= 0
    assert top >= 0
    assert left + wide <= width
    assert top + high <= height
    assert found.seen.holds(box)


def test_a_mask_of_another_size_goes_the_same_way() -> None:
    photo = Geometry((4000, 3000), (256, 256), region=(1000, 500, 1000, 1000))
    half = photo.of_size((2000, 1500))
    assert half.region == (500, 250, 500, 500)
    assert half.seen == Span(500, 250, 1000, 750)
    assert photo.of_size((4000, 3000)) is photo
