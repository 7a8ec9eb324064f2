"""Two pictures with a case of every task each, as an evaluation folder, and a run over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from edge_fakes import FakeBundle

from edge_client.evaluation.context import Context, Section, Table
from edge_client.evaluation.data import read_data
from edge_client.pictures.outputs import save_picture


def waves(seed: int = 0) -> np.ndarray:
    """(64, 64, 3) uint8: slow waves of grey."""
    y, x = np.mgrid[:64, :64] / 20.0
    grey = np.rint(120 + 60 * np.sin(x + seed) + 50 * np.cos(y)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def write_folder(folder: Path) -> Path:
    """Four cases of each of two pictures; the second picture's hole is a mask file."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    hole = np.zeros((64, 64), dtype=np.uint8)
    hole[:32, :16] = hole[:16, :32] = 255
    save_picture(folder / "masks" / "2.png", np.repeat(hole[..., None], 3, axis=2))
    lines: list[dict[str, Any]] = []
    for number in (1, 2):
        name = f"images/{number}.png"
        save_picture(folder / name, waves(number))
        own: dict[str, Any] = {"image": name, "seed": number}
        where = {"box": [16, 16, 16, 32]} if number == 1 else {"mask": "masks/2.png"}
        extend = {"extend": {"left": 1, "right": 2}}
        asked = {"answers": ["cba"], "kind": "describe"}
        lines += [
            {"id": f"t2i-{number}", "task": "t2i", "prompt": "a fox", "seed": number},
            {"id": f"inpaint-{number}", "task": "inpaint", "prompt": "a ball", **own, **where},
            {"id": f"outpaint-{number}", "task": "outpaint", "prompt": "a sea", **own, **extend},
            {"id": f"vqa-{number}", "task": "vqa", "prompt": "abc", **own, **asked},
        ]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def fake_context(folder: Path, out: Path, server: str, **changes: Any) -> Context:
    """A run over a folder against a server of fakes."""
    settings = {"steps": 2, "quiet": True, **changes}
    return Context(read_data(folder), out, FakeBundle(), server, **settings)  # type: ignore[arg-type]


def rows_of(section: Section, name: str) -> list[dict[str, Any]]:
    """The rows of a table by column."""
    found: Table = next(table for table in section.tables if table.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
