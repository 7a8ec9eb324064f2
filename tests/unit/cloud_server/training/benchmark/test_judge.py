"""The judge's parts: labels, fragments, detections, its file; the recipe itself runs as a smoke."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.necks.cell_net import CellNet
from cloud_server.training.benchmark.judge import matched, score
from cloud_server.training.benchmark.judge_data import Labelled, draw, labels
from cloud_server.training.benchmark.judge_model import (
    Judge,
    Sighting,
    find_objects,
    judge_loss,
    to_input,
)
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from shared_protocol.errors import CheckpointError

WORLD = World.load(None)
NAMES = ("fox", "car")


@pytest.fixture(scope="module")
def renderer(sprite_cache: Path) -> Renderer:
    return Renderer(WORLD, sprite_cache)


def shares_of(*peaks: tuple[int, int, int, float]) -> np.ndarray:
    """(1 + 2, 16, 16) with (class, row, column, share) and nothing elsewhere."""
    shares = np.zeros((3, 16, 16), dtype=np.float32)
    for kind, row, column, share in peaks:
        shares[kind, row, column] = share
    shares[0] = 1 - shares[1:].sum(axis=0)
    return shares


def test_copies_of_an_object_are_counted_apart() -> None:
    seen = find_objects(shares_of((1, 3, 3, 0.9), (1, 3, 10, 0.8), (2, 12, 12, 0.7)), NAMES)
    assert [s.name for s in seen] == ["fox", "fox", "car"]
    assert (seen[0].x, seen[0].y) == (3.5 * 16, 3.5 * 16)


def test_cells_beside_a_detection_are_the_same_object() -> None:
    seen = find_objects(shares_of((1, 3, 3, 0.9), (1, 3, 4, 0.6), (2, 4, 4, 0.55)), NAMES)
    assert [s.name for s in seen] == ["fox"]
    assert seen[0].x > 3.5 * 16


def test_unsure_cells_are_no_objects() -> None:
    assert find_objects(shares_of((1, 3, 3, 0.45)), NAMES) == []


def test_labels_mark_the_cell_of_a_centre_and_leave_its_neighbours_open() -> None:
    scene = Scene((PlacedSprite("car", 32, 64, 96),), "snow")
    classes, places = labels([Labelled(np.zeros((256, 256, 3), np.uint8), scene)], WORLD)
    assert classes.shape == (1, 16, 16)
    assert classes[0, 7, 5] == 1 + WORLD.names.index("car")
    assert (classes == -1).sum() == 8
    assert (classes == 0).sum() == 256 - 9
    assert WORLD.backgrounds[places[0]] == "snow"


def test_fragments_are_drawn_and_not_labelled(renderer: Renderer) -> None:
    rng = np.random.default_rng(0)
    items = [draw(WORLD, renderer, rng) for _ in range(60)]
    with_fragment = [
        item for item in items if not np.array_equal(item.picture, renderer.render(item.scene))
    ]
    twins = [i for i in items if len({t.name for t in i.scene.objects}) < len(i.scene.objects)]
    assert len(with_fragment) > 10
    assert twins
    assert any(not item.scene.objects for item in items)


def test_the_loss_is_small_only_for_the_right_classes() -> None:
    classes = torch.zeros(1, 16, 16, dtype=torch.int64)
    classes[0, 5, 5] = 2
    columns = torch.zeros(1, 12, 16)
    columns[:, 3] = 9.0
    right = torch.zeros(1, 3, 16, 16)
    right[:, 0] = 9.0
    wrong = right.clone()
    right[0, :, 5, 5] = torch.tensor([0.0, 0.0, 9.0])
    low = judge_loss(right, columns, classes, torch.tensor([3]))
    assert low < 0.01 < judge_loss(wrong, columns, classes, torch.tensor([3]))
    assert judge_loss(right, columns, classes, torch.tensor([4])) > 1


def test_a_saved_judge_sees_the_same(tmp_path: Path, renderer: Renderer) -> None:
    torch.manual_seed(0)
    net = CellNet(len(WORLD.names), len(WORLD.backgrounds)).eval()
    judge = Judge(net.half().float(), WORLD.names, WORLD.backgrounds, {"seed": "0"})
    judge.save(tmp_path / "judge.safetensors")
    again = Judge.load(tmp_path / "judge.safetensors")
    picture = renderer.render(Scene((PlacedSprite("fox", 0, 0, 96),), "beach"))
    assert (again.names, again.about) == (WORLD.names, {"seed": "0"})
    pixels = to_input(picture[None])
    for ours, theirs in zip(judge.net(pixels), again.net(pixels), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_wide_pictures_give_wider_answers() -> None:
    judge = Judge(CellNet(2, 3), NAMES, ("a", "b", "c"), {})
    _, columns = judge.look(np.zeros((256, 512, 3), dtype=np.uint8))
    assert columns.shape == (32, 3)
    np.testing.assert_allclose(np.exp(columns).sum(axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_a_file_that_is_no_judge_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "judge.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="train judge"):
        Judge.load(path)


class Oracle:
    """Sees what it is told to."""

    def __init__(self, *seen: Sighting) -> None:
        self.seen = list(seen)

    def look(self, picture: np.ndarray) -> tuple[list[Sighting], np.ndarray]:
        return self.seen, np.zeros((16, 1))

    def background(self, columns: np.ndarray) -> str:
        return "beach"


def test_scores_count_misses_surplus_and_wrong_places() -> None:
    scene = Scene((PlacedSprite("fox", 0, 0, 96), PlacedSprite("car", 160, 0, 96)), "beach")
    item = Labelled(np.zeros((256, 256, 3), np.uint8), scene)
    fox, car = Sighting("fox", 50, 46, 0.9), Sighting("car", 208, 48, 0.9)
    perfect = score(Oracle(fox, car), [item])
    assert [perfect[k] for k in ("scenes", "recall", "precision", "relations")] == [1, 1, 1, 1]
    surplus = score(Oracle(fox, car, Sighting("fox", 128, 200, 0.6)), [item])
    assert (surplus["scenes"], surplus["recall"], surplus["precision"]) == (0, 1, 0.6667)
    swapped = score(Oracle(Sighting("fox", 208, 48, 0.9), Sighting("car", 48, 48, 0.9)), [item])
    assert (swapped["scenes"], swapped["recall"], swapped["relations"]) == (1, 0, 0)
    assert matched([fox], scene) == 1
