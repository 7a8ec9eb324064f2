"""Checkpoints in every layout that they are published in, and what is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from shared_protocol.bundles.tensor_files import TensorFiles, load_into, open_tensors
from shared_protocol.bundles.weight_files import weight_files
from shared_protocol.errors import CheckpointError

STATE = {"a.weight": torch.arange(6.0).reshape(3, 2), "a.bias": torch.tensor([1.0, -2.0, 0.5])}


def _linear() -> nn.Module:
    with torch.device("meta"):
        return nn.ModuleDict({"a": nn.Linear(2, 3)})


def _loaded(path: Path, **options: object) -> dict[str, Tensor]:
    network = _linear()
    load_into(network, open_tensors(path), **options)  # type: ignore[arg-type]
    return network.state_dict()


def _safetensors(folder: Path) -> None:
    save_file(STATE, folder / "pytorch_model.safetensors")


def _pickle(folder: Path) -> None:
    torch.save(STATE, folder / "pytorch_model.bin")


def _old_pickle(folder: Path) -> None:
    torch.save(STATE, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def _nested_pickle(folder: Path) -> None:
    torch.save({"state_dict": STATE}, folder / "pytorch_model.bin")


def _index(folder: Path, kind: str, weight_map: dict[str, str]) -> None:
    index = folder / f"pytorch_model.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _sharded_safetensors(folder: Path) -> None:
    for number, (name, tensor) in enumerate(STATE.items()):
        save_file({name: tensor}, folder / f"{number}.safetensors")
    _index(folder, "safetensors", {"a.weight": "0.safetensors", "a.bias": "1.safetensors"})


def _sharded_pickle(folder: Path) -> None:
    for number, (name, tensor) in enumerate(STATE.items()):
        torch.save({name: tensor}, folder / f"{number}.bin")
    _index(folder, "bin", {"a.weight": "0.bin", "a.bias": "1.bin"})


LAYOUTS = [
    _safetensors,
    _pickle,
    _old_pickle,
    _nested_pickle,
    _sharded_safetensors,
    _sharded_pickle,
]


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_same_tensors(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    loaded = _loaded(tmp_path)
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_any_float_type_becomes_the_one_that_is_asked_for(
    stored: torch.dtype, wanted: torch.dtype, tmp_path: Path
) -> None:
    save_file({k: v.to(stored) for k, v in STATE.items()}, tmp_path / "model.safetensors")
    loaded = _loaded(tmp_path, dtype=wanted)
    assert {tensor.dtype for tensor in loaded.values()} == {wanted}
    assert torch.equal(loaded["a.bias"].float(), STATE["a.bias"])


def test_integers_stay_integers(tmp_path: Path) -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(2, dtype=torch.int64))

    save_file({"count": torch.tensor([3, 4])}, tmp_path / "model.safetensors")
    with torch.device("meta"):
        counter = Counter()
    load_into(counter, open_tensors(tmp_path), dtype=torch.bfloat16)
    assert counter.state_dict()["count"].tolist() == [3, 4]


def test_weights_do_not_depend_on_the_file_once_they_are_loaded(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(STATE, file)
    loaded = _loaded(tmp_path)
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.seek(size - 36)
        handle.write(b"\xff" * 36)
    assert torch.equal(loaded["a.weight"], STATE["a.weight"])


def test_safetensors_are_preferred_to_pickles(tmp_path: Path) -> None:
    _pickle(tmp_path)
    _safetensors(tmp_path)
    assert [file.name for file in weight_files(tmp_path)] == ["pytorch_model.safetensors"]


def test_renamed_tensors_may_be_left_out(tmp_path: Path) -> None:
    save_file({"x.a": torch.zeros(1), "y": torch.zeros(2)}, tmp_path / "model.safetensors")
    tensors = open_tensors(
        tmp_path, lambda name: name.removeprefix("x.") if name.startswith("x.") else None
    )
    assert tensors.shapes == {"a": (1,)}
    assert [name for name, _ in tensors] == ["a"]


class Malice:
    """Runs code when it is unpickled, if anybody lets it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('code of a checkpoint ran')",))


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_checkpoint_is_not_run(as_zip: bool, tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save({"a": Malice()}, file, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(CheckpointError, match="more than tensors"):
        open_tensors(file)
    file.write_bytes(pickle.dumps(Malice()))
    with pytest.raises(CheckpointError):
        open_tensors(file)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}])
def test_pickles_of_anything_but_named_tensors_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="must map names to tensors"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("cut", [0, 10, -1])
def test_cut_files_are_refused(name: str, cut: int, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    if name.endswith(".bin"):
        torch.save(STATE, whole)
    else:
        save_file(STATE, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="cannot read"):
        _loaded(tmp_path / name)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    _sharded_safetensors(tmp_path)
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"not there: 1\.safetensors"):
        open_tensors(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "../1.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {}},
        {"weight_map": 3},
        {},
        [],
    ],
)
def test_an_index_that_names_no_files_beside_it_is_refused(index: object, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="index"):
        open_tensors(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    for file in files:
        save_file(STATE, file)
    with pytest.raises(CheckpointError, match="once more"):
        TensorFiles(files)


def test_wrong_tensors_are_listed_by_kind(tmp_path: Path) -> None:
    wrong = {"a.weight": torch.zeros(2, 2), "b": torch.zeros(1), "c": torch.zeros(1)}
    save_file(wrong, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        _loaded(tmp_path)
    assert "1 missing: a.bias; 2 unexpected: b, c; " in str(caught.value)
    assert "1 misshapen: a.weight is (2, 2), not (3, 2)" in str(caught.value)


def test_an_empty_folder_names_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected one of .*pytorch_model\.safetensors"):
        open_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="no weights at"):
        open_tensors(tmp_path / "absent.safetensors")
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="weights end in"):
        open_tensors(tmp_path / "weights.h5")
