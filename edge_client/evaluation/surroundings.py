"""What a run was made with, so that its numbers can be repeated: commit, bundle, hardware, server.

It measures nothing.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from shared_protocol.bundles.bundle import Bundle


def surroundings(bundle: Bundle, info: Mapping[str, Any], command: str) -> dict[str, str]:
    """Name to value, all in words.

    Args:
        bundle: this end's.
        info: what the server says of itself.
        command: how the run was started.
    """
    said = {name: info[name] for name in ("backbone", "device", "dtype", "version") if name in info}
    return {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "code": code_version(),
        "bundle": f"{bundle.name}, fingerprint {bundle.fingerprint.hex()}",
        "client": f"{hardware()}, Python {platform.python_version()}, torch {_version('torch')}",
        "server": ", ".join(f"{name} {value}" for name, value in said.items()) or "says nothing",
    }


def code_version() -> str:
    """The commit of a checkout, with a mark if files were changed; else the package's version."""
    folder = Path(__file__).resolve().parents[2]
    with suppress(OSError, subprocess.SubprocessError):
        commit = _git(folder, "rev-parse", "HEAD")
        top = _git(folder, "rev-parse", "--show-toplevel")
        if commit and Path(top).resolve() == folder:
            changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
            return f"commit {commit[:12]}" + (", with changes" if changed else "")
    return f"unimic {_version('unimic')}"


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def hardware() -> str:
    """Cores, processor and system in words."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        model = found.group(1).strip() if found else model
    return f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.machine()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
