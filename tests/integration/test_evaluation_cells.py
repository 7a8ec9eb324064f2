"""Every section over fakes: no cell without a number, a word, or the file that it wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_fakes import FakeBundle
from evaluation_folder import fake_context, write_folder
from serving_fakes import LiveServer, fake_settings

from edge_client.evaluation import evaluate, metrics
from edge_client.evaluation.conversations import Line
from edge_client.evaluation.metrics.wanted import wanted_file
from edge_client.evaluation.sections import rounds, sessions
from edge_client.evaluation.tables import output
from shared_protocol.errors import ConfigError
from shared_protocol.tasks import Task


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0), bundle=FakeBundle()) as live:
        yield live


@pytest.mark.slow
def test_no_cell_of_any_section_is_empty_without_a_reason(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> float:
        raise ConfigError("not installed")

    for name in ("st_lpips", "picture_features", "ssim"):
        monkeypatch.setattr(metrics, name, missing)
    monkeypatch.setattr(sessions, "EIGHT_TURNS", (Line(Task.VQA, "abc"),) * 2)
    monkeypatch.setattr(rounds, "ROUNDS", 2)
    context = fake_context(
        write_folder(tmp_path / "data"),
        tmp_path / "out",
        server.url,
        keep_ratios=(0.5,),
        codecs=("jpeg", "vq-kmeans"),
        qp=("paper", 20),
    )
    names = list(evaluate.SECTIONS)
    found, failures = evaluate._run(names, context, {"command": "x"})
    assert failures == []
    assert [section.name for section in found] == names
    for section in found:
        for table in section.tables:
            for row in table.rows:
                for column, cell in zip(table.columns, row, strict=True):
                    where = f"{section.name}, {table.name}, {row[0]}, {column}"
                    assert cell is not None or wanted_file(column), where
                    assert cell != "", where
    text = (context.out / "results.md").read_text(encoding="utf-8")
    assert "not available here |" not in text
    assert "not available here: alexnet-owt-7be5be79.pth |" in text
    assert output.LEGEND in text
