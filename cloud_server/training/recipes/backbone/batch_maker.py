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

from cloud_server.generation.prompting import pad_right
from cloud_server.training.recipes.backbone.batch import Batch, Links, packed_mask
from cloud_server.training.recipes.backbone.data_config import DataConfig
from cloud_server.training.recipes.backbone.hidden_tokens import TokenHider
from cloud_server.training.recipes.backbone.kept_rows import hidden_of_kept
from cloud_server.training.recipes.backbone.picture_rows import (
    IGNORED,
    PictureBatcher,
    PictureRow,
    masked_row,
    probes,
)
from cloud_server.training.recipes.backbone.prompts import PromptMaker
from cloud_server.training.recipes.backbone.word_coder import Turn, WordCoder
from cloud_server.training.scenes.language import QA, phrase, questions
from cloud_server.training.scenes.scene_grid import Rectangle, SceneGrid
from cloud_server.training.scenes.word_lists import PHRASES
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.easy_vqa import SHAPES, QuestionedImage
from cloud_server.training.tokens.kept_pictures import KeptPicture
from cloud_server.training.tokens.scene_tokens import TokenisedScene
from shared_protocol.vocabulary import Vocabulary

_OFFERS = 3
"""Rounds of questions that are offered for one picture; repeated ones are asked once."""
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
        self.prompts = PromptMaker(config, vocabulary, coder, max_text_len)
        self._pictures = PictureBatcher(
            vocabulary,
            side,
            max_text_len,
            self.grid.objects,
            config.background_share,
            config.background_weight,
        )
        self._named = self._names_by_token()

    @property
    def probe_classes(self) -> tuple[int, int, int, int]:
        """Sizes of what the probe tells: things, parts, rows, columns."""
        things = len(self.grid.things) + len(SHAPES)
        return things, self.grid.object_parts + 1, self.side, self.side

    # -- text to image --------------------------------------------------------------------------

    def t2i(
        self,
        items: Sequence[TokenisedScene],
        rng: np.random.Generator,
        window: bool,
        kept: Sequence[KeptPicture] = (),
    ) -> Batch:
        """Masked image tokens to be predicted from a caption and the other tokens.

        Args:
            items: at least one scene.
            rng: the only source of randomness.
            window: whether only a part of each picture is seen; `kept` must be empty then.
            kept: pictures that the network drew itself, one more row each.
        """
        rows = [self._masked(item, rng, window) for item in items]
        rows += [self._masked_again(picture, rng) for picture in kept]
        return self._pictures.batch(rows, rng)

    def _masked_again(self, picture: KeptPicture, rng: np.random.Generator) -> PictureRow:
        """A row of a kept picture: all its tokens count alike, as none is better known."""
        hidden = hidden_of_kept(picture, rng)
        return masked_row(
            self.prompts.block(picture.scene, rng, self.config.kept_describe_share),
            picture.codes.astype(np.int64) + self.vocabulary.image_offset,
            hidden,
            self.vocabulary,
            cells=self.grid.full().raster(self.side),
            counts_alike=True,
        )

    def _masked(self, item: TokenisedScene, rng: np.random.Generator, window: bool) -> PictureRow:
        part = self._part(item.scene, rng, window)
        hiding = self._hider.draw(item.scene, part, rng)
        block = self.prompts.block(hiding.spoken, rng, self.config.describe_share)
        ids = item.codes.astype(np.int64) + self.vocabulary.image_offset
        truth, shown = self.grid.truth(item.scene), ids
        if hiding.shows is not None:
            shown = ids.reshape(-1)[hiding.shows]
            # The probe is asked for what is seen, though it be no part of the scene.
            truth[..., :2] = truth.reshape(-1, truth.shape[-1])[hiding.shows][..., :2]
        index = part.index()
        return masked_row(
            block,
            ids[index],
            hiding.flags[index],
            self.vocabulary,
            shown=shown[index],
            cells=part.raster(self.side),
            truth=truth[index],
            counts_alike=hiding.half_drawn,
        )

    def _part(self, scene: Scene, rng: np.random.Generator, window: bool) -> Rectangle:
        """The whole grid, or a window around one object."""
        if not window:
            return self.grid.full()
        return self.grid.window_around(scene, self.config.window, rng)

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
            question = self.prompts.ids(qa.question, rng, asks=True)
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
        probe_rows, probe_targets = probes(
            starts[:, None] + torch.arange(truth.shape[1]), truth, self.grid.objects, rng
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
