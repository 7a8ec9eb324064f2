"""Which entropy models a sender tries, and that the message names the one it took."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from toy_bundle import ToyBundle, ToyEntropy, answer, requests

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    inspect,
)
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

REQUESTS = requests()


@dataclass
class CountingEntropy(ToyEntropy):
    """Notes which models are tried."""

    tried: list[Scenario] = field(default_factory=list)

    def encode(self, scenario: Scenario, codes: Codes, context: CodingContext) -> bytes:
        self.tried.append(scenario)
        return super().encode(scenario, codes, context)


@pytest.fixture
def bundle() -> ToyBundle:
    return ToyBundle(entropy=CountingEntropy())


def tried(bundle: ToyBundle) -> list[Scenario]:
    assert isinstance(bundle.entropy, CountingEntropy)
    return bundle.entropy.tried


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("inpaint", [Scenario.MASKED, Scenario.GENERIC]),
        ("outpaint", [Scenario.ADAPTED, Scenario.GENERIC]),
        ("vqa", [Scenario.GENERIC]),
    ],
)
def test_uplinks_whose_text_may_mislead_try_every_model(
    bundle: ToyBundle, name: str, models: list[Scenario]
) -> None:
    data = encode_request(REQUESTS[name], bundle).data
    assert tried(bundle) == models
    assert inspect(data).scenario in (*models, Scenario.UNIFORM)
    decode_request(data, bundle)


@pytest.mark.parametrize("name", ["t2i", "inpaint", "outpaint"])
def test_downlinks_take_the_first_model_and_all_when_told(bundle: ToyBundle, name: str) -> None:
    request = REQUESTS[name]
    first = encode_response(answer(request), request, bundle)
    assert tried(bundle) == [Scenario.ADAPTED]
    best = encode_response(answer(request), request, bundle, search=True)
    assert tried(bundle)[1:] == [Scenario.ADAPTED, Scenario.GENERIC]
    assert len(best.data) <= len(first.data)
    for encoded in (first, best):
        assert decode_response(encoded.data, request, bundle).value == answer(request)
