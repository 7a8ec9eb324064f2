"""Reads what a prompt asks for, in ordinary English about the things of one world.

It does not know models, and never guesses: what is not plain is no prompt that it reads, and what
it did not understand makes a reading incomplete.

    typed ─► plain form ─► words ─► items (a thing, a zone, "with", ...) ─► who is where ─► Asked
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from cloud_server.prompts.asked import Asked
from cloud_server.prompts.binding import Binder
from cloud_server.prompts.items import Item, UnclearError
from cloud_server.prompts.scan import Scanner, words_of
from cloud_server.prompts.taught import TaughtWorld
from shared_protocol.words.plain import MOST_CHARACTERS, plain_prompt


class PromptReader:
    """Reads prompts about a world.

    Args:
        world: what the models were taught to draw.
    """

    def __init__(self, world: TaughtWorld) -> None:
        self._world = world
        self._scanner = Scanner(world)

    def read(self, text: str) -> Asked | None:
        """What a prompt asks for.

        Args:
            text: as it was typed, or in plain form.

        Returns:
            None where it names nothing that can be drawn, says what is not to be drawn, or does not
            say plainly how many of a thing.
        """
        if len(text) > MOST_CHARACTERS:
            return None
        binder = Binder()
        try:
            items = list(self._scanner.items(words_of(plain_prompt(text))))
            things, relations = binder.bind(items)
        except UnclearError:
            return None
        if not things:
            return None
        place, plain = self._place(items)
        return Asked(things, relations, place, binder.clear and plain)

    def _place(self, items: Sequence[Item]) -> tuple[str | None, bool]:
        """The canonical place, and whether all that is said of it is in that."""
        clear = all(item.clear for item in items if item.kind in ("place", "time"))
        clear &= not any(
            before.kind in ("near", "noise") and item.kind == "place"
            for before, item in pairwise(items)
        )
        grounds = {item.ground for item in items if item.kind == "place"}
        times = {item.word for item in items if item.kind in ("place", "time") and item.word}
        if len(grounds) != 1:
            return None, clear and not grounds and not times
        at = self._world.grounds[grounds.pop()].at
        time = times.pop() if len(times) == 1 else ""
        found = at.get(time)
        return found or at.get("", next(iter(at.values()))), clear and bool(found) and not times
