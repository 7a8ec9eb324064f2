"""Draws evaluation cases from scenes of the test split: prompts, masks, wider scenes, questions.

Knows scenes, words and the truth; writes no files. Every maker is a pure function of the world and
a random generator, and yields (case, picture) pairs: a picture is the scene that the case's image
shows, or None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cloud_server.training.scenes.language import (
    QA,
    background_phrase,
    caption,
    questions,
    relation_of,
)
from cloud_server.training.scenes.wordings import (
    Wording,
    caption_wording,
    names_background,
    question_wording,
    relation_in,
    zone_in,
)
from cloud_server.training.scenes.world import PlacedSprite, Scene, Split, World
from shared_protocol.cases import Case

TRIES = 4000
WIDE_SIDES = ((8, 8), (8, 0), (0, 8))
"""Token columns that an outpainting adds on the left and on the right."""
QUESTIONS_A_SCENE = 5
WORDINGS: tuple[Wording, ...] = ("trained", "held out")


@dataclass(frozen=True)
class Drawn:
    """A case and the scene that its image shows (None: no image, or the one before)."""

    case: Case
    scene: Scene | None


def t2i_cases(world: World, count: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """Prompts for one and two objects, half of the pairs with a relation, all with a background."""
    for number in range(count):
        objects, related = 1 + number % 2, number % 4 == 1
        wording = WORDINGS[number // 4 % 2]
        scene = world.sample_scene(rng, "test", objects)
        while related and not _is_plain_relation(scene):
            scene = world.sample_scene(rng, "test", objects)
        prompt = _prompt(scene, rng, wording, related)
        said = {"relation": _relation(scene, prompt), "zone": _zone(scene, prompt)}
        truth = {**_truth(scene), **said}
        named = _named("t2i", number, wording, str(objects))
        yield Drawn(Case(**named, prompt=prompt, truth=truth), None)


def inpaint_cases(world: World, count: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """One object of a scene is repainted; half of the prompts tell of the whole scene.

    The others name only what should be there, and half of those another object than was there.
    """
    aligned = replace(world, aligned_share=1.0)
    for number in range(count):
        scene = aligned.sample_scene(rng, "test", 1 + number % 3)
        about = ("scene", "object", "scene", "other object")[number % 4]
        wording = WORDINGS[number // 4 % 2]
        target = scene.objects[int(rng.integers(len(scene.objects)))]
        wanted = _another(scene, target, world, rng) if about == "other object" else target
        spoken = scene if about == "scene" else replace(scene, objects=(wanted,))
        prompt = _prompt(spoken, rng, wording, related=None)
        truth = {
            **_truth(scene),
            "asked": [wanted.name],
            "removed": target.name,
            "about": about,
        }
        box = (target.x, target.y, target.size, target.size)
        named = _named("inpaint", number, wording, str(len(scene.objects)))
        case = Case(**named, prompt=prompt, image=_image(named["id"]), box=box, truth=truth)
        yield Drawn(case, scene)


def outpaint_cases(world: World, count: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """A window of a wider scene is known; half of the prompts name only the background."""
    for number in range(count):
        left, right = WIDE_SIDES[number % len(WIDE_SIDES)]
        offset = left * world.stride
        wide = replace(world, width=world.width + (left + right) * world.stride)
        scene = _wide_scene(wide, offset, world.width, 1 + number % 2, rng)
        about = ("background", "scene")[number // len(WIDE_SIDES) % 2]
        wording = WORDINGS[number // (2 * len(WIDE_SIDES)) % 2]
        spoken = scene if about == "scene" else replace(scene, objects=())
        prompt = _prompt(spoken, rng, wording, related=None)
        truth = {**_truth(scene), "about": about, "known": [offset, offset + world.width]}
        extend = {"left": left, "right": right, "up": 0, "down": 0}
        named = _named("outpaint", number, wording, str(len(scene.objects)))
        case = Case(**named, prompt=prompt, image=_image(named["id"]), extend=extend, truth=truth)
        yield Drawn(case, _window(scene, offset, world))


def vqa_cases(world: World, count: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """Questions, as many of each kind and wording; several in a row share a picture."""
    wanted = Counter(_quota(count))
    number = 0
    while number < count:
        scene = world.sample_scene(rng, "test", 1 + int(rng.integers(4)))
        shown: Scene | None = scene
        image = ""
        for qa, wording in _chosen(scene, wanted, world, rng):
            named = _named("vqa", number, wording, qa.kind)
            image = image if shown is None else _image(named["id"])
            answers = (qa.answer,)
            case = Case(
                **named, prompt=qa.question, image=image, answers=answers, truth=_truth(scene)
            )
            yield Drawn(case, shown)
            shown, number = None, number + 1


def _quota(count: int) -> dict[tuple[str, str, Wording], int]:
    """How many of each (kind, answer to balance, wording)."""
    kinds = [
        *(("presence", answer) for answer in ("yes", "no")),
        *(("relation_check", answer) for answer in ("yes", "no")),
        *(("count", answer) for answer in "1234"),
        *((kind, "") for kind in ("relation", "where", "at", "background", "time")),
        *((kind, "") for kind in ("identity", "listing", "describe")),
    ]
    share = {kind: 1 / sum(other == kind for other, _ in kinds) for kind, _ in kinds}
    slots = [(kind, answer, wording) for kind, answer in kinds for wording in WORDINGS]
    weights = np.array([share[kind] for kind, _, _ in slots])
    ends = np.round(np.cumsum(weights) / weights.sum() * count).astype(int)
    return dict(zip(slots, np.diff(ends, prepend=0).tolist(), strict=True))


def _chosen(
    scene: Scene, wanted: Counter[tuple[str, str, Wording]], world: World, rng: np.random.Generator
) -> list[tuple[QA, Wording]]:
    """Questions about one scene that are still wanted, the most wanted kinds first."""
    found: dict[tuple[str, str, Wording], QA] = {}
    for _ in range(24):
        for qa in questions(scene, rng, "test", world):
            slot = _slot(qa)
            if wanted[slot] > 0:
                found.setdefault(slot, qa)
    slots = sorted(found, key=lambda slot: -wanted[slot])[:QUESTIONS_A_SCENE]
    for slot in slots:
        wanted[slot] -= 1
    return [(found[slot], slot[2]) for slot in slots]


def _slot(qa: QA) -> tuple[str, str, Wording]:
    balanced = qa.answer if qa.kind in ("presence", "relation_check", "count") else ""
    return qa.kind, balanced, question_wording(qa.question, qa.kind)


def _prompt(scene: Scene, rng: np.random.Generator, wording: Wording, related: bool | None) -> str:
    """A caption in the wanted wording that names the background, with a relation or without.

    Raises:
        ValueError: no such caption came up.
    """
    split: Split = "train" if wording == "trained" else "test"
    for _ in range(TRIES):
        if scene.objects:
            text = caption(scene, rng, split)
        else:
            text = background_phrase(scene.background, rng, split)
        fits = names_background(text, scene.background) and caption_wording(text) == wording
        if fits and (related is None or (relation_in(text) is not None) == related):
            return text
    raise ValueError(f"no {wording} caption of {scene} came up in {TRIES} tries")


def _is_plain_relation(scene: Scene) -> bool:
    """Whether one of two objects is clearly beside or above the other, whoever looks."""
    first, second = scene.objects
    dx, dy = abs(first.x - second.x), abs(first.y - second.y)
    return max(dx, dy) >= first.size and max(dx, dy) >= 1.5 * min(dx, dy)


def _relation(scene: Scene, prompt: str) -> list[str] | None:
    """[first, relation, second] as the prompt says it."""
    said = relation_in(prompt) if len(scene.objects) == 2 else None
    if said is None:
        return None
    first, second = scene.objects
    if relation_of(first, second) != said:
        first, second = second, first
    return [first.name, said, second.name]


def _zone(scene: Scene, prompt: str) -> str | None:
    """Where the prompt puts its object; a prompt of several never says it of one of them."""
    return zone_in(prompt) if len(scene.objects) == 1 else None


def _wide_scene(
    wide: World, offset: int, width: int, objects: int, rng: np.random.Generator
) -> Scene:
    """A scene whose known window cuts no object in two and holds at least one."""
    for _ in range(TRIES):
        scene = wide.sample_scene(rng, "test", objects)
        inside = [_is_inside(thing, offset, width) for thing in scene.objects]
        outside = [
            thing.x + thing.size <= offset or thing.x >= offset + width for thing in scene.objects
        ]
        whole = all(a or b for a, b in zip(inside, outside, strict=True))
        if whole and any(inside):
            return scene
    raise ValueError(f"no scene {wide.width} pixels wide came up in {TRIES} tries")


def _is_inside(thing: PlacedSprite, offset: int, width: int) -> bool:
    return thing.x >= offset and thing.x + thing.size <= offset + width


def _window(scene: Scene, offset: int, world: World) -> Scene:
    """What the known window of a wide scene shows."""
    kept = tuple(
        replace(thing, x=thing.x - offset)
        for thing in scene.objects
        if _is_inside(thing, offset, world.width)
    )
    return Scene(kept, scene.background, world.width, world.height)


def _another(
    scene: Scene, target: PlacedSprite, world: World, rng: np.random.Generator
) -> PlacedSprite:
    """An object that the scene does not have, in the place of `target`."""
    present = {thing.name for thing in scene.objects}
    absent: Sequence[str] = [name for name in world.names if name not in present]
    return replace(target, name=absent[int(rng.integers(len(absent)))])


def _truth(scene: Scene) -> dict[str, Any]:
    return {**scene.to_dict(), "asked": [thing.name for thing in scene.objects]}


def _named(task: str, number: int, wording: Wording, kind: str) -> dict[str, Any]:
    """What all cases have: id, task, kind, wording, seed."""
    return {
        "id": f"{task}-{number + 1:04d}",
        "task": task,
        "kind": kind,
        "wording": wording,
        "seed": number + 1,
    }


def _image(case_id: str) -> str:
    """Where the picture of a case lies, relative to the folder of cases."""
    return f"images/{case_id}.png"
