"""The names of labels, as far as a server has said them: learnt from replies, kept in a small file.

It does not know how labels travel. A reply says the names of its own labels only, which cannot be
checked against the fingerprint of all of them: what is kept belongs to the server that said it.
The file is a MessagePack map in the cache folder: "version" 1, "fingerprint" (32 bytes), "count"
and "names" (number to name). It is the user's alone, since it tells what pictures have shown.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from shared_protocol.bundles.digests import cache_folder
from shared_protocol.errors import printable
from shared_protocol.files import read_regular, write_atomically
from shared_protocol.labels import MAX_LABELS, MAX_NAME, LabelSet, Ranking

VERSION = 1
SUFFIX = ".labels"
MOST_NAMES = 4096
"""Names that are kept of a server; beyond them it begins anew."""
MOST_FILES = 64
"""Servers whose names are kept; the one that was asked longest ago is forgotten first."""
MAX_FILE = 1 << 20
_DIGEST_BYTES = 32
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True)
class Label:
    """What a picture shows, and how likely that is.

    Args:
        name: safe to show on a terminal.
        probability: 0..1, within 0.0125.
        number: of the name, in the server's set.
    """

    name: str
    probability: float
    number: int

    @property
    def percent(self) -> str:
        """The probability for people, in as many digits as six bits can tell.

        >>> Label("fox", 0.934, 3).percent, Label("hat", 0.0056, 4).percent
        ('93 %', '0.6 %')
        """
        return f"{100 * self.probability:.{0 if self.probability > 0.095 else 1}f} %"

    def __str__(self) -> str:
        return f"{self.name} {self.percent}"


class LabelNames:
    """What one server has said of the names of its labels.

    Args:
        path: the file in which it is kept; None = in memory only. A file that cannot be read or
            written costs a few bytes of a reply, and nothing else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._held: LabelSet | None = None
        self._names: dict[int, str] = {}
        self._lacking = False
        if path is not None:
            with suppress(OSError):
                self._held, self._names = read_names(read_regular(path, MAX_FILE))

    @classmethod
    def of(cls, server: str) -> LabelNames:
        """Those of the server at an address, kept in the cache folder."""
        name = hashlib.sha256(server.encode(errors="replace")).hexdigest()[:32]
        return cls(cache_folder() / "labels" / f"{name}{SUFFIX}")

    @property
    def held(self) -> LabelSet | None:
        """The set of which some names are here; None where there are none."""
        return self._held

    @property
    def wanted(self) -> bool:
        """Whether the next reply should say names, too.

        Where a name was lacking others will be: asking for them at once spares a second exchange,
        until a reply says nothing new.
        """
        return self._held is None or self._lacking

    def learn(self, ranking: Ranking) -> None:
        """Take in the names that a reply says."""
        fits = ranking.of == self._held and len(self._names) + len(ranking.names) <= MOST_NAMES
        before = self._names if fits else {}
        shown = zip(ranking.numbers, ranking.names, strict=True)
        self._lacking &= any(number not in before for number in ranking.numbers)
        self._held = ranking.of
        self._names = {**before, **{number: _shown(name, number) for number, name in shown}}
        self._write()

    def named(self, ranking: Ranking) -> tuple[Label, ...] | None:
        """The labels of a reply with their names; None where one of these is not here."""
        if ranking.of != self._held or any(n not in self._names for n in ranking.numbers):
            self._lacking = True
            return None
        return tuple(
            Label(self._names[number], round(probability, 4), number)
            for number, probability in zip(ranking.numbers, ranking.probabilities, strict=True)
        )

    def _write(self) -> None:
        if self._path is None or self._held is None:
            return
        content = {
            "version": VERSION,
            "fingerprint": self._held.fingerprint,
            "count": self._held.count,
            "names": self._names,
        }
        data: bytes = msgpack.packb(content)
        with suppress(OSError):
            folder = self._path.parent
            folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
            if not self._path.exists():
                _make_room(folder)
                os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, _PRIVATE_FILE))
            write_atomically(self._path, data)


def read_names(data: bytes) -> tuple[LabelSet | None, dict[int, str]]:
    """The set and the names of a file; none of either where it is no such file."""
    try:
        content = msgpack.unpackb(
            data, strict_map_key=False, max_map_len=MOST_NAMES, max_array_len=0, max_ext_len=0
        )
        held = LabelSet(bytes(content["fingerprint"]), int(content["count"]))
        names = {_number(key, held.count): _name(name) for key, name in content["names"].items()}
        known = content["version"] == VERSION and len(held.fingerprint) == _DIGEST_BYTES
        if known and 1 <= held.count <= MAX_LABELS and names:
            return held, names
    except Exception:  # whatever stands in a file that claims to be one
        return None, {}
    return None, {}


def _number(key: Any, count: int) -> int:
    if type(key) is not int or not 0 <= key < count:
        raise ValueError("a label that is none of the set")
    return key


def _name(name: Any) -> str:
    if not isinstance(name, str) or name != printable(name, MAX_NAME) or not name:
        raise ValueError("a name that was not written here")
    return name


def _shown(name: str, number: int) -> str:
    """A name of a server's choice, safe to show: never nothing at all."""
    return printable(name, MAX_NAME).strip() or f"label {number}"


def _make_room(folder: Path) -> None:
    """Forget the servers that were asked longest ago, so that one more has room."""
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.lstat().st_mtime)
    for path in files[: max(0, len(files) - MOST_FILES + 1)]:
        path.unlink(missing_ok=True)
