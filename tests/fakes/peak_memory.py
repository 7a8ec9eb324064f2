"""The most memory that this process ever held."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_mib() -> float:
    """In MiB, since the program began.

    Of `getrusage` a child has what its parent held when it was started, too; Linux tells better.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
