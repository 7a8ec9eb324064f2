"""Training batches of the unified transformer, from tokenised scenes that know their own truth.

Knows captions, questions and masks; no pixels and no network.

Two kinds of batches, both without padding beyond what a batch needs to align (position ids count
the pads that are absent)::

    t2i   t2i sot caption eot │ soi  image, partly masked  eoi      targets: masked codes
    mmu   mmu soi image eoi │ sot question 1 answer 1 eot │ sot question 2 answer 2 eot │ ...
          └ seen by all ──┘   └ sees the image and itself; positions start over after the image

The image may be a rectangle of the grid (a window around one object): shorter sequences, true
positions, and words about the objects inside only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cloud_server.generation.prompting import pad_left, pad_right, t2i_mask, text_block
from cloud_server.training.recipes.backbone.batch import Batch, Links, packed_mask
from cloud_server.training.recipes.backbone.data_config import DataConfig
from cloud_server.training.recipes.backbone.hidden_tokens import TokenHider
from cloud_server.training.recipes.backbone.word_coder import Turn, WordCoder
from cloud_server.training.scenes.language import QA, caption, describe, phrase, questions
from cloud_server.training.scenes.scene_grid import Rectangle, SceneGrid
from cloud_server.training.scenes.typed_forms import typed_form
from cloud_server.training.scenes.word_lists import PHRASES
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.easy_vqa import SHAPES, QuestionedImage
from cloud_server.training.tokens.scene_tokens import TokenisedScene
from shared_protocol.vocabulary import Vocabulary

IGNORED = -100
_OFFERS = 3
"""Rounds of questions that are offered for one picture; repeated ones are asked once."""
_PROBED_BACKGROUND = 0.25
_WHOLE_PICTURE = frozenset({"count", "relation", "relation_check"})
"""Kinds of questions that a part of a picture cannot answer."""


@dataclass(frozen=True)
class _Row:
    """One packed sequence while it grows."""

    ids: list[int]
    positions: list[int]
    segments: list[int]
    labels: list[int]


class BatchMaker:
    """Turns tokenised scenes into batches.

    Args:
        config: shares and sizes.
        vocabulary: id layout.
        coder: text tokenizer.
        world: names and backgrounds, for the probe's numbers and absent objects.
        side: grid side.
        max_text_len: length of the t2i text block without the task token.
    """

    def __init__(
        self,
        config: DataConfig,
        vocabulary: Vocabulary,
        coder: WordCoder,
        world: World,
        side: int = 16,
        max_text_len: int = 64,
    ) -> None:
        self.config, self.vocabulary, self.coder, self.world = config, vocabulary, coder, world
        self.side, self.max_text_len = side, max_text_len
        self.grid = SceneGrid(world, side)
        self._hider = TokenHider(config.hiding(), self.grid)
        self._named = self._names_by_token()

    @property
    def probe_classes(self) -> tuple[int, int, int, int]:
        """Sizes of what the probe tells: things, parts, rows, columns."""
        things = len(self.grid.things) + len(SHAPES)
        return things, self.grid.object_parts + 1, self.side, self.side

    # -- text to image --------------------------------------------------------------------------

    def t2i(self, items: Sequence[TokenisedScene], rng: np.random.Generator, window: bool) -> Batch:
        """Masked image tokens to be predicted from a caption and the other tokens."""
        side, offset = self.side, self.max_text_len + 2
        blocks, images, places, labels, truths = [], [], [], [], []
        half_drawn = []
        for item in items:
            part = self._part(item.scene, rng, window)
            truth = self.grid.truth(item.scene)
            hiding = self._hider.draw(item.scene, part, rng)
            half_drawn.append(hiding.half_drawn)
            blocks.append(self._prompt(hiding.spoken, rng))
            ids = (
                item.codes[part.index()].reshape(-1).astype(np.int64) + self.vocabulary.image_offset
            )
            hidden = hiding.flags[part.index()].reshape(-1)
            images.append(np.where(hidden, self.vocabulary.mask_id, ids))
            labels.append(np.where(hidden, ids, IGNORED))
            truths.append(truth[part.index()].reshape(-1, truth.shape[-1]))
            places.append(part.raster(side) + offset)
        return self._t2i_batch(blocks, images, places, labels, truths, half_drawn, rng)

    def _part(self, scene: Scene, rng: np.random.Generator, window: bool) -> Rectangle:
        """The whole grid, or a window around one object."""
        if not window:
            return self.grid.full()
        return self.grid.window_around(scene, self.config.window, rng)

    def _prompt(self, scene: Scene, rng: np.random.Generator) -> list[int]:
        draw = rng.random()
        if draw < self.config.dropout:
            text = ""
        elif draw < self.config.dropout + self.config.describe_share:
            text = describe(scene)
        else:
            text = caption(scene, rng, "train")
        text = self._typed(text, rng, asks=False)
        return text_block(
            self._noisy(self.coder.encode(text), rng),
            self.vocabulary,
            eot_id=self.coder.eot_id,
            max_text_len=self.max_text_len,
        )

    def _typed(self, text: str, rng: np.random.Generator, *, asks: bool) -> str:
        """The text, now and then as people type it; draws nothing where none is to be typed."""
        share = self.config.typed_share
        if not text or not share or rng.random() >= share:
            return text
        return typed_form(text, rng, asks=asks)

    def _noisy(self, ids: list[int], rng: np.random.Generator) -> list[int]:
        """The ids, now and then with up to three stray ones in between."""
        if not ids or rng.random() >= self.config.noise_share:
            return ids
        for _ in range(int(rng.integers(1, 4))):
            stray = int(rng.integers(self.coder.size))
            if stray != self.coder.eot_id:
                ids.insert(int(rng.integers(len(ids) + 1)), stray)
        return ids

    def _t2i_batch(  # noqa: PLR0913 - one numeric step, all of it named
        self,
        blocks: Sequence[list[int]],
        images: Sequence[np.ndarray],
        places: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        truths: Sequence[np.ndarray],
        half_drawn: Sequence[bool],
        rng: np.random.Generator,
    ) -> Batch:
        length = max(len(block) for block in blocks)
        rows, cells = len(blocks), images[0].size
        start = self.max_text_len + 1
        end = start + self.side * self.side + 1
        text = pad_left(blocks, length, self.vocabulary.pad_id)
        image = torch.from_numpy(np.stack(images))
        column = torch.ones(rows, 1, dtype=torch.int64)
        ids = torch.cat(
            [text, column * self.vocabulary.soi_id, image, column * self.vocabulary.eoi_id], dim=1
        )
        text_positions = (start - length + torch.arange(length)).expand(rows, -1)
        positions = torch.cat(
            [text_positions, column * start, torch.from_numpy(np.stack(places)), column * end],
            dim=1,
        )
        index = torch.arange(rows)[:, None] * ids.shape[1] + length + 1 + torch.arange(cells)
        label, truth = np.stack(labels), np.stack(truths)
        is_object = truth[..., 0] < self.grid.objects
        # Background is easy and common: predicted for a share of it only, and with less weight. In
        # a half-drawn picture it counts in full, or holes would be filled with objects again.
        counts = is_object | np.array(half_drawn)[:, None]
        kept = (label != IGNORED) & (
            counts | (rng.random(label.shape) < self.config.background_share)
        )
        weights = np.where(counts, 1.0, self.config.background_weight)
        chosen = torch.from_numpy(kept)
        return Batch(
            ids,
            positions,
            t2i_mask(ids, self.vocabulary),
            index[chosen],
            torch.from_numpy(label)[chosen],
            torch.from_numpy(weights).float()[chosen],
            torch.zeros(int(chosen.sum()), dtype=torch.int64),
            *self._probes(index, truth, rng),
            Links.none(),
            Links.none(),
        )

    def _probes(
        self, index: Tensor, truth: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        is_object = truth[..., 0] < self.grid.objects
        # Three quarters of a picture are background: all of it would drown what the probe is for.
        kept = torch.from_numpy(is_object | (rng.random(is_object.shape) < _PROBED_BACKGROUND))
        return index[kept], torch.from_numpy(truth)[kept]

    # -- questions ------------------------------------------------------------------------------

    def mmu(self, items: Sequence[TokenisedScene], rng: np.random.Generator, window: bool) -> Batch:
        """Answers to be predicted from an image; many questions share one image."""
        parts = [self._part(item.scene, rng, window) for item in items]
        budget = self.config.window_qa_tokens if window else self.config.qa_tokens
        turns = [
            self._within(self.turns(self._questions(item.scene, part, rng), rng), budget)
            for item, part in zip(items, parts, strict=True)
        ]
        return self.mmu_batch(items, parts, turns, rng)

    def _questions(self, scene: Scene, part: Rectangle, rng: np.random.Generator) -> list[QA]:
        spoken = self.grid.inside(scene, part)
        if not spoken.objects:
            return []
        offered = [qa for _ in range(_OFFERS) for qa in questions(spoken, rng, "train", self.world)]
        partial = len(spoken.objects) < len(scene.objects)
        hidden = {thing.name for thing in scene.objects} - {thing.name for thing in spoken.objects}
        asked = [
            qa
            for qa in {(qa.question, qa.kind): qa for qa in offered}.values()
            if rng.random() < self.config.kind_shares.get(qa.kind, 1.0)
            and not (partial and (qa.kind in _WHOLE_PICTURE or _names(qa, hidden)))
        ]
        return [asked[int(i)] for i in rng.permutation(len(asked))]

    def turns(self, asked: Sequence[QA], rng: np.random.Generator | None = None) -> list[Turn]:
        """Questions and answers as ids; with `rng`, some typed as people do or with stray words."""
        return [self._turn(qa, rng) for qa in asked]

    def _turn(self, qa: QA, rng: np.random.Generator | None) -> Turn:
        if rng is None:
            question = self.coder.encode(qa.question)
        else:
            asked = self._typed(qa.question, rng, asks=True)
            question = self._noisy(self.coder.encode(asked), rng)
        return Turn(
            (self.coder.eot_id, *self.coder.before, *question, *self.coder.after),
            (*self.coder.encode(f" {qa.answer}"), self.coder.eot_id),
        )

    def _within(self, turns: Sequence[Turn], budget: int) -> list[Turn]:
        """The first turns, and those after them that still fit; at least one."""
        kept: list[Turn] = []
        used = 0
        for turn in turns:
            if not kept or used + len(turn.ids) <= budget:
                kept.append(turn)
                used += len(turn.ids)
        return kept

    def mmu_batch(
        self,
        items: Sequence[TokenisedScene],
        parts: Sequence[Rectangle],
        turns: Sequence[Sequence[Turn]],
        rng: np.random.Generator,
    ) -> Batch:
        """One row per image, its turns packed behind it."""
        batch, label = self._packed(
            [
                self._packed_row(item.codes[part.index()], part, asked)
                for item, part, asked in zip(items, parts, turns, strict=True)
            ]
        )
        truth = np.stack(
            [
                self.grid.truth(item.scene)[part.index()].reshape(-1, len(self.probe_classes))
                for item, part in zip(items, parts, strict=True)
            ]
        )
        starts = torch.arange(len(items)) * label.shape[1] + 2
        probe_rows, probe_targets = self._probes(
            starts[:, None] + torch.arange(truth.shape[1]), truth, rng
        )
        return replace(
            batch,
            probe_rows=probe_rows,
            probe_targets=probe_targets,
            said=self._links(batch.ids, truth[..., 0], or_first=True),
            naming=self._links(label, truth[..., 0], or_first=False),
        )

    def questioned(self, items: Sequence[QuestionedImage], rng: np.random.Generator) -> Batch:
        """Answers about easy-vqa's pictures; the probe tells which shape the foreground is."""
        rows = []
        for item in items:
            asked = [item.asked[int(i)] for i in rng.permutation(len(item.asked))]
            turns = self._within(self.turns(asked, rng), self.config.qa_tokens)
            rows.append(self._packed_row(item.codes, self.grid.full(), turns))
        batch, label = self._packed(rows)
        probe_rows, probe_targets = self._shape_probes(items, label.shape[1])
        return replace(batch, probe_rows=probe_rows, probe_targets=probe_targets)

    def _shape_probes(self, items: Sequence[QuestionedImage], length: int) -> tuple[Tensor, Tensor]:
        """Rows of the foreground's cells, and what is there."""
        first = len(self.grid.things)
        rows, told = [], []
        for number, item in enumerate(items):
            if item.shape is None:
                continue
            cells = np.argwhere(item.foreground)  # (P, 2)
            rows.append(number * length + 2 + cells[:, 0] * self.side + cells[:, 1])
            thing = np.full(len(cells), first + SHAPES.index(item.shape))
            told.append(
                np.column_stack([thing, np.full(len(cells), self.grid.object_parts), cells])
            )
        if not rows:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.int64)
        return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(told))

    def _packed(self, rows: Sequence[_Row]) -> tuple[Batch, Tensor]:
        """The batch of some rows, without probes and links, and its labels (B, L)."""
        length = max(len(row.ids) for row in rows)
        label = pad_right([row.labels for row in rows], length, IGNORED)
        chosen = label != IGNORED
        segments = pad_right([row.segments for row in rows], length, -1)
        index = torch.arange(len(rows))[:, None] * length + torch.arange(length)
        before = np.cumsum([0, *(max(row.segments) for row in rows)])[:-1]
        groups = (segments - 1 + torch.from_numpy(before)[:, None])[chosen]
        batch = Batch(
            pad_right([row.ids for row in rows], length, self.vocabulary.pad_id),
            pad_right([row.positions for row in rows], length, 0),
            packed_mask(segments),
            index[chosen],
            label[chosen],
            # Every answer counts alike, however many tokens it has: descriptions are long.
            1.0 / torch.bincount(groups)[groups],
            groups,
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0, len(self.probe_classes), dtype=torch.int64),
            Links.none(),
            Links.none(),
        )
        return batch, label

    def _links(self, tokens: Tensor, things: np.ndarray, *, or_first: bool) -> Links:
        """Links of the positions (B, L) whose token is a name, to the things (B, N) so called."""
        is_text = (tokens >= 0) & (tokens < self.coder.size)
        numbers = torch.where(is_text, self._named[torch.where(is_text, tokens, 0)], -1)  # (B, L)
        row, column = torch.nonzero(numbers >= 0, as_tuple=True)
        wanted = torch.zeros(len(row), tokens.shape[1], dtype=torch.bool)
        seen = torch.from_numpy(things)[row] == numbers[row, column][:, None]  # (Q, N)
        wanted[:, 2 : 2 + seen.shape[1]] = seen
        absent = ~seen.any(1)
        wanted[absent, 0] = or_first
        kept = wanted.any(1)
        return Links((row * tokens.shape[1] + column)[kept], wanted[kept])

    def _names_by_token(self) -> Tensor:
        """(text ids,) number of the object that the token is the name of, -1 elsewhere."""
        named = torch.full((self.coder.size,), -1)
        for number, name in enumerate(self.world.names):
            for words in PHRASES.get(name, (phrase(name),)):
                named[self.coder.encode(f" {words}")[-1]] = number
        return named

    def _packed_row(self, codes: np.ndarray, part: Rectangle, turns: Sequence[Turn]) -> _Row:
        vocabulary, area = self.vocabulary, self.side * self.side
        image = (codes.reshape(-1).astype(np.int64) + vocabulary.image_offset).tolist()
        head = [vocabulary.mmu_id, vocabulary.soi_id, *image, vocabulary.eoi_id]
        places = [0, 1, *(part.raster(self.side) + 2).tolist(), area + 2]
        row = _Row(head, places, [0] * len(head), [IGNORED] * len(head))
        for number, turn in enumerate(turns, 1):
            row.ids.extend(turn.ids)
            row.positions.extend(range(area + 3, area + 3 + len(turn.ids)))
            row.segments.extend([number] * len(turn.ids))
            # A position predicts the token after it; only answers (and their eot) count.
            row.labels.extend([IGNORED] * (len(turn.prompt) - 1) + [*turn.answer, IGNORED])
        return row


def _names(qa: QA, names: set[str]) -> bool:
    """Whether a question is about one of the names."""
    return any(name in qa.question for name in names)
