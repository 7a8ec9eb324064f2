"""Recipe of the built-in text tokenizer and of the static prior of the text coder.

It does not know models or servers. Reads the scenes, wordfreq and WordNet, writes two files:
`text_tokenizer.json` and `text_prior.msgpack`. The prior can be made again for a frozen tokenizer.
"""

from __future__ import annotations

import argparse
import random
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloud_server.training.recipes.backbone.word_coder import END_OF_TEXT
from cloud_server.training.recipes.text.corpus import (
    PICTURE_OPENINGS,
    PROMPT_OPENINGS,
    QUESTION_OPENINGS,
    common_words,
    glosses,
    scene_texts,
    world_words,
)
from cloud_server.training.recipes.text.prior import Rows, build_prior
from cloud_server.training.scenes.world import World
from shared_protocol.coding.text_codec import TextPrior, save_text_prior
from shared_protocol.tokenizers.text import TextTokenizer

DEFAULT_CONFIG = Path(__file__).parents[2] / "configs" / "text_tokenizer.toml"
DEFAULT_OUTPUT = Path(__file__).parents[4] / "shared_protocol" / "weights" / "builtin"
TOKENIZER_FILE = "text_tokenizer.json"
PRIOR_FILE = "text_prior.msgpack"
CHAT_TEXT = "USER: \n ASSISTANT:"


@dataclass(frozen=True)
class PriorConfig:
    """The numbers of the table `[prior]`."""

    entries: int
    scenes: int
    scene_weight: float
    word_scale: float
    opening_weight: float
    opened_share: float
    capital_share: float
    stop_share: float


@dataclass(frozen=True)
class TextConfig:
    """The numbers of `configs/text_tokenizer.toml`, which says what they mean."""

    vocabulary_size: int
    seed: int
    scenes: int
    words: int
    word_scale: int
    capitalised_share: float
    glosses: bool
    world_word_count: int
    prior: PriorConfig

    @classmethod
    def load(cls, path: Path) -> TextConfig:
        """Read a TOML file."""
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "prior": PriorConfig(**values["prior"])})

    def tiny(self) -> TextConfig:
        """Numbers that take no time and need neither word lists nor a network."""
        prior = replace(self.prior, entries=2000, scenes=40)
        return replace(self, vocabulary_size=512, scenes=40, words=0, glosses=False, prior=prior)


def counted_texts(config: TextConfig, world: World) -> Iterator[tuple[str, int]]:
    """Everything that the tokenizer learns from, each text with its count."""
    yield from ((text, 1) for text in scene_texts(world, config.scenes, config.seed))
    yield from ((f" {word}", config.world_word_count) for word in world_words(world))
    yield from ((word, config.world_word_count // 20) for word in world_words(world))
    yield CHAT_TEXT, config.world_word_count
    for word, share in common_words(config.words):
        count = max(1, round(share * config.word_scale))
        yield f" {word}", count
        yield f" {word.capitalize()}", round(count * config.capitalised_share)
        yield word.capitalize(), round(count * config.capitalised_share)
        yield word, round(count * config.capitalised_share)
    yield from ((text, config.world_word_count // 8) for text in PROMPT_OPENINGS)
    yield from ((text, config.world_word_count // 8) for text in QUESTION_OPENINGS)
    if config.glosses:
        yield from ((text, 1) for text in glosses())


def train_tokenizer(texts: Iterable[tuple[str, int]], vocabulary_size: int) -> Any:
    """A byte-level BPE of exactly `vocabulary_size` ids; id 0 is end of text.

    Digits stand alone, words carry the space before them, letter case is kept.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(texts), trainer)
    return tokenizer


def _repeated(texts: Iterable[tuple[str, int]]) -> Iterator[str]:
    return (text for text, count in texts for _ in range(count))


def make_tokenizer(config: TextConfig, output: Path) -> Path:
    """Train the tokenizer and write it.

    Returns:
        The path of `text_tokenizer.json`.
    """
    world = World.load()
    tokenizer = train_tokenizer(counted_texts(config, world), config.vocabulary_size)
    path = output / TOKENIZER_FILE
    output.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path), pretty=False)
    return path


def make_prior(config: TextConfig, tokenizer: TextTokenizer) -> TextPrior:
    """The static prior of the text coder for any tokenizer, from general English and the scenes."""
    settings, end = config.prior, tokenizer.eot_id
    rng = random.Random(config.seed)

    def closed(texts: Iterable[str]) -> list[list[int]]:
        return [[*tokenizer.encode(text).ids.tolist(), end] for text in texts]

    def even(sequences: list[list[int]], weight: float, opens: bool = True) -> Rows:
        return Rows(sequences, [weight] * len(sequences), opens)

    world = World.load()
    words = common_words(config.words)
    spelled = [tokenizer.encode(f" {word}").ids.tolist() for word, _ in words]
    weights = [share * settings.word_scale for _, share in words]
    openings = {form for text in (*PROMPT_OPENINGS, *QUESTION_OPENINGS) for form in _cases(text)}
    opened = [tokenizer.encode(text).ids.tolist() for text in sorted(openings)]
    scenes = closed(scene_texts(world, settings.scenes, config.seed + 1))
    defined = glosses() if config.glosses else ()
    sources = [
        even(closed(_as_prompt(text, rng, settings) for text in defined), 1.0),
        even(scenes, settings.scene_weight),
        Rows(spelled, weights, opens=False),
        even(opened, settings.opening_weight),
    ]
    return build_prior(sources, tokenizer.size, end, settings.entries)


def _cases(text: str) -> tuple[str, str]:
    return text, text[0].upper() + text[1:]


def _as_prompt(text: str, rng: random.Random, settings: PriorConfig) -> str:
    """A definition in the shapes that people give to prompts: opening, capital, full stop."""
    if text.startswith(("a ", "an ", "the ")) and rng.random() < settings.opened_share:
        text = f"{rng.choice(PICTURE_OPENINGS)} {text}"
    if rng.random() < settings.capital_share:
        text = _cases(text)[1]
    if text[-1].isalnum() and rng.random() < settings.stop_share:
        text += "."
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `cloud-server train text-tokenizer`."""
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument(
        "--out",
        "--output",
        dest="output",
        type=Path,
        default=DEFAULT_OUTPUT,
        help="folder of the files",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="make only the prior, for this tokenizer.json (the built-in one, Phi-1.5's, ...)",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="few ids, learnt from a few scenes only; no network"
    )


def run(args: argparse.Namespace) -> int:
    """Train the tokenizer, unless one is given, and make its prior."""
    config = TextConfig.load(args.config)
    if args.smoke:
        config = config.tiny()
    path = args.tokenizer or make_tokenizer(config, args.output)
    prior = make_prior(config, TextTokenizer.load(path))
    save_text_prior(prior, args.output / PRIOR_FILE)
    return 0
