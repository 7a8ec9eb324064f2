"""Scenes, pictures and words of the built-in world; sprites are small drawn shapes, no network."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from cloud_server.training.scenes import sprites
from cloud_server.training.scenes.contact_sheet import contact_sheet
from cloud_server.training.scenes.language import (
    background_noun,
    caption,
    describe,
    phrase,
    questions,
    relation_of,
    zone_of,
)
from cloud_server.training.scenes.render import BACKGROUNDS, Renderer, background_pixels
from cloud_server.training.scenes.sprites import (
    NpmPackage,
    SpriteSourceError,
    default_cache_dir,
    ensure_sprites,
    fetch_tarball,
)
from cloud_server.training.scenes.world import PlacedSprite, Scene, Split, World
from shared_protocol.errors import ConfigError

WORLD = World.load(None)


def overlap(a, b) -> bool:
    """Whether two boxes share a pixel."""
    apart_x = a.x + a.size <= b.x or b.x + b.size <= a.x
    apart_y = a.y + a.size <= b.y or b.y + b.size <= a.y
    return not (apart_x or apart_y)


@pytest.fixture(scope="module")
def renderer(sprite_cache: Path) -> Renderer:
    return Renderer(WORLD, sprite_cache)


def scene_of(*boxes: tuple[str, int, int], background: str = "beach_night") -> Scene:
    return Scene(tuple(PlacedSprite(n, x, y, 96) for n, x, y in boxes), background)


def many_scenes(split: str, number: int = 150) -> list[Scene]:
    rng = np.random.default_rng(7)
    return [WORLD.sample_scene(rng, split) for _ in range(number)]  # type: ignore[arg-type]


def test_the_world_has_everyday_sprites_and_known_backgrounds() -> None:
    assert len(WORLD.names) == len(set(WORLD.names)) == WORLD.active
    assert {"fox", "balloon"} <= set(WORLD.names)
    assert len({s.name for s in WORLD.sprites}) == len(WORLD.sprites) <= 96
    assert set(WORLD.backgrounds) <= set(BACKGROUNDS)


def test_the_same_seed_gives_the_same_scenes() -> None:
    assert many_scenes("train") == many_scenes("train")


def test_objects_stay_on_the_canvas_and_never_overlap() -> None:
    for scene in many_scenes("train"):
        for thing in scene.objects:
            assert 0 <= thing.x <= scene.width - thing.size
            assert 0 <= thing.y <= scene.height - thing.size
        assert not any(overlap(a, b) for a, b in combinations(scene.objects, 2))


def test_most_scenes_stand_on_the_token_grid() -> None:
    scenes = many_scenes("train", 400)
    aligned = sum(all(o.x % 16 == o.y % 16 == 0 for o in s.objects) for s in scenes)
    assert 0.78 < aligned / len(scenes) < 0.92


def test_object_numbers_follow_their_shares_in_both_splits() -> None:
    for split in ("train", "test"):
        numbers = Counter(len(s.objects) for s in many_scenes(split, 600))
        for number, share in enumerate(WORLD.object_shares, start=1):
            assert abs(numbers[number] / 600 - share) < 0.07


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_scene_belongs_to_the_other_split(split: str) -> None:
    assert {WORLD.split_of(scene) for scene in many_scenes(split)} == {split}


def test_named_objects_are_all_placed() -> None:
    scene = WORLD.sample_scene(np.random.default_rng(0), "train", ["fox", "balloon"])
    assert {o.name for o in scene.objects} == {"fox", "balloon"}


def test_a_scene_survives_its_dictionary() -> None:
    for scene in many_scenes("test", 20):
        assert Scene.from_dict(scene.to_dict()) == scene


def test_contradicting_shares_are_refused() -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        World(WORLD.sprites, WORLD.backgrounds, object_shares=(0.5, 0.2))


@pytest.mark.parametrize("text", ["backgrounds = [", 'backgrounds = ["snow"]', "sprites = [3]"])
def test_file_that_is_no_world_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.toml is no world"):
        World.load(path)
    with pytest.raises(ConfigError, match="no world"):
        World.load(tmp_path)


def test_pictures_are_bytes_of_the_canvas_size(renderer: Renderer) -> None:
    picture = renderer.render(many_scenes("train", 1)[0])
    assert picture.shape == (256, 256, 3)
    assert picture.dtype == np.uint8


def test_an_object_changes_nothing_outside_its_box(renderer: Renderer) -> None:
    picture = renderer.render(scene_of(("fox", 32, 64))).astype(int)
    empty = renderer.render(scene_of()).astype(int)
    changed = np.argwhere((picture != empty).any(axis=2))
    assert changed.min(axis=0).tolist() >= [64, 32]
    assert (changed.max(axis=0) < [64 + 96, 32 + 96]).all()
    assert len(changed) > 2000


def test_an_object_moved_along_a_row_keeps_its_pixels(renderer: Renderer) -> None:
    first = renderer.render(scene_of(("fox", 0, 48)))
    second = renderer.render(scene_of(("fox", 160, 48)))
    assert np.array_equal(first[48:144, :96], second[48:144, 160:])


@pytest.mark.parametrize("name", sorted(BACKGROUNDS))
def test_a_wider_canvas_continues_the_background(name: str) -> None:
    wide, narrow = background_pixels(name, 512, 256), background_pixels(name, 256, 256)
    assert np.array_equal(wide[:, 256:], narrow)


def test_a_wide_scene_is_drawn(renderer: Renderer) -> None:
    scene = Scene((PlacedSprite("fox", 400, 0, 96),), "snow", width=512, height=128)
    assert renderer.render(scene).shape == (128, 512, 3)


def test_descriptions_read_from_left_to_right() -> None:
    scene = scene_of(("owl", 160, 0), ("fox", 0, 160), background="studio_pink")
    expected = (
        "a fox at the bottom left and an owl at the top right, against a plain pink background"
    )
    assert describe(scene) == expected


def test_captions_name_every_object() -> None:
    rng = np.random.default_rng(1)
    for scene in many_scenes("train"):
        text = caption(scene, rng, "train").lower()
        if {o.name for o in scene.objects} <= {"fox", "owl", "frog", "panda", "pig", "cactus"}:
            assert all(o.name in text for o in scene.objects)
        assert "|" not in text
        assert "{" not in text


def test_captions_of_a_part_speak_of_that_part_only() -> None:
    rng = np.random.default_rng(2)
    part = scene_of(("fox", 0, 0))
    texts = {caption(part, rng, "train") for _ in range(50)}
    assert len(texts) > 10
    assert all("fox" in text for text in texts)


def test_an_empty_part_is_described_by_its_background() -> None:
    rng = np.random.default_rng(3)
    said = [caption(scene_of(), rng, "train") for _ in range(20)]
    assert all("beach" in words or "sea" in words for words in said)


def test_held_out_wordings_appear_in_the_test_split_alone() -> None:
    scene = scene_of(("fox", 0, 0), ("owl", 160, 0), background="snow")
    texts = {
        split: {caption(scene, np.random.default_rng(i), split) for i in range(400)}
        for split in ("train", "test")
    }
    assert not any("side of" in text or "snowy place" in text for text in texts["train"])
    assert any("side of" in text for text in texts["test"])


def test_presence_is_asked_once_with_each_answer() -> None:
    rng = np.random.default_rng(4)
    for scene in many_scenes("train", 60):
        answers = [qa.answer for qa in questions(scene, rng, "train") if qa.kind == "presence"]
        assert sorted(answers) == ["no", "yes"]


def test_answers_agree_with_the_scene() -> None:
    rng = np.random.default_rng(5)
    scene = scene_of(("fox", 0, 0), ("owl", 160, 0), ("car", 0, 160))
    for _ in range(40):
        for qa in questions(scene, rng, "train"):
            check_answer(scene, qa.question, qa.answer, qa.kind)


def check_answer(scene: Scene, question: str, answer: str, kind: str) -> None:
    fixed = {
        "count": "3",
        "background": "a beach at night",
        "time": "night",
        "listing": "a fox, a car and an owl",
        "describe": describe(scene),
    }
    if kind in fixed:
        assert answer == fixed[kind]
    if kind == "where":
        thing = next(o for o in scene.objects if o.name in question)
        assert answer == zone_of(thing, scene)
    if kind == "relation" and "the fox" in question and "right" in question:
        assert answer == "an owl"
    if kind == "relation" and ("below" in question or "under" in question):
        assert answer == "a car"


def test_doubtful_relations_are_not_asked() -> None:
    scene = scene_of(("fox", 0, 0), ("owl", 48, 96), ("car", 160, 0))
    for seed in range(60):
        asked = questions(scene, np.random.default_rng(seed), "train")
        for qa in asked:
            if qa.kind == "relation" and "left" in qa.question:
                assert "the fox" not in qa.question
                assert "the owl" not in qa.question


def test_relation_checks_are_balanced() -> None:
    scene = scene_of(("fox", 0, 0), ("owl", 160, 0))
    answers = Counter(
        qa.answer
        for seed in range(200)
        for qa in questions(scene, np.random.default_rng(seed), "train")
        if qa.kind == "relation_check"
    )
    assert 70 < answers["yes"] < 130


@pytest.mark.parametrize(
    ("offset", "relation"),
    [((-100, 30), "left"), ((100, 30), "right"), ((10, -96), "above"), ((10, 96), "below")],
)
def test_the_larger_offset_names_the_relation(offset: tuple[int, int], relation: str) -> None:
    first = PlacedSprite("fox", 100 + offset[0], 100 + offset[1], 96)
    assert relation_of(first, PlacedSprite("owl", 100, 100, 96)) == relation


def test_every_name_and_background_has_words() -> None:
    assert all(phrase(s.name).split()[0] in {"a", "an"} for s in WORLD.sprites)
    assert all(background_noun(name) for name in WORLD.backgrounds)


def test_a_contact_sheet_has_the_size_of_its_grid(renderer: Renderer) -> None:
    sheet = contact_sheet(WORLD, renderer, "train", seed=0, columns=2, rows=1)
    assert sheet.width == 2 * WORLD.width


def test_the_cache_folder_follows_the_environment() -> None:
    assert default_cache_dir({"UNIMIC_CACHE": "/a/b"}) == Path("/a/b")
    assert default_cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/unimic")


def fake_package(cache_dir: Path, members: dict[str, bytes]) -> NpmPackage:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    package = NpmPackage("@s/fake", "1.0.0", hashlib.sha512(buffer.getvalue()).hexdigest())
    (cache_dir / "fake-1.0.0.tgz").write_bytes(buffer.getvalue())
    return package


def test_sprites_are_unpacked_from_the_pinned_tarball(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = fake_package(tmp_path, {"package/assets/1f98a.webp": b"fox"})
    monkeypatch.setattr(sprites, "SPRITES", package)
    assert ensure_sprites(tmp_path, ["1f98a"])["1f98a"].read_bytes() == b"fox"
    with pytest.raises(SpriteSourceError, match="1f000"):
        ensure_sprites(tmp_path, ["1f000"])


def test_a_changed_tarball_is_refused(tmp_path: Path) -> None:
    package = fake_package(tmp_path, {"package/a": b"a"})
    (tmp_path / "fake-1.0.0.tgz").write_bytes(b"something else")
    with pytest.raises(SpriteSourceError, match="SHA-512"):
        fetch_tarball(package, tmp_path)


WORDS_OF_FORTY_SCENES = "7f4f696448fea4f8b3ff6cea930c73be60c98958662d36217b6e22b9397f950c"
"""SHA-256 of what is said and asked of forty scenes; another one means another data set."""


def test_the_same_seeds_give_the_same_words_for_ever() -> None:
    world, digest = World.load(None), hashlib.sha256()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        split: Split = "test" if seed % 2 else "train"
        scene = world.sample_scene(rng, split)
        asked = [[qa.question, qa.answer, qa.kind] for qa in questions(scene, rng, split, world)]
        said = [caption(scene, rng, split), describe(scene), asked]
        digest.update(json.dumps(said).encode())
    assert digest.hexdigest() == WORDS_OF_FORTY_SCENES
