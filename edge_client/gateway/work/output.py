"""Pictures as they leave the gateway: brought to the size that was asked, and packed as a file.

It does not know how they were made.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from edge_client.gateway.work.known_pictures import stretched
from edge_client.pictures.carried_tokens import CHUNK, chunk_of
from edge_client.pictures.colour import WHITE
from edge_client.pictures.outputs import writable
from edge_client.pictures.sources import full_image
from edge_client.session.picture import Picture

KINDS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_SMALL = 1 << 20
"""Pixels up to which a PNG is packed as small as it can be."""
_LEAST_LOSS = 95


def picture_of(picture: Picture) -> tuple[Image.Image, bytes | None]:
    """A picture in full size, and its colour profile."""
    if picture.source.base is None:
        return Image.fromarray(picture.pixels), None
    image, profile, _ = full_image(picture.source)
    return _filled(image, picture), profile


def _filled(image: Image.Image, picture: Picture) -> Image.Image:
    """A picture in which what is still transparent shows what the model made there.

    That is where a hole reaches into a token by less than a pixel or two.
    """
    geometry = picture.source.geometry
    if image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255):
        return image
    below = Image.new("RGB", image.size, WHITE)
    if geometry is not None:
        left, top, right, bottom = (round(side) for side in geometry.seen)
        x, y, wide, high = geometry.inside
        shown = Image.fromarray(picture.pixels[y : y + high, x : x + wide])
        below.paste(shown.resize((right - left, bottom - top)), (left, top))
    below.paste(image, (0, 0), image.getchannel("A"))
    return below


def sized(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """A picture in another size."""
    if size is None or size == image.size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS)


def inside(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the shape of `size` that fits into `wanted`.

    >>> inside((640, 480), (1024, 1024)), inside((256, 256), (512, 512))
    ((1024, 768), (512, 512))
    """
    scale = min(wanted[0] / size[0], wanted[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def packed(
    image: Image.Image,
    kind: str,
    compression: int | None = None,
    picture: Picture | None = None,
    profile: bytes | None = None,
) -> bytes:
    """A picture's file.

    Args:
        image: what it shows.
        kind: "png", "jpeg" or "webp".
        compression: 0..100, the quality of a jpeg or webp; None = least loss.
        picture: whose tokens a png carries; None = none.
        profile: ICC profile.
    """
    image, _ = writable(image, KINDS[kind])
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if kind == "jpeg":
        options |= {"quality": _LEAST_LOSS if compression is None else max(1, compression)}
        options["subsampling"] = 0
    elif kind == "webp":
        options |= {"lossless": True} if compression is None else {"quality": compression}
    else:
        small = image.width * image.height <= _SMALL
        options |= {"compress_level": 6 if small else 3}
        if picture is not None:
            options["pnginfo"] = _carrying(picture, image)
    file = io.BytesIO()
    image.save(file, KINDS[kind], **options)
    return file.getvalue()


def _carrying(picture: Picture, image: Image.Image) -> PngInfo:
    """The tokens of a picture, for its file."""
    assert picture.source.geometry is not None, "what a model made has one"
    geometry = stretched(picture.source.geometry, image.size)
    plain = geometry.source == geometry.target and geometry.region is None
    about = {} if plain else geometry.metadata()
    carried = PngInfo()
    bundle = picture.session.bundle
    carried.add(CHUNK, chunk_of(picture.tokens, image, bundle, about), after_idat=True)
    return carried
