"""Turns the easy-vqa data set into image codes with their questions, made once.

easy-vqa (PyPI `easy-vqa` 1.0, MIT, Victor Zhou): 5,000 pictures of one coloured shape, 64x64, with
about ten questions each and an official split. Knows the package and the image tokenizer's file,
no transformer::

    OUT/SPLIT.npy     uint16 [N, 16, 16], of the pictures enlarged to 256x256
    OUT/SPLIT.jsonl   one line a picture: [[question, answer], ...]

Run it through `cloud-server train easy-vqa --tokenizer FILE --out DIR`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from cloud_server.training.scenes.language import QA
from cloud_server.training.tokens.photo_tokens import encode
from cloud_server.training.tokens.shards import write_shard
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.compact import load_compact

logger = logging.getLogger(__name__)

SIDE_PIXELS = 256
SPLITS = ("train", "test")
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SMOKE_PICTURES = 8


@dataclass(frozen=True)
class QuestionedImage:
    """Image codes (side, side) uint16 and what is asked about them."""

    codes: np.ndarray
    asked: tuple[QA, ...]

    @property
    def shape(self) -> str | None:
        """The shape in the picture, if a question or an answer gives it away."""
        for qa in self.asked:
            told = [shape for shape in SHAPES if shape in (qa.answer, *qa.question[:-1].split())]
            if told and (qa.answer not in ("yes", "no") or affirms(qa)):
                return told[0]
        return None

    @property
    def foreground(self) -> np.ndarray:
        """(side, side) bool: cells whose code is not the commonest, which is the background's."""
        values, counts = np.unique(self.codes, return_counts=True)
        return np.asarray(self.codes != values[counts.argmax()])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--tokenizer", type=Path, required=True, help="image_tokenizer.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for the codes")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_PICTURES} pictures only")


def run(args: argparse.Namespace) -> int:
    """Write one split; returns the process's exit status."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    asked = list(questions_by_picture(args.split))
    if args.smoke:
        asked = asked[:SMOKE_PICTURES]
    pictures = np.stack([enlarged(path) for path, _ in asked])
    codes = encode(load_compact(args.tokenizer), pictures)
    rows = [[[qa.question, qa.answer] for qa in qas] for _, qas in asked]
    write_shard(args.out / f"{args.split}.npy", codes, rows)
    logger.info("wrote %s: %d pictures", args.split, len(asked))
    return 0


def questions_by_picture(split: str) -> Iterator[tuple[Path, tuple[QA, ...]]]:
    """(picture, its questions) of an official split, in the order of the pictures' numbers.

    Raises:
        ConfigError: the package is not installed.
    """
    package = _package()
    paths = getattr(package, f"get_{split}_image_paths")()
    grouped: dict[int, list[QA]] = defaultdict(list)
    for question, answer, number in zip(*getattr(package, f"get_{split}_questions")(), strict=True):
        grouped[number].append(QA(question, answer, kind_of(answer)))
    for number in sorted(grouped):
        yield Path(paths[number]), tuple(grouped[number])


def kind_of(answer: str) -> str:
    """What a question of easy-vqa asks for, told by its answer.

    >>> kind_of("no"), kind_of("circle"), kind_of("teal")
    ('presence', 'shape', 'colour')
    """
    if answer in ("yes", "no"):
        return "presence"
    return "shape" if answer in SHAPES else "colour"


def affirms(qa: QA) -> bool:
    """Whether a yes/no question and its answer say that something is there.

    >>> affirms(QA("is there a circle?", "yes", "presence"))
    True
    >>> affirms(QA("is no circle present?", "no", "presence"))
    True
    """
    is_negative = not {"no", "not"}.isdisjoint(qa.question.split())
    return (qa.answer == "yes") != is_negative


def enlarged(path: Path) -> np.ndarray:
    """uint8 [256, 256, 3] of a picture file, as the edge client would resize it."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    return np.asarray(whole.resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BICUBIC))


def load(folder: Path, split: str = "train") -> list[QuestionedImage]:
    """Read what `run` wrote."""
    codes = np.load(folder / f"{split}.npy")
    lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        QuestionedImage(grid, tuple(QA(q, a, kind_of(a)) for q, a in json.loads(line)))
        for grid, line in zip(codes, lines, strict=True)
    ]


def _package() -> ModuleType:
    try:
        return importlib.import_module("easy_vqa")
    except ImportError as error:
        raise ConfigError(
            "the package easy-vqa is not installed", "install it: pip install easy-vqa==1.0"
        ) from error
