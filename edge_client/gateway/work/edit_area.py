"""Which part of a picture an edit changes: by a mask, by its own transparency, or beyond its edges.

It does not know sessions' links. The rule is OpenAI's: what is transparent is made anew. A picture
whose border is transparent by whole rows and columns of tokens is continued there.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.requests.edit_request import EditWish
from edge_client.pictures.edits import Look, Wish, for_inpainting, for_outpainting
from edge_client.pictures.mask_files import THRESHOLD, Mask
from edge_client.pictures.opening import open_bytes, too_large_to_edit
from edge_client.pictures.pasting import inpainted, outpainted, spread
from edge_client.pictures.sources import full_image
from edge_client.session.picture import Picture
from shared_protocol.errors import ImageError, MaskError
from shared_protocol.tokens import MAX_GRID, Flags

Alpha = npt.NDArray[np.uint8]
"""(height, width): 0 = change, 255 = keep."""
_CLOSE = 1.0
"""Pixels that a border may differ from whole tokens, since sizes are rounded to whole pixels."""


@dataclass(frozen=True)
class Border:
    """Room around a picture that is to be filled.

    Args:
        sides: side to whole token columns or rows.
        canvas: (width, height) in pixels of the picture that comes out.
    """

    sides: dict[str, Any]
    canvas: tuple[int, int]


@dataclass(frozen=True)
class EditArea:
    """What an edit changes.

    Args:
        picture: bytes of the picture; without the room around it where that is to be filled.
        alpha: what is kept of it; None where `border` says it.
        border: the room around it; None for none.
        warnings: what the user should know.
    """

    picture: bytes = field(repr=False)
    alpha: Alpha | None = field(repr=False)
    border: Border | None = None
    warnings: tuple[str, ...] = ()

    def where(self, picture: Picture) -> npt.NDArray[np.uint8]:
        """(height, width) of the picture: 255 = repaint."""
        assert self.alpha is not None, "asked where there is no border"
        return 255 - self.alpha

    def preview(
        self, picture: Picture, asked: EditWish
    ) -> tuple[Flags, Callable[[Image.Image], Image.Image]]:
        """Tokens (H, W) that stay; from a picture of the model to the sender's with it in it."""
        if self.border is not None:
            return _border_preview(picture, self.border, asked.edge)
        mask = self._mask(picture)
        found = for_inpainting(picture.source, mask, Look(around=asked.around))
        seen, tokens = found.picture, found.tokens

        def show(image: Image.Image) -> Image.Image:
            step = inpainted(np.asarray(image), seen, mask, tokens, asked.edge)
            made = picture.source.edited(step, picture.tokens, seen.geometry)
            return image if made.base is None else full_image(made)[0]

        return ~tokens.flags, show

    def _mask(self, picture: Picture) -> Mask:
        return Mask(Image.fromarray(self.where(picture)), "the mask")


def _border_preview(
    picture: Picture, border: Border, edge: float | None
) -> tuple[Flags, Callable[[Image.Image], Image.Image]]:
    stride = picture.session.bundle.stride
    sides = {side: str(count) for side, count in border.sides.items()}
    grown = for_outpainting(picture.source, Wish(sides, None), Look())

    def show(image: Image.Image) -> Image.Image:
        step, geometry = outpainted(np.asarray(image), grown.picture, grown.extension, stride, edge)
        made = grown.source.edited(step, picture.tokens, geometry)
        return image if made.base is None else full_image(made)[0]

    return ~grown.extension.new_positions(*grown.picture.grid(stride)), show


def area_of(asked: EditWish, mask_name: str, image_name: str, least: int) -> EditArea:
    """What an edit changes.

    Args:
        asked: the edit.
        mask_name, image_name: what its fields are called.
        least: tokens on the shorter side of a picture.

    Raises:
        RefusedError: nothing says what is to change, or the mask is not of the picture's size.
    """
    photo = _opened(asked.picture, image_name)
    if photo.size[0] * photo.size[1] != photo.image.width * photo.image.height:
        error = too_large_to_edit("the picture", photo.size)
        raise RefusedError(str(error), image_name, "invalid_image_file")
    if asked.mask is None:
        return _by_own_alpha(asked.picture, photo.image, (mask_name, image_name), least)
    mask = _opened(asked.mask, mask_name).image
    if mask.size != photo.image.size:
        raise RefusedError(
            f"the mask is {mask.size[0]}x{mask.size[1]} and the picture {photo.image.width}x"
            f"{photo.image.height}: send a mask of the picture's size",
            mask_name,
            "invalid_image_file",
        )
    alpha = alpha_of(mask)
    if alpha is None or alpha.min() >= THRESHOLD:
        raise RefusedError(
            "the mask has no transparent part: make transparent (alpha 0) what is to change, and "
            "leave opaque what stays",
            mask_name,
            "invalid_image_file",
        )
    return EditArea(asked.picture, alpha)


def alpha_of(image: Image.Image) -> Alpha | None:
    """(height, width) opacity of a picture; None for one without any transparency."""
    if not image.has_transparency_data:
        return None
    return np.asarray(image.convert("RGBA").getchannel("A"))


def border_of(alpha: Alpha, least: int) -> tuple[Border, tuple[int, int, int, int]] | None:
    """The transparent room around a picture that is opaque otherwise, in whole tokens.

    Args:
        alpha: opacity of the picture with its room.
        least: tokens on the shorter side of the picture.

    Returns:
        The border and the box (left, top, right, bottom) of the picture inside; None where what is
        transparent is something else.
    """
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not rows.size:
        return None
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    if alpha[top:bottom, left:right].min() < 255:
        return None
    high, wide = alpha.shape
    width, height = right - left, bottom - top
    counts = [max(least, round(s / min(width, height) * least))
              for s in (width, height)]  # fmt: skip
    each = width / counts[0], height / counts[1]
    room = {"left": left, "right": wide - right, "up": top, "down": high - bottom}
    sides = {}
    for side, pixels in room.items():
        token = each[0] if side in ("left", "right") else each[1]
        sides[side] = round(pixels / token)
        if abs(sides[side] * token - pixels) > _CLOSE or sides[side] > MAX_GRID:
            return None
    if not any(sides.values()):
        return None
    return Border(dict(sides), (wide, high)), (left, top, right, bottom)


def _by_own_alpha(data: bytes, image: Image.Image, names: tuple[str, str], least: int) -> EditArea:
    alpha = alpha_of(image)
    if alpha is None or alpha.min() >= THRESHOLD:
        raise RefusedError(
            "nothing says what is to change: send a mask of the picture's size that is transparent "
            "there, or make the picture itself transparent there",
            names[0] if alpha is None else names[1],
            "invalid_image_file",
        )
    found = border_of(alpha, least)
    if found is None:
        return EditArea(data, _grown(alpha, min(alpha.shape) / least))
    border, box = found
    file = io.BytesIO()
    inner = image.convert("RGBA").crop(box).convert("RGB")
    inner.save(file, "PNG", compress_level=1)
    return EditArea(file.getvalue(), None, border)


def _grown(alpha: Alpha, token: float) -> Alpha:
    """A hole that takes all of the tokens that it reaches into, which show nothing of use there.

    A token is repainted from a half of it on, so that almost a half is added.
    """
    count = max(0, int(token / 2) - 1)
    hole = spread(spread(alpha < THRESHOLD, count, 0), count, 1)
    return np.where(hole, 0, 255).astype(np.uint8)


def _opened(data: bytes, name: str) -> Any:
    try:
        return open_bytes(data, f"the {name}" if name in ("image", "mask") else "the picture")
    except (ImageError, MaskError) as error:
        raise RefusedError(str(error), name, "invalid_image_file") from None
