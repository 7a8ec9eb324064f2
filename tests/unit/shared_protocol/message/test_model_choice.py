"""Which entropy models a sender tries, and that the message names the one it took."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_bundle import CODEBOOK, ToyBundle, ToyEntropy, answer, requests

from shared_protocol.coding.image_codec import CodingContext, nothing_known, write_codes
from shared_protocol.coding.range_coder import RangeDecoder, RangeEncoder
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    inspect,
)
from shared_protocol.session.kinds import DOWN_ODDS, Down
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_reply, encode_reply
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


class LopsidedEntropy(ToyEntropy):
    """One of its models knows nothing."""

    def __init__(self, worse: Scenario) -> None:
        self.worse = worse

    def intervals(
        self, scenario: Scenario, codes: Codes, context: CodingContext
    ) -> NDArray[np.int64]:
        if scenario is not self.worse:
            return super().intervals(scenario, codes, context)
        rows = [(code, 1, CODEBOOK) for code in codes.tolist()]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def read(self, scenario: Scenario, context: CodingContext, decoder: RangeDecoder) -> Codes:
        if scenario is not self.worse:
            return super().read(scenario, context, decoder)
        codes = np.zeros(context.count, dtype=np.int32)
        for index in range(context.count):
            codes[index] = decoder.target(CODEBOOK)
            decoder.advance(int(codes[index]), 1, CODEBOOK)
        return codes


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


def test_the_reply_to_a_prompt_takes_the_first_model_and_all_when_told(bundle: ToyBundle) -> None:
    request = REQUESTS["t2i"]
    first = encode_response(answer(request), request, bundle)
    assert tried(bundle) == [Scenario.ADAPTED]
    best = encode_response(answer(request), request, bundle, search=True)
    assert tried(bundle)[1:] == [Scenario.ADAPTED, Scenario.GENERIC]
    assert len(best.data) <= len(first.data)
    for encoded in (first, best):
        assert decode_response(encoded.data, request, bundle).value == answer(request)


@pytest.mark.parametrize("name", ["inpaint", "inpaint_oblong", "outpaint"])
@pytest.mark.parametrize("worse", [Scenario.ADAPTED, Scenario.GENERIC])
def test_a_reply_about_the_users_picture_takes_the_smallest(name: str, worse: Scenario) -> None:
    request, bundle = REQUESTS[name], ToyBundle(entropy=LopsidedEntropy(worse))
    sizes = {
        scenario: len(encode_response(answer(request), request, bundle, scenario).data)
        for scenario in (Scenario.ADAPTED, Scenario.GENERIC)
    }
    better = min(sizes, key=lambda scenario: sizes[scenario])
    assert better is not worse
    encoded = encode_response(answer(request), request, bundle)
    assert (encoded.anatomy.scenario, len(encoded.data)) == (better, sizes[better])
    assert decode_response(encoded.data, request, bundle).value == answer(request)


@pytest.mark.parametrize("name", ["inpaint", "inpaint_oblong", "outpaint"])
@pytest.mark.parametrize("worse", [Scenario.ADAPTED, Scenario.GENERIC])
def test_a_sessions_reply_takes_the_smallest_too(name: str, worse: Scenario) -> None:
    request, bundle = REQUESTS[name], ToyBundle(entropy=LopsidedEntropy(worse))
    state = SessionState(b"sessions")
    reply = encode_reply(answer(request), request, state, bundle)
    assert reply.anatomy.scenario not in (worse, None)
    reader = Reader(reply.data)
    assert reader.symbol(DOWN_ODDS) == Down.REPLY
    got = decode_reply(reader, len(reply.data), request, state, bundle)
    assert got.response == answer(request)
    assert got.anatomy.scenario is reply.anatomy.scenario


def test_a_stream_counts_what_naming_a_model_costs() -> None:
    """One bit less for the codes does not pay for three more that say how they are coded."""
    context = nothing_known(4, 4)
    codes = np.zeros(16, dtype=np.int32)
    entropy = ToyEntropy()
    apart = bits(entropy, Scenario.GENERIC, codes) - bits(entropy, Scenario.ADAPTED, codes)
    assert apart > 0
    for dearer, expected in ((0.0, Scenario.ADAPTED), (apart + 0.1, Scenario.GENERIC)):
        prices = {Scenario.GENERIC: 0.0, Scenario.ADAPTED: dearer, Scenario.UNIFORM: 0.0}
        said: list[Scenario] = []
        used = write_codes(RangeEncoder(), codes, context, entropy, 8192, prices, said.append)
        assert said == [used] == [expected]


def bits(entropy: ToyEntropy, scenario: Scenario, codes: Codes) -> float:
    intervals = entropy.intervals(scenario, codes, nothing_known(4, 4))
    return float(np.log2(intervals[:, 2] / intervals[:, 1]).sum())
