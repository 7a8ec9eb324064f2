"""What stays, what goes and what lacks, given what was found."""

import numpy as np

from cloud_server.generation.mending.findings import Findings, compare
from cloud_server.generation.mending.layout import lay_out
from cloud_server.generation.mending.looking import Seen, peaks
from cloud_server.prompts.asked import Asked, Relation, Thing

FOX, CAR = Thing("fox", "a fox"), Thing("car", "a car")
BOTH = Asked((FOX, CAR), complete=True)
TOP_LEFT, TOP_RIGHT, BOTTOM = Seen(2, 2, 0.5), Seen(2, 13, 0.3), Seen(13, 8, 0.9)


def test_one_of_each_is_right():
    findings = compare({0: [TOP_LEFT], 1: [BOTTOM]}, BOTH, None, 16)
    assert findings.is_right


def test_of_copies_the_surest_stays():
    findings = compare({0: [TOP_LEFT, TOP_RIGHT], 1: [BOTTOM]}, BOTH, None, 16)
    assert findings.kept[0] == [TOP_LEFT]
    assert findings.dropped == [TOP_RIGHT]
    assert not findings.missing


def test_of_copies_the_one_that_stands_as_asked_stays():
    asked = Asked((FOX, CAR), (Relation(0, "right", 1),), complete=True)
    findings = compare({0: [TOP_LEFT, TOP_RIGHT], 1: [Seen(3, 5, 0.9)]}, asked, None, 16)
    assert findings.kept[0] == [TOP_RIGHT]


def test_of_copies_the_one_that_was_meant_stays():
    asked = Asked((Thing("fox", "a fox", 1),), complete=True)
    layout = lay_out(asked, ("on a beach",), 16, 4)
    assert layout is not None
    meant = Seen(*layout.placed[0].centre, 0.1)
    elsewhere = Seen(15 - meant.row, 15 - meant.column, 0.8)
    assert compare({0: [elsewhere, meant]}, asked, layout, 16).kept[0] == [meant]


def test_where_none_stands_as_asked_one_thing_stays_and_the_other_is_wanted_anew():
    asked = Asked((FOX, CAR), (Relation(0, "below", 1),), complete=True)
    findings = compare({0: [TOP_LEFT], 1: [BOTTOM]}, asked, None, 16)
    assert findings.kept == {0: [], 1: [BOTTOM]}
    assert findings.dropped == [TOP_LEFT]
    assert findings.missing == [0]


def test_as_many_stay_as_were_asked_for():
    asked = Asked((Thing("fox", "a fox", 2),), complete=True)
    three = [TOP_LEFT, TOP_RIGHT, BOTTOM]
    findings = compare({0: three}, asked, None, 16)
    assert len(findings.kept[0]) == 2
    assert len(findings.dropped) == 1
    assert compare({0: [TOP_LEFT]}, asked, None, 16).missing == [0]


def test_kept_cells_end_halfway_to_what_goes():
    near = Seen(2.0, 7.0, 0.2)
    cells = Findings({0: [TOP_LEFT]}, [near], ()).kept_cells(16)
    assert cells[2, 4]
    assert not cells[2, 5]
    assert not cells[2, 7]
    alone = Findings({0: [TOP_LEFT]}, [], ()).kept_cells(16)
    assert alone.sum() == 36


def test_a_look_at_nowhere_finds_nothing():
    looked = np.zeros((16, 16))
    looked[3, 3] = 0.3
    assert peaks(looked, 0.7) == []
    assert len(peaks(looked, 0.1)) == 1
