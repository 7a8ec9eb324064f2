"""A small network that says what a picture of the built-in world shows, where, and how often.

Knows pixels, names of objects and of backgrounds; no scenes, no tokens and no prompts. It is a
detector by cells and serves to judge generated pictures, nothing else::

    pixels (B, 3, H, W) ─ 4x4 patches ─ convolutions ─ stride 16 ─┬─ class of every cell (0: none)
                                                                  └─ background of every column
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from cloud_server.necks.cell_net import STRIDE, CellNet
from shared_protocol.errors import CheckpointError

SHIPPED = Path(__file__).parents[2] / "weights" / "judge" / "judge.safetensors"
"""Made by `cloud-server train judge` with its defaults."""
THRESHOLD = 0.5
REACH = 2
"""Cells around a detection in which no other object can have its centre."""


@dataclass(frozen=True)
class Sighting:
    """An object that the judge sees; (x, y) is its centre in pixels."""

    name: str
    x: float
    y: float
    confidence: float


class Judge:
    """A trained network with its names.

    Args:
        net: in evaluation mode.
        names: of its objects, in the order of its classes.
        backgrounds: of its background classes.
        about: how it was made, for reports.
    """

    def __init__(
        self, net: CellNet, names: Sequence[str], backgrounds: Sequence[str], about: dict[str, str]
    ) -> None:
        self.net, self.about = net.eval(), about
        self.names, self.backgrounds = tuple(names), tuple(backgrounds)

    @torch.no_grad()
    def look(self, picture: np.ndarray) -> tuple[list[Sighting], np.ndarray]:
        """What one picture shows.

        Args:
            picture: uint8 [H, W, 3], sides multiples of 16.

        Returns:
            The objects, the surest first, and log probabilities [W/16, backgrounds].
        """
        cells, columns = self.net(to_input(picture[None]))
        shares = cells[0].softmax(0).numpy()
        return find_objects(shares, self.names), columns[0].log_softmax(0).T.numpy()

    def background(self, columns: np.ndarray) -> str:
        """The most likely background of some columns [n, backgrounds]."""
        return self.backgrounds[int(columns.mean(axis=0).argmax())]

    def save(self, path: Path) -> None:
        """Write half-precision weights and the names."""
        state = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self.net.state_dict().items()
        }
        metadata = {
            "names": json.dumps(self.names),
            "backgrounds": json.dumps(self.backgrounds),
            **self.about,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, path, metadata)
        path.chmod(0o644)  # safetensors leaves it to its owner alone

    @classmethod
    def load(cls, path: Path) -> Judge:
        """Read what `save` wrote.

        Raises:
            CheckpointError: no such file, or not a judge's.
        """
        try:
            with safe_open(path, "pt") as file:
                about = dict(file.metadata() or {})
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            names = json.loads(about.pop("names"))
            backgrounds = json.loads(about.pop("backgrounds"))
            net = CellNet(len(names), len(backgrounds))
            net.load_state_dict(
                {key: v.float() if v.is_floating_point() else v for key, v in state.items()}
            )
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"cannot read the judge {path}: {error}", "make one: 'cloud-server train judge'"
            ) from error
        return cls(net, names, backgrounds, about)


def to_input(pictures: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 (B, 3, H, W) in -1..1."""
    pixels = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float()
    return pixels / 127.5 - 1


def find_objects(shares: np.ndarray, names: Sequence[str]) -> list[Sighting]:
    """Cells that are surely an object's centre, the surest first, none close to a surer one.

    Args:
        shares: (1 + objects, h, w) probabilities, class 0 = nothing.
        names: of classes 1, 2, ….
    """
    best = shares[1:].max(axis=0)
    found: list[Sighting] = []
    taken = np.zeros(best.shape, dtype=bool)
    for flat in np.argsort(-best, axis=None):
        row, column = divmod(int(flat), best.shape[1])
        if best[row, column] < THRESHOLD:
            break
        if taken[row, column]:
            continue
        taken[_around(row, REACH), _around(column, REACH)] = True
        kind = int(shares[1:, row, column].argmax())
        y, x = _centre(shares[1 + kind], row, column)
        found.append(Sighting(names[kind], x, y, float(best[row, column])))
    return found


def _centre(share: np.ndarray, row: int, column: int) -> tuple[float, float]:
    """(y, x) in pixels: the mean place of one class around a cell."""
    rows, columns = _around(row, 1), _around(column, 1)
    part = share[rows, columns]
    ys, xs = np.mgrid[: part.shape[0], : part.shape[1]]
    total = float(part.sum())
    y = rows.start + float((part * ys).sum()) / total
    x = columns.start + float((part * xs).sum()) / total
    return (y + 0.5) * STRIDE, (x + 0.5) * STRIDE


def _around(index: int, reach: int) -> slice:
    return slice(max(0, index - reach), index + reach + 1)


def judge_loss(cells: Tensor, columns: Tensor, classes: Tensor, backgrounds: Tensor) -> Tensor:
    """What training lowers.

    Args:
        cells: (B, 1 + objects, h, w) logits.
        columns: (B, backgrounds, w) logits.
        classes: (B, h, w) int64: 0 nothing, -1 not counted.
        backgrounds: (B,) int64.
    """
    each = F.cross_entropy(cells, classes, ignore_index=-1, reduction="none")
    objects = classes > 0
    nothing = classes == 0
    found = each[objects].sum() / objects.sum().clamp(min=1)
    missed = 1 - torch.exp(-each[nothing].detach())  # most empty cells are soon easy
    empty = (missed * each[nothing]).sum() / objects.sum().clamp(min=1)
    places = F.cross_entropy(columns, backgrounds[:, None].expand(-1, columns.shape[2]))
    return found + empty + 0.5 * places
