"""What each token costs, which tells the edge what it can leave out."""

import numpy as np
import pytest
from entropy_streams import SCENARIOS, draw_stream

from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.tasks import Scenario

CLOSE = 1e-9
"""Sums of the same float64 terms in another order."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_bits_of_all_tokens_are_the_code_length(
    models: EntropyModels, scenario: Scenario
) -> None:
    codes, context = draw_stream(3, 5, 6)
    bits = models.bits_by_token(scenario, codes, context)
    assert bits.shape == codes.shape
    assert bits.min() > 0
    assert bits.sum() == pytest.approx(models.code_length(scenario, codes, context), abs=CLOSE)


def test_the_bits_of_a_token_hang_on_those_before_it_alone(models: EntropyModels) -> None:
    codes, context = draw_stream(4, 4, 4)
    changed = codes.copy()
    changed[-1] = (changed[-1] + 1) % 8192
    before, after = (
        models.bits_by_token(Scenario.GENERIC, some, context) for some in (codes, changed)
    )
    assert np.array_equal(before[:-1], after[:-1])
