"""The report: what fails is told and the rest still runs; without a GPU all of it at toy size."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cloud_server.benchmarks import exactness as exactness_module
from cloud_server.benchmarks import gpu_report
from cloud_server.benchmarks.decoding import decoding
from cloud_server.benchmarks.entropy_batches import entropy_batches
from cloud_server.benchmarks.exactness import exactness
from cloud_server.benchmarks.tables import Attempts, Report, Section, Setup, Table, machine
from cloud_server.benchmarks.training_steps import training_steps
from shared_protocol.entropy import engine as entropy_engine

ROOT = Path(__file__).parents[4]
TOY = Setup("cpu", small=True)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def well(setup: Setup) -> Iterator[Table]:
    yield Table("numbers", ["name", "number"], [["one", 1.25], ["none", None], ["yes", True]])


def ill(setup: Setup) -> Iterator[Table]:
    yield Table("before", ["name"], [["kept"]])
    attempts = Attempts()
    assert attempts.of("half", lambda: 1 / 2) == 0.5
    assert attempts.of("zeroth", lambda: 1 // 0) is None
    attempts.finish()


def test_a_failed_part_is_told_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_report, "PARTS", {"exactness": ill, "decoding": well})
    status = gpu_report.main(["--out", str(tmp_path), "--parts", "exactness", "decoding"])
    assert status == 1
    said = capsys.readouterr().out
    assert "no GPU here" in said
    page = (tmp_path / "gpu_report.md").read_text()
    assert "FAILED: zeroth: ZeroDivisionError" in page
    assert "| kept |" in page
    assert "| one | 1.25 |\n| none | - |\n| yes | yes |" in page
    data = json.loads((tmp_path / "gpu_report.json").read_text())
    assert [section["error"] is None for section in data["sections"]] == [False, True]
    assert data["machine"]["GPU"] == "none"
    assert gpu_report.main(["--out", str(tmp_path), "--parts", "decoding"]) == 0


def test_an_exception_of_any_kind_ends_only_its_section() -> None:
    def broken(setup: Setup) -> Iterator[Table]:
        raise RuntimeError("CUDA error: out of luck\nand much more")

    section = Section.measured("broken", broken, TOY)
    assert section.error is not None
    assert section.error.startswith("RuntimeError: CUDA error: out of luck (test_gpu_report.py:")
    assert Report("title", machine(TOY), [section]).failed == ["broken"]


def test_exactness_finds_a_frequency_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness_module, "FEW", 1)
    recorded, tables = exactness(TOY)
    assert all(row[2:] == [True, True] for row in recorded.rows)
    assert len(recorded.rows) == 4
    assert all(row[3] and row[4] == 0 for row in tables.rows)

    def off_by_one(self: object, states: torch.Tensor) -> object:
        found = plain(self, states)  # type: ignore[arg-type]
        found[..., 0] += 1
        return found

    model = exactness_module.TorchModel
    plain = model.high_frequencies
    monkeypatch.setattr(model, "high_frequencies", off_by_one)
    recorded, tables = exactness(TOY)
    assert all(row[2:] == [True, False] for row in recorded.rows)
    assert all(row[4] for row in tables.rows)


@pytest.mark.slow
def test_both_ways_to_decode_give_equal_tokens_in_float32() -> None:
    pictures, answers = decoding(TOY)
    for table in (pictures, answers):
        assert [row[0] for row in table.rows] == [1, 2]
        assert all(row[table.columns.index("engine = plain")] == "all" for row in table.rows)
        assert all(row[table.columns.index("with graphs s")] is None for row in table.rows)


def test_messages_come_back_from_every_way() -> None:
    for table in entropy_batches(TOY):
        assert [row[0] for row in table.rows] == [1, 2]
        assert all(row[-1] is True for row in table.rows)


def test_a_stream_that_differs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = entropy_engine.Engine.decode

    def changed(self: object, *words: object) -> object:
        found = plain(self, *words)  # type: ignore[arg-type]
        return [row ^ 1 for row in found]

    monkeypatch.setattr(entropy_engine.Engine, "decode", changed)
    assert all(row[-1] is False for table in entropy_batches(TOY) for row in table.rows)


@pytest.mark.slow
def test_every_recipe_is_timed() -> None:
    steps, batches = training_steps(TOY)
    assert [row[0] for row in steps.rows] == ["backbone", "entropy", "image-tokenizer", "judge"]
    assert all(isinstance(row[3], float) and row[3] > 0 for row in steps.rows)
    assert [row[1] for row in batches.rows] == [0, 1]


def test_make_passes_the_toy_size_on() -> None:
    make = ["make", "-n", "-C", str(ROOT), "gpu", "SMALL=1", "GPU_OUT=there"]
    said = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    assert "-m cloud_server.benchmarks.gpu_report --out there --small" in said


@pytest.mark.slow
def test_the_command_runs_where_there_is_no_gpu(tmp_path: Path) -> None:
    if torch.version.cuda:
        pytest.skip("torch of this machine may find a GPU")
    command = [sys.executable, "-m", "cloud_server.benchmarks.gpu_report", "--small"]
    command += ["--out", str(tmp_path), "--parts", "entropy"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no GPU here" in done.stdout
    assert (tmp_path / "gpu_report.md").read_text().startswith("# GPU report, toy sizes")
