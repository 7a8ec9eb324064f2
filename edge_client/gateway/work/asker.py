"""Questions about a picture: in the session that has it, words only travel.

It does not know HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_client.gateway.requests.picture_wish import SEEDS
from edge_client.gateway.work.jobs import Telling
from edge_client.gateway.work.known_pictures import KnownPictures
from edge_client.gateway.work.session_pool import SessionPool
from edge_client.session.cost import TurnCost
from shared_protocol.errors import printable

NO_PICTURE = (
    "I can only look at pictures: this gateway makes, edits and answers questions about them. "
    "Send a picture with your question."
)


@dataclass(frozen=True)
class Question:
    """A question about a picture.

    Args:
        text: in words.
        picture: bytes of the picture's file; None = there is none, and nothing is asked.
        count: how many answers, with seeds `seed`, `seed` + 1, …
        seed: of the first.
        longest: most tokens of an answer; None = as the bundle says.
        fit: how another shape becomes the model's square.
        warnings: what was asked and has no effect.
    """

    text: str
    picture: bytes | None = field(default=None, repr=False)
    count: int = 1
    seed: int = 0
    longest: int | None = None
    fit: str = "crop"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """Answers.

    Args:
        texts: one or more.
        cut: for each, whether it was as long as it could be.
        costs: of the turns.
        warnings: what the user should know.
        seconds: that it took.
        created: when, in seconds of the epoch.
    """

    texts: tuple[str, ...]
    cut: tuple[bool, ...]
    costs: tuple[TurnCost, ...]
    warnings: tuple[str, ...]
    seconds: float
    created: int


def said(text: str, warnings: tuple[str, ...] = ()) -> Answered:
    """An answer that nobody was asked for."""
    return Answered((text,), (False,), (), warnings, 0.0, int(time.time()))


class Asker:
    """Asks.

    Args:
        pool: sessions to ask in.
        known: pictures that went through.
    """

    def __init__(self, pool: SessionPool, known: KnownPictures) -> None:
        self._pool = pool
        self._known = known

    def ask(self, question: Question, telling: Telling) -> Answered:
        """The answers to a question; without a picture, a sentence that says so.

        Raises:
            UnimicError: there is none.
        """
        data = question.picture
        if data is None:
            return said(NO_PICTURE, question.warnings)
        started, cancelled = time.perf_counter(), _asked(telling)
        seat = self._known.seat_of(data, question.fit)
        with self._pool.borrow(seat, False, cancelled) as seat:
            telling.uses(seat.session)
            try:
                picture = self._known.open(seat, data, question.fit)
                answers = []
                for number in range(question.count):
                    telling.stop_if_cancelled()
                    seed = (question.seed + number) % SEEDS
                    answers.append(
                        picture.ask(question.text, max_new_tokens=question.longest, seed=seed)
                    )
            finally:
                telling.leaves(seat.session)
        longest = question.longest or seat.session.bundle.defaults.max_new_tokens
        told = [*question.warnings, *picture.warnings]
        told += [line for answer in answers for line in answer.warnings]
        return Answered(
            tuple(printable(str(answer), 4096) for answer in answers),
            tuple(answer.cost.text_made >= longest for answer in answers),
            tuple(answer.cost for answer in answers),
            tuple(told),
            time.perf_counter() - started,
            int(time.time()),
        )


def _asked(telling: Telling) -> Callable[[], bool]:
    return lambda: telling.cancelled
