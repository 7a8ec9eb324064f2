"""A round as files: to look at, and to keep with its tokens.

It does not know who asks for them.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from edge_client.gateway.desk.desk import Round
from edge_client.pictures.carried_tokens import CHUNK, chunk_of
from edge_client.pictures.files.encoding import writable
from edge_client.pictures.sources import Source, full_image
from shared_protocol.message.picture_file import Coding, write_picture
from shared_protocol.tokenizers.image import Pixels

SIDES = (160, 768, 2048)
"""Longest sides in which a round is shown."""
_SMALL = 512
"""Side up to which a picture is shown without loss."""
_MOST_KEPT = 64 * 1024
"""Largest view that is kept: thumbnails, which are asked for again and again."""
_FAST_FROM = 1 << 20


def view_of(shown_round: Round, side: int) -> tuple[bytes, str]:
    """A file to look at, and its media type.

    Args:
        shown_round: what it shows.
        side: its longest side at most; the next of `SIDES` is taken.
    """
    side = next((each for each in SIDES if each >= side), SIDES[-1])
    found = shown_round.views.get(side)
    if found is None:
        image, profile, _ = full_image(shown_round.source)
        image, _ = writable(image, "PNG")
        if image.mode == "I;16":
            image, _ = writable(image, "JPEG")
        if max(image.size) > side:
            # What a photo without edits shows is its very image.
            image = image.copy()
            image.thumbnail((side, side))
        found = _packed(image, profile)
        if len(found[0]) <= _MOST_KEPT:
            shown_round.views[side] = found
    return found


def shown(pixels: Pixels) -> tuple[bytes, str]:
    """A file of (H, W, 3) uint8 to look at for a moment, and its media type."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling=0)
    return file.getvalue(), "image/jpeg"


def png_of(kept: Round) -> bytes:
    """The picture in full size as a PNG that carries its tokens."""
    source = kept.source
    assert source.tokens is not None, "a round has its tokens"
    image, profile, _ = full_image(source)
    image, _ = writable(image, "PNG")
    carried = PngInfo()
    chunk = chunk_of(source.tokens, image, source.bundle, _about(source))
    carried.add(CHUNK, chunk, after_idat=True)
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    small = image.width * image.height < _FAST_FROM
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=carried, compress_level=6 if small else 3, **options)
    return file.getvalue()


def umic_of(kept: Round) -> bytes:
    """Its tokens alone, as a `.umic` file."""
    source = kept.source
    assert source.tokens is not None, "a round has its tokens"
    return write_picture(source.tokens, source.bundle, Coding.SMALLEST, _about(source))


def _about(source: Source) -> dict[str, Any]:
    geometry = source.geometry
    assert geometry is not None, "a round has its tokens, and they have a place"
    if geometry.source == geometry.target and geometry.region is None:
        return {}
    return geometry.metadata()


def _packed(image: Image.Image, profile: bytes | None) -> tuple[bytes, str]:
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    file = io.BytesIO()
    if max(image.size) <= _SMALL or "A" in image.mode:
        image.save(file, "PNG", compress_level=3, **options)
        return file.getvalue(), "image/png"
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    image.save(file, "JPEG", quality=92, subsampling=0, **options)
    return file.getvalue(), "image/jpeg"
