"""Headers of weights: every promise that does not fit the file to the byte is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile_bundles import safe_file

from shared_protocol.bundles import weight_files as found_by
from shared_protocol.bundles.weight_files import (
    WEIGHT_NAMES,
    check_safe_file,
    check_shapes,
    shards_of,
    weight_files,
)
from shared_protocol.errors import CheckpointError

SIZES = {
    "BOOL": 1, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


def tensor(shape: list[Any], start: Any = 0, end: Any = 8, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def written(path: Path, header: Any, data: bytes = bytes(8), length: int | None = None) -> Path:
    path.write_bytes(safe_file(header, data, length))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (tensor([2] * 9, 0, 4 * 2**9), r"w has the shape \[2, 2, 2"),
        (tensor([True, 2]), r"w has the shape \[True"),
        (tensor([2.0]), r"w has the shape \[2.0"),
        (tensor([2], 0.0), r"w has the shape \[2\]"),
        (tensor([2], 0, "8"), r"w has the shape \[2\]"),
        (tensor([-1, -2]), r"w lies at 0 to 8 of 8"),
        (tensor([2], -8, 0), r"w lies at -8 to 0 of 8"),
        (tensor([2], 8, 0), r"w lies at 8 to 0 of 8"),
        (tensor([2], 1, 9), r"w lies at 1 to 9 of 8"),
        (tensor([1]), r"w is F32\[1\] in 8 bytes"),
        (tensor([3], 0, 8), r"w is F32\[3\] in 8 bytes"),
        (tensor([2], dtype="F17"), "F17"),
        ({"dtype": "F32", "shape": [2]}, "data_offsets"),
        ({"dtype": "F32", "data_offsets": [0, 8]}, "shape"),
        (tensor(3), "makes no sense"),
        ([], "makes no sense"),
    ],
)
def test_a_tensor_that_does_not_fit_its_file_is_refused(path: Path, told: Any, said: str) -> None:
    written(path, {"w": told})
    with pytest.raises(
        CheckpointError, match=f"its header makes no sense .*{said}|{said}"
    ) as caught:
        check_safe_file(path)
    assert str(path) in caught.value.message
    assert caught.value.remedy == "the file is damaged or incomplete; fetch it again"


def test_a_tensor_that_fits_is_taken_up_to_eight_dimensions_and_none(path: Path) -> None:
    for shape in ([2], [1, 2], [1] * 7 + [2]):
        assert check_safe_file(written(path, {"w": tensor(shape)})) == {"w": tensor(shape)}
    check_safe_file(written(path, {"w": tensor([], 4, 8)}))
    check_safe_file(written(path, {"w": tensor([0, 7], 3, 3)}))


@pytest.mark.parametrize(("dtype", "size"), SIZES.items())
def test_every_type_has_its_size(path: Path, dtype: str, size: int) -> None:
    check_safe_file(written(path, {"w": tensor([3], 0, 3 * size, dtype)}, bytes(3 * size)))
    for wrong in (3 * size - 1, 3 * size + 1):
        written(path, {"w": tensor([3], 0, wrong, dtype)}, bytes(3 * size + 1))
        with pytest.raises(CheckpointError, match=rf"{dtype}\[3\] in {wrong} bytes"):
            check_safe_file(path)


def test_names_and_shapes_are_told_briefly(path: Path) -> None:
    written(path, {"n" * 200: tensor([True] * 100)})
    with pytest.raises(CheckpointError) as caught:
        check_safe_file(path)
    shape = str([True] * 100)[:80]
    assert f"({'n' * 80} has the shape {shape})" in caught.value.message
    written(path, {"n" * 200: tensor([2], 1, 9)})
    with pytest.raises(CheckpointError, match=rf"\({'n' * 80} lies at"):
        check_safe_file(path)
    written(path, {"n" * 200: tensor([3])})
    with pytest.raises(CheckpointError, match=rf"\({'n' * 80} is F32"):
        check_safe_file(path)


def test_metadata_is_text(path: Path) -> None:
    assert check_safe_file(written(path, {"__metadata__": {"a": "b"}}))
    for told in ({"a": 1}, {"a": "b", "c": None}):
        with pytest.raises(CheckpointError, match="metadata that is no text"):
            check_safe_file(written(path, {"__metadata__": told}))
    with pytest.raises(CheckpointError, match="makes no sense"):
        check_safe_file(written(path, {"__metadata__": []}))


def test_so_many_tensors_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_by, "_MAX_TENSORS", 3)
    names = {name: tensor([2]) for name in "abc"}
    assert set(check_safe_file(written(path, names))) == set("abc")
    with pytest.raises(CheckpointError, match=r"\(4 tensors\)"):
        check_safe_file(written(path, {**names, "d": tensor([2])}))


def test_a_header_is_as_long_as_it_says_within_its_file_and_its_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_safe_file(written(path, {}, b"")) == {}
    for length in (0, 1, 3):
        with pytest.raises(CheckpointError, match=f"a header of {length} bytes in a file of 10"):
            check_safe_file(written(path, {}, b"", length))
    told = {"w": tensor([2])}
    size = len(json.dumps(told))
    monkeypatch.setattr(found_by, "_MAX_HEADER", size)
    check_safe_file(written(path, told))
    monkeypatch.setattr(found_by, "_MAX_HEADER", size - 1)
    with pytest.raises(CheckpointError, match=f"a header of {size} bytes in a file of {size + 16}"):
        check_safe_file(path)


def test_a_file_over_its_limit_or_gone_says_so(path: Path) -> None:
    size = written(path, {}, b"1").stat().st_size
    assert check_safe_file(path, size) == {}
    with pytest.raises(CheckpointError, match="the most that are read") as caught:
        check_safe_file(path, size - 1)
    assert caught.value.remedy == "fetch it again"
    path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*No such file"):
        check_safe_file(path)


# ---- which files ---------------------------------------------------------------------------------


def test_the_first_of_the_usual_names_is_taken(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights in") as caught:
        weight_files(tmp_path)
    assert all(name in caught.value.remedy for name in WEIGHT_NAMES)
    with pytest.raises(CheckpointError, match=r"no weights at .*none") as caught:
        weight_files(tmp_path / "none")
    assert caught.value.remedy == "check the path"
    for name in reversed(WEIGHT_NAMES):
        path = tmp_path / name
        if name.endswith(".json"):
            (tmp_path / "shard").touch()
            path.write_text(json.dumps({"weight_map": {"w": "shard"}}))
            assert weight_files(tmp_path) == [tmp_path / "shard"]
        else:
            path.touch()
            assert weight_files(tmp_path) == [path]


def index(folder: Path, names: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {str(n): name for n, name in enumerate(names)}}))
    return path


def test_shards_that_are_not_there_are_listed_up_to_eight(tmp_path: Path) -> None:
    names = [f"{number}.bin" for number in range(9)]
    with pytest.raises(CheckpointError, match=r"names shards that are not there: 0.bin") as caught:
        weight_files(index(tmp_path, names[:8]))
    assert caught.value.message.endswith(", ".join(names[:8]))
    assert caught.value.remedy == "fetch them again"
    with pytest.raises(CheckpointError) as caught:
        weight_files(index(tmp_path, names))
    assert caught.value.message.endswith(", ".join(names[:8]) + ", ...")


def test_an_index_names_files_beside_it_each_once(tmp_path: Path) -> None:
    assert shards_of(index(tmp_path, ["b", "a", "b"])) == ["a", "b"]
    for names in (["a", "../b"], ["a/b"], [""], ["."], [".."], []):
        with pytest.raises(CheckpointError, match=r"index\.json names") as caught:
            shards_of(index(tmp_path, names))
        assert caught.value.remedy == "it must name files beside"
    for text in ("", "[", "[]", "{}", '{"weight_map": 3}'):
        (tmp_path / "i.json").write_text(text)
        with pytest.raises(CheckpointError, match="is no index of shards"):
            shards_of(tmp_path / "i.json")


def test_an_index_over_its_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = index(tmp_path, ["a"])
    monkeypatch.setattr(found_by, "_MAX_INDEX", path.stat().st_size)
    assert shards_of(path) == ["a"]
    monkeypatch.setattr(found_by, "_MAX_INDEX", path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match=r"is no index of shards.*the most that are read"):
        shards_of(path)


def test_all_that_does_not_fit_a_network_is_listed_in_one_error(tmp_path: Path) -> None:
    files = [tmp_path / "a.bin", tmp_path / "b.bin"]
    fits = {"x": (2, 3), "y": (4,)}
    check_shapes(fits, dict(fits), files)
    with pytest.raises(CheckpointError) as caught:
        check_shapes({**fits, "z": (1,)}, {"x": (3, 2), "y": (4,), "v": (1,), "u": (1,)}, files)
    assert caught.value.message == (
        f"the checkpoint {tmp_path}/a.bin, b.bin does not fit the network "
        "(1 missing: z; 2 unexpected: u, v; 1 misshapen: x is (3, 2), not (2, 3))"
    )
    assert "complete and of the model" in caught.value.remedy
