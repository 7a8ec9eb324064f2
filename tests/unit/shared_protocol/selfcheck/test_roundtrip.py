"""The round-trip command: a slice of what it does at length, and that it notices faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from entropy_streams import SCENARIOS, TINY

from shared_protocol.bundles.find import load_bundle
from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.selfcheck import roundtrip
from shared_protocol.selfcheck.trials import Trials, real_pictures, with_models
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

SLICE = 40


class OffByOne(EntropyModels):
    """Decodes the last code wrongly."""

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        codes = super().decode(scenario, data, context)
        codes[-1:] ^= 1
        return codes


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.integers(0, 8192, (3, 16, 16)), axis=2)
    np.save(tmp_path / "train_0.npy", rows.astype(np.uint16))
    return tmp_path


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_random_and_real_messages_come_back(
    models: EntropyModels, tokens: Path, scenario: Scenario
) -> None:
    trials = Trials(with_models(load_bundle(), models), real_pictures(tokens), seed=1)
    assert [fault for n in range(SLICE) if (fault := trials.run(scenario, n))] == []
    assert trials.sizes.compared > 0
    assert trials.sizes.too_long == 0


def test_one_wrong_code_is_a_fault() -> None:
    wrong = OffByOne.load(dict.fromkeys(SCENARIOS, TINY))
    trials = Trials(with_models(load_bundle(), wrong))
    faults = [trials.run(Scenario.GENERIC, number) for number in range(5)]
    assert all(fault is not None and "symbols" in fault for fault in faults)


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, capsys) -> None:
    state = tmp_path / "state.json"
    words = ["--weights", str(TINY), "--scenario", "masked", "--state", str(state)]
    assert roundtrip.main([*words, "--messages", "3"]) == 0
    assert roundtrip.main([*words, "--messages", "5"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "3 messages, 0 faults, 3 of them now" in first
    assert "5 messages, 0 faults, 2 of them now" in second
    with pytest.raises(ConfigError, match="another run"):
        roundtrip.main([*words, "--seed", "9"])


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="npy"):
        real_pictures(tmp_path)
