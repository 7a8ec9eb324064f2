"""Cells over a picture: which they are, and that marked ones become the very tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from edge_fakes import FakeBundle
from PIL import Image

from edge_client.gateway.desk.lattice import Lattice, extension_of
from edge_client.gateway.refused import RefusedError
from edge_client.pictures.edits import Look, for_inpainting
from edge_client.pictures.geometry import Fit, Geometry
from edge_client.pictures.mask_files import Mask
from edge_client.pictures.opening import Photo
from edge_client.pictures.sources import Source, of_tokens
from shared_protocol.tokens import ImageTokens, TokenMask

BUNDLE: Any = FakeBundle()


def source(size: tuple[int, int]) -> Source:
    return Source("photo", BUNDLE, Photo("photo", Image.new("RGB", size), size))


def packed(lattice: Lattice, *cells: tuple[int, int]) -> bytes:
    flags = np.zeros((lattice.rows, lattice.columns), dtype=bool)
    for column, row in cells:
        flags[row, column] = True
    return np.packbits(flags).tobytes()


@pytest.mark.parametrize(
    ("size", "columns", "rows", "window"),
    [
        ((64, 64), 4, 4, (0, 0, 4, 4)),
        ((4000, 4000), 4, 4, (0, 0, 4, 4)),
        ((640, 360), 8, 4, (2, 0, 4, 4)),
        ((360, 640), 4, 8, (0, 2, 4, 4)),
        ((128, 64), 8, 4, (2, 0, 4, 4)),
        ((65, 64), 5, 4, (0, 0, 4, 4)),
    ],
)
def test_cells_cover_all_of_a_picture_and_the_window_is_its_tokens(
    size: tuple[int, int], columns: int, rows: int, window: tuple[int, int, int, int]
) -> None:
    found = Lattice.of(source(size))
    assert (found.columns, found.rows, found.window) == (columns, rows, window)
    assert found.left <= 0
    assert found.top <= 0
    assert found.left + found.columns * found.width >= size[0] - 0.01
    assert found.top + found.rows * found.height >= size[1] - 0.01


def test_an_extended_picture_has_a_cell_for_each_token() -> None:
    wide = of_tokens(ImageTokens(np.zeros((5, 7), dtype=np.int32), 8192), BUNDLE, "wide")
    found = Lattice.of(wide)
    assert (found.columns, found.rows, found.window) == (7, 5, (0, 0, 7, 5))
    assert extension_of(wide) == {"width": 16.0, "height": 16.0, "columns": 7, "rows": 5}


def test_a_wide_photo_is_extended_by_columns_of_all_of_it() -> None:
    found = extension_of(source((640, 360)))
    least = min(BUNDLE.grid)
    assert found["columns"] == round(640 / 360 * least)
    assert found["width"] * found["columns"] == pytest.approx(640)


@pytest.mark.parametrize("size", [(64, 64), (640, 360), (1000, 999), (333, 777), (4000, 3000)])
def test_cells_inside_of_the_window_are_the_very_tokens(size: tuple[int, int]) -> None:
    lattice = Lattice.of(source(size))
    x, y, wide, high = lattice.window
    for column in range(wide):
        for row in range(high):
            flags = lattice.flags(packed(lattice, (x + column, y + row)))
            where = lattice.where(flags)
            assert isinstance(where, TokenMask)
            assert np.argwhere(where.flags).tolist() == [[row, column]]


def test_cells_outside_of_the_window_are_pixels_to_which_the_window_moves() -> None:
    photo = source((640, 360))
    lattice = Lattice.of(photo)
    where = lattice.where(lattice.flags(packed(lattice, (0, 1), (1, 1))))
    assert isinstance(where, np.ndarray)
    assert where.shape == (360, 640)
    columns = np.flatnonzero(where.any(axis=0))
    assert (columns[0], columns[-1]) == (0, round(lattice.left + 2 * lattice.width) - 1)
    seen = for_inpainting(photo, Mask(Image.fromarray(where), "the mask"), Look())
    assert seen.picture.geometry.seen.left < 1
    assert seen.tokens.count >= 2


def test_a_padded_picture_has_its_cells_where_its_tokens_are() -> None:
    padded = replace(
        source((640, 360)),
        tokens=ImageTokens(np.zeros((4, 4), dtype=np.int32), 8192),
        geometry=Geometry((640, 360), (64, 64), Fit.PAD),
    )
    found = Lattice.of(padded)
    assert found.window == (0, 0, 4, 4)
    assert found.height == 160
    assert found.top < 0


@pytest.mark.parametrize("size", [(64, 64), (640, 360), (333, 777), (1000, 999)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_mask_of_whole_cells_in_any_size_gives_these_cells(
    size: tuple[int, int], scale: float
) -> None:
    lattice = Lattice.of(source(size))
    rng = np.random.default_rng(7)
    # What lies only partly on the picture is marked by that part.
    flags = rng.random((lattice.rows, lattice.columns)) < 0.4
    flags[:, [0, -1]] = flags[[0, -1]] = False
    flags[lattice.rows // 2, lattice.columns // 2] = True
    wide, high = round(size[0] * scale), round(size[1] * scale)
    x = ((np.arange(wide) + 0.5) / scale - lattice.left) / lattice.width
    y = ((np.arange(high) + 0.5) / scale - lattice.top) / lattice.height
    rows, columns = (v.astype(int).clip(0, n - 1) for v, n in ((y, lattice.rows),
                                                              (x, lattice.columns)))  # fmt: skip
    shown = np.where(flags[rows[:, None], columns], 255, 0).astype(np.uint8)
    assert np.array_equal(lattice.flags(lattice.packed(shown)), flags)


def test_a_thin_line_marks_what_it_touches() -> None:
    lattice = Lattice.of(source((64, 64)))
    line = np.zeros((64, 64), dtype=np.uint8)
    line[5] = 255
    assert np.argwhere(lattice.flags(lattice.packed(line))).tolist() == [[0, c] for c in range(4)]


@pytest.mark.parametrize("data", [b"", b"\x80", bytes(3), bytes(2)])
def test_other_counts_of_cells_and_none_at_all_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        Lattice.of(source((64, 64))).flags(data)
    assert caught.value.param == "cells"
