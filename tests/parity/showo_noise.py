"""Noise sources that replay what the reference drew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class RecordedNoise:
    """Replays recorded draws; without `sampled` the most likely code is taken (greedy cases).

    `sampled` and `uniforms` yield one (B, N) tensor a step.
    """

    uniforms: Iterator[Tensor]
    sampled: Iterator[Tensor] | None = None

    def choose(self, probabilities: Tensor) -> Tensor:
        return probabilities.argmax(-1) if self.sampled is None else next(self.sampled)

    def uniform(self, count: int) -> Tensor:
        return next(self.uniforms)

    def rows(self, indices: Sequence[int]) -> "RecordedNoise":
        return self


@dataclass
class SharedGenerator:
    """One generator for the whole batch, as the reference draws: (B*N, K) and then (B, N)."""

    generator: torch.Generator
    batch: int

    def choose(self, probabilities: Tensor) -> Tensor:
        rows = probabilities.reshape(-1, probabilities.shape[-1])
        drawn = torch.multinomial(rows, 1, generator=self.generator)
        return drawn.reshape(probabilities.shape[:-1])

    def uniform(self, count: int) -> Tensor:
        return torch.zeros(self.batch, count).uniform_(0, 1, generator=self.generator)

    def rows(self, indices: Sequence[int]) -> "SharedGenerator":
        return self
