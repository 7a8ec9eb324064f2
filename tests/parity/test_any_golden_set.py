"""The suite runs on a set whose runs, cases and pictures are called otherwise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]
RENAMED = {
    "extra_left_right": "both_sides",
    "extra_up": "sky",
    "extra_down_BUGFIXED": "ground",
    "inpaint": "repair",
    "t2i": "prompts",
    "image_a": "harbour",
    "image_b": "meadow",
    "mask_a": "hole",
    "q0": "first",
    "q1": "second",
}


def renamed(name: str) -> str:
    """A tensor's name with its run, case or picture called otherwise."""
    head, dot, rest = name.partition(".")
    return RENAMED.get(head, head) + dot + rest


@pytest.fixture(scope="module")
def other_set(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set at hand under other names."""
    folder = tmp_path_factory.mktemp("other") / "golden"
    shutil.copytree(golden, folder)
    for file in ("pipeline.safetensors", "mmu_generate.safetensors"):
        tensors = load_file(folder / file)
        save_file({renamed(name): tensor for name, tensor in tensors.items()}, folder / file)
    for path in (folder / "images").glob("*.png"):
        path.rename(path.with_stem(RENAMED.get(path.stem, path.stem)))
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    scalars = content["scalars"]
    runs = scalars["pipeline.safetensors"]["runs"]
    runs["value"] = {renamed(name): _paths(facts) for name, facts in runs["value"].items()}
    answers = scalars["mmu_generate.safetensors"]
    answers["cases"] = {renamed(name): facts for name, facts in answers["cases"].items()}
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def _paths(facts: dict[str, object]) -> dict[str, object]:
    found = dict(facts)
    for name in ("image_path", "inpainting_mask_path"):
        if name in found:
            path = Path(str(found[name]))
            found[name] = path.with_stem(RENAMED.get(path.stem, path.stem)).as_posix()
    return found


@pytest.mark.slow
def test_a_set_with_other_names_is_compared_as_well(other_set: Path) -> None:
    files = ("image_pipeline", "showo_generation", "showo_runs", "showo_prompting")
    tests = [f"tests/parity/test_{name}.py" for name in files]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *tests]
    done = subprocess.run(
        [*command, f"--golden={other_set}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    for name in ("both_sides", "sky", "ground", "repair", "prompts", "first"):
        assert f"[{name}" in done.stdout or f"-{name}]" in done.stdout, name
    old = ("extra_left_right", "extra_up", "extra_down", "image_a", "q0", "q1", "inpaint]")
    assert not any(f"[{name}" in done.stdout for name in old)
