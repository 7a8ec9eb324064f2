"""The surrogate loss against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from cloud_server.necks.surrogate import Schedule, cross_entropy, distillation, surrogate
from shared_protocol.errors import ConfigError


def test_equation_1_is_the_mean_squared_error() -> None:
    assert float(distillation(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]]))) == 2.5


def test_equation_3_is_the_cross_entropy_of_the_softmax() -> None:
    scores = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    truth = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    wanted = (math.log(4 / 3) + math.log(2)) / 2
    assert float(cross_entropy(scores, truth)) == pytest.approx(wanted)


def test_equation_4_goes_from_words_over_both_to_features() -> None:
    scores, truth = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    distance = torch.tensor(0.5)
    words = math.log(2)
    found = [
        float(surrogate(Schedule().weights(share), scores, truth, distance))
        for share in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)
    ]
    both = words + 100 * 0.5
    assert found == pytest.approx([words, words, both, both, 0.5, 0.5])


def test_scores_are_not_needed_where_they_do_not_count() -> None:
    assert float(surrogate((0.0, 1.0), None, torch.zeros(1, 0), torch.tensor(2.0))) == 2.0


@pytest.mark.parametrize(
    ("objective", "weights"), [("cross-entropy", (1.0, 0.0)), ("distillation", (0.0, 1.0))]
)
def test_one_term_alone_stays_the_only_one(objective: str, weights: tuple[float, float]) -> None:
    assert {Schedule(objective).weights(share) for share in (0.0, 0.5, 1.0)} == {weights}


def test_schedules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="no objective"):
        Schedule("both")
    with pytest.raises(ConfigError, match="stages that end"):
        Schedule(first=0.7, second=0.3)
