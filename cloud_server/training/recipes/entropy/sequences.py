"""Training sequences for the entropy models: token shards in, batches of all scenarios out.

It does not know the network. Coding contexts are drawn as the tasks make them (whole images,
everything but a mask, only a mask, only a border) and laid out by the same code that serves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloud_server.training.scenes.language import caption
from cloud_server.training.scenes.world import Scene, Split
from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.entropy.model import Batch
from shared_protocol.entropy.scenarios import Layout, layout, target_slots
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.tokens import Codes, Flags

PIXELS_PER_TOKEN = 16
STROKE_STEPS = 40


@dataclass(frozen=True, eq=False)
class Picture:
    """One tokenised picture and how to find words for it.

    Args:
        codes: (H, W) int32.
        scene: its truth, for captions; None for photographs.
        text: the caption itself, where it is fixed (generated pictures).
        scenario: the scenario that codes it with text.
        targets: (H, W) the positions that a backbone filled in; None = no part in particular.
    """

    codes: Codes
    scene: Scene | None = None
    text: str | None = None
    scenario: Scenario = Scenario.TEXT_CONDITIONED
    targets: Flags | None = None


@dataclass(frozen=True)
class Example:
    """What one sequence is made of."""

    scenario: Scenario
    context: CodingContext
    codes: Codes
    offset: tuple[int, int] = (0, 0)


@dataclass
class Pool:
    """Pictures of one kind, read from shards that may still be arriving."""

    folder: Path | None
    pattern: str = "train_*.npy"
    scenario: Scenario = Scenario.TEXT_CONDITIONED
    pictures: list[Picture] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def refresh(self) -> int:
        """Read shards that are new; returns the number of pictures."""
        for path in sorted(self.folder.glob(self.pattern)) if self.folder else []:
            if path.name not in self.seen:
                self._add(path)
        return len(self.pictures)

    def _add(self, path: Path) -> None:
        truth = path.with_suffix(".jsonl")
        try:
            codes = np.load(path).astype(np.int32)
            lines = truth.read_text(encoding="utf-8").splitlines() if truth.is_file() else []
            rows = [json.loads(line) for line in lines] or [None] * len(codes)
        except (ValueError, EOFError):
            return  # still being written
        if len(rows) == len(codes):
            self.seen.add(path.name)
            pairs = zip(codes, rows, strict=True)
            self.pictures += [self._picture(grid, row) for grid, row in pairs]

    def _picture(self, codes: Codes, row: Any) -> Picture:
        if row is None:
            return Picture(codes, scenario=self.scenario)
        if "text" in row:
            targets = _flags(row["targets"], codes.shape) if "targets" in row else None
            return Picture(codes, None, str(row["text"]), self.scenario, targets)
        return Picture(codes, Scene.from_dict(row), scenario=self.scenario)


def _flags(text: str, shape: tuple[int, ...]) -> Flags:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    return bits[: int(np.prod(shape))].reshape(shape).astype(bool)


class Sampler:
    """Draws examples: a picture, a window of it, a task's context, a text.

    Args:
        tokenizer: text to ids; None gives every sequence an empty text.
        shares: weight of each way to make a context, as in configs/entropy.toml.
        options: `[data]` of the same file.
        side: of the position tables.
        split: whose wordings the captions use.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer | None,
        shares: dict[str, float],
        options: dict[str, float],
        side: int,
        split: Split = "train",
    ) -> None:
        self.tokenizer, self.options, self.side, self.split = tokenizer, options, side, split
        self.ways = list(shares)
        weights = np.array([shares[way] for way in self.ways])
        self.weights = weights / weights.sum()

    def draw(self, picture: Picture, rng: np.random.Generator, way: str | None = None) -> Example:
        """One example of `picture`; `way` fixes how (whole grid, in place), else all is random.

        A picture with `targets` of its own is an answer to an inpainting: only they are coded.
        """
        if picture.targets is not None and way in (None, "text_inside"):
            return self._example(picture.scenario, picture.codes, picture.targets, picture, rng)
        chosen = way or str(rng.choice(self.ways, p=self.weights))
        if chosen not in WAYS:
            raise ValueError(f"unknown share {chosen!r}: use {sorted(WAYS)}")
        scenario, make_targets, known = WAYS[chosen]
        if scenario is Scenario.TEXT_CONDITIONED:
            scenario = picture.scenario
        codes = picture.codes if way else self._window(picture.codes, rng)
        targets = make_targets(codes.shape, picture, rng)
        example = self._example(scenario, codes, targets, picture, rng, known)
        return example if way else replace(example, offset=self._offset(codes.shape, rng))

    def _example(
        self,
        scenario: Scenario,
        codes: Codes,
        targets: Flags,
        picture: Picture,
        rng: np.random.Generator,
        known: bool = True,
    ) -> Example:
        held = ~targets & known
        held_codes = np.where(held, codes, 0).astype(np.int32)
        context = CodingContext(targets, held, held_codes, self.text(picture, rng))
        return Example(scenario, context, codes[targets])

    def text(self, picture: Picture, rng: np.random.Generator) -> Codes:
        """(N,) ids of a caption; photographs have none, or one that is not theirs."""
        words = picture.text
        if words is None and picture.scene is not None:
            words = caption(picture.scene, rng, self.split)
        if words is None or self.tokenizer is None:
            return np.zeros(0, dtype=np.int32)
        return self.tokenizer.encode(words).ids

    def _window(self, codes: Codes, rng: np.random.Generator) -> Codes:
        if rng.random() >= self.options["window_share"]:
            return codes
        height, width = (int(rng.integers(min(8, side), side + 1)) for side in codes.shape)
        top = int(rng.integers(codes.shape[0] - height + 1))
        left = int(rng.integers(codes.shape[1] - width + 1))
        return codes[top : top + height, left : left + width]

    def _offset(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
        if rng.random() >= self.options["offset_share"]:
            return 0, 0
        row, column = (int(rng.integers(self.side - side + 1)) for side in shape)
        return row, column


def whole(shape: tuple[int, ...], picture: Picture, rng: np.random.Generator) -> Flags:
    """Every position is a target."""
    return np.ones(shape, dtype=bool)


def outside_mask(shape: tuple[int, ...], picture: Picture, rng: np.random.Generator) -> Flags:
    """Everything but a region, as inpainting sends it up."""
    return ~region(shape, picture, rng)


def inside_mask(shape: tuple[int, ...], picture: Picture, rng: np.random.Generator) -> Flags:
    """Only a region, as inpainting sends it down."""
    return region(shape, picture, rng)


def border(shape: tuple[int, ...], picture: Picture, rng: np.random.Generator) -> Flags:
    """Everything but a window, as outpainting sends it down."""
    flags = np.ones(shape, dtype=bool)
    lows = [int(rng.integers(0, side // 2)) for side in shape]
    highs = [int(rng.integers(side // 2, side)) for side in shape]
    for axis in (0, 1):
        if rng.random() < 0.5:  # most extensions go one way only
            lows[axis], highs[axis] = 0, shape[axis]
    flags[lows[0] : highs[0], lows[1] : highs[1]] = False
    if not flags.any():
        flags[:, : max(1, shape[1] // 2)] = True
    return flags


WAYS = {
    "generic": (Scenario.GENERIC, whole, False),
    "generic_subset": (Scenario.GENERIC, outside_mask, False),
    "masked": (Scenario.MASKED, outside_mask, False),
    "text": (Scenario.TEXT_CONDITIONED, whole, False),
    "text_inside": (Scenario.TEXT_CONDITIONED, inside_mask, True),
    "text_border": (Scenario.TEXT_CONDITIONED, border, True),
}
"""Share name -> (scenario, targets, whether the rest is known)."""


def region(shape: tuple[int, ...], picture: Picture, rng: np.random.Generator) -> Flags:
    """A mask as users draw it: object box, rectangle, ellipse, stroke or scattered tokens."""
    kind = rng.random()
    if kind < 0.3 and picture.scene is not None and picture.codes.shape == shape:
        flags = _object_box(shape, picture.scene, rng)
    elif kind < 0.55:
        flags = _box(shape, rng)
    elif kind < 0.75:
        flags = _ellipse(shape, rng)
    elif kind < 0.9:
        flags = _stroke(shape, rng)
    else:
        flags = rng.random(shape) < rng.uniform(0.05, 0.6)
    if flags.all() or not flags.any():
        flags = np.zeros(shape, dtype=bool)
        flags[shape[0] // 2, shape[1] // 2] = True
    return flags


def _object_box(shape: tuple[int, ...], scene: Scene, rng: np.random.Generator) -> Flags:
    thing = scene.objects[int(rng.integers(len(scene.objects)))]
    flags = np.zeros(shape, dtype=bool)
    low, high = -(-thing.size // PIXELS_PER_TOKEN), PIXELS_PER_TOKEN
    top, left = thing.y // high, thing.x // high
    flags[max(0, top) : top + low + 1, max(0, left) : left + low + 1] = True
    return flags


def _box(shape: tuple[int, ...], rng: np.random.Generator) -> Flags:
    flags = np.zeros(shape, dtype=bool)
    sizes = [int(rng.integers(1, max(2, int(side * 0.7)))) for side in shape]
    top, left = (int(rng.integers(s - n + 1)) for s, n in zip(shape, sizes, strict=True))
    flags[top : top + sizes[0], left : left + sizes[1]] = True
    return flags


def _ellipse(shape: tuple[int, ...], rng: np.random.Generator) -> Flags:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centre = rng.uniform(0, 1, 2) * shape
    radii = rng.uniform(0.1, 0.4, 2) * shape + 0.5
    down, right = (rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1]
    return np.asarray(down**2 + right**2 < 1)


def _stroke(shape: tuple[int, ...], rng: np.random.Generator) -> Flags:
    flags = np.zeros(shape, dtype=bool)
    place, heading = rng.uniform(0, 1, 2) * shape, rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(4, STROKE_STEPS))):
        row, column = np.clip(place.astype(int), 0, np.array(shape) - 1)
        flags[row : row + 2, column : column + 2] = True
        heading += rng.normal(0, 0.4)
        place = place + np.array([np.sin(heading), np.cos(heading)])
    return flags


def collate(examples: Sequence[Example], config: EntropyConfig) -> Batch:
    """Lay out examples and pad them: texts on the left block, grid entries on the right."""
    plans = [layout(example.scenario, example.context, config) for example in examples]
    text_length = max(len(plan.text) for plan in plans)
    length = max(len(plan.prefix_kinds) + plan.count for plan in plans)
    rows = [
        _grid_rows(plan, example, config, length)
        for plan, example in zip(plans, examples, strict=True)
    ]
    slots, places, kinds, codes = (np.stack(column) for column in zip(*rows, strict=True))
    text = [np.pad(plan.text, (0, text_length - len(plan.text))) for plan in plans]
    used = np.array([len(plan.text) for plan in plans])
    return Batch(
        text=_tensor(np.stack(text)),
        text_valid=torch.from_numpy(np.arange(text_length) < used[:, None]),
        slots=_tensor(slots),
        places=_tensor(places),
        kinds=_tensor(kinds),
        prefix=_tensor(np.array([len(plan.prefix_kinds) for plan in plans])),
        length=_tensor(np.array([len(plan.prefix_kinds) + plan.count for plan in plans])),
        codes=_tensor(codes),
    )


def _grid_rows(
    plan: Layout, example: Example, config: EntropyConfig, length: int
) -> tuple[Codes, Codes, Codes, Codes]:
    """Slots, places, kinds and codes of prefix and targets, zeros up to `length`."""
    prefix = len(plan.prefix_kinds)
    spare = length - prefix - plan.count
    slots = np.concatenate([plan.prefix_slots, target_slots(plan, example.codes, config)])
    places = np.concatenate([plan.prefix_places, plan.target_places]) + np.array(example.offset)
    kinds = np.concatenate([plan.prefix_kinds, np.full(plan.count, plan.target_kind)])
    codes = np.concatenate([np.zeros(prefix, dtype=np.int32), example.codes])
    return (
        np.pad(slots, ((0, spare), (0, 0))),
        np.pad(places, ((0, spare), (0, 0))),
        np.pad(kinds, (0, spare)),
        np.pad(codes, (0, spare)),
    )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64))
