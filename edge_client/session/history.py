"""What is kept of a conversation on disk, where the user asked for it: one file each.

It does not know how a conversation is held.

A file is a MessagePack map: "version" 1, "session" (8 bytes), "server", "fingerprint" (32 bytes),
"started", "next" (number of the next turn), "pictures" (name, height, width and packed codes of
each) and "turns". Folder and files are for their owner only. Two programs that write one
conversation at a time end with the file of the one that was last, never with a broken one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from shared_protocol.coding.bits import pack_bits, unpack_bits
from shared_protocol.coding.image_codec import code_bits
from shared_protocol.errors import BadMessageError, ConfigError, InvalidInputError, UnimicError
from shared_protocol.files import read_regular, write_atomically
from shared_protocol.session.state import SESSION_ID_BYTES
from shared_protocol.tokens import ImageTokens

SUFFIX = ".umichist"
VERSION = 1
FOLDER_VARIABLE = "UNIMIC_HISTORY"
MAX_FILE = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_LATEST_S = 253_370_764_800  # the year 9999, which every clock can show
_DAY_S = 86_400.0
_MOST = 1 << 16
"""Pictures or turns of one conversation."""


@dataclass(frozen=True)
class StoredTurn:
    """A turn that was answered.

    Args:
        task: its name.
        text: prompt or question.
        source, result: indices of pictures; None where there is none.
        answer: words; None for a picture.
        cost: fields of `cost.TurnCost`, by name.
    """

    task: str
    text: str
    source: int | None
    result: int | None
    answer: str | None
    cost: Mapping[str, float]


@dataclass(frozen=True)
class StoredSession:
    """A conversation.

    Args:
        name: of its file.
        session: 8 bytes.
        server: address; a program is never started for one that was read from a file.
        fingerprint: of the bundle, 32 bytes.
        started: seconds since 1970.
        next_turn: number of the turn that comes next.
        pictures: (name, tokens), in the order in which they came.
        turns: in order.
    """

    name: str
    session: bytes
    server: str
    fingerprint: bytes
    started: float
    next_turn: int = 0
    pictures: tuple[tuple[str, ImageTokens], ...] = field(default=())
    turns: tuple[StoredTurn, ...] = field(default=())

    @property
    def summary(self) -> str:
        """One line: when, how many turns, and the first words."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.started))
        first = f": {self.turns[0].text[:50]}" if self.turns else ""
        return f"{when}, {len(self.turns)} turns{first}"


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where conversations are kept; it need not exist."""
    known = os.environ if environ is None else environ
    if known.get(FOLDER_VARIABLE):
        return Path(known[FOLDER_VARIABLE])
    home = known.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "unimic" / "sessions"


def path_of(name: str, where: Path) -> Path:
    """The file of a conversation.

    Raises:
        InvalidInputError: a name that is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is no name of a conversation", "use letters, digits, '.', '_' and '-'"
        )
    return where / f"{name}{SUFFIX}"


def new_name(where: Path, now: float | None = None) -> str:
    """A name that no conversation has: the day and a number."""
    day, number = time.strftime("%Y-%m-%d", time.localtime(now)), 1
    while path_of(f"{day}-{number}", where).exists():
        number += 1
    return f"{day}-{number}"


def save(stored: StoredSession, where: Path) -> Path:
    """Write a conversation, all of it or nothing.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = path_of(stored.name, where)
    try:
        where.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
        if path.is_symlink():
            raise ConfigError(f"{path} is a link", "remove it, or name another conversation")
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _PRIVATE_FILE))
        write_atomically(path, _dump(stored))
    except OSError as error:
        raise ConfigError(
            f"cannot keep the conversation in {path}: {error.strerror}",
            f"set {FOLDER_VARIABLE}, or use --no-history",
        ) from error
    return path


def load(name: str, where: Path) -> StoredSession:
    """Read a conversation.

    Raises:
        InvalidInputError: there is none of that name, or its file cannot be read.
    """
    path = path_of(name, where)
    try:
        return _parse(name, read_regular(path, MAX_FILE))
    except FileNotFoundError:
        raise InvalidInputError(
            f"there is no conversation {name!r}", "see 'edge-client session list'"
        ) from None
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {path}: {error.strerror}",
            f"set {FOLDER_VARIABLE} to another folder, or delete it",
        ) from error
    except UnimicError:
        raise
    except Exception as error:  # whatever stands in a file that claims to be one
        raise InvalidInputError(
            f"{path} is no conversation of version {VERSION}: {error!r}", "delete it"
        ) from error


def listing(where: Path) -> list[tuple[str, str]]:
    """(name, summary) of all conversations, the latest first; broken files say that they are."""
    found = sorted(where.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)
    told = []
    for path in found:
        name = path.name.removesuffix(SUFFIX)
        try:
            told.append((name, load(name, where).summary))
        except UnimicError as error:
            told.append((name, f"cannot be read: {error.message}"))
    return told


def delete(name: str, where: Path) -> None:
    """Remove a conversation; raises `InvalidInputError` if there is none."""
    try:
        path_of(name, where).unlink()
    except OSError as error:
        raise InvalidInputError(
            f"cannot delete the conversation {name!r}: {error.strerror}",
            "see 'edge-client session list'",
        ) from error


def expire(where: Path, days: float, now: float | None = None) -> list[str]:
    """Remove conversations that were not used for `days`; returns their names."""
    before = (time.time() if now is None else now) - days * _DAY_S
    old = [path for path in where.glob(f"*{SUFFIX}") if path.lstat().st_mtime < before]
    for path in old:
        path.unlink(missing_ok=True)
    return [path.name.removesuffix(SUFFIX) for path in old]


def _dump(stored: StoredSession) -> bytes:
    content = {
        "version": VERSION,
        "session": stored.session,
        "server": stored.server,
        "fingerprint": stored.fingerprint,
        "started": stored.started,
        "next": stored.next_turn,
        "size": stored.pictures[0][1].codebook_size if stored.pictures else 2,
        "pictures": [_packed(name, tokens) for name, tokens in stored.pictures],
        "turns": [asdict(turn) for turn in stored.turns],
    }
    data: bytes = msgpack.packb(content)
    return data


def _packed(name: str, tokens: ImageTokens) -> list[Any]:
    codes = pack_bits(tokens.codes.reshape(-1), code_bits(tokens.codebook_size))
    return [name, *tokens.shape, codes]


def _parse(name: str, data: bytes) -> StoredSession:
    content = msgpack.unpackb(data, max_array_len=_MOST, max_map_len=_MOST, max_ext_len=0)
    if content["version"] != VERSION:
        raise InvalidInputError(
            f"the conversation {name!r} is of version {content['version']}",
            f"this program reads {VERSION}",
        )
    if len(content["session"]) != SESSION_ID_BYTES:
        raise ValueError("a session id of another length")
    started, next_turn = float(content["started"]), int(content["next"])
    if not 0 <= started <= _LATEST_S or next_turn < 0:
        raise ValueError("a conversation of no time, or of no turn")
    pictures = tuple(_unpacked(row, int(content["size"])) for row in content["pictures"])
    turns = tuple(_turn(row, len(pictures)) for row in content["turns"])
    return StoredSession(
        name,
        bytes(content["session"]),
        str(content["server"]),
        bytes(content["fingerprint"]),
        started,
        next_turn,
        pictures,
        turns,
    )


def _unpacked(row: list[Any], size: int) -> tuple[str, ImageTokens]:
    name, height, width, data = row
    try:
        codes = unpack_bits(data, code_bits(size), height * width)
    except BadMessageError as error:
        raise ValueError(error.message) from error
    return str(name), ImageTokens(codes.reshape(height, width), size)


def _turn(row: dict[str, Any], pictures: int) -> StoredTurn:
    turn = StoredTurn(**row)
    places = [place for place in (turn.source, turn.result) if place is not None]
    if any(not 0 <= place < pictures for place in places):
        raise ValueError("a turn names a picture that is not there")
    if not isinstance(turn.text, str) or not isinstance(turn.task, str):
        raise TypeError("a turn without words")
    return turn
