"""What training runs share: checkpoints that are whole and refuse what is not theirs."""

from pathlib import Path

import pytest
import torch

from cloud_server.training.runs import Progress, load_checkpoint, save_checkpoint
from shared_protocol.errors import CheckpointError


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
    with pytest.raises(CheckpointError, match="start anew"):
        load_checkpoint(tmp_path / "c.pt", "cpu")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"words")
    with pytest.raises(CheckpointError, match="start anew"):
        load_checkpoint(tmp_path / "c.pt", "cpu")


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        load_checkpoint(tmp_path / "none.pt", "cpu")


def test_steps_count_before_minutes() -> None:
    progress = Progress(step=3, seconds=600.0)
    assert progress.share(6, 1.0) == 0.5
    assert progress.share(None, 20.0) == 0.5
    assert progress.share(2, 1.0) == 1.0
