"""The loop of every training run: length, clock, log lines and chores."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest

from cloud_server.training.recipes import run_loop
from cloud_server.training.recipes.run_loop import Chore, Length, run_to_the_end
from cloud_server.training.recipes.runs import Progress


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock finds it half a minute later."""
    ticks = count(0.0, 30.0)
    monkeypatch.setattr(run_loop, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


def run(progress: Progress, length: Length, chores: tuple[Chore, ...] = ()) -> list[str]:
    said: list[str] = []
    run_to_the_end(
        progress,
        length,
        lambda share: said.append(f"step {share:.2f}"),
        lambda share: said.append(f"log {progress.step}"),
        log_every=2,
        chores=[Chore(chore.minutes, lambda: said.append("chore")) for chore in chores],
    )
    return said


def test_a_run_by_steps_ends_after_them_and_logs_now_and_then() -> None:
    progress = Progress()
    said = run(progress, Length(5))
    assert said == [
        "step 0.00",
        "step 0.20",
        "log 2",
        "step 0.40",
        "step 0.60",
        "log 4",
        "step 0.80",
    ]
    assert progress.step == 5


def test_a_resumed_run_goes_on_from_where_it_stands() -> None:
    assert run(Progress(step=3), Length(5)) == ["step 0.60", "log 4", "step 0.80"]
    assert run(Progress(step=5), Length(5)) == []


def test_a_run_by_the_clock_counts_the_time_before_its_interruption(minutes: None) -> None:
    progress = Progress(step=7, seconds=120.0)
    said = run(progress, Length(None, 3.0))
    assert said == ["step 0.67", "log 8", "step 0.83"]
    assert (progress.step, progress.seconds) == (9, 180.0)


def test_chores_come_when_their_minutes_are_over_and_not_before(minutes: None) -> None:
    said = run(Progress(), Length(6), (Chore(1.0, lambda: None),))
    steps = [line.startswith("step") for line in said]
    assert said.count("chore") == 2
    assert steps[:3] == [True, True, False], "not in the first minute"
