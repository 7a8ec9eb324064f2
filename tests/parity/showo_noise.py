"""Noise sources that replay what the reference drew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cloud_server.generation.masked_decoding import race_times


@dataclass
class RecordedNoise:
    """Replays recorded draws; without `sampled` the most likely code is taken (greedy cases).

    `sampled` and `uniforms` yield one (B, N) tensor a step.
    """

    uniforms: Iterator[Tensor]
    sampled: Iterator[Tensor] | None = None

    def choose(self, probabilities: Tensor, places: Tensor, total: int) -> Tensor:
        if self.sampled is None:
            return probabilities.argmax(-1)
        return next(self.sampled).gather(1, places)

    def uniform(self, count: int) -> Tensor:
        return next(self.uniforms)

    def rows(self, indices: Sequence[int]) -> "RecordedNoise":
        return self


@dataclass
class SharedGenerator:
    """One generator for the whole batch, as the reference draws: (B*N, K) and then (B, N)."""

    generator: torch.Generator
    batch: int

    def choose(self, probabilities: Tensor, places: Tensor, total: int) -> Tensor:
        times = race_times(self.batch * total, probabilities.shape[-1], self.generator)
        times = times.unflatten(0, (self.batch, total))[torch.arange(self.batch)[:, None], places]
        return (probabilities / times).argmax(-1)

    def uniform(self, count: int) -> Tensor:
        return torch.zeros(self.batch, count).uniform_(0, 1, generator=self.generator)

    def rows(self, indices: Sequence[int]) -> "SharedGenerator":
        return self
