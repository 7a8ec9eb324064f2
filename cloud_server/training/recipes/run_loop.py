"""The loop that every training run goes through: steps, clock, log lines, and chores now and then.

It does not know what is trained, nor what a chore does::

    while the planned length is not reached:
        advance(share) ─► step += 1, clock ─► log every N steps ─► chores whose minutes are over
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud_server.training.recipes.runs import Progress


@dataclass(frozen=True)
class Chore:
    """Something that is done every so many minutes, such as a checkpoint or a report."""

    minutes: float
    do: Callable[[], None]


@dataclass(frozen=True)
class Length:
    """The planned length of a run: in steps, or by the clock if `steps` is None."""

    steps: int | None
    minutes: float = 0.0


def run_to_the_end(
    progress: Progress,
    length: Length,
    advance: Callable[[float], None],
    log: Callable[[float], None],
    *,
    log_every: int,
    chores: Sequence[Chore] = (),
) -> None:
    """Advance until the planned length is reached.

    Args:
        progress: where the run stands; both of its clocks go on from there.
        length: see `Length`.
        advance: one update, told the share of the run that is done, 0..1.
        log: told the same share, every `log_every` steps.
        log_every: in steps.
        chores: each is done when its minutes are over since it was done last.
    """
    began = time.monotonic() - progress.seconds
    due = [progress.seconds + 60 * chore.minutes for chore in chores]
    while (share := progress.share(length.steps, length.minutes)) < 1.0:
        advance(share)
        progress.step += 1
        progress.seconds = time.monotonic() - began
        if progress.step % log_every == 0:
            log(share)
        for index, chore in enumerate(chores):
            if progress.seconds > due[index]:
                chore.do()
                due[index] = time.monotonic() - began + 60 * chore.minutes
