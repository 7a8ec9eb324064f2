"""Turns data sets that the user has into evaluation folders: five of those that papers use.

It fetches nothing, and asks nothing of a server. Pictures are copied, so that the folder stands by
itself; `edge-client evaluate --data OUT` reads it.

::

    python -m edge_client.evaluation.convert_data KIND FOLDER OUT [--limit N]

| kind | what FOLDER holds |
| --- | --- |
| pope | coco_pope_*.json (one object a line), and the pictures of COCO val2014 anywhere in it |
| gqa | *questions*.json ({id: {question, answer, imageId}}), and IMAGEID.jpg |
| vizwiz | *val*.json (a list of {image, question, answers}), and the pictures |
| flickr30k | results*.token or *.csv, or dataset_flickr30k.json, and the pictures |
| magicbrush | edit_turns.json (a list of {input, mask, instruction}), and the pictures by name |
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_client.evaluation.data import PICTURES
from edge_client.evaluation.grading import RULE, YES_OR_NO
from shared_protocol.cases import Case, write_cases
from shared_protocol.errors import ConfigError, ImageError, UnimicError
from shared_protocol.tokens import Flags

IMAGES, MASKS = "images", "masks"
DESCRIBE = "describe the picture"


@dataclass(frozen=True)
class Source:
    """A data set as its owner unpacked it.

    Args:
        folder: all of it.
    """

    folder: Path

    @cached_property
    def _pictures(self) -> dict[str, Path]:
        """File name -> the first file of this name."""
        found: dict[str, Path] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in PICTURES:
                found.setdefault(path.name, path)
        return found

    def picture(self, name: str) -> Path:
        """The picture of this file name, wherever in the folder.

        Raises:
            ConfigError: there is none.
        """
        path = self._pictures.get(Path(name).name)
        if path is None:
            raise ConfigError(f"{self.folder} holds no picture {name!r}", "unpack the pictures too")
        return path

    def files(self, *patterns: str) -> list[Path]:
        """The files of the first pattern that has any, in order.

        Raises:
            ConfigError: there are none.
        """
        for pattern in patterns:
            found = sorted(path for path in self.folder.rglob(pattern) if path.is_file())
            if found:
                return found
        raise ConfigError(f"{self.folder} holds no {' or '.join(patterns)}", "see --help")


@dataclass
class Target:
    """The folder that is written.

    Args:
        folder: made where it is missing.
    """

    folder: Path
    _copied: dict[Path, str] = field(default_factory=dict)

    def copy(self, path: Path) -> str:
        """Copy a picture, once; its name relative to the folder."""
        if path not in self._copied:
            number = len(self._copied) + 1
            name = f"{IMAGES}/{number:05d}-{path.name}"
            (self.folder / IMAGES).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self.folder / name)
            self._copied[path] = name
        return self._copied[path]

    def mask(self, name: str, flags: Flags) -> str:
        """Write (H, W) bool as a mask, white where True; its name relative to the folder."""
        (self.folder / MASKS).mkdir(parents=True, exist_ok=True)
        Image.fromarray((flags * 255).astype(np.uint8)).save(self.folder / MASKS / f"{name}.png")
        return f"{MASKS}/{name}.png"


def convert(kind: str, folder: Path, out: Path, limit: int | None = None) -> int:
    """Write the cases of a data set, and return how many there are.

    Args:
        kind: one of `READERS`.
        folder: the data set.
        out: the evaluation folder.
        limit: most cases; None = all.

    Raises:
        ConfigError: the folder holds no such data set, or a file of it cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", "unpack the data set into one")
    cases: list[Case] = []
    try:
        for case in READERS[kind](Source(folder), Target(out)):
            cases.append(case)
            if limit is not None and len(cases) >= limit:
                break
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        where = f"entry {len(cases) + 1} of {kind}"
        raise ConfigError(f"{where} in {folder} has another form: {error!r}", "see --help") from (
            error
        )
    if not cases:
        raise ConfigError(f"{folder} holds no case of {kind}", "see --help")
    counts = {task: sum(case.task == task for case in cases) for task in ("inpaint", "vqa")}
    about = {"name": kind, "split": folder.name, "created_by": "convert_data", "counts": counts}
    out.mkdir(parents=True, exist_ok=True)
    write_cases(out, cases, about)
    return len(cases)


# ------------------------------------------------------------------------------------------------
# Readers, one for each data set
# ------------------------------------------------------------------------------------------------


def _pope(source: Source, target: Target) -> Iterator[Case]:
    number = 0
    for path in source.files("coco_pope_*.json*", "*pope*.json*"):
        kind = path.stem.rpartition("_")[2]  # random, popular, adversarial
        for entry in _json_lines(path):
            number += 1
            image = target.copy(source.picture(entry["image"]))
            case = _question(f"pope-{number:05d}", entry["text"], image, (entry["label"],), kind)
            yield replace(case, truth={RULE: YES_OR_NO})


def _gqa(source: Source, target: Target) -> Iterator[Case]:
    number = 0
    for path in source.files("*questions*.json"):
        for entry in _json(path, dict).values():
            number += 1
            image = target.copy(source.picture(f"{entry['imageId']}.jpg"))
            kind = (entry.get("types") or {}).get("structural", "")
            answers = (str(entry["answer"]),)
            yield _question(f"gqa-{number:05d}", entry["question"], image, answers, kind)


def _vizwiz(source: Source, target: Target) -> Iterator[Case]:
    for number, entry in enumerate(_json(source.files("*val*.json", "*.json")[0], list), 1):
        image = target.copy(source.picture(entry["image"]))
        # Ten people answered; each distinct answer is accepted.
        answers = tuple(dict.fromkeys(str(one["answer"]) for one in entry["answers"]))
        kind = str(entry.get("answer_type", ""))
        yield _question(f"vizwiz-{number:05d}", entry["question"], image, answers, kind)


def _flickr30k(source: Source, target: Target) -> Iterator[Case]:
    path = source.files("dataset_flickr30k.json", "results*.token", "*.token", "*.csv")[0]
    for number, (name, captions) in enumerate(_captions(path).items(), 1):
        image = target.copy(source.picture(name))
        yield _question(f"flickr30k-{number:05d}", DESCRIBE, image, tuple(captions), "describe")


def _captions(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if path.suffix == ".json":
        for entry in _json(path, dict)["images"]:
            if entry.get("split", "test") == "test":
                found[entry["filename"]] = [one["raw"].strip() for one in entry["sentences"]]
        return found
    text = _read(path)
    if path.suffix == ".token":
        pairs = [line.split("\t", 1) for line in text.splitlines() if "\t" in line]
        named = [(place.rpartition("#")[0], caption) for place, caption in pairs]
    else:
        rows = list(csv.reader(text.splitlines(), delimiter="|" if "|" in text else ","))
        named = [(row[0], row[-1]) for row in rows[1:] if len(row) > 1]
    for name, caption in named:
        found.setdefault(name.strip(), []).append(caption.strip())
    return found


def _magicbrush(source: Source, target: Target) -> Iterator[Case]:
    told = _output_captions(source)
    for number, entry in enumerate(_json(source.files("edit_turns.json")[0], list), 1):
        name, path = f"magicbrush-{number:05d}", source.picture(entry["input"])
        flags = edited_part(path, source.picture(entry["mask"]))
        prompt = told.get(str(entry.get("output", ""))) or entry["instruction"]
        yield Case(
            id=name,
            task="inpaint",
            prompt=str(prompt),
            image=target.copy(path),
            mask=target.mask(name, flags),
            seed=number,
            truth={"instruction": entry["instruction"]},
        )


def _output_captions(source: Source) -> dict[str, str]:
    """What each edited picture shows, where the data set says so; else its instruction is asked."""
    found: dict[str, str] = {}
    for path in source.folder.rglob("global_descriptions.json"):
        for named in _json(path, dict).values():
            found.update({str(name): str(text) for name, text in named.items()})
    return found


def edited_part(picture: Path, mask: Path) -> Flags:
    """(H, W) bool, True where a mask says that its picture was edited.

    The masks are the picture with the part cut out (transparent), or painted over in white; a mask
    of black and white only is one already.

    Raises:
        ImageError: a file is no picture, or the mask has another size or marks nothing.
    """
    try:
        with Image.open(mask) as opened, Image.open(picture) as original:
            shape = np.asarray(opened.convert("RGBA"))
            source = np.asarray(original.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{mask} or {picture} is no readable picture: {error}") from error
    if shape.shape[:2] != source.shape[:2]:
        raise ImageError(f"{mask.name} is no mask of {picture.name}: it has another size")
    white: Flags = np.asarray((shape[..., :3] >= 250).all(axis=-1))
    black: Flags = np.asarray((shape[..., :3] <= 5).all(axis=-1))
    if (shape[..., 3] < 128).any():
        found: Flags = shape[..., 3] < 128
    elif (white | black).all():
        found = white
    else:
        found = white & np.asarray((source < 250).any(axis=-1))
    if not found.any():
        raise ImageError(f"{mask.name} marks nothing of {picture.name}")
    return found


def _question(name: str, text: str, image: str, answers: tuple[str, ...], kind: str) -> Case:
    number = int(name.rpartition("-")[2])
    return Case(name, "vqa", str(text), image, answers=answers, kind=kind, seed=number)


READERS: Mapping[str, Callable[[Source, Target], Iterator[Case]]] = {
    "pope": _pope,
    "gqa": _gqa,
    "vizwiz": _vizwiz,
    "flickr30k": _flickr30k,
    "magicbrush": _magicbrush,
}
"""Data set -> its cases, in its own order."""


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "unpack it again") from error


def _json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(_read(path))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}", "unpack it again") from error
    if not isinstance(value, kind):
        raise ConfigError(f"{path} holds no {kind.__name__}", "see --help")
    return value


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """One object a line, or a list of them."""
    text = _read(path)
    try:
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}", "unpack it again") from error


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m edge_client.evaluation.convert_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("kind", choices=tuple(READERS))
    made.add_argument("folder", type=Path, help="the data set")
    made.add_argument("out", type=Path, help="the evaluation folder to write")
    made.add_argument("--limit", type=int, help="most cases [all]")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert what was asked for."""
    given = parser().parse_args(arguments)
    try:
        count = convert(given.kind, given.folder, given.out, given.limit)
    except UnimicError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{count} cases: edge-client evaluate --data {given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
