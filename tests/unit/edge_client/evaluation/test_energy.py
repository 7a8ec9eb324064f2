"""Joules where the processor counts them, CPU seconds everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client.evaluation.energy import measured, spent, zones
from edge_client.evaluation.tables.output import shown


def zone(root: Path, name: str, energy: str, most: str = "1000000000") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(energy + "\n", encoding="ascii")
    (folder / "max_energy_range_uj").write_text(most, encoding="ascii")
    return folder


def work() -> int:
    return sum(number * number for number in range(300_000))


def test_joules_are_those_of_all_packages_and_of_no_part_of_one(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "5000000")
    second = zone(tmp_path, "intel-rapl:1", "999000000")
    zone(tmp_path, "intel-rapl:0:0", "7")
    assert zones(tmp_path) == [first, second]
    with measured(tmp_path) as energy:
        work()
        (first / "energy_uj").write_text("8000000", encoding="ascii")
        (second / "energy_uj").write_text("1000000", encoding="ascii")  # it began anew
    assert energy.joules == pytest.approx(3.0 + 2.0)
    assert 0 < energy.cpu_seconds < 60
    assert energy.seconds > 0


def test_a_machine_that_does_not_say_gives_cpu_seconds_alone(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "not a number")
    with measured(tmp_path) as energy:
        work()
    assert energy.joules is None
    assert energy.cpu_seconds > 0
    told = shown(energy.joules, "joules a task")
    assert told == "not available here: /sys/class/powercap/intel-rapl:0/energy_uj"


def test_a_counter_may_begin_anew_once() -> None:
    assert spent([900], [100], [1000]) == pytest.approx(200e-6)
