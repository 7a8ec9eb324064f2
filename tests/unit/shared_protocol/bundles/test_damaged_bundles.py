"""Bundles whose parts do not belong together, and weights whose insides are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from hostile_bundles import BUILTIN, PRIOR, make_bundle, row, safe_file, with_prior
from manifests import manifest_content
from safetensors.torch import save_file

from shared_protocol.bundles import export, tensor_files
from shared_protocol.bundles.bundle import Bundle, _loading
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import (
    MANIFEST,
    Typing,
    digests_of,
    manifest_from,
    read_manifest,
    write_manifest,
)
from shared_protocol.bundles.published import load_published
from shared_protocol.bundles.tensor_files import TensorFiles, open_tensors, placed
from shared_protocol.errors import CheckpointError, ConfigError, InvalidInputError
from shared_protocol.tasks import Scenario

DIGEST = "ab" * 32


def overlapping() -> bytes:
    """A file whose header fits it byte for byte, but whose two tensors are one."""
    each = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return safe_file({"a": each, "b": each}, bytes(8))


def test_weights_that_the_library_refuses_are_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(overlapping())
    for read in (open_tensors, export._numpy_reads):
        with pytest.raises(CheckpointError, match="cannot read") as caught:
            read(path)
        assert str(path) in caught.value.message
        assert "fetch it again" in caught.value.remedy


def test_weights_that_change_while_they_are_read_are_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2), "b": torch.ones(2)}, path)
    tensors = open_tensors(path)
    whole = path.read_bytes()
    real = tensor_files._shapes_in

    def shapes(file: Path) -> dict[str, tuple[int, ...]]:
        found = real(file)
        path.write_bytes(whole[:-9])
        return found

    monkeypatch.setattr(tensor_files, "_shapes_in", shapes)
    with pytest.raises(CheckpointError, match=r"cannot read .*w\.safetensors") as caught:
        list(tensors)
    assert caught.value.remedy == "the file is damaged or incomplete; fetch it again"


@pytest.mark.parametrize("limit", [1, 8, 9, 1 << 20])
def test_a_file_that_is_mapped_again_gives_every_tensor_once(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {name: torch.full((2,), float(number)) for number, name in enumerate("abcde")}
    save_file(state, tmp_path / "w.safetensors")
    opened = []
    real = safetensors.safe_open

    def counted(*args: Any, **options: Any) -> Any:
        opened.append(args)
        return real(*args, **options)

    tensors = open_tensors(tmp_path / "w.safetensors")
    monkeypatch.setattr(tensor_files, "_MAPPED_BYTES", limit)
    monkeypatch.setattr(tensor_files, "safe_open", counted)
    found = [(name, tensor.tolist()) for name, tensor in tensors]
    assert found == [(name, tensor.tolist()) for name, tensor in state.items()]
    maps = {1: 5, 8: 5, 9: 3}.get(limit, 1)
    assert len(opened) == 1 + maps, "once for the names"


def test_a_name_that_comes_twice_or_is_left_out(tmp_path: Path) -> None:
    for name in "ab":
        save_file({"w": torch.zeros(2), name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    with pytest.raises(CheckpointError, match=r"b\.safetensors holds w once more") as caught:
        TensorFiles(files)
    assert caught.value.remedy == "use one checkpoint"
    kept = TensorFiles(files, lambda name: f"x{name}" if name in "ab" else None)
    assert kept.shapes == {"xa": (1,), "xb": (1,)}
    assert [name for name, _ in kept] == ["xa", "xb"]
    with pytest.raises(CheckpointError, match="cannot read") as caught:
        TensorFiles([tmp_path / "w.npz"])
    assert caught.value.remedy == "weights end in .safetensors, .bin, .pt, .pth"


def test_a_tensor_that_is_placed_is_a_copy_and_whole_numbers_stay_whole() -> None:
    floats, whole = torch.ones(2, dtype=torch.float16), torch.ones(2, dtype=torch.int64)
    for tensor, kind in (
        (floats, torch.float32),
        (floats.float(), torch.float32),
        (whole, whole.dtype),
    ):
        copy = placed(tensor, "cpu", torch.float32)
        assert copy.dtype == kind
        copy[0] = 7
        assert tensor[0] == 1
    assert placed(floats, "meta", torch.float64).dtype == torch.float64
    assert placed(floats, "meta", torch.float64).device.type == "meta"


# ---- bundles -------------------------------------------------------------------------------------


def bundle_of(folder: Path, **changes: Any) -> Bundle:
    (folder / "text.json").write_text("{}")
    write_manifest(folder, manifest_content(**changes))
    return load_bundle(str(folder))


def test_a_role_that_nothing_plays_is_named(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    with pytest.raises(ConfigError, match="bundle test has no image_tokenizer"):
        bundle.path("image_tokenizer")
    assert bundle.entropy_fingerprint(Scenario.GENERIC) is None
    assert bundle.entropy.available() == ()
    assert bundle.known_words is None
    assert not bundle.reads_plain_text


def test_a_prior_of_other_ids_than_the_bundles_is_refused(tmp_path: Path) -> None:
    prior = with_prior(base=row(*[1] * 5), tables=[])
    bundle = load_bundle(str(make_bundle(tmp_path / "b", PRIOR, prior)))
    with pytest.raises(
        CheckpointError, match=r"the text prior has 5 ids, the bundle .* needs 4096"
    ):
        _ = bundle.text_prior


def changed(folder: Path, stride: int = 16, **vocabulary: int) -> Bundle:
    """The built-in bundle with a manifest that says otherwise."""
    make_bundle(folder)
    content = json.loads((folder / MANIFEST).read_text())
    content["vocabulary"].update(vocabulary)
    content["stride"] = stride
    (folder / MANIFEST).write_text(json.dumps(content))
    return load_bundle(str(folder))


def test_tokenizers_of_another_bundle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"text tokenizer has 4096 ids, .* needs 4095"):
        _ = changed(tmp_path / "text", text_size=4095).text_tokenizer
    for stride, size, said in (
        (16, 4096, r"has 8192 codes of 16 pixels a side, .* needs 4096 of 16"),
        (8, 8192, r"has 8192 codes of 16 pixels a side, .* needs 8192 of 8"),
    ):
        tokenizer = changed(tmp_path / str(stride), stride, codebook_size=size).image_tokenizer()
        with pytest.raises(CheckpointError, match=said):
            _ = tokenizer.computed_by


def test_entropy_models_of_another_bundle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"models of 8192 image codes .* needs 4096"):
        changed(tmp_path / "entropy", codebook_size=4096).entropy.warm_up()
    with pytest.raises(CheckpointError, match=r"4096 text ids, the bundle needs 8192, and 4097 at"):
        changed(tmp_path / "ids", text_size=4097).entropy.warm_up()


def test_entropy_models_of_more_text_ids_will_do(tmp_path: Path) -> None:
    changed(tmp_path / "fewer", text_size=4095).entropy.warm_up()


def test_errors_of_ours_come_through_the_boundary_as_they_are() -> None:
    with pytest.raises(InvalidInputError, match=r"^ours$"), _loading(Path("a")):
        raise InvalidInputError("ours")
    with pytest.raises(CheckpointError) as caught, _loading(Path("a")):
        raise ValueError("x" * 500)
    assert caught.value.message == f"cannot read a: ValueError: {'x' * 200}"


def test_an_unknown_published_bundle_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there is no published bundle 'other'") as caught:
        load_published("other")
    assert caught.value.remedy == "known are show-o, show-o-512"


# ---- manifests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("world", ["text.json", "bundle.json"])
def test_a_list_of_words_is_a_file_of_its_own(world: str) -> None:
    typing = {"text": "plain", "world": world, "sha256": DIGEST}
    content = manifest_content(sha256={"text.json": DIGEST}, typing=typing)
    with pytest.raises(ConfigError, match=rf"{world} is another file of the bundle already"):
        manifest_from(content)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": "loud"}, "text is 'loud', not one of"),
        ({"world": "a/b", "sha256": DIGEST}, "is not a plain file name"),
        ({"world": "w.json"}, "a file of words and its digest come together"),
        ({"sha256": DIGEST}, "a file of words and its digest come together"),
        ({"world": "w.json", "sha256": "ab" * 31 + "a"}, "is no digest of w.json"),
        ({"world": "w.json", "sha256": DIGEST + "a"}, "is no digest of w.json"),
        ({"world": "w.json", "sha256": "g" * 500}, f"^'{'g' * 80}' is no digest"),
    ],
)
def test_typing_that_contradicts_itself_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Typing(**fields)


def test_a_manifest_says_of_typing_what_is_not_usual(tmp_path: Path) -> None:
    assert Typing() == Typing("as_typed", None, None)
    assert Typing().content() == {}
    assert Typing("plain").content() == {"text": "plain"}
    told = {"text": "as_typed", "world": "w.json", "sha256": DIGEST}
    assert Typing(**told).content() == told
    manifest = manifest_from(manifest_content(sha256={"text.json": "cd" * 32}, typing=told))
    assert manifest.content()["typing"] == told
    assert digests_of(manifest) == {"text.json": "cd" * 32, "w.json": DIGEST}
    plain = manifest_from(manifest_content(sha256={"text.json": DIGEST}))
    assert "typing" not in plain.content()
    assert digests_of(plain) == {"text.json": DIGEST}
    (tmp_path / "text.json").write_text("{}")
    (tmp_path / "w.json").write_text("[]")
    write_manifest(tmp_path, manifest_content(typing={"text": "plain", "world": "w.json"}))
    assert set(digests_of(read_manifest(tmp_path))) == {"text.json", "w.json"}
    assert (tmp_path / MANIFEST).read_text().startswith('{\n  "defaults": {\n    "guidance"')
    assert (tmp_path / MANIFEST).read_text().endswith("}\n")


def test_so_many_files_and_no_more() -> None:
    digests = {"text.json": DIGEST, **{f"{number}.bin": DIGEST for number in range(63)}}
    assert len(manifest_from(manifest_content(sha256=digests)).sha256) == 64
    with pytest.raises(ConfigError, match="is not a bundle manifest"):
        manifest_from(manifest_content(sha256={**digests, "more.bin": DIGEST}))


def test_a_manifest_over_its_limit_or_gone_says_what_a_bundle_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no bundle at .*: No such file") as caught:
        read_manifest(tmp_path)
    assert "a bundle is 'builtin', 'show-o', 'show-o-512' or a folder" in caught.value.remedy
    text = json.dumps(manifest_content(sha256={"text.json": DIGEST}))
    (tmp_path / MANIFEST).write_text(text.ljust(1 << 20))
    assert read_manifest(tmp_path).name == "test"
    (tmp_path / MANIFEST).write_text(text.ljust((1 << 20) + 1))
    with pytest.raises(ConfigError, match="over 1,048,576 bytes"):
        read_manifest(tmp_path)


def test_the_digest_of_a_role_is_that_of_its_file() -> None:
    manifest = manifest_from(manifest_content(sha256={"text.json": DIGEST}))
    assert manifest.digest("text_tokenizer") == DIGEST
    assert manifest.digest("text_prior") is None
    builtin = read_manifest(BUILTIN)
    name = builtin.files["image_tokenizer"]
    assert np.array_equal(builtin.digest("image_tokenizer"), builtin.sha256[name])
