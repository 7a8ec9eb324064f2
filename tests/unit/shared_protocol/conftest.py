"""The tiny shipped weights, loaded once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from entropy_streams import SCENARIOS, TINY

from shared_protocol.compute import Compute
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.engine import Engine
from shared_protocol.tasks import Scenario


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def models() -> EntropyModels:
    return EntropyModels.load(dict.fromkeys(SCENARIOS, TINY))


@pytest.fixture(scope="session")
def eager() -> EntropyModels:
    return EntropyModels(dict.fromkeys(SCENARIOS, TINY), Compute.NUMPY)


@pytest.fixture(scope="session")
def engine(models: EntropyModels) -> Engine:
    return models.engine(Scenario.GENERIC)
