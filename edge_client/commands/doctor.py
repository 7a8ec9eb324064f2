"""`doctor`: one line for each thing that has to be right, and what to do where it is not.

It does not print, never raises, and ends within the time-out. It does not know how a thing is
checked; see `checks`.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace

from edge_client.checks import configuration, device, holdings, reach
from edge_client.checks.finding import Check, Finding, State, Subject, examined
from edge_client.commands.outcome import Outcome
from edge_client.config import ENVIRONMENT, Settings, seconds_of
from shared_protocol.messages import OnStep

CHECKS: dict[str, Check] = {
    "python": device.python,
    "settings": configuration.settings,
    "proxy": configuration.proxies,
    "certificates": configuration.authorities,
    "clock": device.clock,
    "folders": device.folders,
    "terminal": device.terminal,
    "bundle": holdings.bundle,
    "computation": holdings.computation,
    "server": reach.server,
    "agreement": holdings.agreement,
}
"""In the order in which they go on from each other; another check is one row."""


def doctor(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Check everything; `settings` are not used, as they may be what is wrong."""
    found = examine(given)
    states = [finding.state for finding in found]
    bad, doubtful = states.count(State.FAIL), states.count(State.WARN)
    lines = [finding.line for finding in found]
    if bad or doubtful:
        lines.append(f"{bad} of {len(found)} checks failed, {doubtful} warn")
    else:
        lines.append(f"all {len(found)} checks are fine")
    data = [finding.data for finding in found]
    return Outcome("\n".join(lines), data, failed=bad > 0)


def examine(given: Namespace) -> list[Finding]:
    """All findings."""
    wanted = getattr(given, "timeout", None) or os.environ.get(ENVIRONMENT["timeout"])
    limit = seconds_of(wanted or Settings.timeout) or Settings.timeout
    subject = Subject(vars(given), os.environ, time.monotonic() + limit)
    return [finding for name, check in CHECKS.items() for finding in examined(name, check, subject)]
