"""What a check has found, and what all checks share.

It does not know any check.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from shared_protocol.errors import UnimicError, as_typed

if TYPE_CHECKING:
    from edge_client.config import Settings
    from shared_protocol.bundles.bundle import Bundle


_LEAST_S = 0.2
"""What a check gets that begins when the time is up already."""


class State(Enum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Args:
        check: what was looked at.
        state: how it stands.
        told: what was found, with the value.
        remedy: what to do about it; empty where nothing is to be done.
    """

    check: str
    state: State
    told: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """For people."""
        told = f"{self.state.value:4} {self.check}: {self.told}"
        return f"{told} - {self.remedy}" if self.remedy else told

    @property
    def data(self) -> dict[str, str]:
        """For machines."""
        said = {"check": self.check, "state": self.state.value}
        return {**said, "told": self.told, "remedy": self.remedy}


def ok(check: str, told: str) -> Finding:
    """Nothing is to be done."""
    return Finding(check, State.OK, told)


def warn(check: str, told: str, remedy: str) -> Finding:
    """It works, though not as well as it could."""
    return Finding(check, State.WARN, told, remedy)


def fail(check: str, told: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check, State.FAIL, told, remedy)


def failed(check: str, error: Exception) -> Finding:
    """What an error says."""
    known = error if isinstance(error, UnimicError) else as_typed(error)
    if known is not None:
        return fail(check, known.message, known.remedy)
    remedy = "please report it; UNIMIC_DEBUG=1 with another command shows where"
    return fail(check, f"this check failed: {type(error).__name__}: {error}", remedy)


@dataclass
class Subject:
    """What is examined; checks leave what later ones go on with.

    Args:
        flags: of the command line.
        environ: the process environment.
        deadline: when all is to be over, on the monotonic clock.
        settings: None = they cannot be used.
        bundle: None = there is none.
        info: what the server says of itself; None = it has not answered.
    """

    flags: Mapping[str, Any]
    environ: Mapping[str, str]
    deadline: float
    settings: Settings | None = None
    bundle: Bundle | None = None
    info: dict[str, Any] | None = field(default=None)

    def left(self, most: float = 10.0) -> float:
        """Seconds that one step may take."""
        return max(0.01, min(most, self.deadline - time.monotonic()))


Check = Callable[[Subject], Iterator[Finding]]


def examined(name: str, check: Check, subject: Subject) -> list[Finding]:
    """What a check finds, in the time that is left; it never raises, whatever the check does."""
    found: list[Finding] = []

    def work() -> None:
        try:
            for finding in check(subject):
                found.append(finding)
        except Exception as error:
            found.append(failed(name, error))

    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system starts no more of them
        work()
        return found
    limit = max(_LEAST_S, subject.deadline - time.monotonic())
    thread.join(limit)
    if thread.is_alive():
        late = fail(name, "no end in the time-out", "give it longer with --timeout, such as 2m")
        return [*found, late]
    return found
