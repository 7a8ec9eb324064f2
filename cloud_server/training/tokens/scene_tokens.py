"""Tokenised scenes, read from the shards that `token_cache` writes.

Knows files and scenes; no words, masks or network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_server.training.scenes.world import Scene
from shared_protocol.errors import InvalidInputError


@dataclass(frozen=True)
class TokenisedScene:
    """A scene and its image codes (side, side)."""

    scene: Scene
    codes: np.ndarray


class TokenShards:
    """The scenes in a folder: `*.npy` uint16 (M, side, side) beside `*.jsonl` of M scenes.

    `refresh` picks up shards that arrived since; codes whose scenes are not there yet wait.

    Raises:
        InvalidInputError: a shard is damaged.
    """

    def __init__(self, folder: Path, pattern: str = "train_*.npy") -> None:
        self._folder, self._pattern = folder, pattern
        self._seen: set[str] = set()
        self._codes: list[np.ndarray] = []
        self._scenes: list[Scene] = []
        self.refresh()

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> TokenisedScene:
        return TokenisedScene(self._scenes[index], self._codes[index])

    def refresh(self) -> int:
        """Read new shards; returns how many scenes are known now."""
        for path in sorted(self._folder.glob(self._pattern)):
            truth = path.with_suffix(".jsonl")
            if path.name not in self._seen and truth.is_file():
                codes, scenes = _read(path, truth)
                self._seen.add(path.name)
                self._codes.extend(codes)
                self._scenes.extend(scenes)
        return len(self)


def _read(path: Path, truth: Path) -> tuple[np.ndarray, list[Scene]]:
    remedy = f"delete {path.name} and {truth.name}, and make them again"
    try:
        codes: np.ndarray = np.load(path)
        lines = truth.read_text(encoding="utf-8").splitlines()
        scenes = [Scene.from_dict(json.loads(line)) for line in lines]
    except (ValueError, EOFError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} is no shard of scenes: {error!r}", remedy) from error
    if len(scenes) != len(codes):
        raise InvalidInputError(f"{path}: {len(codes)} pictures but {len(scenes)} scenes", remedy)
    return codes, scenes
