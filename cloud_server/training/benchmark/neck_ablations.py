"""Necks that were trained otherwise, several seeds of each, on the same pictures.

It does not know how they were trained beyond what their names say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cloud_server.necks.encoders import Encoder
from cloud_server.necks.load import open_encoder
from cloud_server.necks.neck_file import NECK, fill, on_meta, read_neck_file
from cloud_server.necks.networks import build_neck
from cloud_server.training.benchmark.macs import kmacs_a_pixel, macs_of
from cloud_server.training.benchmark.neck_measures import AT_ONCE, Models, best_of, marks
from cloud_server.training.benchmark.neck_pictures import Pictures
from cloud_server.training.recipes.neck.examples import to_pixels
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers.lfq import codes_to_z

COLUMNS = (
    "training",
    "seeds",
    "top-1, mean",
    "top-1, least to most",
    "top-2 of two objects",
    "as pixels",
    "distance (eq. 1)",
    "kMAC a pixel",
)


@dataclass
class Candidate:
    """A neck to compare, and what it made of the pictures.

    Attributes:
        name: shared by the seeds of one training.
        neck, encoder: of its file.
        ranks: five likeliest labels, batch by batch.
        distances: of equation 1, batch by batch.
    """

    name: str
    neck: nn.Module
    encoder: Encoder
    ranks: list[Tensor] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)

    def features(self, values: Tensor) -> Tensor:
        """+1/-1 (B, bits, h, w) to the encoder's features."""
        return self.encoder.partial(self.neck(values))


def open_candidates(named: Sequence[str], bundle: Bundle) -> list[Candidate]:
    """The necks that "NAME=FILE" words name.

    Raises:
        ConfigError: a word is none.
        CheckpointError: a file cannot be read, or reads another tokenizer's tokens.
    """
    found = []
    for word in named:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise ConfigError(f"--compare {word!r}", "use NAME=FILE")
        path = Path(place)
        content = read_neck_file(path)
        if content.tokenizer != bundle.tokenizer_fingerprint.hex():
            raise CheckpointError(f"{path} reads another tokenizer's tokens", "leave it out")
        with on_meta():
            neck = build_neck(content.sizes)
        fill(neck, content.part(NECK), path)
        found.append(Candidate(name, neck, open_encoder(content, path)))
    return found


@torch.no_grad()
def ablation_table(
    named: Sequence[str],
    models: Models,
    bundle: Bundle,
    pictures: Pictures,
    truth: list[set[int]],
) -> tuple[Sequence[str], list[list[Any]], Sequence[str]]:
    """Columns, rows and notes: one row for each name, over its seeds.

    Raises:
        ConfigError, CheckpointError: see `open_candidates`.
    """
    candidates = open_candidates(named, bundle)
    reference = []
    bits = models.tokenizer.config.bits
    for codes, shown in pictures.batches(AT_ONCE):
        wanted = models.encoder.full(to_pixels(shown))
        reference.append(best_of(models.encoder.scores(wanted)))
        values = codes_to_z(torch.from_numpy(codes.astype(np.int64)), bits)
        for one in candidates:
            features = one.features(values)
            one.ranks.append(best_of(one.encoder.scores(features)))
            one.distances.append(float((features - wanted).square().mean()) * len(codes))
    seen = torch.cat(reference).numpy()
    groups: dict[str, list[Candidate]] = {}
    for one in candidates:
        groups.setdefault(one.name, []).append(one)
    rows = [_row(name, some, truth, seen, bundle) for name, some in groups.items()]
    notes = ("Each training is as long as the others; distance: of the features, mean of seeds.",)
    return COLUMNS, rows, notes


def _row(
    name: str, some: list[Candidate], truth: list[set[int]], seen: np.ndarray, bundle: Bundle
) -> list[Any]:
    found = [marks(torch.cat(one.ranks).numpy(), truth, seen) for one in some]
    firsts = [each.top1 for each in found]
    pairs = [each.top2 for each in found if each.top2 is not None]
    values = torch.zeros(1, int(np.log2(bundle.vocabulary.codebook_size)), *bundle.grid)
    macs = macs_of(lambda: some[0].encoder.scores(some[0].features(values)))
    return [
        name,
        len(some),
        float(np.mean(firsts)),
        f"{min(firsts):.3f} to {max(firsts):.3f}",
        float(np.mean(pairs)) if pairs else "–",
        float(np.mean([each.agreement for each in found])),
        float(np.mean([sum(one.distances) / len(seen) for one in some])),
        kmacs_a_pixel(macs, bundle.grid[0] * bundle.stride),
    ]
