"""The plan on paper: its tables are those of the note, its numbers those of the report."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_server.benchmarks import capacity_plan
from cloud_server.benchmarks.capacity_plan import Assumed, Measured, Plan, main
from cloud_server.settings import Settings

ROOT = Path(__file__).parents[4]
NOTE = ROOT / "cloud_server" / "notes" / "scale.md"
REPORT = Path(capacity_plan.__file__).parent / "results" / "h200.json"


def test_the_note_has_the_tables_that_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed in NOTE.read_text(encoding="utf-8")
    assert main(["--users", "10"]) == 0
    assert capsys.readouterr().out != printed


def test_seconds_of_the_gpu_are_those_of_the_report() -> None:
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    found = {table["title"]: table for part in report["sections"] for table in part["tables"]}

    def graphs(title: str) -> dict[str, dict[str, float]]:
        table = next(each for name, each in found.items() if name.startswith(title))
        assert "bfloat16" in table["title"]
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        return {row["requests"]: row for row in rows}

    pictures = graphs("t2i, 256 px, 16 steps")
    for title, seconds in (
        ("t2i, 256 px, 16 steps", Measured().picture_s),
        ("vqa, 256 px, 64 tokens", Measured().answer_s),
    ):
        rows = graphs(title)
        for count, value in seconds:
            names = [name for name in map(str, rows) if name.split(",")[0] == str(count)]
            said = [float(rows[name]["with graphs s"]) for name in rows if str(name) in names]
            assert any(value == pytest.approx(each, rel=0.005) for each in said)
    eight = next(row for name, row in pictures.items() if str(name) == "8")
    assert float(eight["with graphs GB"]) == pytest.approx(Measured().gpu_gb, rel=0.005)


def test_the_arithmetic_by_hand() -> None:
    measured = replace(
        Measured(), picture_s=((2, 1.0),), answer_s=((2, 0.5),), encode_ms=10, decode_ms=20,
        http_ms=1, up_bytes=100, opening_up=50, down_bytes=10, opening_down=5, jpeg_bytes=1000,
    )  # fmt: skip
    assumed = Assumed(
        users=36_000, pictures=2, answers=4, minutes=1, peak_share=0.1, busy=0.5, shared=2,
        kept_minutes=9, tls_up=7, tls_down=8, packet_bytes=1,
    )  # fmt: skip
    plan = Plan(measured, assumed)
    assert plan.gpu_s == pytest.approx(2 * 0.5 + 4 * 0.25)
    assert plan.peak_rate == pytest.approx(1.0)
    assert plan.replicas_at_peak == 4
    assert plan.gpu_hours == pytest.approx(36_000 * 2 / 3600 / 0.5)
    assert plan.core_s == pytest.approx((20 + 2 * 10 + 6) / 1000)
    assert plan.open_at_peak == pytest.approx(60)
    assert plan.pictures_kept == pytest.approx(600 * 3)
    assert plan.wire(False) == (150, 15)
    assert plan.wire(True) == (150 + 7 + 8, 15 + 8 + 8)
    assert plan.jpeg() == (1000, 2000)


def test_ten_times_the_users_need_ten_times_the_gpus() -> None:
    few, many = (Plan(Measured(), Assumed(users=n)) for n in (1_000_000, 10_000_000))
    assert many.gpu_hours == pytest.approx(10 * few.gpu_hours)
    assert many.replicas_at_peak > 9 * few.replicas_at_peak


def test_what_the_note_says_of_settings_and_wheel_is_so() -> None:
    text = NOTE.read_text(encoding="utf-8")
    assert f"`--max-sessions` {Settings().max_sessions:,}" in text
    assert Assumed().kept_minutes * 60 == Settings().picture_ttl
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "notes/*.md" in project["tool"]["setuptools"]["package-data"]["cloud_server"]
