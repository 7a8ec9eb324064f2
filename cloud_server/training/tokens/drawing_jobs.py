"""Draws shards of pictures with the engine that serves, in several processes, up to a deadline.

It does not know what is drawn or kept: jobs and what does them come from the recipe.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from cloud_server.serving.load import backbone_path
from cloud_server.settings import Settings
from shared_protocol.bundles.bundle import Bundle

logger = logging.getLogger(__name__)
Job = TypeVar("Job")


def share_out(
    jobs: list[Job],
    work: Callable[[list[Job], float | None], int],
    workers: int,
    minutes: float | None,
) -> None:
    """Do the jobs in `workers` processes; none is begun after so many minutes.

    Args:
        jobs: may be empty.
        work: some jobs and the time after which none is begun, to how many were done.
        workers: number of processes.
        minutes: None = all of them are done.
    """
    if not jobs:
        return
    deadline = time.time() + 60 * minutes if minutes else None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        parts = [jobs[worker::workers] for worker in range(workers)]
        done = sum(pool.map(work, parts, [deadline] * workers))
    logger.info("wrote %d shards, %d are left", done, len(jobs) - done)


def backbone_of(bundle: Bundle, folder: Path | None) -> Path:
    """Where the weights are: the folder that was named, else those that a server takes."""
    return folder or backbone_path(bundle, Settings())
