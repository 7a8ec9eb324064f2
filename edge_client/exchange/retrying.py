"""When a turn that failed is tried again: until its time is up, no sooner than the server says.

It does not know what failed.
"""

from __future__ import annotations

import random
import time

from edge_client.transport.base import Notice, waits_in_vain
from shared_protocol.errors import RateLimitError, UnimicError

FIRST_ATTEMPTS = 3
"""Attempts to reach a server whose name nobody knows."""
BACKOFF, MAX_WAIT, MAX_ASKED = 0.25, 5.0, 20.0
"""Seconds before an attempt: at first, at most, and at most where the server says how long."""


class Retries:
    """The attempts at one turn.

    Args:
        deadline: when its time is up, by `time.monotonic`.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._failures = 0
        self._notice = Notice()

    def wait(self, error: UnimicError, reached: bool) -> None:
        """Wait before another attempt, or raise `error` if none makes sense.

        Args:
            error: what the last one failed with.
            reached: whether the server has ever answered.
        """
        self._failures += 1
        if waits_in_vain(error) and self._failures >= FIRST_ATTEMPTS:
            raise error
        if error.retry_after is not None:
            # What a limit of a key says is exact: to ask before is in vain.
            most = error.retry_after if isinstance(error, RateLimitError) else MAX_ASKED
            pause = min(error.retry_after, most)
        elif self._failures == 1 and reached:
            pause = 0.0  # a link that was idle for too long: the next one will do
        else:
            pause = min(MAX_WAIT, BACKOFF * 2 ** min(self._failures, 10))
        pause *= random.uniform(1.0, 1.25)
        left = self._deadline - time.monotonic()
        if pause >= left:
            raise error
        if pause:
            self._notice(error, left)
        time.sleep(pause)
