"""Requests to a backbone, and shards of what it answers, to fit the `adapted` entropy model to.

It does not know where words and pictures come from. Requests pass through the same translation as
a server's; a row holds the words, and the positions that were filled in::

    OUT/train_t2i_00000.npy      uint16 [N, H, W] codes of whole drawings
    OUT/train_t2i_00000.jsonl    {"text": words}
    OUT/train_inpaint_00002.*    the same with "targets": the generated positions, as hex of bits
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_server.generation.work import PictureResult
from cloud_server.serving.loaded_model import Runner
from cloud_server.serving.translation import to_work
from cloud_server.training.recipes.entropy.sequences import Picture, region
from cloud_server.training.scenes.world import Split
from cloud_server.training.tokens.shards import write_shard
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask

SPLITS: tuple[Split, ...] = ("train", "test")
INPAINT_EVERY = 3
"""One shard in so many holds inpainted pictures."""


@dataclass(frozen=True)
class Asked:
    """One request and the row that is kept with its answer."""

    request: Request
    row: dict[str, str]


def kind_of(number: int) -> str:
    """What the shard of this number holds.

    >>> [kind_of(number) for number in range(4)]
    ['t2i', 't2i', 'inpaint', 't2i']
    """
    return "inpaint" if number % INPAINT_EVERY == INPAINT_EVERY - 1 else "t2i"


def shard_path(out: Path, split: Split, kind: str, number: int) -> Path:
    """Where a shard's codes go."""
    return out / f"{split}_{kind}_{number:05d}.npy"


def shard_random(seed: int, split: Split, number: int) -> np.random.Generator:
    """A shard's own source of random numbers, so that shards do not depend on each other."""
    return np.random.default_rng((seed, SPLITS.index(split), number))


def options_with_seed(steps: int | None, rng: np.random.Generator) -> Options:
    """Options with a random seed; `steps` None = the bundle's."""
    return Options(steps=steps, seed=int(rng.integers(1 << 32)))


def ask_to_draw(words: str, text: TextTokens, options: Options) -> Asked:
    """Ask for a whole drawing of the words; `text` are their ids."""
    return Asked(Request(Task.T2I, text, options=options), {"text": words})


def ask_to_fill(
    words: str,
    text: TextTokens,
    options: Options,
    picture: Picture,
    bundle: Bundle,
    rng: np.random.Generator,
) -> Asked:
    """Ask for a random region of a picture to be filled in for the words."""
    flags = region(picture.codes.shape, picture, rng)
    image = ImageTokens(picture.codes, bundle.vocabulary.codebook_size)
    request = Request(Task.INPAINT, text, image, TokenMask(flags), options=options)
    return Asked(request, {"text": words, "targets": np.packbits(flags).tobytes().hex()})


def write_answers(path: Path, asked: Sequence[Asked], engine: Runner, bundle: Bundle) -> None:
    """Have the requests answered and keep the shard.

    Args:
        path: of the codes.
        asked: at least one request for a picture.
        engine: answers.
        bundle: the engine's.
    """
    results = engine.run([to_work(one.request, bundle) for one in asked])
    grids = [result.codes for result in results if isinstance(result, PictureResult)]
    write_shard(path, np.stack(grids), [one.row for one in asked])
