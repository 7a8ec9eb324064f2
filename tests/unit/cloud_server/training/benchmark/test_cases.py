"""Evaluation cases: truth, words and balance; sprites are drawn shapes, no network."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_server.training.benchmark.case_makers import (
    inpaint_cases,
    outpaint_cases,
    t2i_cases,
    vqa_cases,
)
from cloud_server.training.command import train
from cloud_server.training.scenes.language import (
    caption,
    join_words,
    phrase,
    questions,
    relation_of,
)
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.word_lists import HELD_OUT, PHRASES, RELATION_WORDINGS
from cloud_server.training.scenes.wordings import (
    caption_wording,
    names_background,
    question_wording,
    relation_in,
    zone_in,
)
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from shared_protocol.cases import load_cases

WORLD = World.load(None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sprite_cache: Path) -> Path:
    out = tmp_path_factory.mktemp("cases")
    counts = ["--t2i", "8", "--inpaint", "8", "--outpaint", "6", "--vqa", "66"]
    assert train(["cases", "--out", str(out), "--cache", str(sprite_cache), *counts]) == 0
    return out


def drawn(make, count, seed=5):
    return list(make(WORLD, count, np.random.default_rng(seed)))


def test_no_caption_of_the_train_split_is_taken_for_a_held_out_one() -> None:
    rng = np.random.default_rng(1)
    scenes = [WORLD.sample_scene(rng, "train") for _ in range(300)]
    texts = [caption(scene, rng, "train") for scene in scenes]
    assert [text for text in texts if caption_wording(text) != "trained"] == []


def test_no_question_of_the_train_split_is_taken_for_a_held_out_one() -> None:
    rng = np.random.default_rng(2)
    asked = [
        qa for _ in range(100) for qa in questions(WORLD.sample_scene(rng, "train"), rng, "train")
    ]
    assert [q for q in asked if question_wording(q.question, q.kind) != "trained"] == []


def test_every_kind_of_question_has_held_out_wordings() -> None:
    rng = np.random.default_rng(3)
    found = Counter(
        qa.kind
        for _ in range(300)
        for qa in questions(WORLD.sample_scene(rng, "test"), rng, "test")
        if question_wording(qa.question, qa.kind) == "held out"
    )
    assert set(found) == {d.case.kind for d in drawn(vqa_cases, 110)}


def test_prompts_name_their_objects_and_background_and_say_a_true_relation() -> None:
    made = [d.case for d in drawn(t2i_cases, 40)]
    related = [case for case in made if case.truth["relation"]]
    assert Counter(case.kind for case in made) == {"1": 20, "2": 20}
    assert len(related) == 10
    for case in made:
        truth = case.truth
        assert names_background(case.prompt, truth["background"])
        assert caption_wording(case.prompt) == case.wording
    for case in related:
        first, relation, second = case.truth["relation"]
        places = {box[0]: PlacedSprite(*box) for box in case.truth["objects"]}
        assert relation_of(places[first], places[second]) == relation == relation_in(case.prompt)
        assert place_of(first, case.prompt) < place_of(second, case.prompt)


def test_only_prompts_of_one_object_say_where_in_the_picture_it_is() -> None:
    made = [d.case for d in drawn(t2i_cases, 200)]
    zones = Counter(case.kind for case in made if case.truth["zone"])
    assert zones["1"] > 10
    assert zones["2"] == 0


def test_no_wording_of_a_relation_is_taken_for_a_place_in_the_picture() -> None:
    wordings = {w for some in RELATION_WORDINGS.values() for w in some} - {HELD_OUT}
    captions = [f"a fox {wording} a house on a beach" for wording in sorted(wordings)]
    assert [caption for caption in captions if zone_in(caption) is not None] == []
    assert zone_in("a fox on the right on a beach") == "right"


def place_of(name: str, prompt: str) -> int:
    """Where a prompt names an object, by any of its names."""
    phrases = PHRASES.get(name, (phrase(name),))
    found = [prompt.casefold().find(words) for words in phrases]
    return min(place for place in found if place >= 0)


def test_inpainting_boxes_stand_on_the_token_grid_and_hold_one_whole_object() -> None:
    for made in drawn(inpaint_cases, 24):
        x, y, width, height = made.case.box
        assert all(value % 16 == 0 for value in (x, y, width, height))
        inside = [thing for thing in made.scene.objects if (thing.x, thing.y) == (x, y)]
        assert [thing.name for thing in inside] == [made.case.truth["removed"]]
        other = made.case.truth["asked"] != [made.case.truth["removed"]]
        assert other == (made.case.truth["about"] == "other object")


def test_the_known_window_of_an_outpainting_is_the_middle_of_the_wider_picture(
    sprite_cache: Path,
) -> None:
    renderer = Renderer(WORLD, sprite_cache)
    for made in drawn(outpaint_cases, 9):
        truth, extend = made.case.truth, made.case.extend
        wide = Scene.from_dict(truth)
        first, last = truth["known"]
        assert wide.width == 256 + 16 * (extend["left"] + extend["right"])
        np.testing.assert_array_equal(
            renderer.render(made.scene), renderer.render(wide)[:, first:last]
        )


def test_questions_are_balanced_in_kind_wording_and_answer() -> None:
    made = [d.case for d in drawn(vqa_cases, 220)]
    kinds = Counter((case.kind, case.wording) for case in made)
    assert max(kinds.values()) - min(kinds.values()) <= 2
    checks = Counter(c.answers[0] for c in made if c.kind in ("presence", "relation_check"))
    assert set(checks) == {"yes", "no"}
    assert abs(checks["yes"] - checks["no"]) <= 2
    counts = Counter(c.answers[0] for c in made if c.kind == "count")
    assert max(counts.values()) - min(counts.values()) <= 2


def test_listed_objects_are_those_of_the_picture() -> None:
    for made in drawn(vqa_cases, 110):
        case = made.case
        if case.kind == "listing":
            boxes = sorted(case.truth["objects"], key=lambda box: (box[1], box[2]))
            assert case.answers == (join_words([phrase(box[0]) for box in boxes]),)


def test_the_folder_is_what_an_edge_client_reads(folder: Path) -> None:
    cases = load_cases(folder)
    about = json.loads((folder / "data.json").read_text())
    assert about["counts"] == {"t2i": 8, "inpaint": 8, "outpaint": 6, "vqa": 66}
    assert Counter(case.task for case in cases) == about["counts"]
    for case in cases:
        if case.image is not None:
            with Image.open(folder / case.image) as picture:
                assert picture.size == (256, 256)


def test_the_same_seed_gives_the_same_folder(
    folder: Path, sprite_cache: Path, tmp_path: Path
) -> None:
    counts = ["--t2i", "8", "--inpaint", "8", "--outpaint", "6", "--vqa", "66"]
    train(["cases", "--out", str(tmp_path), "--cache", str(sprite_cache), *counts])
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_another_seed_gives_other_cases(folder: Path, sprite_cache: Path, tmp_path: Path) -> None:
    train(["cases", "--out", str(tmp_path), "--cache", str(sprite_cache), "--smoke", "--seed", "9"])
    ours, theirs = ({case.prompt for case in load_cases(f, ["t2i"])} for f in (folder, tmp_path))
    assert not ours & theirs
