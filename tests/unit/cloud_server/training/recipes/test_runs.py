"""What training runs share: checkpoints that are whole and refuse what is not theirs."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cloud_server.training.recipes.runs import (
    Progress,
    load_checkpoint,
    read_recipe,
    save_checkpoint,
)
from shared_protocol.errors import CheckpointError, ConfigError


def test_a_checkpoint_brings_back_progress_and_states(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    save_checkpoint(tmp_path / "c.pt", Progress(7, 1.5), net=layer.state_dict())
    progress, states = load_checkpoint(tmp_path / "c.pt", "cpu")
    assert progress == Progress(7, 1.5)
    assert list(states) == ["net"]
    torch.testing.assert_close(states["net"]["weight"], layer.weight.detach())
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_file_without_progress_is_refused(tmp_path: Path) -> None:
    torch.save({"net": {}}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="start over"):
        load_checkpoint(tmp_path / "c.pt", "cpu")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"words")
    with pytest.raises(CheckpointError, match="start over"):
        load_checkpoint(tmp_path / "c.pt", "cpu")


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        load_checkpoint(tmp_path / "none.pt", "cpu")


def test_steps_count_before_minutes() -> None:
    progress = Progress(step=3, seconds=600.0)
    assert progress.share(6, 1.0) == 0.5
    assert progress.share(None, 20.0) == 0.5
    assert progress.share(2, 1.0) == 1.0


@dataclass(frozen=True)
class Plan:
    seed: int
    rates: dict[str, float]


def test_a_recipe_is_read_by_the_names_of_its_fields(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("seed = 7\n[rates]\ntable = 0.5\n")
    assert read_recipe(Plan, tmp_path / "plan.toml") == Plan(7, {"table": 0.5})


@pytest.mark.parametrize("content", ["seed = 7\n", "seed = \n", "seed = 7\nrates = {}\nmore = 1\n"])
def test_what_is_no_recipe_is_refused_with_its_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.toml").write_text(content)
    with pytest.raises(ConfigError, match=r"plan\.toml is no recipe"):
        read_recipe(Plan, tmp_path / "plan.toml")


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_recipe(Plan, tmp_path / "none.toml")
