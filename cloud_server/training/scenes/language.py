"""Words about scenes: captions, questions with exact answers, and one canonical description.

Knows the truth of a scene, never its pixels. Everything is deterministic given a numpy Generator.
The `train` split uses the first wordings of each table; `test` also the ones after HELD_OUT.
A question is asked only where its answer is beyond doubt: no object near the border of two regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cloud_server.training.scenes.word_lists import (
    ABOVE,
    AT,
    BACKGROUND,
    BELOW,
    CAPTION_FRAMES,
    COUNT,
    DESCRIBE,
    HELD_OUT,
    IDENTITY,
    JOINERS,
    LEFT,
    LISTING,
    OPPOSITE,
    PHRASES,
    PLACES,
    PRESENCE,
    RELATION,
    RELATION_CHECK,
    RELATION_WORDINGS,
    RIGHT,
    SINGLE_PLACES,
    STUDIO_WORDINGS,
    TIME,
    TIMES,
    WHERE,
)
from cloud_server.training.scenes.world import PlacedSprite, Scene, Split, World, default_world

NEAR = (0.40625, 0.59375)  # shares of the canvas where left ends and right begins
DOUBT = 0.02  # centres this close to a border of regions are not asked about
CLEARLY_ASIDE = 0.34  # offsets between this and a full box make left/right doubtful
NO_BACKGROUND_SHARE = 0.08
SENTENCE_SHARE = 0.15


@dataclass(frozen=True)
class QA:
    """A question, its only right answer, and its kind (presence, count, relation, ...)."""

    question: str
    answer: str
    kind: str


def caption(scene: Scene, rng: np.random.Generator, split: Split) -> str:
    """One way to say what is in the scene, in everyday words.

    Args:
        scene: any number of objects; restrict its objects to speak of a part of a picture.
        rng: the only source of randomness.
        split: whether held-out wordings may appear.
    """
    place = background_phrase(scene.background, rng, split)
    if rng.random() < NO_BACKGROUND_SHARE and scene.objects:
        place = ""
    if not scene.objects:
        text = (
            f"an empty scene {place}" if rng.random() < 0.5 else background_noun(scene.background)
        )
        return text
    what = _subject(scene, rng, split)
    if place and rng.random() < 0.12:
        text = f"{place}, {what}"
    else:
        text = f"{_pick(CAPTION_FRAMES, rng, split).format(what=what)} {place}".strip()
    return f"{text[0].upper()}{text[1:]}." if rng.random() < SENTENCE_SHARE else text


def describe(scene: Scene) -> str:
    """The canonical full description; objects from left to right, then from top to bottom.

    >>> objects = PlacedSprite("fox", 0, 0, 96), PlacedSprite("car", 160, 80, 96)
    >>> describe(Scene(objects, "beach_night"))
    'a fox at the top left and a car at the right, on a beach at night'
    """
    parts = [f"{phrase(o.name)} at the {zone_of(o, scene)}" for o in reading_order(scene.objects)]
    place = canonical_place(scene.background)
    return f"{join_words(parts)}, {place}" if parts else f"nothing, {place}"


def questions(
    scene: Scene, rng: np.random.Generator, split: Split, world: World | None = None
) -> list[QA]:
    """One question of every kind that the scene answers without doubt; presence twice (yes, no).

    Args:
        scene: at least one object.
        rng: the only source of randomness.
        split: whether held-out wordings may appear.
        world: where absent objects are drawn from; None means the shipped world.
    """
    asked = [
        *_presence(scene, rng, split, world or default_world()),
        QA(_pick(COUNT, rng, split), str(len(scene.objects)), "count"),
        QA(_pick(BACKGROUND, rng, split), background_noun(scene.background), "background"),
        QA(_pick(DESCRIBE, rng, split), describe(scene), "describe"),
        _listing(scene, rng, split),
    ]
    makers: list[Callable[[Scene, np.random.Generator, Split], QA | None]] = [
        _time, _where, _at, _relation, _relation_check,
    ]  # fmt: skip
    asked += [qa for make in makers if (qa := make(scene, rng, split)) is not None]
    return asked


def phrase(name: str) -> str:
    """The usual words for an object, with its article.

    >>> phrase("owl"), phrase("fox"), phrase("grapes")
    ('an owl', 'a fox', 'a bunch of grapes')
    """
    if name in PHRASES:
        return PHRASES[name][0]
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def definite(name: str) -> str:
    """The object with a definite article: `the fox`."""
    return f"the {phrase(name).split(' ', 1)[1]}"


def join_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def reading_order(objects: Sequence[PlacedSprite]) -> list[PlacedSprite]:
    """From left to right, then from top to bottom."""
    return sorted(objects, key=lambda o: (o.x, o.y))


def zone_of(thing: PlacedSprite, scene: Scene) -> str:
    """The ninth of the picture that the object's centre is in: `top left` ... `bottom right`."""
    x, y = thing.centre
    across = _third(x / scene.width, ("left", "", "right"))
    down = _third(y / scene.height, ("top", "", "bottom"))
    return f"{down} {across}".strip() or "center"


def relation_of(first: PlacedSprite, second: PlacedSprite) -> str:
    """How `first` stands to `second`: left, right, above or below, by the larger offset."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) >= abs(dy):
        return LEFT if dx < 0 else RIGHT
    return ABOVE if dy < 0 else BELOW


def split_background(background: str) -> tuple[str, str | None]:
    """(place, time of day); studios have no time.

    >>> split_background("beach_night"), split_background("snow"), split_background("studio_pink")
    (('beach', 'night'), ('snow', 'day'), ('studio_pink', None))
    """
    if background.startswith("studio_"):
        return background, None
    place, _, time = background.partition("_")
    return place, time or "day"


def background_phrase(background: str, rng: np.random.Generator, split: Split) -> str:
    """A random adverb phrase: `on a beach at night`, `against a plain pink background`."""
    place, time = split_background(background)
    if time is None:
        return _pick(STUDIO_WORDINGS, rng, split).format(colour=place.removeprefix("studio_"))
    return f"{_pick(PLACES[place][0], rng, split)} {_pick(TIMES[time], rng, split)}".strip()


def canonical_place(background: str) -> str:
    """The one adverb phrase that `describe` uses."""
    place, time = split_background(background)
    if time is None:
        return STUDIO_WORDINGS[0].format(colour=place.removeprefix("studio_"))
    return f"{PLACES[place][0][0]} {'' if time == 'day' else f'at {time}'}".strip()


def background_noun(background: str) -> str:
    """The answer to "what is the background?": `a beach at night`, `a plain blue background`."""
    place, time = split_background(background)
    if time is None:
        return f"a plain {place.removeprefix('studio_')} background"
    return f"{PLACES[place][1]} {'' if time == 'day' else f'at {time}'}".strip()


def _pick(wordings: Sequence[str], rng: np.random.Generator, split: Split) -> str:
    known = list(wordings)
    if HELD_OUT in known:
        border = known.index(HELD_OUT)
        known = known[:border] if split == "train" else known[:border] + known[border + 1 :]
    return known[int(rng.integers(len(known)))]


def _varied_phrase(name: str, rng: np.random.Generator) -> str:
    choices = PHRASES.get(name, (phrase(name),))
    return choices[int(rng.integers(len(choices)))]


def _subject(scene: Scene, rng: np.random.Generator, split: Split) -> str:
    """The objects of a caption, without the background."""
    order = [scene.objects[int(i)] for i in rng.permutation(len(scene.objects))]
    words = [_varied_phrase(o.name, rng) for o in order]
    if len(order) == 1:
        if rng.random() < 0.3:
            place = _pick(SINGLE_PLACES, rng, split).format(zone=zone_of(order[0], scene))
            return f"{words[0]} {place}"
        return words[0]
    if rng.random() < 0.65:
        return _related_subject(order, words, rng, split)
    if len(order) == 2:
        return f"{words[0]} {_pick(JOINERS, rng, split)} {words[1]}"
    return join_words(words)


def _related_subject(
    order: Sequence[PlacedSprite], words: Sequence[str], rng: np.random.Generator, split: Split
) -> str:
    relation = relation_of(order[0], order[1])
    text = f"{words[0]} {_pick(RELATION_WORDINGS[relation], rng, split)} {words[1]}"
    if len(order) == 4 and rng.random() < 0.5:
        relation = relation_of(order[2], order[3])
        return f"{text}, and {words[2]} {_pick(RELATION_WORDINGS[relation], rng, split)} {words[3]}"
    return f"{text}, and {join_words(words[2:])}" if len(order) > 2 else text


def _third(share: float, names: tuple[str, str, str]) -> str:
    return names[0] if share < NEAR[0] else names[2] if share > NEAR[1] else names[1]


def _is_doubtful(thing: PlacedSprite, scene: Scene) -> bool:
    x, y = thing.centre
    shares = (x / scene.width, y / scene.height)
    return any(abs(share - border) < DOUBT for share in shares for border in NEAR)


def _any_object(scene: Scene, rng: np.random.Generator) -> PlacedSprite:
    return scene.objects[int(rng.integers(len(scene.objects)))]


def _presence(scene: Scene, rng: np.random.Generator, split: Split, world: World) -> list[QA]:
    there = _any_object(scene, rng).name
    absent = _absent_name(scene, rng, world)
    pairs = ((there, "yes"), (absent, "no"))
    return [
        QA(_pick(PRESENCE, rng, split).format(a=_varied_phrase(name, rng)), answer, "presence")
        for name, answer in pairs
    ]


def _absent_name(scene: Scene, rng: np.random.Generator, world: World) -> str:
    """An object that is not there; half of the time of the same kind as one that is."""
    present = {o.name for o in scene.objects}
    kind = world.sprite(_any_object(scene, rng).name).kind
    absent = [s for s in world.sprites[: world.active] if s.name not in present]
    alike = [s for s in absent if s.kind == kind]
    pool = alike if alike and rng.random() < 0.5 else absent
    return pool[int(rng.integers(len(pool)))].name


def _listing(scene: Scene, rng: np.random.Generator, split: Split) -> QA:
    names = [phrase(o.name) for o in reading_order(scene.objects)]
    if len(names) == 1:
        return QA(_pick(IDENTITY, rng, split), names[0], "identity")
    return QA(_pick(LISTING, rng, split), join_words(names), "listing")


def _time(scene: Scene, rng: np.random.Generator, split: Split) -> QA | None:
    time = split_background(scene.background)[1]
    return QA(_pick(TIME, rng, split), time, "time") if time else None


def _where(scene: Scene, rng: np.random.Generator, split: Split) -> QA | None:
    thing = _any_object(scene, rng)
    if _is_doubtful(thing, scene):
        return None
    question = _pick(WHERE, rng, split).format(the=definite(thing.name))
    return QA(question, zone_of(thing, scene), "where")


def _at(scene: Scene, rng: np.random.Generator, split: Split) -> QA | None:
    thing = _any_object(scene, rng)
    zone = zone_of(thing, scene)
    if any(_is_doubtful(o, scene) for o in scene.objects):
        return None
    if sum(zone_of(o, scene) == zone for o in scene.objects) != 1:
        return None
    return QA(_pick(AT, rng, split).format(zone=zone), phrase(thing.name), "at")


def _relation(scene: Scene, rng: np.random.Generator, split: Split) -> QA | None:
    """What is left of (right of, above, below) an object, if exactly one thing is, beyond doubt."""
    order = rng.permutation(len(scene.objects))
    relations = [(LEFT, RIGHT, ABOVE, BELOW)[int(i)] for i in rng.permutation(4)]
    for anchor in (scene.objects[int(i)] for i in order):
        for relation in relations:
            others = [o for o in scene.objects if o is not anchor]
            answers = [o for o in others if _stands(o, anchor, relation)]
            doubts = [o for o in others if o not in answers and _may_stand(o, anchor, relation)]
            if len(answers) == 1 and not doubts:
                wording = _pick(RELATION_WORDINGS[relation], rng, split)
                question = _pick(RELATION, rng, split)
                question = question.format(relation=wording, the=definite(anchor.name))
                return QA(question, phrase(answers[0].name), "relation")
    return None


def _relation_check(scene: Scene, rng: np.random.Generator, split: Split) -> QA | None:
    """A relation of two objects, true or its opposite, half and half."""
    if len(scene.objects) < 2:
        return None
    picked = rng.choice(len(scene.objects), size=2, replace=False)
    first, second = (scene.objects[int(i)] for i in picked)
    relation = relation_of(first, second)
    is_true = bool(rng.random() < 0.5)
    wording = _pick(RELATION_WORDINGS[relation if is_true else OPPOSITE[relation]], rng, split)
    question = _pick(RELATION_CHECK, rng, split).format(
        the=definite(first.name), relation=wording, other=definite(second.name)
    )
    return QA(question, "yes" if is_true else "no", "relation_check")


def _offset(thing: PlacedSprite, anchor: PlacedSprite, relation: str) -> float:
    """How far `thing` lies in the direction of `relation`, in boxes."""
    dx, dy = (thing.x - anchor.x) / anchor.size, (thing.y - anchor.y) / anchor.size
    return {LEFT: -dx, RIGHT: dx, ABOVE: -dy, BELOW: dy}[relation]


def _stands(thing: PlacedSprite, anchor: PlacedSprite, relation: str) -> bool:
    return _offset(thing, anchor, relation) >= 1


def _may_stand(thing: PlacedSprite, anchor: PlacedSprite, relation: str) -> bool:
    return _offset(thing, anchor, relation) > CLEARLY_ASIDE
