"""Numbers and odds of the kinds of frames, as SESSION.md writes them down."""

import re
from pathlib import Path

import pytest

from shared_protocol.message.anatomy import Counts
from shared_protocol.session import kinds

DOCUMENT = Path(kinds.__file__).parent / "SESSION.md"


def test_numbers_are_those_on_the_wire() -> None:
    assert {kind.name: kind.value for kind in kinds.Up} == {"TURN": 0, "RESET": 1, "CANCEL": 2}
    down = {"REPLY": 0, "PROGRESS": 1, "PREVIEW": 2, "ERROR": 3, "UNKNOWN": 4}
    assert {kind.name: kind.value for kind in kinds.Down} == down


@pytest.mark.parametrize("odds", [kinds.UP_ODDS, kinds.DOWN_ODDS])
def test_odds_add_up(odds: tuple[int, ...]) -> None:
    assert sum(odds) == 4096


def test_kinds_and_odds_are_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    told = text[text.index("Its first symbol is the kind") :]
    for names, odds in ((kinds.Up, kinds.UP_ODDS), (kinds.Down, kinds.DOWN_ODDS)):
        for kind, odd in zip(names, odds, strict=True):
            assert re.search(rf"{kind.value} {kind.name.lower()}\D*{odd}\b", told), kind


def test_a_message_without_symbols_counts_none() -> None:
    assert Counts() == Counts(0, 0, 0, 0, 0)
