"""A finished picture is asked for once more, a few cells at a time."""

import numpy as np
import pytest
import torch
from tiny_backbone import CODES, SIDE, VOCABULARY, tiny_backbone

from cloud_server.generation.masked_decoding import POLICIES, REFERENCE, STANDARD
from cloud_server.generation.painting import Brush, Painter
from cloud_server.generation.settling import PASSES, Settling, groups, settle
from shared_protocol.errors import InvalidInputError

VALUES = 20


def likes(favourite: int):
    """Logits that like one code everywhere, and the code of the row's place a little less."""

    def logits(codes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        given = torch.zeros(*places.shape, VALUES)
        given[..., favourite] = 3.0
        given[..., 7] = 2.5
        return given

    return logits


@pytest.mark.parametrize("passes", [number for number in PASSES if number])
def test_every_cell_is_in_one_group_and_neighbours_are_apart(passes):
    flags = groups(16, passes)
    assert len(flags) == passes
    assert np.array_equal(np.sum(flags, axis=0), np.ones(256))
    for group in flags:
        cells = np.argwhere(group.reshape(16, 16))
        gaps = np.abs(cells[:, None] - cells[None]).max(-1)
        assert gaps[gaps > 0].min() >= 2


def test_an_unknown_number_of_passes_is_named():
    with pytest.raises(InvalidInputError, match="5 settling passes"):
        groups(16, 5)


def test_only_wanted_cells_become_what_is_likeliest():
    codes, wanted = torch.full((1, 16), 1), torch.zeros(1, 16, dtype=torch.bool)
    wanted[0, 3:9] = True
    settled = settle(likes(4), codes, wanted, Settling(4, 4))
    assert settled[0].tolist() == [4 if 3 <= index < 9 else 1 for index in range(16)]


def test_rows_without_wanted_cells_stay_beside_others():
    codes, wanted = torch.full((2, 16), 1), torch.zeros(2, 16, dtype=torch.bool)
    wanted[1, 5] = True
    settled = settle(likes(4), codes, wanted, Settling(4, 4))
    assert settled[0].tolist() == [1] * 16
    assert settled[1, 5] == 4


def test_a_price_decides_between_codes_that_are_nearly_as_likely():
    def dear(codes, places, choices):
        assert codes.shape == (16,)
        assert choices.shape[0] == len(places)
        return np.where(choices == 4, 2.0, 0.0)

    codes, wanted = torch.full((1, 16), 1), torch.ones(1, 16, dtype=torch.bool)
    cheap = settle(likes(4), codes, wanted, Settling(4, 4, 0.5, [dear]))
    assert set(cheap[0].tolist()) == {7}
    free = settle(likes(4), codes, wanted, Settling(4, 4, 0.0, [dear]))
    assert set(free[0].tolist()) == {4}


def test_hidden_cells_are_hidden_and_all_others_shown():
    seen = []

    def logits(codes, places):
        seen.append((codes.clone(), places.clone()))
        return torch.zeros(*places.shape, VALUES)

    codes = torch.arange(16)[None]
    settle(logits, codes, torch.ones(1, 16, dtype=torch.bool), Settling(8, 4))
    assert len(seen) == 8
    for shown, places in seen:
        assert sorted(places[0].tolist()) == torch.nonzero(shown[0] < 0)[:, 0].tolist()


def test_the_standard_order_settles_and_the_reference_does_not():
    assert STANDARD.settle_passes
    assert not REFERENCE.settle_passes
    assert set(POLICIES) == {"reference", "standard"}


def test_equal_pictures_settle_equally_whatever_is_beside_them():
    painter = Painter(tiny_backbone(), VOCABULARY, 330, 16, STANDARD)
    brush = Brush(np.array([3, 4]), 1.0)
    row = torch.from_numpy(CODES.reshape(1, -1))
    wanted = torch.ones(1, SIDE * SIDE, dtype=torch.bool)
    settling = Settling(4, SIDE)
    alone = painter.settle(row, wanted, [brush], settling)
    other = (row + 5) % VOCABULARY.codebook_size
    both = painter.settle(torch.cat([row, other]), wanted.repeat(2, 1), [brush, brush], settling)
    assert torch.equal(both[:1], alone)
    assert not torch.equal(alone, row), "random weights like other codes"
