"""Every input of `tests/cases`, and what a user gets for it: a result, or a refusal with a remedy.

A row says what comes out. A refusal says in `why` why nothing better is possible.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from terminal import Terminal, leave_home

CASES = Path(__file__).parents[2] / "cases"
BOX = ("--box", "64,64,96,96")


@dataclass(frozen=True)
class Case:
    """One row.

    Args:
        files: of `tests/cases` that it is about.
        words: of the command; file names are looked up.
        size: of the picture that comes out; None for an answer or a refusal.
        mode: of that picture.
        tokens: how many are repainted, if that is the point.
        changed: x, y of a place that changes, in the result's pixels.
        warns: parts of warnings.
        says: parts of the error of a refusal.
        why: nothing better is possible.
    """

    files: tuple[str, ...]
    words: tuple[str, ...]
    size: tuple[int, int] | None = None
    mode: str = "RGB"
    tokens: int | None = None
    changed: tuple[int, int] | None = None
    warns: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    why: str = ""


def masked(mask: str, *more: str, photo: str = "square256.png", **told: Any) -> Case:
    size = told.pop("size", None if told.get("says") else (256, 256))
    return Case((photo, mask), ("inpaint", photo, "a fox", "--mask", mask, *more), size, **told)


def boxed(photo: str, size: tuple[int, int] | None, *more: str, **told: Any) -> Case:
    return Case((photo,), ("inpaint", photo, "a fox", *(more or BOX)), size, **told)


def asked(photo: str, *more: str, **told: Any) -> Case:
    return Case((photo,), ("vqa", photo, "what is there?", *more), **told)


STROKES = {"tokens": 36, "changed": (128, 128)}
TABLE = [
    # Masks in every convention.
    masked("mask_white_strokes_on_transparent.png", **STROKES),
    masked("mask_red_strokes_on_transparent.png", **STROKES),
    masked("mask_black_strokes_on_transparent.png", **STROKES),
    masked("mask_inverted.png", tokens=220, warns=("86% of the picture is repainted",)),
    masked("mask_inverted.png", "--invert-mask", tokens=36),
    masked("square256.png", warns=("looks like the photo itself", "--invert-mask")),
    masked("mask_feathered.png", changed=(128, 128)),
    masked(
        "mask_feathered_weak_peak122.png",
        says=("its brightest value is 122", "128 to 255 is repainted", "--mask-threshold to 122"),
        why="nobody can tell a weak mask from an empty one that is not quite black",
    ),
    masked("mask_feathered_weak_peak122.png", "--mask-threshold", "61", changed=(128, 128)),
    masked("mask_values_0_1.png", changed=(128, 128)),
    masked("mask_1bit.png", tokens=32),
    masked("mask_palette.png", changed=(128, 128)),
    masked("mask_palette01.png", changed=(128, 128)),
    masked("mask_twice_size.png", tokens=36),
    masked(
        "mask_other_shape.png",
        says=("is 256x200", "256x256", "both have one shape"),
        why="where on the photo a mask of another shape lies cannot be told",
    ),
    masked(
        "mask_wide_outside_crop.png", photo="wide640x360.png", size=(640, 360), changed=(60, 150)
    ),
    # Photos with an orientation.
    masked(
        "mask_stored_orientation_400x300.png",
        photo="exif6_stored400x300.jpg",
        size=(300, 400),
        changed=(220, 80),
        warns=("was drawn on the unturned picture",),
    ),
    masked(
        "mask_upright_300x400.png",
        photo="exif6_stored400x300.jpg",
        size=(300, 400),
        changed=(80, 80),
    ),
    masked(
        "mask_square_stored_topleft.png",
        photo="exif6_square.jpg",
        changed=(40, 40),
        warns=("does not tell on which side it was drawn", "--mask-drawn-on stored"),
    ),
    masked(
        "mask_square_stored_topleft.png",
        "--mask-drawn-on",
        "stored",
        photo="exif6_square.jpg",
        changed=(216, 40),
    ),
    # Shapes and sizes.
    boxed("square256.png", (256, 256), changed=(110, 110)),
    boxed("wide640x360.png", (640, 360), "--box", "600,100,40,40", changed=(620, 120)),
    boxed("tall360x640.png", (360, 640), "--box", "-10,0,80,80", changed=(30, 30),
          warns=("12% of the box -10,0,80,80 lies outside",)),
    boxed("photo4000x3000.jpg", (4000, 3000), "--box", "1800,1300,400,400", changed=(2000, 1500)),
    boxed("panorama1080x5200.png", (1080, 5200), "--box", "9,4900,300,300", changed=(150, 5050)),
    boxed("sliver20x2000.png", (20, 2000), "--box", "0,1000,20,8", changed=(10, 1004),
          warns=("only 20x2000 pixels",)),
    boxed("tiny15.png", (15, 15), "--box", "0,0,8,8", changed=(3, 3), warns=("only 15x15",)),
    asked("wide640x360.png", warns=("44% of wide640x360.png (199 of 455 tokens)", "--fit pad")),
    asked("panorama1080x5200.png", warns=("79% of panorama1080x5200.png", "--window")),
    asked("panorama1080x5200.png", "--fit", "pad"),
    asked("tall360x640.png", "--window", "bottom", warns=("lies outside",)),
    Case(("panorama1080x5200.png",), ("outpaint", "panorama1080x5200.png", "", "--down", "25%"),
         (1080, 5200 + 1351), changed=(500, 6000)),
    Case(("photo4000x3000.jpg",), ("outpaint", "photo4000x3000.jpg", "sand", "--to", "16:9"),
         (5333, 3000), changed=(100, 100)),
    Case(("sliver20x2000.png",), ("outpaint", "sliver20x2000.png", "", "--right", "8"),
         says=("1600 tokens", "cut the photo"),
         why="a canvas of 64 tokens cannot hold a side that is 100 times the other"),
    # Colours and formats.
    boxed("cmyk.jpg", (256, 256), changed=(110, 110)),
    boxed("grey16.png", (256, 256), mode="I;16", changed=(110, 110)),
    boxed("anim.gif", (64, 64), "--box", "16,16,32,32", changed=(30, 30), warns=("first is used",)),
    boxed("png_named.jpg", (256, 256), changed=(110, 110)),
    boxed("upper.PNG", (256, 256), changed=(110, 110)),
    boxed("truncated.jpg", None, says=("cut short", "download it again"),
          why="what is missing of a file cannot be edited"),
    boxed("photo.heic", None, says=("HEIC",), why="the file has 88 bytes and no picture"),
    boxed("drawing.svg", None, says=("vector drawing", "export it as a PNG"),
          why="drawing it would need a program of its own"),
    boxed("page.html.jpg", None, says=("web page", "download the picture itself"),
          why="there is no picture in it"),
    boxed("png_100_megapixels.png", None, says=("10000x10000", "full size in 450 MiB", "--native"),
          why="an edit of it would take 1.7 GB"),
    Case(("png_100_megapixels.png",), ("vqa", "png_100_megapixels.png", "what?"),
         says=("10000x10000", "of such a PNG picture", "450 MiB"),
         why="PNG cannot be read at a part of its size"),
    Case(("prompt_long.txt",), ("t2i", (CASES / "prompt_long.txt").read_text()),
         says=("the prompt has 1200 tokens, at most 40 fit",), why="the model takes no more"),
]  # fmt: skip


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    leave_home(monkeypatch, tmp_path)
    return Terminal(monkeypatch, capsys, grid=(16, 16))


def test_every_file_has_a_row() -> None:
    known = {name for case in TABLE for name in case.files}
    assert {path.name for path in CASES.iterdir()} - {"README.md"} == known


def test_a_refusal_says_why_nothing_better_is_possible() -> None:
    assert all(bool(case.says) == bool(case.why) for case in TABLE)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: " ".join(case.words)[:60])
def test_the_input_gives_what_the_table_says(run: Terminal, case: Case) -> None:
    words = [str(CASES / word) if word in case.files else word for word in case.words]
    code, out, err = run(*words, "--json")
    data = json.loads(out)
    if case.says:
        assert code == 2
        assert all(part in err for part in case.says), err
        assert err.count("\n") == 1
        assert run.cloud.messages == []
        return
    assert code == 0, err
    assert bool(data["warnings"]) == bool(case.warns), data["warnings"]
    assert all(part in " ".join(data["warnings"]) for part in case.warns), data["warnings"]
    assert all(f"warning: {line}" in err for line in data["warnings"])
    if case.tokens is not None:
        assert run.cloud.requests[0].mask.count == case.tokens
    if case.size is not None:
        _check_picture(case, words[1], data["output"])


def _check_picture(case: Case, source: str, output: str) -> None:
    from edge_client.pictures.opening import open_photo

    with Image.open(output) as image:
        assert (image.size, image.mode) == (case.size, case.mode)
        after = np.asarray(image).astype(int)
    if case.changed is None:
        return
    x, y = case.changed
    if case.words[0] == "outpaint":
        assert abs(after[y, x].astype(int) - 200).max() <= 33  # what the fake cloud paints
        return
    photo = open_photo(Path(source)).image
    before = np.asarray(photo if photo.mode == case.mode else photo.convert(case.mode)).astype(int)
    apart = np.abs(after - before).reshape(*after.shape[:2], -1).max(axis=2)
    assert apart[y, x] > 2, "what is under the mask is new"
    assert (apart == 0).mean() > 0.05, "what is not, is the photo's own"
