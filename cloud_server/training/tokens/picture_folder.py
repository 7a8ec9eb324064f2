"""A folder of pictures and the words that go with them: files in, pixels and captions out.

It does not know tokens. Words come from one file for all pictures, or from a `NAME.txt` beside
`NAME.jpg`, a caption a line; pictures without words are welcome, too::

    captions.json     {"a.jpg": "a red car", "sub/b.jpg": ["a cat", "an animal"]}
    captions.jsonl    {"file_name": "a.jpg", "text": "a red car"}      one a line
    captions.tsv      a.jpg <TAB> a red car                            one a line
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from shared_protocol.errors import ConfigError, ImageError
from shared_protocol.tokenizers.image import Pixels

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp"})
NAME_KEYS = ("file_name", "file", "image")
TEXT_KEYS = ("text", "caption")
WHITE = (255, 255, 255, 255)
_SHOWN = 3
"""Names that an error gives as examples."""
_FORMATS = "a .json object, .jsonl rows with file_name and text, or .tsv lines of name, TAB, text"


@dataclass(frozen=True)
class CaptionedPicture:
    """One file and its captions.

    Args:
        path: of the picture.
        captions: none, one or several.
    """

    path: Path
    captions: tuple[str, ...] = ()


def find_pictures(folder: Path, captions: Path | None = None) -> list[CaptionedPicture]:
    """Every picture under `folder`, sorted, with its words.

    Args:
        folder: searched recursively.
        captions: file of captions; None looks for a .txt beside each picture.

    Raises:
        ConfigError: no pictures there, or captions that cannot be read or name unknown pictures.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", "name a folder of pictures with --images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ConfigError(f"no pictures under {folder}", f"put some there: {_listed(SUFFIXES)}")
    if captions is None:
        return [CaptionedPicture(path, _words_beside(path)) for path in paths]
    words = read_captions(captions)
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    unknown = sorted(set(words) - set(names))
    if unknown:
        raise ConfigError(
            f"{captions} names {len(unknown)} pictures that {folder} lacks, such as "
            f"{_listed(unknown, _SHOWN)}",
            "name pictures by their paths inside the folder, and no others",
        )
    return [CaptionedPicture(path, words.get(name, ())) for name, path in names.items()]


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Picture name to captions, from a file of one of the three forms.

    Raises:
        ConfigError: it cannot be read, or is of another form.
    """
    readers = {".json": _json_rows, ".jsonl": _jsonl_rows, ".tsv": _tsv_rows}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"{path} is no known file of captions", f"use {_FORMATS}")
    found: dict[str, tuple[str, ...]] = {}
    try:
        for name, texts in readers[path.suffix.lower()](path.read_text(encoding="utf-8")):
            found[name] = (*found.get(name, ()), *texts)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "check --captions") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} holds no captions: {error}", f"use {_FORMATS}") from error
    return found


def read_pixels(path: Path, height: int, width: int) -> Pixels:
    """A picture, upright, on white where it is transparent, its centre scaled to the wanted size.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageError: not a readable picture.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot read {path}: {error}", "repair it or take it away") from error
    flat = Image.alpha_composite(Image.new("RGBA", upright.size, WHITE), upright).convert("RGB")
    return np.asarray(ImageOps.fit(flat, (width, height), Image.Resampling.BICUBIC))


def _words_beside(path: Path) -> tuple[str, ...]:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return ()
    try:
        lines = beside.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {beside}: {error}", "save it as UTF-8 text") from error
    return _cleaned(lines)


def _json_rows(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, value in json.loads(text).items():
        yield _as_name(name), _texts(value)


def _jsonl_rows(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            row = json.loads(line)
            yield _as_name(_first(row, NAME_KEYS, number)), _texts(_first(row, TEXT_KEYS, number))


def _tsv_rows(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            name, tab, words = line.partition("\t")
            if not tab:
                raise ValueError(f"line {number} has no TAB")
            yield _as_name(name), _texts(words)


def _first(row: Mapping[str, Any], keys: Sequence[str], number: int) -> Any:
    for key in keys:
        if key in row:
            return row[key]
    raise ValueError(f"line {number} has none of {_listed(keys)}")


def _texts(value: Any) -> tuple[str, ...]:
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or not all(isinstance(text, str) for text in several):
        raise TypeError(f"{value!r} is neither a text nor a list of texts")
    return _cleaned(several)


def _cleaned(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())


def _as_name(name: Any) -> str:
    return str(name).strip().removeprefix("./")


def _listed(names: Iterable[str], most: int | None = None) -> str:
    return ", ".join(sorted(names)[:most])
