"""How often a key may ask in a minute, and for how much work: what it has used, and when to return.

It does not know HTTP, messages or where limits come from. The minute slides: in no sixty seconds is
more let in than the limit says, and whoever returns after the time that it was told finds room,
unless others with the same key have taken it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cloud_server.keys import Keyring
from cloud_server.settings import Settings
from shared_protocol.errors import InvalidInputError, OverloadedError, RateLimitError
from shared_protocol.http.contract import RATE_LIMIT_HEADER

WINDOW_S = 60.0
_GRAIN_S = 0.1
"""Uses this close together are remembered as one: a key has at most 600 entries."""
REQUESTS, TOKENS = "requests", "tokens"
_UNITS = {REQUESTS: "requests", TOKENS: "token-steps"}
_MANY = 1024


@dataclass(eq=False)
class Use:
    """Uses of about the same moment.

    Attributes:
        first, last: when, seconds.
        amount: all of them together.
    """

    first: float
    last: float
    amount: int


class Window:
    """What was used in the last minute; all times are seconds of one clock."""

    def __init__(self) -> None:
        self._uses: deque[Use] = deque()
        self._sum = 0

    def used(self, now: float) -> int:
        """How much that is."""
        while self._uses and self._uses[0].last + WINDOW_S <= now:
            self._sum -= self._uses.popleft().amount
        return self._sum

    def add(self, now: float, amount: int) -> Use:
        """Count a use; returns where it is counted."""
        self._sum += amount
        if self._uses and now - self._uses[-1].first < _GRAIN_S:
            self._uses[-1].last = now
            self._uses[-1].amount += amount
        else:
            self._uses.append(Use(now, now, amount))
        return self._uses[-1]

    def take_back(self, use: Use, amount: int) -> None:
        """Forget what was counted there, if it is not forgotten yet."""
        if use in self._uses:
            use.amount -= amount
            self._sum -= amount

    def wait(self, now: float, most: int, amount: int) -> float:
        """Seconds until `amount` more is at most `most`; 0 = it is now."""
        over = self.used(now) + amount - most
        for use in self._uses:
            if over <= 0:
                break
            over -= use.amount
            if over <= 0:
                return use.last + WINDOW_S - now
        return 0.0 if over <= 0 else WINDOW_S

    def rest(self, now: float) -> float:
        """Seconds until all of it is forgotten."""
        return self._uses[-1].last + WINDOW_S - now if self.used(now) else 0.0


LimitsOf = Callable[[str], Mapping[str, int]]
"""From a key's name to its limits: `REQUESTS` and `TOKENS` a minute, 0 = none."""


def limits_by(settings: Settings, keyring: Keyring) -> LimitsOf:
    """The limits that the flags and the file of keys say, as they are when they are asked for."""

    def limits_of(name: str) -> Mapping[str, int]:
        own = keyring.limits(name)
        requests, tokens = settings.requests_per_minute, settings.tokens_per_minute
        return {
            REQUESTS: requests if own.requests is None else own.requests,
            TOKENS: tokens if own.tokens is None else own.tokens,
        }

    return limits_of


class RateLimits:
    """The uses of all keys, by their names; for one event loop.

    Args:
        limits_of: see `LimitsOf`; asked at each use, so that a changed limit counts at once.
        on_refusal: told the name and the limit of each refusal.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        limits_of: LimitsOf,
        on_refusal: Callable[[str, str], None] = lambda name, limit: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits_of = limits_of
        self._on_refusal = on_refusal
        self._clock = clock
        self._windows: dict[tuple[str, str], Window] = {}

    @contextmanager
    def taken(self, name: str, limit: str, amount: int = 1) -> Iterator[None]:
        """Count a use of a key; it is taken back where the block finds that there is no room.

        Args:
            name: of the key.
            limit: `REQUESTS` or `TOKENS`.
            amount: how much.

        Raises:
            RateLimitError: it would be too much now; says when it will not.
            InvalidInputError: it would always be too much.
        """
        most = self._limits_of(name)[limit]
        if not most:
            yield
            return
        window = self._window(name, limit)
        self._check(name, limit, amount, most)
        use = window.add(self._clock(), amount)
        try:
            yield
        except OverloadedError:
            window.take_back(use, amount)
            raise

    def headers(self, name: str) -> dict[str, str]:
        """What a client is told of the limits of a key, as header fields."""
        told, now = {}, self._clock()
        for limit, most in self._limits_of(name).items():
            if most:
                window = self._window(name, limit)
                told[RATE_LIMIT_HEADER.format(what="limit", limit=limit)] = str(most)
                left = max(0, most - window.used(now))
                told[RATE_LIMIT_HEADER.format(what="remaining", limit=limit)] = str(left)
                rest = math.ceil(1000 * window.rest(now)) / 1000
                told[RATE_LIMIT_HEADER.format(what="reset", limit=limit)] = f"{rest:g}s"
        return told

    def _check(self, name: str, limit: str, amount: int, most: int) -> None:
        unit, now = _UNITS[limit], self._clock()
        if amount > most:
            raise InvalidInputError(
                f"the request takes {amount:,} {unit}, and the key {name!r} may use {most:,} in a "
                "minute",
                f"ask for fewer steps or fewer new tokens; the operator sets {limit}=N of a key",
            )
        window = self._window(name, limit)
        wait = window.wait(now, most, amount)
        if not wait:
            return
        self._on_refusal(name, limit)
        if limit == REQUESTS:  # with no token-step left to use, to return for it is in vain
            steps = self._limits_of(name)[TOKENS]
            wait = max(wait, self._window(name, TOKENS).wait(now, steps, 1) if steps else 0.0)
        used = f"{window.used(now):,} of {most:,} {unit} a minute are used"
        needs = f", this takes {amount:,}" if limit == TOKENS else ""
        seconds = max(1, math.ceil(wait))
        raise RateLimitError(
            f"{used} of the key {name!r}{needs}",
            f"try again in {seconds} s, or ask the operator for a higher limit",
            float(seconds),
        )

    def _window(self, name: str, limit: str) -> Window:
        found = self._windows.get((name, limit))
        if found is None:
            if len(self._windows) >= _MANY:  # names come and go with the file of keys
                now = self._clock()
                self._windows = {k: each for k, each in self._windows.items() if each.used(now)}
            found = self._windows[name, limit] = Window()
        return found
