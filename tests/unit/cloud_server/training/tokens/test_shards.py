"""Folders of shards: what they hold, and what is refused instead of being mixed or cut short."""

import json
from pathlib import Path

import numpy as np
import pytest

from cloud_server.training.tokens.shards import check_meta, write_shard
from shared_protocol.errors import ConfigError, InvalidInputError

CODES = np.arange(12).reshape(2, 2, 3)


def test_shards_of_other_material_are_not_mixed(tmp_path: Path) -> None:
    check_meta(tmp_path, {"pictures": "a"})
    check_meta(tmp_path, {"pictures": "a"})
    with pytest.raises(ConfigError, match=r"made otherwise .*empty folder"):
        check_meta(tmp_path, {"pictures": "b"})


def test_a_shard_is_codes_of_16_bits_and_a_row_about_each(tmp_path: Path) -> None:
    rows = [{"text": "a fox"}, {"text": "ein Fuchs \u00fc"}]
    path = write_shard(tmp_path / "train_00000.npy", CODES, rows)
    codes = np.load(path)
    assert codes.dtype == np.uint16
    assert np.array_equal(codes, CODES)
    lines = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train_00000.jsonl", "train_00000.npy"]


@pytest.mark.parametrize(
    ("codes", "rows", "told"),
    [
        (CODES, [{"text": "a fox"}], "2 pictures but 1 rows"),
        (CODES + 65_530, [{}, {}], "65541"),
        (CODES - 1, [{}, {}], "from -1"),
    ],
)
def test_what_a_shard_cannot_hold_is_refused(
    tmp_path: Path, codes: np.ndarray, rows: list[dict[str, str]], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        write_shard(tmp_path / "train_00000.npy", codes, rows)
    assert not list(tmp_path.iterdir())
