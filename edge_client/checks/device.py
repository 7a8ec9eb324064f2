"""Checks of this device: Python, packages, folders, the terminal and the clock.

They do not know settings that are about the server.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from edge_client.checks.finding import Finding, Subject, fail, ok, warn
from shared_protocol.bundles.digests import CACHE_VARIABLE, cache_folder
from shared_protocol.errors import ConfigError

_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)\s*(?:>=\s*([\d.]+))?")
_OLDEST_PYTHON = (3, 11)
_FEW_BYTES, _TOO_FEW_BYTES = 500_000_000, 10_000_000
_RELEASED, _FAR = 1_767_225_600, 4_102_444_800
"""The beginnings of 2026 and of 2100, in seconds since 1970: no clock that is right is outside."""


def python(subject: Subject) -> Iterator[Finding]:
    """Python, and the packages that a client needs."""
    told = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield fail("python", told, "install Python 3.11 or later")
    else:
        yield ok("python", told)
    try:
        needed = metadata.requires("unimic") or []
        release = metadata.version("unimic")
    except metadata.PackageNotFoundError:
        yield warn("packages", "unimic runs without being installed", "pip install it")
        return
    found, wrong = [], []
    for name, least in _named(needed):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if _numbers(version) < _numbers(least):
            wrong.append(f"{name} is {version}, {least} is the oldest")
    if wrong:
        yield fail("packages", "; ".join(wrong), "pip install --upgrade unimic")
    else:
        yield ok("packages", f"unimic {release}, {', '.join(found)}")


def _named(requirements: list[str]) -> Iterator[tuple[str, str]]:
    """(name, oldest version) of what is no extra."""
    for line in requirements:
        found = _REQUIREMENT.match(line)
        if found is not None and "extra ==" not in line:
            yield found[1], found[2] or "0"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def folders(subject: Subject) -> Iterator[Finding]:
    """Where bundles, conversations and results are written, and whether there is room."""
    from edge_client.session.history import FOLDER_VARIABLE, folder

    places = {
        "cache folder": (cache_folder(), f"name another one in {CACHE_VARIABLE}"),
        "history folder": (folder(subject.environ), f"name another one in {FOLDER_VARIABLE}"),
        "current folder": (Path(), "go to another one, or name a file elsewhere with -o"),
    }
    for check, (place, remedy) in places.items():
        there = _present(place)
        free = shutil.disk_usage(there).free
        told = f"{place.absolute()}, {free / 1e9:,.1f} GB free"
        if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
            state = warn if check == "current folder" else fail
            yield state(check, f"{told}, and you may not write there", remedy)
        elif free < _TOO_FEW_BYTES:
            yield fail(check, told, f"make room; or {remedy}")
        elif free < _FEW_BYTES:
            yield warn(check, told, f"make room before a bundle is fetched; or {remedy}")
        else:
            yield ok(check, told)


def _present(place: Path) -> Path:
    """The folder, or the nearest one above it that there is."""
    place = place.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def terminal(subject: Subject) -> Iterator[Finding]:
    """Whether it shows what is printed, and pictures."""
    from edge_client.terminal.inline_pictures import detect

    encoding = sys.stdout.encoding or "none"
    try:
        "█░×–…ü".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        remedy = "set PYTHONUTF8=1, or a UTF-8 locale such as LANG=C.UTF-8"
        yield warn("terminal", f"its encoding is {encoding}, which lacks characters", remedy)
    else:
        is_terminal = sys.stdout.isatty()
        yield ok("terminal", f"{encoding}, {'a terminal' if is_terminal else 'no terminal'}")
    try:
        inline = detect(subject.environ, sys.stdout.isatty())
    except ConfigError as error:
        yield warn("inline pictures", error.message, error.remedy)
        return
    yield ok("inline pictures", "none are shown" if inline is None else inline.value)


def clock(subject: Subject) -> Iterator[Finding]:
    """Whether certificates can be judged by it."""
    now = time.time()
    told = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if _RELEASED <= now < _FAR:
        yield ok("clock", told)
    else:
        yield fail("clock", told, "set it: certificates look expired, or not valid yet")
