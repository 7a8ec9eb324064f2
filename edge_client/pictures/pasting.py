"""Puts what the model made back into the user's photo, at the photo's own size, for no byte.

It does not know tasks, how a picture is sent, or files.

::

    photo 4000 x 3000 ────────────────────────────────┐
    new 256 x 256 ── enlarged to the part it shows ──►├─ blend ─► photo, changed under the mask only
    mask ── grown by the soft edge, blurred ──────────┘
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from edge_client.pictures.colour import editable, like
from edge_client.pictures.geometry import Geometry, Size, Span
from edge_client.pictures.images import Picture
from edge_client.pictures.mask_files import Mask
from edge_client.pictures.opening import Photo
from shared_protocol.tasks import Extension
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import TokenMask

EDGE = 0.5
"""Width of the soft edge in tokens, unless the user sets another."""
_WORKING = 1024
"""Longest side at which seams are computed: they are soft, and need no more."""
_STRIP = 256
_MOST_APART = 32
"""Most that colours are brought together by, of 255: more is another content, not another shade."""
_Weights = npt.NDArray[np.uint8]
Area = tuple[int, int, int, int]
"""left, top, right, bottom in whole pixels."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A new part of a photo.

    Args:
        pixels: (H, W, 3) uint8: what the model made, all of it.
        geometry: of the photo to these pixels.
        weights: (h, w) uint8 over what `geometry` shows: 255 = new, 0 = the photo's own.
    """

    pixels: Pixels
    geometry: Geometry
    weights: _Weights = field(repr=False)


@dataclass(frozen=True, eq=False)
class Growth:
    """A photo that was continued beyond its edges.

    Args:
        pixels: (H, W, 3) uint8: the whole canvas as the model made it.
        left, top: pixels that were added there.
        size: (width, height) of the canvas, in the photo's pixels.
        edge: width of the soft edge inside of the old picture, in its pixels.
        shown: the part of the canvas that `pixels` shows.
    """

    pixels: Pixels
    left: int
    top: int
    size: Size
    edge: float
    shown: Span


Step = Patch | Growth


def inpainted(
    pixels: Pixels, picture: Picture, mask: Mask, tokens: TokenMask, edge: float | None = None
) -> Patch:
    """What an inpainting changes of a photo.

    Args:
        pixels: (H, W, 3) uint8: what the model made.
        picture: what it was made from.
        mask: what the user wanted to be repainted.
        tokens: what was.
        edge: width of the soft edge outside of both, in pixels of the photo; None = half a token,
            and the mask's own gradient where it is soft.
    """
    geometry = picture.geometry
    seen, size = geometry.seen, _working_size(geometry)
    stride = pixels.shape[0] // tokens.shape[0]
    width = _edge_width(geometry, edge, stride, size)
    wanted = mask.image.resize(
        size, Image.Resampling.BILINEAR, box=geometry.of_size(mask.image.size).seen
    )
    if mask.soft and edge is None:
        by_mask = np.asarray(wanted)
    else:
        hard = np.asarray(wanted) >= mask.threshold
        by_mask = _softened(hard | _thin(mask, geometry, size), width)
    left, top, wide, high = geometry.inside
    blocks = np.kron(tokens.flags, np.ones((stride, stride), dtype=bool))
    inside = Image.fromarray(blocks[top : top + high, left : left + wide])
    by_tokens = _softened(np.asarray(inside.resize(size, Image.Resampling.NEAREST)), width)
    weights = np.minimum(by_mask, by_tokens)
    assert seen.area > 0, "a geometry shows something of its photo"
    return Patch(levelled(pixels, picture.pixels, ~tokens.flags), geometry, weights)


def outpainted(
    pixels: Pixels, picture: Picture, extension: Extension, stride: int, edge: float | None = None
) -> tuple[Growth, Geometry]:
    """What an outpainting adds to a photo, and the geometry of the photo that results.

    Args:
        pixels: (H, W, 3) uint8: the model's canvas, extension included.
        picture: what the canvas began with.
        extension: token columns and rows that were added.
        stride: pixels of the canvas for each of them.
        edge: width of the soft edge, in pixels of the photo; None = half a token.
    """
    geometry = picture.geometry
    across, down = geometry.pixels_each
    seen, (width, height) = geometry.seen, geometry.source
    known = ~extension.new_positions(*picture.grid(stride))
    before = np.zeros_like(pixels)
    y, x = extension.up * stride, extension.left * stride
    before[y : y + picture.pixels.shape[0], x : x + picture.pixels.shape[1]] = picture.pixels
    pixels = levelled(pixels, before, known)
    left, right = round(extension.left * stride * across), round(extension.right * stride * across)
    top, bottom = round(extension.up * stride * down), round(extension.down * stride * down)
    size = (width + left + right, height + top + bottom)
    shown = Span(
        seen.left if not left else 0.0,
        seen.top if not top else 0.0,
        seen.right + left if not right else float(size[0]),
        seen.bottom + top if not bottom else float(size[1]),
    )
    each = stride * max(across, down)
    growth = Growth(pixels, left, top, size, EDGE * each if edge is None else edge, shown)
    region = None
    if shown.area < size[0] * size[1]:
        region = (
            round(shown.left),
            round(shown.top),
            round(shown.right - shown.left),
            round(shown.bottom - shown.top),
        )
    target = (pixels.shape[1], pixels.shape[0])
    return growth, Geometry(size, target, geometry.fit.STRETCH, region)


def levelled(made: Pixels, before: Pixels, known: npt.NDArray[np.bool_]) -> Pixels:
    """What the model made, its colours brought to the photo's where both show the same.

    Tokens give flat areas back in slightly other colours, so that a new part would stand out from
    a photo. The difference, as the mean of each known token, is carried on smoothly into the new
    ones, as a stretched skin would.

    Args:
        made: (H, W, 3) uint8.
        before: (H, W, 3) uint8; anything where nothing is known.
        known: (h, w) tokens that both show.
    """
    rows, columns = known.shape
    if not known.any():
        return made
    high, wide = made.shape[0] // rows, made.shape[1] // columns
    apart = before.astype(np.float32) - made
    means = apart.reshape(rows, high, columns, wide, 3).mean(axis=(1, 3))
    means = np.clip(means, -_MOST_APART, _MOST_APART)
    field = np.where(known[..., None], means, means[known].mean(axis=0))
    for _ in range(8 * max(rows, columns)):
        around = np.pad(field, ((1, 1), (1, 1), (0, 0)), mode="edge")
        spread = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        field = np.where(known[..., None], means, spread / 4)
    shift = np.stack(
        [
            np.asarray(
                Image.fromarray(field[..., band].astype(np.float32)).resize(
                    (made.shape[1], made.shape[0]), Image.Resampling.BILINEAR
                )
            )
            for band in range(3)
        ],
        axis=-1,
    )
    found: Pixels = np.clip(np.round(made + shift), 0, 255).astype(np.uint8)
    return found


def rendered(photo: Photo, steps: Sequence[Step]) -> tuple[Image.Image, bytes | None, list[str]]:
    """The photo after all steps, its colour profile, and notes on its mode.

    The photo itself is not changed.
    """
    image, profile, notes = editable(photo.image, photo.profile)
    if image is photo.image and steps and isinstance(steps[0], Patch):
        image = image.copy()
    for step in steps:
        if isinstance(step, Patch):
            _paste(image, step, profile)
        else:
            image = _grown(image, step, profile)
    return image, profile, notes


def _paste(image: Image.Image, patch: Patch, profile: bytes | None) -> None:
    """Blend a new part into `image`."""
    rows, columns = np.flatnonzero(patch.weights.any(1)), np.flatnonzero(patch.weights.any(0))
    if not rows.size:
        return
    seen, (high, wide) = patch.geometry.seen, patch.weights.shape
    across, down = (seen.right - seen.left) / wide, (seen.bottom - seen.top) / high
    # Whole pixels of the photo around what changes, where something of the new part is known.
    left = max(math.ceil(seen.left), math.floor(seen.left + (columns[0] - 1) * across))
    right = min(math.floor(seen.right), math.ceil(seen.left + (columns[-1] + 2) * across))
    top = max(math.ceil(seen.top), math.floor(seen.top + (rows[0] - 1) * down))
    bottom = min(math.floor(seen.bottom), math.ceil(seen.top + (rows[-1] + 2) * down))
    area = (left, top, max(left + 1, right), max(top + 1, bottom))
    x, y, width, height = patch.geometry.inside
    new = Image.fromarray(patch.pixels[y : y + height, x : x + width])
    part = _piece(new, seen, area, Image.Resampling.BICUBIC)
    soft = _piece(Image.fromarray(patch.weights), seen, area, Image.Resampling.BILINEAR)
    _blend(image, like(part, image.mode, profile), (left, top), soft)


def _piece(shown: Image.Image, seen: Span, area: Area, sampling: Image.Resampling) -> Image.Image:
    """What `shown`, which covers `seen`, has in an area of whole pixels, at their size."""
    cut = Span(
        (area[0] - seen.left) / (seen.right - seen.left) * shown.width,
        (area[1] - seen.top) / (seen.bottom - seen.top) * shown.height,
        (area[2] - seen.left) / (seen.right - seen.left) * shown.width,
        (area[3] - seen.top) / (seen.bottom - seen.top) * shown.height,
    )
    size = (area[2] - area[0], area[3] - area[1])
    return shown.resize(size, sampling, box=cut.clipped(shown.size))


def _blend(
    image: Image.Image, part: Image.Image, corner: tuple[int, int], weights: Image.Image
) -> None:
    """Lay a part over `image`: 255 = the part, 0 = what is there."""
    if image.mode != "I;16":
        image.paste(part, corner, weights)
        return
    # Pillow blends no 16-bit grey; strips bound the memory that floats take.
    for row in range(0, part.height, _STRIP):
        end = min(part.height, row + _STRIP)
        area = (corner[0], corner[1] + row, corner[0] + part.width, corner[1] + end)
        old = np.asarray(image.crop(area)).astype(np.float64)
        cut = (0, row, part.width, end)
        share = np.asarray(weights.crop(cut)).astype(np.float64) / 255.0
        new = np.asarray(part.crop(cut)).astype(np.float64) * 257.0
        mixed = np.where(share > 0, old + share * (new - old), old)
        image.paste(Image.fromarray(np.round(mixed).astype(np.uint16)), area[:2])


def _grown(image: Image.Image, growth: Growth, profile: bytes | None) -> Image.Image:
    """A canvas with the old picture, and the new part around it with a soft edge."""
    canvas = Image.new(image.mode, growth.size, _blank(image.mode))
    canvas.paste(image, (growth.left, growth.top))
    new = Image.fromarray(growth.pixels)
    across, down = _old_weights(image.size, growth)
    for area in _new_areas(across, down):
        part = like(_piece(new, growth.shown, area, Image.Resampling.BICUBIC), image.mode, profile)
        old = np.minimum(across[None, area[0] : area[2]], down[area[1] : area[3], None])
        _blend(canvas, part, area[:2], Image.fromarray(255 - old))
    return canvas


def _blank(mode: str) -> int | tuple[int, ...]:
    return {"RGB": (255, 255, 255), "RGBA": (255, 255, 255, 0), "LA": (255, 0)}.get(mode, 255)


def _old_weights(size: Size, growth: Growth) -> tuple[_Weights, _Weights]:
    """How much of the old picture stays, by column and by row of the canvas, 0..255.

    All of it but for a ramp along the sides that were extended, and nothing beyond them.
    """
    lines = []
    for side, start, whole in zip(size, (growth.left, growth.top), growth.size, strict=True):
        old = np.ones(side)
        ramp = np.clip((np.arange(side) + 0.5) / max(growth.edge, 1e-9), 0, 1)
        if start > 0:
            old *= ramp
        if start + side < whole:
            old *= ramp[::-1]
        line = np.zeros(whole, dtype=np.uint8)
        line[start : start + side] = np.round(old * 255)
        lines.append(line)
    return lines[0], lines[1]


def _new_areas(across: _Weights, down: _Weights) -> list[Area]:
    """Rectangles that cover, once, all of the canvas where the old picture does not stay whole."""
    first, last = _whole_range(across)
    top, bottom = _whole_range(down)
    width, height = across.size, down.size
    areas = [
        (0, 0, width, top),
        (0, bottom, width, height),
        (0, top, first, bottom),
        (last, top, width, bottom),
    ]
    return [area for area in areas if area[0] < area[2] and area[1] < area[3]]


def _whole_range(line: _Weights) -> tuple[int, int]:
    whole = np.flatnonzero(line == 255)
    return (int(whole[0]), int(whole[-1]) + 1) if whole.size else (line.size, line.size)


def _working_size(geometry: Geometry) -> Size:
    seen = geometry.seen
    width, height = seen.right - seen.left, seen.bottom - seen.top
    scale = min(1.0, _WORKING / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _edge_width(geometry: Geometry, edge: float | None, stride: int, size: Size) -> int:
    """Width of the soft edge in working pixels."""
    seen = geometry.seen
    scale = size[0] / max(1e-9, seen.right - seen.left)
    across, down = geometry.pixels_each
    wanted = EDGE * stride * max(across, down) if edge is None else edge
    # One pixel less than asked: enlarging spreads what is computed here by up to that much.
    return max(0, int(wanted * scale) - (1 if scale < 1 else 0))


def _thin(mask: Mask, geometry: Geometry, size: Size) -> npt.NDArray[np.bool_]:
    """What is white anywhere, so that thin strokes survive the way to the working size."""
    box = geometry.of_size(mask.image.size).seen
    lit = mask.image.point([255 * (v >= mask.threshold) for v in range(256)])
    found: npt.NDArray[np.bool_] = np.asarray(lit.resize(size, Image.Resampling.BOX, box=box)) >= 64
    return found


def _softened(flags: npt.NDArray[np.bool_], width: int) -> _Weights:
    """255 inside of `flags`, falling to 0 at `width` pixels from them.

    Grown by half the width and blurred over the other half, so that nothing lies farther out.
    """
    if width < 1:
        return flags.astype(np.uint8) * 255
    grow = (width + 1) // 2
    blur = width - grow
    grown = flags
    for axis in (0, 1):
        grown = spread(grown, grow, axis)
    image = Image.fromarray(grown.astype(np.uint8) * 255)
    return np.asarray(image.filter(ImageFilter.BoxBlur(blur)) if blur else image)


def spread(flags: npt.NDArray[np.bool_], count: int, axis: int) -> npt.NDArray[np.bool_]:
    """`flags` or any of its neighbours up to `count` away along an axis."""
    padding = [(0, 0), (0, 0)]
    padding[axis] = (count + 1, count)
    sums = np.cumsum(np.pad(flags, padding), axis=axis, dtype=np.int32)
    size = flags.shape[axis]
    later = np.take(sums, range(2 * count + 1, 2 * count + 1 + size), axis=axis)
    earlier = np.take(sums, range(size), axis=axis)
    found: npt.NDArray[np.bool_] = later > earlier
    return found
