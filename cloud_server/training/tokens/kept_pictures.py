"""Pictures that the backbone drew itself and that passed a check, kept to be learned from.

Knows files, scenes and the order in which a picture came about; no engine, words or masks. Of each
picture a shard holds the codes and a row beside them::

    OUT/train_00000.npy     uint16 [N, H, W] codes as they were given back
    OUT/train_00000.jsonl   {"scene": what was asked for, "prompt": in these words,
                             "order": uint8 [H, W] as hex,
                             "draft": uint16 [H, W] as hex, left out where it is the codes}

The scene says what was asked for: its background, its objects, and the ninth of the picture that
each was to stand in. Where in that ninth an object stands is not known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cloud_server.training.scenes.world import Scene
from cloud_server.training.tokens.shards import write_shard
from shared_protocol.errors import InvalidInputError

UNKNOWN = -1
_LATEST = 255


@dataclass(frozen=True, eq=False)
class KeptPicture:
    """A picture with the way in which it was drawn.

    Attributes:
        scene: what was asked for.
        prompt: in these words.
        codes: (H, W) as they were given back.
        order: (H, W) uint8, how many updates of the picture were over when the cell last changed;
            what was drawn first, and never mended, has the lowest numbers.
        draft: (H, W) codes when the last cell was drawn, before anything was mended.
    """

    scene: Scene
    prompt: str
    codes: np.ndarray
    order: np.ndarray
    draft: np.ndarray

    @property
    def row(self) -> dict[str, Any]:
        """What is kept beside the codes."""
        told: dict[str, Any] = {
            "scene": self.scene.to_dict(),
            "prompt": self.prompt,
            "order": self.order.astype(np.uint8).tobytes().hex(),
        }
        if not np.array_equal(self.draft, self.codes):
            told["draft"] = self.draft.astype("<u2").tobytes().hex()
        return told

    @staticmethod
    def from_row(codes: np.ndarray, row: dict[str, Any]) -> KeptPicture:
        """Undo `row`.

        Raises:
            ValueError, KeyError: it is damaged.
        """
        order = np.frombuffer(bytes.fromhex(row["order"]), np.uint8).reshape(codes.shape)
        draft = codes
        if "draft" in row:
            draft = np.frombuffer(bytes.fromhex(row["draft"]), "<u2").reshape(codes.shape)
        return KeptPicture(Scene.from_dict(row["scene"]), row["prompt"], codes, order, draft)


@dataclass
class DrawingPath:
    """Watches a picture while it is made."""

    seen: list[np.ndarray] = field(default_factory=list)

    def note(self, codes: np.ndarray) -> None:
        """Take down (H, W) codes after an update; -1 where there are none yet."""
        self.seen.append(codes.copy())

    def order(self, final: np.ndarray) -> np.ndarray:
        """`KeptPicture.order` of a picture that ended as `final`; 0 where nothing was seen."""
        last = np.zeros(final.shape, dtype=np.uint8)
        for number, codes in enumerate(self.seen, 1):
            last[codes != final] = min(number, _LATEST)
        return last

    def draft(self, final: np.ndarray) -> np.ndarray:
        """`KeptPicture.draft`; the final codes if the picture was never seen whole before them.

        An engine shows its guess at all cells after every step, and once more what it gives back,
        so that the draft is the last whole picture before the last update.
        """
        whole = [codes for codes in self.seen[:-1] if (codes != UNKNOWN).all()]
        return whole[-1] if whole else final


def write_kept(path: Path, pictures: Sequence[KeptPicture], shape: tuple[int, int]) -> Path:
    """Keep a shard, which may be empty; `shape` is that of a picture's codes."""
    codes = np.array([picture.codes for picture in pictures]).reshape(-1, *shape).astype(np.int64)
    return write_shard(path, codes, [picture.row for picture in pictures])


def load_kept(folder: Path) -> list[KeptPicture]:
    """All pictures of a folder's shards.

    Raises:
        InvalidInputError: a shard is damaged.
    """
    return [picture for path in sorted(folder.glob("train_*.npy")) for picture in _read(path)]


def _read(path: Path) -> list[KeptPicture]:
    try:
        lines = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
        return [
            KeptPicture.from_row(codes, json.loads(line))
            for codes, line in zip(np.load(path), lines, strict=True)
        ]
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{path} is no shard of kept pictures: {error!r}", "delete it, and draw it again"
        ) from error
