"""Writes the words that a bundle's models know, so that a device can name those that they do not.

The same file tells a server what the models can draw, and in which words: `things` and `places`.
Knows the word lists of scenes and the world, no model. Everyday words that name no thing are left
out, since nobody misses them; see `shared_protocol.words.known`.
`cloud-server train world-words --out DIR --easy-vqa`
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cloud_server.training.scenes import word_lists
from cloud_server.training.scenes.language import (
    background_noun,
    canonical_place,
    phrase,
    split_background,
)
from cloud_server.training.scenes.wordings import QUESTIONS, ZONES
from cloud_server.training.scenes.world import World
from cloud_server.training.tokens.easy_vqa import COLOURS, SHAPES
from shared_protocol.files import write_atomically
from shared_protocol.words.known import KnownWords

NAME = "world.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the recipe."""
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {NAME}")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--easy-vqa", action="store_true", help="with easy-vqa's words, too")


def run(args: argparse.Namespace) -> int:
    """Write the list; returns the process's exit status."""
    args.out.mkdir(parents=True, exist_ok=True)
    content = world_content(World.load(args.world), easy_vqa=args.easy_vqa)
    write_atomically(args.out / NAME, json.dumps(content, indent=1) + "\n")
    return 0


def world_content(world: World, *, easy_vqa: bool) -> dict[str, Any]:
    """What the file holds: the words, what can be drawn, and the places that it can be drawn at."""
    known = world_words(world, easy_vqa=easy_vqa).content()
    things = {name: word_lists.PHRASES.get(name, (phrase(name),)) for name in world.names}
    places = {canonical_place(name): _said_of_place(name) for name in world.backgrounds}
    return {**known, "things": things, "places": places}


def world_words(world: World, *, easy_vqa: bool) -> KnownWords:
    """The words of the active sprites, backgrounds and wordings that name things.

    Args:
        world: which sprites and backgrounds there are.
        easy_vqa: whether the models were taught its shapes and colours, too.
    """
    taught = [*_objects(world), *_places(world), *_wordings()]
    taught += [*SHAPES, *COLOURS] if easy_vqa else []
    spoken = ", ".join(re.sub(r"\{\w+\}", " ", text) for text in taught)
    return KnownWords(KnownWords(()).unknown(spoken), _phrases(world))


def _phrases(world: World) -> dict[str, str]:
    """Things and places of one word, with the article that they were taught with."""
    nouns = [background_noun(background) for background in world.backgrounds]
    taught = [*map(phrase, world.names), *nouns, *_objects(world)]
    known: dict[str, str] = {}
    for told in taught:
        article, _, thing = told.partition(" ")
        if article in ("a", "an") and thing.isalpha() and KnownWords(()).unknown(thing):
            known.setdefault(thing, told)
    known |= {name: phrase(name) for name in world.names if " of " in phrase(name)}
    return known | {"background": "a background", "wall": "a wall"}


def _said_of_place(background: str) -> dict[str, list[str]]:
    """Its wordings, and how its time of day is said; "" where nothing need be said of it."""
    place, time = split_background(background)
    if time is None:
        colour = place.removeprefix("studio_")
        wordings = [said.format(colour=colour) for said in word_lists.STUDIO_WORDINGS]
    else:
        wordings = list(word_lists.PLACES[place][0])
    times = dict.fromkeys(("",) if time is None else word_lists.TIMES[time])
    return {
        "wordings": [said for said in wordings if said != word_lists.HELD_OUT],
        "times": list(times),
    }


def _objects(world: World) -> Iterator[str]:
    for name in world.names:
        yield name
        yield from word_lists.PHRASES.get(name, (phrase(name),))


def _places(world: World) -> Iterator[str]:
    for background in world.backgrounds:
        place, time = split_background(background)
        if time is None:
            yield place.removeprefix("studio_")
        else:
            yield time
            yield word_lists.PLACES[place][1]
            yield from word_lists.PLACES[place][0]


def _wordings() -> Iterator[str]:
    tables: Sequence[Sequence[str]] = (
        *word_lists.RELATION_WORDINGS.values(),
        *word_lists.TIMES.values(),
        *QUESTIONS.values(),
        word_lists.STUDIO_WORDINGS,
        word_lists.CAPTION_FRAMES,
        word_lists.SINGLE_PLACES,
        word_lists.JOINERS,
        ZONES,
    )
    for table in tables:
        yield from table
