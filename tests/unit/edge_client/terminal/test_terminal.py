"""Pictures between lines, read back from the characters that show them, and the line editor."""

from __future__ import annotations

import base64
import io
import os
import pty
import re
import select
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from edge_client.terminal.inline_pictures import Inline, detect, show
from edge_client.terminal.line_editor import LineEditor
from shared_protocol.errors import ConfigError

PIXELS = np.random.default_rng(3).integers(0, 255, (50, 40, 3), dtype=np.uint8)
FLAT = np.zeros((14, 9, 3), dtype=np.uint8)
FLAT[3:9, 2:6] = (255, 0, 0)
FLAT[10:, :] = (0, 102, 51)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty"}, Inline.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Inline.KITTY),
        ({"TERM_PROGRAM": "WezTerm"}, Inline.KITTY),
        ({"TERM_PROGRAM": "iTerm.app"}, Inline.ITERM2),
        ({"LC_TERMINAL": "iTerm2"}, Inline.ITERM2),
        ({"TERM": "foot"}, Inline.SIXEL),
        ({"TERM": "xterm-sixel"}, Inline.SIXEL),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "UNIMIC_INLINE": "none"}, None),
        ({"UNIMIC_INLINE": "sixel"}, Inline.SIXEL),
    ],
)
def test_what_a_terminal_takes_is_found_in_its_environment(environ, found) -> None:
    assert detect(environ, True) is found


def test_what_is_no_terminal_takes_nothing_unless_it_is_told_to() -> None:
    assert detect({"TERM": "xterm-kitty"}, False) is None
    assert detect({"UNIMIC_INLINE": "kitty"}, False) is Inline.KITTY


def test_another_word_for_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="kitty, iterm2, sixel or none"):
        detect({"UNIMIC_INLINE": "ascii"}, True)


def opened(data: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.standard_b64decode(data))) as image:
        return np.array(image)


def test_kitty_gets_a_png_in_pieces() -> None:
    pieces = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", show(PIXELS, Inline.KITTY))
    assert pieces[0][0].startswith("a=T,f=100,m=1")
    assert [keys[-1] for keys, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
    assert all(len(data) <= 4096 for _, data in pieces)
    assert np.array_equal(opened("".join(data for _, data in pieces)), PIXELS)


def test_iterm_gets_a_png_in_one_piece() -> None:
    found = re.fullmatch("\x1b]1337;File=inline=1;size=(\\d+);[^:]*:([^\x07]*)\x07\n",
                         show(PIXELS, Inline.ITERM2))  # fmt: skip
    assert found is not None
    assert int(found[1]) == len(base64.standard_b64decode(found[2]))
    assert np.array_equal(opened(found[2]), PIXELS)


def from_sixels(text: str) -> np.ndarray:
    """What a terminal draws of sixels."""
    head = re.match('\x1bPq"1;1;(\\d+);(\\d+)', text)
    assert head is not None
    width, height = int(head[1]), int(head[2])
    drawn = np.zeros((height + 6, width, 3), dtype=np.int64)
    palette, colour, x, y = {}, 0, 0, 0
    tokens = re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([$-])|([?-~])",
                         text[head.end() : -3])  # fmt: skip
    for token in tokens:
        number, red, green, blue, count, repeated, control, single = token.groups()
        if number is not None:
            colour = int(number)
            if red is not None:
                palette[colour] = (int(red), int(green), int(blue))
        elif control is not None:
            x, y = 0, y + (6 if control == "-" else 0)
        else:
            char, times = (repeated, int(count)) if count else (single, 1)
            for bit in range(6):
                if (ord(char) - 63) >> bit & 1:
                    drawn[y + bit, x : x + times] = palette[colour]
            x += times
    return drawn[:height]


@pytest.mark.parametrize("pixels", [FLAT, PIXELS])
def test_sixels_draw_the_picture_in_its_palette(pixels) -> None:
    quantised = Image.fromarray(pixels).quantize(255, dither=Image.Dither.NONE).convert("RGB")
    expected = np.rint(np.array(quantised, dtype=float) * 100 / 255)
    assert np.array_equal(from_sixels(show(pixels, Inline.SIXEL)), expected)


def test_lines_come_from_a_pipe_until_its_end(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo"))
    editor = LineEditor(lambda line: [])
    assert [editor.read("> "), editor.read("> "), editor.read("> ")] == ["one", "two", None]


SCRIPT = """
from edge_client.terminal.line_editor import LineEditor
editor = LineEditor(lambda line: ["/outpaint "] if line.startswith("/o") else [], ["earlier"])
while (line := editor.read("> ")) is not None:
    print("got", repr(line), flush=True)
"""


def until(terminal: int, mark: bytes) -> bytes:
    """What a terminal shows up to `mark`, or in five seconds."""
    said, deadline = b"", time.monotonic() + 5
    while mark not in said and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:
                break
    return said


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX's")
def test_at_a_terminal_arrows_bring_lines_back_and_tab_completes() -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=inner, stdout=inner, stderr=inner,
        env={**os.environ, "TERM": "xterm", "INPUTRC": "/dev/null"},
    )  # fmt: skip
    os.close(inner)
    said = b""
    for keys in (b"\x1b[A\n", b"/o\tx\n", b"\x04"):
        said += until(outer, b"> ")
        os.write(outer, keys)
        said += until(outer, b"\n") if keys != b"\x04" else b""
    process.kill()
    process.wait(20)
    os.close(outer)
    assert b"got 'earlier'" in said
    assert b"got '/outpaint x'" in said
