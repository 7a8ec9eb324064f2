"""Next-token decoding of answers to questions about pictures.

Does not know requests, grids, text, or the network's inside.

A prompt is read in two parts. No token of the picture sees the question, so the picture's keys and
values serve every question about it: they are read once, alone, and may be kept::

    mmu soi image eoi │ sot question │ answer ...
    └─ PictureReader ─┘ └ _Answers ──┴─ one token at a time
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_server.generation.backbone.protocol import NOTHING, Backbone, KeyValueCache
from cloud_server.generation.masked_decoding import NoiseSource
from cloud_server.generation.prompting import causal_mask, mmu_sequence, pad_right
from cloud_server.generation.work import begin
from shared_protocol.messages import OnStep
from shared_protocol.vocabulary import Vocabulary

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class AnswerOptions:
    """How one answer is decoded; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None


class PictureReader:
    """Reads pictures as questions about them begin, and keeps what it read of the last ones.

    Whether a picture was kept changes no answer: it is always read alone. One thread only.

    Args:
        backbone: the network.
        vocabulary: id layout.
        kept: how many pictures to keep.
    """

    def __init__(self, backbone: Backbone, vocabulary: Vocabulary, kept: int = 0) -> None:
        self._backbone = backbone
        self._vocabulary = vocabulary
        self._kept: OrderedDict[bytes, KeyValueCache] = OrderedDict()
        self._most = kept

    def read(self, codes: Codes) -> KeyValueCache:
        """Keys and values (one row, not to be changed) of mmu, soi, codes (H, W), eoi."""
        key = codes.tobytes()
        cache = self._kept.pop(key, None) or self._read(codes)
        self._kept[key] = cache
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return cache

    def _read(self, codes: Codes) -> KeyValueCache:
        # Alone, never in a batch: sums of another shape round differently, and an answer would
        # depend on whether the picture was read before, and with what.
        head = mmu_sequence(codes, np.zeros(0, dtype=np.int64), self._vocabulary, eot_id=0)[:-1]
        ids = torch.tensor([head], device=self._backbone.device)
        positions = torch.arange(len(head), device=ids.device)[None]
        cache = self._backbone.new_cache(1, len(head))
        self._backbone.logits(ids, None, positions, cache=cache, rows=NOTHING)
        return cache


def generate_text(  # noqa: PLR0913 - one numeric step, all of it named
    pictures: PictureReader,
    backbone: Backbone,
    vocabulary: Vocabulary,
    *,
    codes: Sequence[Codes],
    questions: Sequence[NDArray[np.int64]],
    options: Sequence[AnswerOptions],
    eot_id: int,
    noise: NoiseSource,
    on_step: OnStep | None = None,
    emitted: slice | None = None,
) -> list[list[int]]:
    """Answer framed questions about images, one row each, until eot or the row's limit.

    Args:
        pictures: reads the images; over the same backbone.
        codes: B images of equal size.
        questions: B framed questions, text ids.
        emitted: ids that may be emitted, from 0 on; text ids by default.
            Differs from Show-o: because it may emit image and task ids, which are not text.

    Returns:
        B lists of ids, each with its final eot if that was reached.
    """
    limit = max(option.max_new_tokens for option in options)
    begin("prompt")
    heads = {image.tobytes(): pictures.read(image) for image in codes}
    reader = _Answers(
        backbone,
        [heads[image.tobytes()] for image in codes],
        [[eot_id, *question.tolist()] for question in questions],
        emitted or slice(0, vocabulary.text_size),
        limit,
        vocabulary.pad_id,
    )
    begin("generate")
    answers: list[list[int]] = [[] for _ in questions]
    for step in range(limit):
        picked = _pick(reader.scores, options, noise)
        for answer, option, token in zip(answers, options, picked, strict=True):
            if not _is_complete(answer, option, eot_id):
                answer.append(token)  # a complete row is read on with the others, for nothing
        done = all(_is_complete(a, o, eot_id) for a, o in zip(answers, options, strict=True))
        if on_step is not None:
            on_step(limit if done else step + 1, limit)
        if done:
            break
        reader.read(picked)
    return answers


def _is_complete(answer: list[int], option: AnswerOptions, eot_id: int) -> bool:
    return answer[-1:] == [eot_id] or len(answer) >= option.max_new_tokens


class _Answers:
    """Reads questions and then one token a row; `scores` (B, K) rate the next token."""

    def __init__(
        self,
        backbone: Backbone,
        heads: Sequence[KeyValueCache],
        questions: Sequence[Sequence[int]],
        emitted: slice,
        limit: int,
        pad_id: int,
    ) -> None:
        self._backbone = backbone
        self._emitted = emitted
        lengths = torch.tensor([len(question) for question in questions])
        shortest, longest = int(lengths.min()), int(lengths.max())
        head = len(heads[0])
        self._cache = backbone.stacked(heads, head + longest + limit)
        # (B,) position of the next token: it counts no PAD, though a shorter question has PADs in
        # the cache between its end and its answer, hidden by `_visible`.
        self._next = (head + lengths).to(backbone.device)
        columns = torch.arange(head + longest + limit)
        padding = (columns >= (head + lengths)[:, None]) & (columns < head + longest)
        visible = (~padding)[:, None, None, :].to(backbone.device)  # (B, 1, 1, capacity)
        self._visible = visible if shortest < longest else None
        ids = pad_right(questions, longest, pad_id).to(backbone.device)
        positions = torch.arange(head, head + longest, device=backbone.device)
        scores = backbone.logits(
            ids,
            self._question_mask(head, longest),
            positions.expand_as(ids),
            cache=self._cache,
            rows=(lengths - 1)[:, None].to(backbone.device),
            columns=emitted,
        )
        self.scores = scores[:, 0].cpu()

    def _question_mask(self, head: int, length: int) -> Tensor:
        """(B or 1, 1, length, head + length): the picture, and what came before in the question."""
        causal = causal_mask(length).to(self._backbone.device)
        allow = torch.cat([causal.new_ones(length, head), causal], dim=1)[None, None]
        return allow if self._visible is None else allow & self._visible[..., : head + length]

    def read(self, tokens: Sequence[int]) -> None:
        """Read one token a row."""
        ids = torch.tensor(tokens, device=self._backbone.device)[:, None]
        visible = self._visible
        scores = self._backbone.logits(
            ids,
            None if visible is None else visible[..., : len(self._cache) + 1],
            self._next[:, None],
            cache=self._cache,
            columns=self._emitted,
        )
        self._next = self._next + 1
        self.scores = scores[:, 0].cpu()


def _pick(scores: Tensor, options: Sequence[AnswerOptions], noise: NoiseSource) -> list[int]:
    """The next id of every row: the best one, or a draw where a temperature is set."""
    picked: list[int] = scores.argmax(-1).tolist()
    for row, option in enumerate(options):
        if option.temperature > 0:
            # By row, with the row's own generator: a batch must not change a neighbour's answer.
            kept = keep_top_k(scores[row] / option.temperature, option.top_k)
            chances, place = kept.softmax(-1)[None, None], torch.zeros(1, 1, dtype=torch.int64)
            picked[row] = int(noise.rows([row]).choose(chances, place, 1)[0, 0])
    return picked


def keep_top_k(logits: Tensor, top_k: int | None) -> Tensor:
    """Logits (K,) with all but the `top_k` largest at -inf; ties with the k-th are kept."""
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(top_k).values[-1]
    return logits.masked_fill(logits < threshold, -math.inf)
