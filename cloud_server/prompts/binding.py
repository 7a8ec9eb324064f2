"""Says what the items of a prompt ask for together: who is where, and left of whom.

It does not know words. What could be meant in two ways is left out, and then the reading is not
complete; one that is certain either way is kept.

    a fox  and  a car  left of  a house          the car is left of it; the fox may be, too
    a tree  with  an owl  above it               "it" is the tree
    a fox.  at the left, a car                   a part of the picture before a thing is its own
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cloud_server.prompts.asked import Relation, Side, Thing
from cloud_server.prompts.items import Item, UnclearError
from cloud_server.prompts.spots import joined

_OPPOSITE: dict[Side, Side] = {"left": "right", "right": "left", "above": "below", "below": "above"}
_SIDES: dict[str, Side] = {side: side for side in _OPPOSITE}
_AFTER_A_BREAK = ("", "comma", "stop", "and", "with")


@dataclass
class _Entry:
    """Something that was named; of what cannot be drawn only its place among the others counts.

    Attributes:
        link: how it was joined to the thing before it.
        before: number of that thing; -1 for none.
        settled: it has a zone or a relation of its own.
    """

    name: str
    phrase: str
    count: int
    link: str = ""
    before: int = -1
    zone: str | None = None
    settled: bool = False


@dataclass
class Binder:
    """Takes items in, and gives things and relations out.

    Attributes:
        clear: nothing could be meant in two ways so far.
    """

    clear: bool = True
    _entries: list[_Entry] = field(default_factory=list)
    _relations: list[tuple[int, Side, int]] = field(default_factory=list)
    _last: int = -1  # the thing that what follows speaks of
    _link: str = ""  # what was read since that thing
    _open: tuple[int, Side] | None = None  # a relation whose second thing is still to come
    _ahead: list[Item] = field(default_factory=list)  # zones and relations before their thing
    _host: int = -1  # the thing before "with"
    _doubts: set[int] = field(default_factory=set)
    _fronted: bool = False  # zones have come before their things so far
    _again: bool = False  # the last thing was named before, and so what follows speaks of it

    def bind(self, items: Sequence[Item]) -> tuple[tuple[Thing, ...], tuple[Relation, ...]]:
        """What all the items say.

        Raises:
            UnclearError: it is not plain how many of a thing are meant.
        """
        kept = [item for item in items if item.kind not in ("silent", "place", "time")]
        for number, item in enumerate(kept):
            self._take(item, kept[number + 1 : number + 3])
        self.clear &= self._open is None and not self._ahead
        self.clear &= all(self._entries[number].settled for number in self._doubts)
        return self._result()

    def _take(self, item: Item, rest: Sequence[Item]) -> None:
        self.clear &= item.clear
        if item.kind in ("thing", "other", "it"):
            self._name(item)
        elif item.kind == "relation":
            self._relate(item, rest)
        elif item.kind == "zone":
            self._put(item, rest)
        elif item.kind not in ("noise", "swallow"):
            self._join(item)
        else:
            self._open = None  # "left of the very old ...": whatever it is, it is not what follows
            self._link = self._link or "noise"

    def _join(self, item: Item) -> None:
        if self._open:
            self._open, self.clear = None, False
        if item.kind == "with":
            self._host = self._last
        if item.kind == "stop":
            self._host = -1
        if item.kind == "and" and self._link in ("comma", "stop"):
            return
        self._link = item.kind

    def _name(self, item: Item) -> None:
        if item.kind == "it" and not self._entries:
            return  # "it is night"
        count = len(self._entries)
        number = self._number_of(item)
        entry = self._entries[number]
        self._again = self._open is None and number < count
        if self._open:
            first, word = self._open
            self._open = None
            self._link_up(first, word, number)
            entry.link, entry.before = "relation", first
        elif entry.before < 0 and number != self._last:
            entry.link, entry.before = self._link, self._last
            self.clear &= self._last < 0 or self._link != "" or bool(self._ahead)
            tight = self._link == "and" and self._last >= 0
            if tight and self._entries[self._last].link == "relation":
                self._doubts.add(number)
        self._last, self._link = number, ""
        ahead, self._ahead = self._ahead, []
        for waiting in ahead:
            self._apply_ahead(waiting, number)

    def _apply_ahead(self, waiting: Item, number: int) -> None:
        if waiting.kind == "zone":
            self._set_zone(number, waiting.word)
        elif waiting.bound:
            self._link_up(number, _SIDES[waiting.word], self._target(waiting, number))
        else:  # "above the house there is a balloon": this is the house
            self._ahead.append(replace(waiting, bound=True, ground=number))

    def _number_of(self, item: Item) -> int:
        """The entry that an item names, which may be one that was named before.

        Raises:
            UnclearError: it is named again with another number, or without saying that it is.
        """
        if item.kind == "it":
            if len(self._entries) == 1:
                return 0
            self.clear = False
            return self._new(Item("other", 1))
        known = [at for at, entry in enumerate(self._entries) if entry.name == item.word]
        if item.kind == "other" or not known or item.mention == "new":
            return self._new(item)
        if item.mention == "bare":
            raise UnclearError("the same or another")
        if len(known) > 1:
            self.clear = False
            return self._new(Item("other", 1))
        entry = self._entries[known[0]]
        if item.count not in (0, entry.count):
            raise UnclearError("the same, in another number")
        return known[0]

    def _new(self, item: Item) -> int:
        if item.kind == "thing" and not item.count:
            raise UnclearError("several, in no number")
        self._entries.append(_Entry(item.word, item.phrase, item.count))
        return len(self._entries) - 1

    def _relate(self, item: Item, rest: Sequence[Item]) -> None:
        follows = rest[0].kind if rest else ""
        word = _SIDES[item.word]
        starts = self._link in _AFTER_A_BREAK and (self._link != "" or self._last < 0)
        if item.bound:
            self._relate_to_known(item, starts and follows in ("thing", "other", "comma"))
        elif follows not in ("thing", "other", "it"):
            self._relate_to_host(word)
        elif self._last < 0:
            self._ahead.append(item)
        else:
            self._open = (self._subject(for_zone=False), word)

    def _relate_to_known(self, item: Item, ahead: bool) -> None:
        if ahead:
            self._ahead.append(item)
        elif self._last >= 0:
            self._link_up(self._last, _SIDES[item.word], self._target(item, self._last))
        else:
            self.clear = False

    def _relate_to_host(self, word: Side) -> None:
        """ "with an owl on top": on top of what is before "with"."""
        if self._host < 0 or self._host == self._last or self._link:
            self.clear = False
            return
        self._link_up(self._last, word, self._host)

    def _target(self, item: Item, subject: int) -> int:
        """What "it" is where something is left of it; -1 if that is not plain."""
        if item.phrase:
            named = [at for at, entry in enumerate(self._entries) if entry.name == item.phrase]
            return named[0] if len(named) == 1 else -1
        if item.ground >= 0:
            return item.ground
        if self._host >= 0 and self._host != subject:
            return self._host
        others = [at for at in range(len(self._entries)) if at != subject]
        return others[0] if len(others) == 1 else -1

    def _subject(self, *, for_zone: bool) -> int:
        """The entry that a relation or zone speaks of; -1 if that is not plain."""
        if self._link in ("comma", "and", "stop", "near", "with"):
            return self._coordinated()
        if self._again:
            return self._last
        entry = self._entries[self._last]
        before = self._entries[entry.before] if entry.before >= 0 else None
        if self._link == "which" or before is None or entry.link in ("", "comma", "stop"):
            return self._last
        if entry.link == "with" and for_zone:
            return self._last
        if before.settled and entry.link != "relation":
            return self._last
        self.clear = False
        return self._last if entry.link in ("and", "with") and not for_zone else -1

    def _coordinated(self) -> int:
        """Who is meant by "and above a house" or ", at the top"."""
        entry = self._entries[self._last]
        if self._link == "and" and entry.link == "relation":
            return entry.before
        if self._link == "and" and entry.settled:
            return self._last
        before = self._entries[entry.before] if entry.before >= 0 else None
        alone = entry.link in ("", "comma", "stop") and (before is None or before.settled)
        if alone or self._link == "stop":
            return self._last
        self.clear = False
        return -1

    def _put(self, item: Item, rest: Sequence[Item]) -> None:
        """Give a zone to its thing, which may be still to come."""
        kinds = [*(other.kind for other in rest), "", ""]
        names = ("thing", "other")
        starts = self._last < 0 or self._link in ("comma", "stop", "and", "with")
        direct = kinds[0] in names
        later = kinds[0] == "comma" and kinds[1] in names
        early = self._last < 0 or self._link in ("stop", "and") or self._fronted
        if starts and (direct or (later and early)):
            self._fronted = True
            self._ahead.append(item)
            return
        if self._last < 0:
            self.clear = False
            return
        subject = self._subject(for_zone=True)
        if subject >= 0:
            self._set_zone(subject, item.word)

    def _set_zone(self, number: int, zone: str) -> None:
        entry = self._entries[number]
        both = joined(entry.zone, zone) if entry.zone else zone
        if both is None:
            self.clear = False
        entry.zone, entry.settled = both, True

    def _link_up(self, first: int, word: Side, second: int) -> None:
        if first >= 0:
            self._entries[first].settled = True
        if second >= 0:
            self._entries[second].settled |= second not in self._doubts
        if first < 0 or second < 0 or first == second:
            self.clear = False
            return
        self._relations.append((first, word, second))

    def _result(self) -> tuple[tuple[Thing, ...], tuple[Relation, ...]]:
        held = {one for first, _, second in self._sound() for one in (first, second)}
        things: list[Thing] = []
        numbers: dict[int, int] = {}
        plain: dict[str, int] = {}
        for at, entry in enumerate(self._entries):
            if not entry.name:
                continue
            apart = entry.zone is not None or at in held
            if not apart and entry.phrase in plain:
                known = plain[entry.phrase]
                things[known] = replace(things[known], count=things[known].count + entry.count)
                continue
            if not apart:
                plain[entry.phrase] = len(things)
            numbers[at] = len(things)
            things.append(Thing(entry.name, entry.phrase, entry.count, entry.zone))
        relations = [
            Relation(numbers[first], word, numbers[second]) for first, word, second in self._sound()
        ]
        return tuple(things), tuple(relations)

    def _sound(self) -> list[tuple[int, Side, int]]:
        """The relations of drawable things that nothing else contradicts, each once."""
        said = set(self._relations)
        sound: list[tuple[int, Side, int]] = []
        for first, word, second in dict.fromkeys(self._relations):
            against = {(first, _OPPOSITE[word], second), (second, word, first)} & said
            drawn = self._entries[first].name and self._entries[second].name
            self.clear &= not against and bool(drawn)
            if not against and drawn:
                sound.append((first, word, second))
        return sound
