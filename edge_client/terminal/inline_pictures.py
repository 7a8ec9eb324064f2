"""Pictures between the lines of a terminal, where it can show them: kitty, iTerm2 or sixel.

It does not print, and knows nothing of where a picture comes from.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from enum import Enum

import numpy as np
from PIL import Image

from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.image import Pixels

VARIABLE = "UNIMIC_INLINE"
_CHUNK = 4096
"""Longest piece of a picture in kitty's protocol."""
_COLOURS = 255
_SIXEL_TERMS = ("foot", "mlterm", "contour", "yaft")
_BAND = 6
"""Rows of pixels that one row of sixels holds."""


class Inline(Enum):
    """How a terminal takes pictures."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    SIXEL = "sixel"


def detect(environ: Mapping[str, str], is_terminal: bool) -> Inline | None:
    """What the terminal of this environment takes; None for nothing, or for no terminal.

    Raises:
        ConfigError: the variable that overrides it has another value.
    """
    wanted = environ.get(VARIABLE, "")
    if wanted:
        if wanted == "none":
            return None
        try:
            return Inline(wanted)
        except ValueError:
            raise ConfigError(
                f"{VARIABLE} is {wanted!r}", "use kitty, iterm2, sixel or none"
            ) from None
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if not is_terminal or environ.get("TMUX") or term.startswith(("screen", "tmux")):
        return None  # multiplexers swallow the pictures
    if "kitty" in term or environ.get("KITTY_WINDOW_ID") or program in ("WezTerm", "ghostty"):
        return Inline.KITTY
    if "iTerm" in program or environ.get("LC_TERMINAL") == "iTerm2" or program == "mintty":
        return Inline.ITERM2
    if "sixel" in term or term.startswith(_SIXEL_TERMS):
        return Inline.SIXEL
    return None


def show(pixels: Pixels, how: Inline) -> str:
    """The characters that show (H, W, 3) uint8 `pixels`, a line break at their end included."""
    if how is Inline.SIXEL:
        return _sixel(pixels) + "\n"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = base64.standard_b64encode(file.getvalue()).decode()
    if how is Inline.ITERM2:
        size = len(file.getvalue())
        return f"\x1b]1337;File=inline=1;size={size};preserveAspectRatio=1:{data}\x07\n"
    return "".join(_kitty(data)) + "\n"


def _kitty(data: str) -> Iterator[str]:
    pieces = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    for number, piece in enumerate(pieces):
        more = int(number < len(pieces) - 1)
        head = f"a=T,f=100,m={more}" if number == 0 else f"m={more}"
        yield f"\x1b_G{head};{piece}\x1b\\"


def _sixel(pixels: Pixels) -> str:
    """DEC's sixels: a palette, then for each six rows one line of columns a colour."""
    image = Image.fromarray(pixels).quantize(_COLOURS, dither=Image.Dither.NONE)
    indices = np.asarray(image)  # (H, W)
    palette = np.array(image.getpalette(), dtype=np.int64).reshape(-1, 3)
    height, width = indices.shape
    used = np.unique(indices)
    said = [f'\x1bPq"1;1;{width};{height}']
    for colour in used:
        red, green, blue = (round(value * 100 / 255) for value in palette[colour].tolist())
        said.append(f"#{colour};2;{red};{green};{blue}")
    for top in range(0, height, _BAND):
        said.append("$".join(_band(indices[top : top + _BAND])) + "-")
    return "".join(said) + "\x1b\\"


def _band(rows: np.ndarray) -> Iterator[str]:
    """The columns of up to six rows, colour by colour."""
    weights = 1 << np.arange(len(rows))
    for colour in np.unique(rows):
        columns = ((rows == colour) * weights[:, None]).sum(axis=0)
        yield f"#{colour}" + "".join(_runs(columns.tolist()))


def _runs(columns: list[int]) -> Iterator[str]:
    """Each column as a character, repeated ones as a count."""
    start = 0
    for end in range(1, len(columns) + 1):
        if end == len(columns) or columns[end] != columns[start]:
            char, count = chr(63 + columns[start]), end - start
            yield f"!{count}{char}" if count > 3 else char * count
            start = end
