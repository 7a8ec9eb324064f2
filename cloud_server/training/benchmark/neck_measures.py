"""Ways of classifying a picture that arrives as tokens, and how right each of them is.

It does not know files, tables or how anything was trained. Names of ways are the paper's::

    pixels                                                encoder      (nothing was compressed)
    decode first (Reconstruction)    decoder ──────────►  encoder
    Post-processing                  decoder ─► U-Net ─►  encoder
    neck                             neck ─► rest of the encoder       (no picture)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cloud_server.necks.encoders import Encoder
from cloud_server.training.benchmark.macs import macs_of, parameters_of, parameters_used
from cloud_server.training.recipes.neck.examples import to_pixels
from cloud_server.training.recipes.neck.students import decoded
from shared_protocol.tokenizers.compact import CompactTokenizer
from shared_protocol.tokenizers.lfq import codes_to_z

PIXELS, DECODED, POST, NECK = (
    "pixels",
    "decode first (Reconstruction)",
    "Post-processing",
    "neck",
)
AT_ONCE = 16
KEPT_RANKS = 5
Ranks = np.ndarray
"""int64 (N, 5): labels of each picture, the likeliest first."""


@dataclass(frozen=True)
class Models:
    """Everything that a picture may pass.

    Attributes:
        encoder: whole, or from its entry on.
        neck: in evaluation mode.
        tokenizer: of the codes.
        unet: the baseline's, if it was trained.
    """

    encoder: Encoder
    neck: nn.Module
    tokenizer: CompactTokenizer
    unet: nn.Module | None = None

    def ways(self) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        """Name to (codes (B, h, w), pixels (B, 3, H, W)) to scores (B, labels)."""
        encoder, bits = self.encoder, self.tokenizer.config.bits
        found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            PIXELS: lambda codes, pixels: encoder.scores(encoder.full(pixels)),
            DECODED: lambda codes, pixels: encoder.scores(
                encoder.full(decoded(self.tokenizer, codes))
            ),
        }
        if self.unet is not None:
            unet = self.unet
            found[POST] = lambda codes, pixels: encoder.scores(
                encoder.full(unet(decoded(self.tokenizer, codes)))
            )
        found[NECK] = lambda codes, pixels: encoder.scores(
            encoder.partial(self.neck(codes_to_z(codes, bits)))
        )
        return found

    def costs(self, grid: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Name to (multiply-accumulates, parameters) for one picture of a grid of tokens."""
        codes = torch.zeros(1, *grid, dtype=torch.int64)
        stride = self.tokenizer.config.stride
        pixels = torch.zeros(1, 3, grid[0] * stride, grid[1] * stride)
        extra = {
            PIXELS: 0,
            DECODED: parameters_of([self.tokenizer.decoder]),
            NECK: parameters_of([self.neck]),
        }
        if self.unet is not None:
            extra[POST] = extra[DECODED] + parameters_of([self.unet])
        network = self.encoder.network()

        def cost(name: str, way: Callable[[Tensor, Tensor], Tensor]) -> tuple[int, int]:
            used = parameters_used(lambda: way(codes, pixels), network)
            return macs_of(lambda: way(codes, pixels)), used + extra[name]

        return {name: cost(name, way) for name, way in self.ways().items()}


@torch.no_grad()
def ranks_of(
    models: Models, batches: Iterator[tuple[np.ndarray, np.ndarray]], ways: Sequence[str]
) -> dict[str, Ranks]:
    """The five likeliest labels of every picture, each way.

    Args:
        models: see there.
        batches: codes (B, h, w) and pictures uint8 (B, H, W, 3).
        ways: names of `Models.ways`.
    """
    known = models.ways()
    found: dict[str, list[Tensor]] = {name: [] for name in ways}
    for codes, pictures in batches:
        grids, pixels = torch.from_numpy(codes.astype(np.int64)), to_pixels(pictures)
        for name in ways:
            found[name].append(best_of(known[name](grids, pixels)))
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def best_of(scores: Tensor) -> Tensor:
    """(B, labels) to the places of the five highest."""
    return scores.topk(min(KEPT_RANKS, scores.shape[1]), dim=1).indices


@dataclass(frozen=True)
class Marks:
    """How right a way is; shares of pictures.

    Attributes:
        count: pictures.
        top1: the likeliest label is there.
        top2: both objects of a picture with two are the two likeliest; None without such.
        top5: everything that is there is among the five likeliest.
        agreement: as many labels as there are objects are those of the pixels.
    """

    count: int
    top1: float
    top2: float | None
    top5: float
    agreement: float


def marks(ranks: Ranks, truth: Sequence[set[int]], reference: Ranks) -> Marks:
    """Compare ranks with what pictures show and with what their pixels give.

    >>> ranks = np.array([[0, 1, 2], [2, 1, 0]])
    >>> marks(ranks, [{1, 0}, {1}], np.array([[1, 0, 2], [1, 2, 0]]))
    Marks(count=2, top1=0.5, top2=1.0, top5=1.0, agreement=0.5)
    """
    rows = list(zip(ranks.tolist(), truth, reference.tolist(), strict=True))
    pairs = [set(found[:2]) == there for found, there, _ in rows if len(there) == 2]
    return Marks(
        len(rows),
        float(np.mean([found[0] in there for found, there, _ in rows])),
        float(np.mean(pairs)) if pairs else None,
        float(np.mean([there <= set(found) for found, there, _ in rows])),
        float(np.mean([set(f[: len(t)]) == set(r[: len(t)]) for f, t, r in rows])),
    )


def truth_of_pixels(reference: Ranks) -> list[set[int]]:
    """Where nobody says what pictures show: the likeliest label of their pixels."""
    return [{int(best)} for best in reference[:, 0]]


def places_of(names: Mapping[str, int], objects: Sequence[str]) -> set[int]:
    """The labels of some objects.

    >>> places_of({"fox": 0, "car": 1}, ["car", "car"])
    {1}
    """
    return {names[name] for name in objects}
