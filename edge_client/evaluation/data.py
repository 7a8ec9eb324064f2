"""Where the cases of an evaluation come from: an evaluation folder, photographs, or the samples.

It does not know sessions, servers or results. `case_files` has the format of an evaluation folder.
Any other folder of pictures works, too: one inpainting, outpainting and question of each picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_client.pictures.images import Picture
from edge_client.pictures.masks import box_mask, load_mask, token_mask
from shared_protocol.cases import CASES, DATA, Case, load_cases
from shared_protocol.errors import ConfigError
from shared_protocol.tokens import TokenMask

SAMPLES = Path(__file__).parents[1] / "samples" / "evaluation"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm")
GENERIC_PROMPT = "a photograph"
GENERIC_QUESTION = "describe the picture"
EXTENSION = {"left": 8, "right": 0, "up": 0, "down": 0}
"""Eight token columns, half the width of a picture, as an outpainting of a photograph asks for."""


@dataclass(frozen=True)
class Data:
    """All cases and where they come from.

    Args:
        name, split: from `data.json`, or made up for other folders.
        folder: what the pictures of the cases are relative to.
        cases: in their order.
        seed: that the data were drawn with; None if they were not.
    """

    name: str
    folder: Path
    cases: tuple[Case, ...]
    split: str = ""
    seed: int | None = None

    def of(self, task: str) -> list[Case]:
        """The cases of one task, in their order."""
        return [case for case in self.cases if case.task == task]

    def picture(self, case: Case) -> Path:
        """The source picture of a case that has one."""
        assert case.image is not None, "t2i has no picture"
        return self.folder / case.image

    @property
    def pictures(self) -> list[Path]:
        """Every source picture once, in order of first use."""
        return list(dict.fromkeys(self.picture(case) for case in self.cases if case.image))


def token_mask_of(
    folder: Path, case: Case, picture: Picture, grid: tuple[int, int]
) -> TokenMask | None:
    """The tokens that a case repaints of its picture; None where it repaints nothing.

    Raises:
        ImageError: its mask is no readable picture.
        MaskError: nothing of it lies where the model sees.
    """
    if case.mask is not None:
        return token_mask(load_mask(folder / case.mask, picture), grid)
    return None if case.box is None else token_mask(box_mask([case.box], picture), grid)


def read_data(folder: Path) -> Data:
    """The cases of an evaluation folder, or those made of a folder of pictures.

    Raises:
        ConfigError: there is no such folder, nothing usable in it, or a line is no case.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", "name one with --data")
    if not (folder / CASES).is_file():
        return photograph_data(folder)
    about = _read_object(folder / DATA) if (folder / DATA).is_file() else {}
    cases = tuple(load_cases(folder))
    repeated = len(cases) - len({case.id for case in cases})
    if repeated or not cases:
        fault = f"{repeated} ids occur twice" if cases else "it holds no cases"
        raise ConfigError(f"{folder / CASES}: {fault}", "write the folder again")
    name, split = str(about.get("name", folder.name)), str(about.get("split", ""))
    seed = about.get("seed")
    return Data(name, folder, cases, split, None if seed is None else int(seed))


def photograph_data(folder: Path) -> Data:
    """Cases made of a folder of pictures: a picture's own number is the seed of its cases.

    Captions come from `captions.json` ({file name: caption or list of captions}) or from a text
    file beside a picture (NAME.txt, one caption a line). They become the prompts and the reference
    answers of "describe the picture", and a prompt of "t2i" each. Without them prompts are generic
    and there is no "t2i".

    Raises:
        ConfigError: there is no picture in the folder.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        known = ", ".join(PICTURES)
        raise ConfigError(f"{folder} holds neither {CASES} nor pictures", f"known are {known}")
    captions = _captions(folder, paths)
    cases: list[Case] = []
    for number, path in enumerate(paths, 1):
        name = path.relative_to(folder).as_posix()
        cases += _cases_of(path, name, captions.get(name, ()), number)
    return Data(folder.name, folder, tuple(cases), "photographs")


def _cases_of(path: Path, name: str, captions: tuple[str, ...], number: int) -> list[Case]:
    prompt, tail = captions[0] if captions else GENERIC_PROMPT, f"{number:04d}"
    asked = {
        "inpaint": Case(f"inpaint-{tail}", "inpaint", prompt, name, box=_centre_box(path)),
        "outpaint": Case(f"outpaint-{tail}", "outpaint", prompt, name, extend=EXTENSION),
        "vqa": Case(
            f"vqa-{tail}", "vqa", GENERIC_QUESTION, name, answers=captions, kind="describe"
        ),
    }
    drawn = [Case(f"t2i-{tail}", "t2i", prompt, seed=number)] if captions else []
    return [*drawn, *asked.values()]


def _centre_box(path: Path) -> tuple[int, int, int, int]:
    """Half the shorter side squared, in the middle: a quarter of the model's centre crop."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            width, height = ImageOps.exif_transpose(image).size
    except OSError as error:
        raise ConfigError(f"{path} is not a readable picture: {error}", "remove it") from error
    side = min(width, height) // 2
    return (width - side) // 2, (height - side) // 2, side, side


def _captions(folder: Path, paths: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    listing = folder / "captions.json"
    listed = _read_object(listing) if listing.is_file() else {}
    found = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        texts = _texts(listed, path, name)
        if texts:
            found[name] = texts
    return found


def _texts(listed: Mapping[str, Any], path: Path, name: str) -> tuple[str, ...]:
    given, beside = listed.get(name, listed.get(path.name)), path.with_suffix(".txt")
    if given is None and beside.is_file():
        given = beside.read_text(encoding="utf-8").splitlines()
    texts = [given] if isinstance(given, str) else list(given or ())
    return tuple(str(text).strip() for text in texts if str(text).strip())


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "write it again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is no JSON object", "write it again")
    return value
