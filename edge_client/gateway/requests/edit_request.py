"""An edit as it was asked: the picture, what of it is to change, and how the result is to be.

It opens the mask, not the picture, and does not know how an edit is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.requests.fields import Fields
from edge_client.gateway.requests.picture_wish import PictureWish, read_wish, unknown_warnings
from edge_client.gateway.requests.pictures import PictureReader
from edge_client.pictures.edits import MARGIN

_FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class EditWish:
    """A picture that is to be changed.

    Args:
        wish: how the result is to be.
        picture: bytes of the picture's file.
        mask: bytes of the mask's file, transparent = change; None = the picture's own transparency
            says it.
        around: look only at the masked part and so much around it; None = as suits the mask.
        edge: width of the soft edge in pixels; None = half a token.
    """

    wish: PictureWish
    picture: bytes = field(repr=False)
    mask: bytes | None = field(default=None, repr=False)
    around: float | None = None
    edge: float | None = None


def read_generation(fields: Fields) -> PictureWish:
    """What `/v1/images/generations` asks.

    Raises:
        RefusedError: a value that cannot be used.
    """
    own = fields.inside("unimic")
    prompt = _prompt(fields, required=True)
    fields.raw("model")
    wish = read_wish(fields, prompt, own, (("prompt", "prompt"),))
    return _told(wish, unknown_warnings(fields, own))


def read_edit(fields: Fields, reader: PictureReader) -> EditWish:
    """What `/v1/images/edits` asks.

    Raises:
        RefusedError: a value that cannot be used.
    """
    own = fields.inside("unimic")
    prompt = _prompt(fields, required=False)
    fields.raw("model")
    if fields.raw("markup") is not None:
        raise fields.refused("markup", "cannot be read: say what is to change with a mask")
    wish = read_wish(fields, prompt, own, (("prompt", "prompt"),))
    picture = _picture(fields, own, reader)
    masks = as_list(fields.raw("mask"))
    if len(masks) > 1:
        raise fields.refused("mask", f"has {len(masks)} files: send one")
    mask = reader.read(masks[0], "mask") if masks else None
    around, edge = read_look(own)
    wish = _told(wish, unknown_warnings(fields, own))
    return EditWish(wish, picture, mask, around, edge)


def read_look(own: Fields) -> tuple[float | None, float | None]:
    """`around` and `edge` of `unimic`."""
    raw = own.raw("around")
    if raw is True or raw == "true":
        around: float | None = MARGIN
    else:
        around = None if raw is False or raw == "false" else own.number("around", 0, 10)
    return around, own.number("edge", 0, 1000)


def read_fit(own: Fields) -> str:
    """`fit` of `unimic`: how a picture of another shape becomes the model's square."""
    return own.choice("fit", _FITS, "crop")


def as_list(value: Any) -> list[Any]:
    """A value that may be one or many, as many."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list) else [value]


def _picture(fields: Fields, own: Fields, reader: PictureReader) -> bytes:
    before = own.text("round")
    images = [*as_list(fields.raw("image")), *as_list(fields.raw("images"))]
    name = "images" if fields.raw("image") is None and "images" in fields else "image"
    if before and not images:
        return reader.of_id(before, "unimic.round")
    if not images:
        raise fields.refused("image", "is missing: send the picture that is to be edited")
    if len(images) > 1:
        raise fields.refused(
            name, f"has {len(images)} pictures: one is edited at a time, so send one"
        )
    return reader.read(images[0], name)


def _prompt(fields: Fields, required: bool) -> str:
    if "prompt" not in fields:
        remedy = "say what the picture shows" if required else 'say what is to be there, "" removes'
        raise RefusedError(f"prompt is missing: {remedy}", "prompt", "missing_required_parameter")
    return fields.text("prompt")


def _told(wish: PictureWish, more: tuple[str, ...]) -> PictureWish:
    return replace(wish, warnings=(*wish.warnings, *more))
