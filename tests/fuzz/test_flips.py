"""Flipped bits are noticed as often as the checks promise."""

import flips
import pytest
from flips import CHECK, CRC, Count


@pytest.mark.parametrize(
    "kind", [kind for kind, (_, chance) in flips.KINDS.items() if chance == CRC]
)
def test_no_flip_behind_a_crc_changes_what_is_accepted(kind):
    count = flips.flip(kind, 1, 400)
    assert (count.flips, count.other) == (400, 0)
    assert count.refused > 300


@pytest.mark.parametrize("kind", ["turns", "replies"])
def test_flips_of_frames_are_accepted_no_oftener_than_their_check_allows(kind):
    count = flips.flip(kind, 1, 400)
    assert count.within
    assert count.refused > 300


def test_more_than_chance_allows_is_told():
    assert Count("x", CHECK, flips=65_536, other=4).within
    assert not Count("x", CHECK, flips=65_536, other=12).within
    assert Count("x", CRC, flips=1_000_000).within
    assert not Count("x", CRC, flips=1_000_000, other=2).within
