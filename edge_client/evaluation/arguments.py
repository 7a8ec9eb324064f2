"""The options of `edge-client evaluate`, and what their values may be.

It does not know what a section measures; nothing else of the evaluation is imported here.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_client.task_arguments import positive, seed

T = TypeVar("T")

SECTIONS = (
    "t2i",
    "inpaint",
    "outpaint",
    "vqa",
    "ablation",
    "text",
    "rate-control",
    "rounds",
    "sessions",
    "codecs",
    "cmc",
    "neck",
    "all",
)
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)", re.DOTALL)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "sections", nargs="+", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS)
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="cases.jsonl or pictures, captions beside them or not [a small set that comes along]",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("evaluation"),
        metavar="FOLDER",
        help="for results; a second run goes on where the first one stopped, so name another one "
        "after the server's weights or an external codec have changed [evaluation]",
    )
    parser.add_argument("--spawn", action="store_true", help="start a server for this run")
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="most cases of a task, or pictures [all]"
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="decoding steps [the bundle's]")
    parser.add_argument("--seed", type=seed, default=0, help="added to the seed of every case [0]")
    parser.add_argument(
        "--keep-ratio",
        type=float,
        action="append",
        dest="keep_ratios",
        metavar="R",
        help="a share of tokens for 'rate-control' and 'neck'; may be repeated "
        "[1, 0.75, 0.5, 0.25, 0.1]",
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="texts of the section 'text', one a line"
    )
    _add_codecs(parser)
    _add_models(parser)


def _add_codecs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--codecs",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAMES",
        help="pixel codecs to compare with, such as jpeg,hevc,vvc,vq-kmeans [all that run here]",
    )
    parser.add_argument(
        "--external",
        nargs=4,
        action="append",
        default=[],
        metavar=("NAME", "ENCODE", "DECODE", "RATES"),
        help="a codec of your own: a command with {in} (PNG), {out} and {rate}, one with {in} and "
        "{out} (PNG), and its rates from the coarsest, by commas; may be repeated",
    )
    parser.add_argument(
        "--qp",
        type=_settings,
        default=[],
        metavar="LIST",
        help="also run 'codecs' and 'cmc' at these quantisers, such as 53,51,48,45; 'paper' = the "
        "settings of the paper's section VI-A ('codecs' only)",
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models and sweeps of 'cmc'")
    group.add_argument(
        "--i2t",
        type=_named,
        action="append",
        default=[],
        metavar="[NAME=]CMD",
        help="describes a picture: a command with {in}, that prints the text or writes {out}; it "
        "may use {words}; may be repeated, the first is the others' fixed partner",
    )
    group.add_argument(
        "--t2i",
        type=_named,
        action="append",
        default=[],
        metavar="[NAME=]CMD",
        help="makes a picture: a command with {text} and {out}, that may use {image} (empty "
        "without one), {strength} and {seed}; may be repeated",
    )
    group.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="texts written before: JSON {name: text}, or lines of name, tab and text",
    )
    group.add_argument(
        "--words",
        type=_list_of(positive),
        default=[],
        metavar="LIST",
        help="also with captions cut to so many words, such as 5,10,20,50",
    )
    group.add_argument(
        "--strength",
        type=_list_of(_share),
        default=[],
        metavar="LIST",
        help="also at these shares drawn anew, such as 0.2,0.4,0.6,0.8; 0 draws nothing",
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return value


def _list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    def parse(text: str) -> list[T]:
        return list(dict.fromkeys(kind(part.strip()) for part in text.split(",")))

    return parse


def _settings(text: str) -> list[int | str]:
    def one(part: str) -> int | str:
        return part if part == "paper" else positive(part)

    return _list_of(one)(text)


def _named(text: str) -> tuple[str, str]:
    """Name and command; the name is that of the program where none is given."""
    found = _NAMED.fullmatch(text)
    if found:
        return found[1], found[2]
    words = text.split()
    if not words:
        raise argparse.ArgumentTypeError("a command is missing")
    return Path(words[0]).stem, text
