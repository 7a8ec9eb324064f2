"""Show-o's own loops, plainly: the yardstick of tests and of `engine_bench`.

As the official code does it: each step reads the whole padded sequence again, with no cache of keys
and values, through transformers' `PhiForCausalLM`, and scores all of the vocabulary at all
positions; a picture's step draws a code for each of its tokens. Nothing here is used for serving.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cloud_server.generation.backbone.phi import Phi
from cloud_server.generation.backbone.showo import ShowoBackbone, whole_phi
from cloud_server.generation.masked_decoding import (
    CERTAIN,
    DecodingPolicy,
    NoiseSource,
    RowGenerators,
    gumbel,
    log_of,
    remask,
    still_masked,
    unknown_places,
)
from cloud_server.generation.prompting import (
    codes_to_input_ids,
    mmu_mask,
    mmu_sequence,
    t2i_mask,
    t2i_sequence,
)
from cloud_server.generation.text_decoding import AnswerOptions, Codes, keep_top_k
from shared_protocol.vocabulary import Vocabulary


@dataclass(frozen=True)
class MultinomialNoise(RowGenerators):
    """As `RowGenerators`, but codes are drawn by `torch.multinomial` itself."""

    def choose(self, probabilities: Tensor, places: Tensor, total: int) -> Tensor:
        drawn = [
            torch.multinomial(row, 1, generator=generator)[:, 0]
            for row, generator in zip(probabilities.cpu(), self.generators, strict=True)
        ]
        return torch.stack(drawn).to(probabilities.device)


@dataclass(frozen=True)
class PlainShowo:
    """A backbone's weights behind the loops of the official code.

    Args:
        backbone: the weights.
        vocabulary: id layout.
        eot_id: text id that opens and closes texts.
        max_text_len: length of the text block, without the task token.
    """

    backbone: ShowoBackbone
    vocabulary: Vocabulary
    eot_id: int
    max_text_len: int

    @cached_property
    def _phi(self) -> Any:
        """transformers' own model over the weights."""
        phi = self.backbone.phi
        return whole_phi(phi) if isinstance(phi, Phi) else phi

    @torch.inference_mode()
    def logits(self, ids: Tensor, allow: Tensor) -> Tensor:
        """(B, L) ids and a mask (B, 1, L, L) bool to (B, L, vocabulary) float32."""
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        scores: Tensor = self._phi(
            inputs_embeds=self.backbone.embed(ids, positions), attention_mask=allow, use_cache=False
        ).logits
        return scores.float()

    @torch.inference_mode()
    def generate(  # noqa: PLR0913 - one numeric step, all of it named
        self,
        texts: Sequence[Sequence[int]],
        codes: Tensor,
        *,
        steps: int,
        guidance: float,
        temperature: float,
        policy: DecodingPolicy,
        noise: NoiseSource,
    ) -> Tensor:
        """Pictures after Show-o's `t2i_generate`: codes (B, N), -1 where unknown, to (B, N)."""
        total, device = codes.shape[1], self.backbone.device
        prompts = [*texts, *([[]] * len(texts) if guidance > 0 else [])]
        given, current, sampled = codes, codes, codes
        allow = t2i_mask(self._sequence(prompts, current), self.vocabulary)
        counted = [total] * len(codes) if policy.counts_known else (codes < 0).sum(-1).tolist()
        places = torch.arange(total).expand_as(codes)
        for step in range(steps):
            scores = self.logits(self._sequence(prompts, current).to(device), allow.to(device))
            if guidance > 0:
                conditional, free = scores.chunk(2)
                scores = (1 + guidance) * conditional - guidance * free
            columns = slice(self.vocabulary.image_offset, self.vocabulary.mask_id)
            scores = scores[:, -(total + 1) : -1, columns] / policy.code_temperature
            probabilities = scores.softmax(-1)
            unknown = current < 0
            if policy.draws_known:
                drawn = noise.choose(probabilities, places, total)
            else:
                drawn = _drawn_at_unknown(probabilities, current, noise)
            chances = probabilities.gather(-1, drawn[..., None])[..., 0].cpu()
            confidence = torch.where(unknown, log_of(chances), CERTAIN)
            scale = policy.temperature(temperature, step, steps)
            confidence = confidence + scale * gumbel(noise.uniform(total))
            counts = torch.tensor([policy.masked_count(step, steps, count) for count in counted])
            masked = remask(confidence, still_masked(counts, current))
            sampled = torch.where(unknown, drawn.cpu(), current)
            current = torch.where(masked & (given < 0), -1, sampled)
        return sampled

    @torch.inference_mode()
    def answer(
        self,
        codes: Codes,
        question: Codes,
        options: AnswerOptions,
        noise: NoiseSource,
        emitted: slice,
    ) -> list[int]:
        """An answer after Show-o's `mmu_generate`: (H, W) codes and a framed question to ids."""
        ids = mmu_sequence(codes, question, self.vocabulary, eot_id=self.eot_id)
        answer: list[int] = []
        place = torch.zeros(1, 1, dtype=torch.int64)
        while len(answer) < options.max_new_tokens and answer[-1:] != [self.eot_id]:
            sequence = torch.tensor([[*ids, *answer]], device=self.backbone.device)
            scores = self.logits(sequence, mmu_mask(sequence, self.vocabulary))
            last = scores[0, -1, emitted].cpu()
            if options.temperature > 0:
                kept = keep_top_k(last / options.temperature, options.top_k)
                answer.append(int(noise.choose(kept.softmax(-1)[None, None], place, 1)[0, 0]))
            else:
                answer.append(int(last.argmax()))
        return answer

    def _sequence(self, prompts: Sequence[Sequence[int]], codes: Tensor) -> Tensor:
        """(B or 2B, T + 1 + N + 2): the pictures under their prompts, then under the empty one."""
        image = codes_to_input_ids(codes, self.vocabulary)
        return t2i_sequence(
            prompts,
            image.repeat(len(prompts) // len(codes), 1),
            self.vocabulary,
            eot_id=self.eot_id,
            max_text_len=self.max_text_len,
        )


def _drawn_at_unknown(probabilities: Tensor, codes: Tensor, noise: NoiseSource) -> Tensor:
    """(B, N) codes drawn with numbers for unknown positions alone; 0 where a code is known."""
    places = unknown_places(codes).to(probabilities.device)
    rows = torch.arange(len(codes), device=places.device)[:, None]
    drawn = noise.choose_at(probabilities[rows, places], (codes < 0).sum(-1))
    return torch.zeros_like(codes, device=places.device).scatter_(1, places, drawn)
