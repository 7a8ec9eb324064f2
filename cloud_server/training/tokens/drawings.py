"""Keeps what a bundle's backbone draws for given words, so that `adapted` learns its habits.

Knows the engine that serves and shards of codes, no entropy model. Words are drawn as whole
pictures (t2i), and regions of pictures are filled in for words (inpaint). A shard is a pure
function of backbone, words, pictures, seed, split and number; see `kept_answers` for what it holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud_server.serving.load import backbone_path, load_engine
from cloud_server.serving.loaded_model import Runner
from cloud_server.settings import Settings
from cloud_server.training.recipes.entropy.sequences import Picture
from cloud_server.training.scenes.world import Split
from cloud_server.training.tokens.kept_answers import (
    Asked,
    ask_to_draw,
    ask_to_fill,
    kind_of,
    options_with_seed,
    shard_path,
    shard_random,
    write_answers,
)
from cloud_server.training.tokens.shards import check_meta
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.digests import digest_of, digest_of_weights
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokens import TextTokens

logger = logging.getLogger(__name__)

SHARD = 16
HELD_OUT_SHARE = 10
"""One drawing in so many is held out."""
BATCH_ON_GPU = 8


@dataclass(frozen=True)
class Plan:
    """What to draw.

    Args:
        words: at least one text.
        pictures: some of their regions are repainted; none = whole drawings only.
        count: drawings in all.
        steps: decoding steps; None = the bundle's.
        seed: of words, regions and drawings.
    """

    words: Sequence[str]
    pictures: Sequence[Picture]
    count: int
    steps: int | None
    seed: int


def find_backbone(bundle: Bundle, named: Path | None) -> Path | None:
    """Where the bundle's backbone is; None if it is not on this machine.

    Raises:
        CheckpointError: there is none where `named` says.
    """
    if named is not None and not named.exists():
        raise CheckpointError(f"no backbone at {named}", "name its weights with --backbone")
    try:
        path = backbone_path(bundle, Settings(backbone=named))
    except CheckpointError:
        return None
    return path if path.exists() else None


def draw(plan: Plan, bundle: Bundle, backbone: Path, out: Path, device: str) -> int:
    """Draw what is missing of the plan; returns how many drawings for training there are.

    Raises:
        ConfigError: `out` holds drawings of another plan or backbone.
        CheckpointError: the backbone's weights are damaged or not made for this bundle.
        PromptError: words that are not Unicode text.
    """
    out.mkdir(parents=True, exist_ok=True)
    check_meta(out, _meta(plan, bundle, backbone))
    shards = list(_shards(plan, out))
    missing = [shard for shard in shards if not shard.path.is_file()]
    if missing:
        engine = load_engine(bundle, backbone, device, 1 if device == "cpu" else BATCH_ON_GPU)
        for shard in missing:
            _write(shard, plan, bundle, engine)
            logger.info("wrote %s: %d drawings", shard.path.name, shard.size)
    return sum(shard.size for shard in shards if shard.split == "train")


@dataclass(frozen=True)
class _Shard:
    out: Path
    split: Split
    kind: str
    number: int
    size: int

    @property
    def path(self) -> Path:
        return shard_path(self.out, self.split, self.kind, self.number)


def _shards(plan: Plan, out: Path) -> Iterator[_Shard]:
    held_out = plan.count // HELD_OUT_SHARE
    counts: tuple[tuple[Split, int], ...] = (("test", held_out), ("train", plan.count - held_out))
    for split, count in counts:
        for number, start in enumerate(range(0, count, SHARD)):
            kind = kind_of(number) if plan.pictures else "t2i"
            yield _Shard(out, split, kind, number, min(SHARD, count - start))


def _write(shard: _Shard, plan: Plan, bundle: Bundle, engine: Runner) -> None:
    rng = shard_random(plan.seed, shard.split, shard.number)
    asked = [_ask(shard.kind, plan, bundle, rng) for _ in range(shard.size)]
    write_answers(shard.path, asked, engine, bundle)


def _ask(kind: str, plan: Plan, bundle: Bundle, rng: np.random.Generator) -> Asked:
    words = plan.words[int(rng.integers(len(plan.words)))]
    text, words = _fitted(words, bundle)
    options = options_with_seed(plan.steps, rng)
    if kind == "t2i":
        return ask_to_draw(words, text, options)
    picture = plan.pictures[int(rng.integers(len(plan.pictures)))]
    return ask_to_fill(words, text, options, picture, bundle, rng)


def _fitted(words: str, bundle: Bundle) -> tuple[TextTokens, str]:
    """Ids of the words, and the words again; both cut where the model reads no further."""
    text = bundle.text_tokenizer.encode(words)
    if len(text) <= bundle.max_text_tokens:
        return text, words
    text = TextTokens(text.ids[: bundle.max_text_tokens], text.vocabulary_size)
    return text, bundle.text_tokenizer.decode(text)


def _meta(plan: Plan, bundle: Bundle, backbone: Path) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(list(plan.words)).encode())
    for picture in plan.pictures:
        digest.update(picture.codes.tobytes())
    return {
        "backbone": digest_of_weights(backbone),
        "image_tokenizer": digest_of(bundle.path("image_tokenizer")),
        "material": digest.hexdigest(),
        "count": plan.count,
        "steps": plan.steps or bundle.defaults.steps,
        "guidance": bundle.defaults.guidance,
        "seed": plan.seed,
    }


def read_words(path: Path) -> list[str]:
    """The lines of a file of prompts.

    Raises:
        ConfigError: it cannot be read or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "check --prompts") from error
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise ConfigError(f"{path} holds no prompt", "write one a line")
    return words
