"""Pictures and checks that the Python clients share; needs Pillow only."""

from __future__ import annotations

import base64
import io
import json
import os
from typing import Any

from PIL import Image, ImageChops, ImageDraw

SIZE = 256
HOLE = (96, 96, 160, 160)
"""Left, top, right, bottom of what is edited."""
EDGE = 16
"""Pixels around it that may be blended."""
STEPS = int(os.environ.get("STEPS", "4"))
OWN = {"steps": STEPS, "mend": 0}
"""Fast pictures are enough here."""


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def photo() -> bytes:
    """A red circle on blue, 256 pixels wide."""
    image = Image.new("RGB", (SIZE, SIZE), (90, 140, 220))
    ImageDraw.Draw(image).ellipse((80, 80, 176, 176), fill=(210, 40, 40))
    return png(image)


def mask() -> bytes:
    """Transparent inside of `HOLE`."""
    image = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), HOLE)
    return png(image)


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


def kept_outside(before: bytes, after: Image.Image) -> bool:
    """Whether nothing changed but inside of the hole and its soft edge."""
    apart = ImageChops.difference(Image.open(io.BytesIO(before)).convert("RGB"), after)
    box = apart.getbbox()
    left, top, right, bottom = HOLE
    return box is not None and (
        box[0] >= left - EDGE and box[1] >= top - EDGE
        and box[2] <= right + EDGE and box[3] <= bottom + EDGE
    )  # fmt: skip


def say(step: str, ok: bool, told: Any) -> None:
    """One line for the table."""
    print(json.dumps({"step": step, "ok": bool(ok), "told": str(told)}), flush=True)


def told_bytes(unimic: dict[str, Any]) -> str:
    return f"{unimic['bytes_up']} up, {unimic['bytes_down']} down"
