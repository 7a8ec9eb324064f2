"""A session and its file: what is written after every turn, and read when one is gone on with.

It does not know the layout of the file; see `history`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_client.pictures.sources import of_tokens
from edge_client.session.cost import NUMBERS, TurnCost
from edge_client.session.history import (
    StoredSession,
    StoredTurn,
    folder,
    load,
    new_name,
    path_of,
    save,
)
from edge_client.session.picture import Answer, Picture, Turn
from shared_protocol.tokens import ImageTokens

if TYPE_CHECKING:
    from edge_client.session.session import Session

_FRESH_S = 600.0
"""How long a server keeps pictures unless it is told otherwise."""


class Keeper:
    """Keeps one conversation on disk.

    Args:
        name: of the conversation; one that is there is read.
        where: folder of all of them.

    Attributes:
        before: what was there; None for a new one.
    """

    def __init__(self, name: str, where: Path) -> None:
        self.name = name
        self._where = where
        self.before = load(name, where) if path_of(name, where).exists() else None
        self._started = time.time() if self.before is None else self.before.started

    @classmethod
    def of(cls, history: str | bool | None) -> Keeper | None:
        """The keeper that `Session(history=...)` asks for."""
        if history is None or history is False:
            return None
        where = folder()
        return cls(new_name(where) if history is True else history, where)

    @property
    def recent(self) -> tuple[ImageTokens, ...]:
        """Pictures that the cloud may still have, since they were used not long ago."""
        if self.before is None:
            return ()
        age = time.time() - path_of(self.name, self._where).stat().st_mtime
        return tuple(tokens for _, tokens in self.before.pictures) if age < _FRESH_S else ()

    def keep(self, session: Session) -> None:
        """Write the conversation as it is now."""
        pictures: list[Picture] = []
        turns = [_stored(turn, pictures) for turn in session.history]
        save(
            StoredSession(
                self.name,
                session.exchange.session,
                session.server,
                session.bundle.fingerprint,
                self._started,
                session.exchange.turn,
                tuple((picture.name, picture.tokens) for picture in pictures),
                tuple(turns),
            ),
            self._where,
        )

    def restore(self, session: Session, before: StoredSession) -> tuple[list[Turn], list[Picture]]:
        """The turns of a conversation, and its pictures in order."""
        pictures = [
            Picture(session, tokens, of_tokens(tokens, session.bundle, name), name)
            for name, tokens in before.pictures
        ]
        return [_restored(turn, pictures) for turn in before.turns], pictures


def _place(picture: Picture | None, pictures: list[Picture]) -> int | None:
    """Index of a picture, which is added if it is new."""
    if picture is None:
        return None
    for index, known in enumerate(pictures):
        if known is picture:
            return index
    pictures.append(picture)
    return len(pictures) - 1


def _stored(turn: Turn, pictures: list[Picture]) -> StoredTurn:
    source = _place(turn.source, pictures)
    made = turn.result if isinstance(turn.result, Picture) else None
    answer = str(turn.result) if made is None else None
    cost = {name: getattr(turn.cost, name) for name in NUMBERS}
    return StoredTurn(turn.task, turn.text, source, _place(made, pictures), answer, cost)


def _restored(turn: StoredTurn, pictures: Sequence[Picture]) -> Turn:
    cost = TurnCost(turn.task, **turn.cost)  # type: ignore[arg-type]
    source = None if turn.source is None else pictures[turn.source]
    result: Picture | Answer
    result = pictures[turn.result] if turn.result is not None else Answer(turn.answer or "", cost)
    return Turn(turn.task, turn.text, source, result, cost)
