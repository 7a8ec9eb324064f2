"""Masked parallel decoding of image tokens, and next-token decoding of answers.

Does not know requests, grids, or the network's inside. The order in which tokens are fixed is a
`DecodingPolicy`, randomness is a `NoiseSource`; both are passed in. Sampling itself runs on the
CPU in float32, so that one seed means one picture on every device whose logits agree.

One step of masked decoding, per row (MaskGIT; Show-o's `t2i_generate`)::

    logits ─ softmax ─► sample a code everywhere ─► log p + temperature * Gumbel = confidence
                                                      │ lowest `masked_count` are masked again
    codes (-1 = unknown) ◄── fix the others ◄─────────┘
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_server.backbone.protocol import NOTHING, Backbone
from cloud_server.prompting import (
    codes_to_input_ids,
    image_block,
    mmu_mask,
    mmu_sequence,
    pad_left,
    pad_right,
    t2i_mask,
    text_block,
)
from shared_protocol.vocabulary import Vocabulary

LogitsOfCodes = Callable[[Tensor], Tensor]
"""Codes (B, N), -1 where unknown, to guided logits (B, N, V) float32."""
OnStep = Callable[[int, int], None]

_LOG_FLOOR = 1e-20
_CERTAIN = math.log(torch.finfo(torch.float32).max)


# ------------------------------------------------------------------------------------------------
# Randomness
# ------------------------------------------------------------------------------------------------


class NoiseSource(Protocol):
    """Where the random draws of a batch come from; one row a request."""

    def choose(self, probabilities: Tensor) -> Tensor:
        """Draw one index per distribution: (B, N, K) to (B, N)."""
        ...

    def uniform(self, count: int) -> Tensor:
        """(B, count) float32 in [0, 1)."""
        ...

    def rows(self, indices: Sequence[int]) -> "NoiseSource":
        """The same source for some of the rows."""
        ...


@dataclass(frozen=True)
class RowGenerators:
    """One CPU generator per row, so that a row's draws do not depend on its neighbours.

    For a single row the draws are those of Show-o with the same generator: per step a multinomial
    and then a uniform draw.
    """

    generators: Sequence[torch.Generator]

    def choose(self, probabilities: Tensor) -> Tensor:
        drawn = [
            torch.multinomial(row, 1, generator=generator)[:, 0]
            for row, generator in zip(probabilities, self.generators, strict=True)
        ]
        return torch.stack(drawn)

    def uniform(self, count: int) -> Tensor:
        return torch.stack([torch.rand(count, generator=g) for g in self.generators])

    def rows(self, indices: Sequence[int]) -> "RowGenerators":
        return RowGenerators([self.generators[index] for index in indices])


# ------------------------------------------------------------------------------------------------
# Order
# ------------------------------------------------------------------------------------------------


def cosine_masked_count(step: int, steps: int, total: int) -> int:
    """How many of `total` tokens stay masked after step `step` (0-based) of `steps`, unclamped.

    float32 on purpose: when 3 divides `steps` the cosine of 60 degrees is 0.49999997 there, which
    gives one token fewer than float64 would.

    >>> [cosine_masked_count(step, 3, 256) for step in range(3)]
    [221, 127, -1]
    """
    ratio = torch.tensor((step + 1) / steps, dtype=torch.float32)
    return int((total * torch.cos(ratio * math.pi * 0.5)).floor())


def root_masked_count(step: int, steps: int, total: int) -> int:
    """As `cosine_masked_count`, but most tokens are fixed early and few at the end.

    The early ones are the surest, the background; objects are drawn late, a few tokens at a time,
    so that one step does not begin the same object in two places.

    >>> [root_masked_count(step, 4, 256) for step in range(4)]
    [128, 74, 34, 0]
    """
    return int(total * (1.0 - math.sqrt((step + 1) / steps)))


def compounding_temperature(base: float, step: int, steps: int) -> float:
    """Show-o's annealing: each step's factor multiplies the temperature of the step before."""
    for done in range(step + 1):
        base = base * (1.0 - (done + 1) / steps)
    return base


def gentle_temperature(base: float, step: int, steps: int) -> float:
    """Linear from a tenth of `base` to 0: the surest tokens first, with little chance in it."""
    return base / 10 * (1.0 - (step + 1) / steps)


@dataclass(frozen=True)
class DecodingPolicy:
    """The order in which masked decoding fixes tokens.

    Attributes:
        name: how settings and records call it.
        masked_count: (step, steps, tokens) to the number left masked, before clamping.
        temperature: (base, step, steps) to the temperature of the confidence noise.
        code_temperature: divides the logits that codes are drawn from.
        counts_known: whether the tokens of `masked_count` are all of the image or those that were
            unknown at the start.
    """

    name: str
    masked_count: Callable[[int, int, int], int]
    temperature: Callable[[float, int, int], float]
    code_temperature: float = 1.0
    counts_known: bool = True


REFERENCE = DecodingPolicy("reference", cosine_masked_count, compounding_temperature)
"""Exactly Show-o."""
STANDARD = DecodingPolicy("standard", root_masked_count, gentle_temperature, 0.6, False)
"""What small models draw best with: background first, sure codes, even progress in small holes."""
POLICIES = {policy.name: policy for policy in (REFERENCE, STANDARD)}


def remask(confidence: Tensor, masked_counts: Tensor) -> Tensor:
    """(B, N) bool: positions strictly below the `masked_counts`-th (B,) lowest confidence."""
    ordered = confidence.sort(dim=-1).values
    return confidence < ordered.gather(1, masked_counts[:, None])


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise of uniforms; both logarithms clamp their input at 1e-20."""
    inner = -uniform.clamp(min=_LOG_FLOOR).log()
    return -inner.clamp(min=_LOG_FLOOR).log()


# ------------------------------------------------------------------------------------------------
# Masked decoding
# ------------------------------------------------------------------------------------------------


def decode_masked(
    logits_of: LogitsOfCodes,
    codes: Tensor,
    *,
    steps: int,
    temperatures: Sequence[float],
    policy: DecodingPolicy,
    noise: NoiseSource,
    on_step: OnStep | None = None,
) -> Tensor:
    """Generate the unknown codes of every row; known codes never change.

    Args:
        logits_of: codes (B, N) to logits (B, N, V).
        codes: (B, N) int64, -1 where unknown.
        steps: number of decoding steps, at least 1.
        temperatures: (B,) base temperature of each row's confidence noise.
        policy: order and annealing.
        noise: random draws; per step one `choose`, then one `uniform`.
        on_step: called with (finished, steps).

    Returns:
        (B, N) int64 codes, all known.
    """
    device, given = codes.device, codes.cpu()
    wanted = given < 0
    current = given.clone()
    sampled = current
    counted = [given.shape[1]] * len(given) if policy.counts_known else wanted.sum(-1).tolist()
    for step in range(steps):
        logits = logits_of(current.to(device)).float().cpu() / policy.code_temperature
        scale = torch.tensor([policy.temperature(base, step, steps) for base in temperatures])
        counts = torch.tensor([policy.masked_count(step, steps, total) for total in counted])
        sampled, masked = _decode_step(logits, current, scale.float(), counts, noise)
        sampled = torch.where(wanted, sampled, given)
        current = torch.where(masked & wanted, -1, sampled)
        if on_step is not None:
            on_step(step + 1, steps)
    return sampled.to(device)


def _decode_step(
    logits: Tensor, current: Tensor, temperature: Tensor, masked_counts: Tensor, noise: NoiseSource
) -> tuple[Tensor, Tensor]:
    """Sample codes (B, N) and choose the positions to mask again (B, N) bool."""
    unknown = current < 0
    probabilities = logits.softmax(-1)
    sampled = torch.where(unknown, noise.choose(probabilities), current)
    selected = probabilities.gather(-1, sampled[..., None])[..., 0]
    # A known token counts as certain, but finitely so: noise is added to it as well.
    certainty = torch.where(unknown, selected.clamp(min=_LOG_FLOOR).log(), _CERTAIN)
    confidence = certainty + temperature[:, None] * gumbel(noise.uniform(current.shape[1]))
    counts = torch.minimum(unknown.sum(-1) - 1, masked_counts).clamp(min=1)
    return sampled, remask(confidence, counts.clamp(max=current.shape[1] - 1))


def guided_image_logits(
    backbone: Backbone,
    vocabulary: Vocabulary,
    texts: Sequence[NDArray[np.int64]],
    *,
    guidance: Sequence[float],
    eot_id: int,
    max_text_len: int,
) -> LogitsOfCodes:
    """A function from codes to guided logits, for one prompt a row.

    Exact shortcuts: text rows never see image columns, so the text block is read once and its keys
    and values are kept; PADs are hidden from all rows that matter, so only as many are fed as the
    rows of the batch need to align, and position ids count the others.

    Args:
        texts: B prompts of text ids.
        guidance: B scales g; logits are (1+g) cond - g uncond.
    """
    rows = [list(text.tolist()) for text in texts]
    guided = any(scale > 0 for scale in guidance)
    prompts = [*rows, *([[]] * len(rows) if guided else [])]
    return _PromptedImageLogits(
        backbone,
        vocabulary,
        [text_block(p, vocabulary, eot_id=eot_id, max_text_len=max_text_len) for p in prompts],
        torch.tensor(guidance, device=backbone.device) if guided else None,
        max_text_len,
    )


class _PromptedImageLogits:
    """Logits of image codes after text blocks that have been read once."""

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        blocks: Sequence[Sequence[int]],
        guidance: Tensor | None,
        max_text_len: int,
    ) -> None:
        self._backbone = backbone
        self._vocabulary = vocabulary
        self._guidance = guidance
        self._image_start = max_text_len + 1
        self._cache = backbone.new_cache()
        length = max(len(block) for block in blocks)
        text = pad_left(blocks, length, vocabulary.pad_id).to(backbone.device)
        self._visible = text != vocabulary.pad_id  # (B, P)
        positions = self._image_start - length + torch.arange(length, device=backbone.device)
        backbone.logits(
            text,
            t2i_mask(text, vocabulary),
            positions.expand_as(text),
            cache=self._cache,
            rows=NOTHING,
        )

    def __call__(self, codes: Tensor) -> Tensor:
        image = image_block(codes_to_input_ids(codes, self._vocabulary), self._vocabulary)
        if self._guidance is None:
            return self._read(image)
        conditional, free = self._read(torch.cat([image, image])).chunk(2)
        scale = self._guidance[:, None, None]
        return (1 + scale) * conditional - scale * free

    def _read(self, image: Tensor) -> Tensor:
        """(B, N+2) image blocks to (B, N, V)."""
        rows, length = image.shape
        text_length = len(self._cache)
        inside = self._visible.new_ones(rows, length)
        allow = torch.cat([self._visible, inside], dim=1)[:, None, None, :]
        positions = self._image_start + torch.arange(length, device=image.device)
        logits = self._backbone.logits(
            image,
            allow.expand(-1, -1, length, -1),
            positions.expand_as(image),
            cache=self._cache,
            rows=slice(1, length - 1),
            columns=slice(self._vocabulary.image_offset, self._vocabulary.mask_id),
        )
        self._cache.truncate(text_length)
        return logits


# ------------------------------------------------------------------------------------------------
# Answers
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerOptions:
    """How one answer is decoded; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None


def generate_text(
    backbone: Backbone,
    vocabulary: Vocabulary,
    *,
    codes: Sequence[NDArray[np.int64]],
    questions: Sequence[NDArray[np.int64]],
    options: Sequence[AnswerOptions],
    eot_id: int,
    noise: NoiseSource,
    on_step: OnStep | None = None,
    emitted: slice | None = None,
) -> list[list[int]]:
    """Answer framed questions about images, one row each, until eot or the row's limit.

    Args:
        codes: B images of equal size.
        questions: B framed questions, text ids.
        emitted: ids that may be emitted, from 0 on; text ids by default.
            Differs from Show-o: because it may emit image and task ids, which no text can hold.

    Returns:
        B lists of ids, each with its final eot if that was reached.
    """
    prompts = [
        mmu_sequence(image, question, vocabulary, eot_id=eot_id)
        for image, question in zip(codes, questions, strict=True)
    ]
    reader = _AnswerReader(backbone, vocabulary, prompts, emitted or slice(0, vocabulary.text_size))
    limit = max(option.max_new_tokens for option in options)
    answers: list[list[int]] = [[] for _ in prompts]
    for step in range(limit):
        picked = _pick(reader.scores, options, noise)
        for answer, option, token in zip(answers, options, picked, strict=True):
            if not _is_complete(answer, option, eot_id):
                answer.append(token)
        done = all(_is_complete(a, o, eot_id) for a, o in zip(answers, options, strict=True))
        if on_step is not None:
            on_step(limit if done else step + 1, limit)
        if done:
            break
        reader.read(picked)
    return answers


def _is_complete(answer: list[int], option: AnswerOptions, eot_id: int) -> bool:
    return answer[-1:] == [eot_id] or len(answer) >= option.max_new_tokens


class _AnswerReader:
    """Reads prompts and then one token a row; `scores` (B, K) rate the next token."""

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        prompts: Sequence[Sequence[int]],
        emitted: slice,
    ) -> None:
        self._backbone = backbone
        self._emitted = emitted
        self._cache = backbone.new_cache()
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = pad_right(prompts, int(lengths.max()), vocabulary.pad_id).to(backbone.device)
        self._visible = (torch.arange(ids.shape[1]) < lengths[:, None]).to(backbone.device)
        self._next = lengths.to(backbone.device)  # (B,) position of the next token
        allow = mmu_mask(ids, vocabulary) & self._visible[:, None, None, :]
        positions = torch.arange(ids.shape[1], device=backbone.device).expand_as(ids)
        first = int(lengths.min()) - 1  # rows before the shortest prompt's last are not needed
        scores = backbone.logits(
            ids,
            allow,
            positions,
            cache=self._cache,
            rows=slice(first, None),
            columns=emitted,
        )
        last = (self._next - 1 - first)[:, None, None].expand(-1, 1, scores.shape[-1])
        self.scores = scores.gather(1, last)[:, 0].cpu()

    def read(self, tokens: Sequence[int]) -> None:
        """Read one token a row."""
        ids = torch.tensor(tokens, device=self._backbone.device)[:, None]
        self._visible = torch.cat([self._visible, self._visible.new_ones(len(tokens), 1)], dim=1)
        scores = self._backbone.logits(
            ids,
            self._visible[:, None, None, :],
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
            kept = keep_top_k(scores[row] / option.temperature, option.top_k)
            picked[row] = int(noise.rows([row]).choose(kept.softmax(-1)[None, None])[0, 0])
    return picked


def keep_top_k(logits: Tensor, top_k: int | None) -> Tensor:
    """Logits (K,) with all but the `top_k` largest at -inf; ties with the k-th are kept."""
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(top_k).values[-1]
    return logits.masked_fill(logits < threshold, -math.inf)
