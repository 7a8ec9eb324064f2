"""Words that the built-in models do not know are named, and nothing else is."""

import json
from pathlib import Path

import easy_vqa
import numpy as np
import pytest

from cloud_server.training.recipes.text import world_words as recipe
from cloud_server.training.scenes.language import caption, questions
from cloud_server.training.scenes.typed_forms import typed_form
from cloud_server.training.scenes.world import World, default_world
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import CheckpointError
from shared_protocol.words.known import MOST_BYTES, KnownWords, unknown_warning
from shared_protocol.words.plain import plain_prompt

NOUNS = (Path(__file__).parent / "everyday_nouns.txt").read_text().split()
BUILTIN = load_bundle().known_words
assert BUILTIN is not None
KNOWN = BUILTIN
SHARE_NAMED = 0.9


def held_out(seed: int, count: int) -> list[tuple[str, bool]]:
    """Captions and questions of the test split, and whether they ask."""
    rng, world, texts = np.random.default_rng((seed, 77)), default_world(), []
    while len(texts) < count:
        scene = world.sample_scene(rng, "test")
        texts.append((caption(scene, rng, "test"), False))
        texts += [(qa.question, True) for qa in questions(scene, rng, "test", world)]
    return texts[:count]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_named_in_held_out_texts_however_they_are_typed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for text, asks in held_out(seed, 300):
        assert KNOWN.unknown(text) == ()
        typed = typed_form(text, rng, asks=asks)
        assert KNOWN.unknown(typed) == (), typed


def test_nothing_is_named_in_the_questions_of_easy_vqa() -> None:
    assert {
        word for text in easy_vqa.get_test_questions()[0] for word in KNOWN.unknown(text)
    } == set()


def test_nine_of_ten_everyday_nouns_beyond_the_world_are_named() -> None:
    assert len(set(NOUNS)) == 200
    names = " ".join(default_world().names)
    assert not any(noun in names.split() for noun in NOUNS)
    for frame in ("a {} on a beach", "Is there a {}?", "TWO {}S, PLEASE", "the {}"):
        named = [noun for noun in NOUNS if KNOWN.unknown(frame.format(noun))]
        print(f"{frame}: {len(named)} of {len(NOUNS)} named")
        assert len(named) >= SHARE_NAMED * len(NOUNS), set(NOUNS) - set(named)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A photo of my grandmother in the kitchen.", ("grandmother", "kitchen")),
        ("an astronaut riding a horse on the moon", ("astronaut", "horse", "moon")),
        ("How many people are wearing a hat?", ("people", "hat")),
        ("What colour is the woman’s hat?", ("woman", "hat")),
        ("a very tall green tree next to a small red house", ()),
        ("the biggest foxes are jumping happily over three burgers", ()),
        ("Two snowmen and some butterflies", ()),
        ("dragon, Dragon, DRAGON", ("dragon",)),
        ("лиса на пляже", ("лиса", "на", "пляже")),
        ("a well-known fox-like teddy-bear", ("teddy-bear",)),
        ("", ()),
    ],
)
def test_what_is_named_in_sentences(text: str, named: tuple[str, ...]) -> None:
    assert KNOWN.unknown(text) == named


def test_the_warning_is_short() -> None:
    assert unknown_warning((), "builtin") == ()
    many = unknown_warning(tuple("abcdefgh"), "builtin")
    assert many == ("the builtin models do not know: a, b, c, d, e and 3 more",)


@pytest.mark.parametrize(
    ("left_out", "whole"),
    [
        ("fox left of red balloon on beach", "a fox left of a red balloon on a beach"),
        ("fox, owl and tree in desert at night", "a fox, an owl and a tree in a desert at night"),
        ("grapes on plain blue background", "a bunch of grapes on a plain blue background"),
        ("picture of fox at top left", "picture of a fox at the top left"),
        ("pig on top of rocket", "a pig on top of a rocket"),
        ("fox to left of car", "a fox to the left of a car"),
        ("old apple", "an old apple"),
        ("purple grapes", "purple grapes"),
        ("apple tree", "apple tree"),
        ("snow fox", "snow fox"),
        ("two foxes and my car", "two foxes and my car"),
        ("a slice of pizza", "a slice of pizza"),
        ("this fox at 12:30", "this fox at 12:30"),
        ("dragon", "dragon"),
        ("", ""),
    ],
)
def test_articles_come_back_where_there_is_no_doubt(left_out: str, whole: str) -> None:
    assert KNOWN.with_articles(left_out) == whole == KNOWN.with_articles(whole)


@pytest.mark.parametrize("seed", range(3))
def test_captions_with_all_their_articles_stay_as_they_are(seed: int) -> None:
    for text, asks in held_out(seed, 600):
        if not asks:
            assert KNOWN.with_articles(plain_prompt(text)) == plain_prompt(text)


def test_the_shipped_list_is_what_its_recipe_makes(tmp_path: Path) -> None:
    shipped = load_bundle()
    made = recipe.world_content(World.load(), easy_vqa=True)
    path = tmp_path / "again.json"
    path.write_text(json.dumps(made, indent=1) + "\n")
    world = shipped.manifest.typing.world
    assert world is not None
    assert path.read_bytes() == shipped.file(world).read_bytes()
    assert shipped.file(world).stat().st_size < 8192


def test_a_world_without_easy_vqa_lacks_its_shapes() -> None:
    plain = recipe.world_words(World.load(), easy_vqa=False)
    assert plain.unknown("a triangle and a fox") == ("triangle",)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", '{"words": []}', '{"words": "fox", "phrases": {}}',
     '{"words": [1], "phrases": {}}',
     '{"words": [], "phrases": []}', '{"words": [], "phrases": {"a": 1}}', "[" * 100_000,
     '{"words": ["' + "a" * MOST_BYTES + '"], "phrases": {}}'],
)  # fmt: skip
def test_a_file_without_words_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "world.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"world\.json"):
        KnownWords.load(path)
    with pytest.raises(CheckpointError, match="cannot read"):
        KnownWords.load(tmp_path / "none.json")
