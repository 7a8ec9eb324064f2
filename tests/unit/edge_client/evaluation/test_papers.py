"""The page about the papers: every row has a command that is understood, or a reason."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from cloud_server.training.command import RECIPES
from edge_client import arguments, evaluation

ROOT = Path(__file__).parents[4]
PAGE = Path(evaluation.__file__).parent / "PAPERS.md"
NOT_HERE = "not here: "
_CODE = re.compile(r"`([^`]+)`")
TITLES = ("UniMIC", "CMC-Bench", "Bridging")
PARTS = {
    "UniMIC": [
        *(f"Table {number}" for number in ("I", "II", "III", "IV", "V", "VI", "VII")),
        *(f"Fig. {number}" for number in (1, 2, 3, 4, 9, 10, 11, 12, 13)),
        "Figs. 5 to 8",
        *("Eq. 1 to 4", "Eq. 5 to 7", "Eq. 8", "Eq. 9", "Eq. 10, 11, 13, 14", "Eq. 12", "Eq. 15"),
        *("bpp", "PSNR", "LPIPS", "FID", "CLIP-T", "CLIP-I", "R-CLIP-I", "ACC, EM", "BLEU, CIDEr"),
        *("POPE", "GQA", "VizWiz", "Flickr30k", "MagicBrush"),
        *("BPG", "VVC", "VQ-Kmeans", "MS-ILLM", "DiffEIC", "VI-B"),
    ],
    "CMC-Bench": [
        *(f"Table {number}" for number in (1, 2, 3, 4, 5, 6, "A1")),
        *(f"Fig. {n}" for n in (1, 2, 3, 4, 5, 6, 7, *(f"A{k}" for k in range(1, 12)))),
        *("Eq. 1", "Eq. 2", "mode text", "mode pixel", "mode image", "mode full", "loss", "score"),
        *("TOPIQ-FR", "AHIQ", "DISTS", "PieAPP", "CLIPIQA", "CNNIQA", "DBCNN", "HyperIQA", "LIQE"),
        *("CLIPSIM", "SSIM", "SRCC", "KRCC", "MOS"),
    ],
    "Bridging": [
        *(f"Table {number}" for number in range(1, 6)),
        *(f"Fig. {number}" for number in range(1, 13)),
        *(f"Eq. {number}" for number in range(1, 5)),
        *("d1", "d2", "d3", "Reconstruction", "Post-processing", "kMAC"),
    ],
}


def rows() -> list[tuple[str, str, str]]:
    """(paper, item, command) of every row."""
    found, paper = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            paper = next(title for title in TITLES if line.startswith(f"## {title}"))
        elif line.startswith("| ") and not line.startswith(("| of the paper", "| ---")):
            item, command, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
            found.append((paper, item, command))
    return found


ROWS = rows()


def understood(words: list[str]) -> None:
    """Read a command as its program would; SystemExit and errors mean that it does not."""
    program, *rest = words
    if program == "edge-client":
        arguments.parse(rest)
    elif program == "cloud-server":
        assert rest[0] == "train"
        assert rest[1] in RECIPES
        assert rest[2:] in ([], ["--help"])
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(rest[0])}:", makefile, re.MULTILINE)
    elif program == "pytest":
        assert (ROOT / rest[0]).is_file()
    else:
        assert (program, rest[0]) == ("python", "-m")
        module = importlib.import_module(rest[1])
        made = next(getattr(module, n) for n in ("parser", "_parser") if hasattr(module, n))
        made().parse_args(rest[2:])


@pytest.mark.parametrize(("item", "command"), [row[1:] for row in ROWS], ids=lambda text: text[:40])
def test_every_row_has_a_command_or_a_reason(item: str, command: str) -> None:
    if command.startswith(NOT_HERE):
        assert len(command) > len(NOT_HERE) + 20
        return
    codes = _CODE.findall(command)
    assert len(codes) == 1, f"{item}: one command"
    assert f"`{codes[0]}`" == command
    understood(shlex.split(codes[0]))


@pytest.mark.parametrize("paper", PARTS)
def test_every_part_of_a_paper_has_a_row(paper: str) -> None:
    items = [item for title, item, _ in ROWS if title == paper]
    told = " ; ".join(items)
    for part in PARTS[paper]:
        if re.fullmatch(r"(Table|Fig\.|Eq\.) A?\w+", part):
            kind, number = part.split()
            assert any(_names(item, kind, number) for item in items), part
        else:
            assert part in told, part


def _names(item: str, kind: str, number: str) -> bool:
    """Whether an item is about a table, figure or equation: "Fig. A5, Fig. A6", "Fig. 12 to 15"."""
    stem = kind.rstrip(".")
    head = item if item.startswith(stem) else ""
    if re.search(rf"(?<![A-Za-z0-9]){re.escape(number)}(?![A-Za-z0-9])", head):
        return True
    digits = number.removeprefix("A")
    for first, last in re.findall(r"A?(\d+) to A?(\d+)", head):
        if digits.isdecimal() and int(first) <= int(digits) <= int(last):
            return True
    return False


def test_what_is_not_understood_is_noticed() -> None:
    for words in (["edge-client", "evaluate", "nothing"], ["make", "nothing"], ["pytest", "no.py"]):
        with pytest.raises(Exception):  # noqa: B017 - each program refuses in its own way
            understood(words)
