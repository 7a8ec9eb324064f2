from pathlib import Path

import numpy as np
import pytest

from cloud_server.training.tokens.scene_tokens import TokenShards
from shared_protocol.errors import InvalidInputError

SCENE = '{"objects": [], "background": "snow", "width": 256, "height": 256}\n'


def test_shards_wait_for_their_truth(tmp_path: Path) -> None:
    np.save(tmp_path / "train_0.npy", np.zeros((2, 16, 16), dtype=np.uint16))
    shards = TokenShards(tmp_path)
    assert len(shards) == 0
    (tmp_path / "train_0.jsonl").write_text(SCENE * 2)
    assert shards.refresh() == 2
    assert shards.refresh() == 2


@pytest.mark.parametrize("truth", [SCENE, SCENE * 3, "{}\n{}\n", "no json\n", "1\n2\n"])
def test_shard_whose_truth_is_damaged_is_named(tmp_path: Path, truth: str) -> None:
    np.save(tmp_path / "train_7.npy", np.zeros((2, 16, 16), dtype=np.uint16))
    (tmp_path / "train_7.jsonl").write_text(truth)
    with pytest.raises(InvalidInputError, match=r"train_7\.npy.*delete train_7\.npy") as caught:
        TokenShards(tmp_path)
    assert "make them again" in str(caught.value)


def test_shard_whose_codes_are_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "train_7.npy").write_bytes(b"not codes")
    (tmp_path / "train_7.jsonl").write_text(SCENE)
    with pytest.raises(InvalidInputError, match=r"train_7\.npy"):
        TokenShards(tmp_path)
