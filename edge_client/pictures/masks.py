"""Pixel masks to token masks, as Show-o does it: bicubic sampling, >= 0.5 is regenerated.

It opens no files and does not know tasks or the network. What thresholds, crop and token grid take
away of a mask is counted here, and told above a tenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_client.pictures.geometry import MOST_LOST, Box, Geometry
from edge_client.pictures.images import Picture, applied
from edge_client.pictures.mask_files import (
    THRESHOLD,
    Mask,
    box_shapes,
    draw_shapes,
    load_mask_file,
)
from shared_protocol.errors import MaskError
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags, TokenMask

_NOTICEABLE = 0.02
"""Share of a mask that may be too thin in silence."""
_NEARLY_ALL = 0.80
_NEARLY_NOTHING = 1


def load_mask(path: Path, picture: Picture) -> Pixels:
    """(H, W) uint8 of a mask's file, as large as the pixels of a picture that comes from a file.

    Raises:
        ImageError: not a readable picture.
        MaskError: its shape is not the photo's.
    """
    assert picture.photo is not None, "the picture comes from a file"
    return on_target(load_mask_file(path, picture.photo), picture.geometry)


def box_mask(boxes: Sequence[Box], picture: Picture) -> Pixels:
    """(H, W) uint8, white inside of `boxes`, as large as the picture's pixels.

    Raises:
        MaskError: a box without area or wholly outside the photo.
    """
    mask = draw_shapes(box_shapes(boxes), picture.name, picture.geometry.source)
    return on_target(mask, picture.geometry)


def on_target(mask: Mask, geometry: Geometry) -> Pixels:
    """(H, W) uint8 of a mask by the geometry of its photo, its border brought to one half."""
    image = mask.image
    if mask.threshold != THRESHOLD:
        image = image.point([min(255, v * THRESHOLD // mask.threshold) for v in range(256)])
    way = geometry.of_size(image.size)
    return np.asarray(applied(way, image, 0), dtype=np.uint8)


def placed(mask: Mask, picture: Picture, stride: int) -> tuple[TokenMask, list[str]]:
    """The tokens that a mask repaints of a picture, and warnings.

    Raises:
        MaskError: nothing is left to repaint; the message says why.
    """
    pixels, geometry = on_target(mask, picture.geometry), picture.geometry
    lost, told = lost_share(mask, geometry), list(mask.warnings)
    try:
        tokens = token_mask(pixels, picture.grid(stride))
    except MaskError as error:
        touched = _touched(mask, geometry, stride)
        if not touched.any():
            raise _nothing(mask, picture, lost, error) from error
        tokens = TokenMask(touched)
        told.append(
            f"{mask.name} is thinner than a token of {stride} pixels everywhere: the "
            f"{tokens.count} tokens that it touches are repainted; --around looks closer"
        )
        return tokens, told
    if lost > MOST_LOST:
        told.append(
            f"{lost:.0%} of {mask.name} lies outside the part of {picture.name} that the model "
            "sees and stays as it is; --fit pad shows all of it, or mask one part at a time"
        )
    thin = vanished_share(pixels, tokens)
    if thin >= _NOTICEABLE:
        told.append(
            f"{thin:.0%} of the mask is too thin for the token grid and stays as it is; paint "
            "strokes at least one token wide, or use --around, which looks closer"
        )
    return tokens, [*told, *_extent(mask, tokens, geometry, stride)]


def lost_share(mask: Mask, geometry: Geometry) -> float:
    """Share of what a mask repaints that lies outside of what the model sees."""
    lit = np.asarray(mask.image) >= mask.threshold
    total = int(lit.sum())
    seen = geometry.of_size(mask.image.size).seen
    rows = slice(round(seen.top), round(seen.bottom))
    columns = slice(round(seen.left), round(seen.right))
    return 1 - int(lit[rows, columns].sum()) / total if total else 0.0


def _touched(mask: Mask, geometry: Geometry, stride: int) -> Flags:
    """(h, w) tokens in which a mask has any white at all."""
    way = geometry.of_size(mask.image.size)
    left, top, width, height = geometry.inside
    lit = mask.image.point([255 * (v >= mask.threshold) for v in range(256)])
    small = lit.resize((width, height), Image.Resampling.BOX, box=way.seen)
    canvas = np.zeros((geometry.target[1], geometry.target[0]), dtype=bool)
    canvas[top : top + height, left : left + width] = np.asarray(small) > 0
    high, wide = canvas.shape[0] // stride, canvas.shape[1] // stride
    touched: Flags = canvas.reshape(high, stride, wide, stride).max(axis=(1, 3))
    return touched


def _nothing(mask: Mask, picture: Picture, lost: float, error: MaskError) -> MaskError:
    """Why a mask selects nothing, and what to do about it."""
    if mask.brightest < mask.threshold:
        faint = "" if mask.brightest < 16 else f", or lower --mask-threshold to {mask.brightest}"
        invert = "; if black is to be repainted, add --invert-mask" if mask.brightest < 16 else ""
        known = "".join(f"; {told}" for told in mask.warnings)
        return MaskError(
            f"{mask.name} selects nothing to regenerate: its brightest value is {mask.brightest}, "
            f"and {mask.threshold} to 255 is repainted{known}",
            f"paint it white (255){faint}{invert}",
        )
    if lost > 1 - _NOTICEABLE:
        return MaskError(
            f"{mask.name} lies outside the part of {picture.name} that the model sees "
            f"({picture.geometry.seen} of {picture.geometry.source[0]}x"
            f"{picture.geometry.source[1]} pixels)",
            "use --fit pad, which shows all of it, or --around, which looks at the mask",
        )
    return MaskError(f"{mask.name}: {error.message}", error.remedy)


def _extent(mask: Mask, tokens: TokenMask, geometry: Geometry, stride: int) -> list[str]:
    """A warning where nearly all or nearly nothing is repainted."""
    width, height = geometry.inside[2:]
    shown = max(1, round(width * height / stride**2))
    share = tokens.count / shown
    if share > _NEARLY_ALL:
        return [
            f"{share:.0%} of the picture is repainted ({tokens.count} of {shown} tokens): white "
            f"(or, on a transparent layer, what is painted) is made anew; if {mask.name} means it "
            "the other way round, add --invert-mask"
        ]
    if tokens.count <= _NEARLY_NOTHING:
        across, down = geometry.pixels_each
        size = f"{stride * across:.0f}x{stride * down:.0f}"
        return [
            f"only {tokens.count} of {shown} tokens is repainted, each {size} pixels of the photo; "
            "--around looks closer"
        ]
    return []


def token_mask(mask: Pixels, grid: tuple[int, int]) -> TokenMask:
    """Sample a pixel mask down to the token grid: >= 0.5 is regenerated, as Show-o does.

    Args:
        mask: (H, W) uint8, white = regenerate.
        grid: (h, w) in tokens.

    Raises:
        MaskError: nothing is left to regenerate.
    """
    rows = _bicubic_weights(mask.shape[0], grid[0])
    columns = _bicubic_weights(mask.shape[1], grid[1])
    flags = rows @ (mask.astype(np.float32) / np.float32(255)) @ columns.T >= 0.5
    if not flags.any():
        patch = mask.shape[0] // grid[0]
        white = "has white parts, all too thin" if (mask >= 128).any() else "has no white part"
        raise MaskError(
            f"the mask selects nothing to regenerate: it {white} once it is brought to "
            f"{mask.shape[1]}x{mask.shape[0]} pixels",
            f"white = regenerate; use parts at least {patch} of those pixels wide, or --around",
        )
    return TokenMask(flags)


def vanished_share(mask: Pixels, tokens: TokenMask) -> float:
    """Share of the white pixels with no regenerated token at or beside them (thin strokes)."""
    height, width = tokens.shape
    white = (mask >= 128).reshape(height, mask.shape[0] // height, width, mask.shape[1] // width)
    per_token = white.sum(axis=(1, 3))  # (h, w)
    total = int(per_token.sum())
    return float(per_token[~_grown(tokens.flags)].sum()) / total if total else 0.0


def _bicubic_weights(size: int, samples: int) -> npt.NDArray[np.float32]:
    """(samples, size) rows of cubic convolution weights, a = -0.75, edges clamped.

    What torch's `interpolate(mode="bicubic", align_corners=False, antialias=False)` does along one
    axis, so that a mask gives the reference's tokens.
    """
    weights = np.zeros((samples, size), dtype=np.float32)
    for row in range(samples):
        centre = (row + 0.5) * size / samples - 0.5
        first = int(np.floor(centre)) - 1
        for tap in range(first, first + 4):
            weights[row, min(max(tap, 0), size - 1)] += _cubic(abs(centre - tap))
    return weights


def _cubic(x: float, a: float = -0.75) -> float:
    if x <= 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    return ((x - 5.0) * x + 8.0) * x * a - 4.0 * a


def _grown(flags: Flags) -> Flags:
    padded = np.pad(flags, 1)
    height, width = flags.shape
    shifts = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    grown: Flags = np.logical_or.reduce(shifts)
    return grown
