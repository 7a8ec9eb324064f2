"""Whole messages of every scenario, coded with the tiny weights of the tests: also damaged."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_bundle import GOLDEN, ToyBundle, half_mask, image, text

from shared_protocol.entropy.checkpoint import load, save
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.weights import ExactWeights
from shared_protocol.errors import BadMessageError, BundleMismatchError, TruncatedError
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.messages import Request, Response
from shared_protocol.selfcheck.trials import TrialBundle, with_models
from shared_protocol.tasks import Extension, Scenario, Task, merge
from shared_protocol.tokens import ImageTokens

FILE = GOLDEN / "entropy" / "messages.json"
TINY = GOLDEN / "entropy" / "tiny.safetensors"
SCENARIOS = [scenario for scenario in Scenario if scenario is not Scenario.UNIFORM]
HEIGHT, WIDTH = 4, 5
Decoder = Callable[[bytes, TrialBundle], object]


def tiny_bundle(weights: Path = TINY) -> TrialBundle:
    toy = dataclasses.replace(ToyBundle(), grid=(HEIGHT, WIDTH))
    return with_models(toy, EntropyModels.load(dict.fromkeys(SCENARIOS, weights)))


BUNDLE = tiny_bundle()
PICTURE = image(HEIGHT, WIDTH)
VQA = Request(Task.VQA, text(17, 18, 300), PICTURE)
T2I = Request(Task.T2I, text(5, 2210))
INPAINT = Request(Task.INPAINT, text(), PICTURE, half_mask(HEIGHT, WIDTH))
OUTPAINT = Request(Task.OUTPAINT, text(9), PICTURE, extension=Extension(left=1, down=1))


def answer(request: Request) -> Response:
    codes, targets = request.known((HEIGHT, WIDTH))
    fill = image(*codes.shape).codes[targets]
    return Response(request.task, ImageTokens(merge(codes, targets, fill), 8192))


def up(request: Request, scenario: Scenario) -> tuple[bytes, Decoder]:
    data = encode_request(request, BUNDLE, scenario).data
    return data, lambda received, bundle: decode_request(received, bundle).value


def down(request: Request, scenario: Scenario) -> tuple[bytes, Decoder]:
    data = encode_response(answer(request), request, BUNDLE, scenario).data
    return data, lambda received, bundle: decode_response(received, request, bundle).value


MESSAGES: dict[str, tuple[bytes, Decoder]] = {
    "generic vqa uplink": up(VQA, Scenario.GENERIC),
    "masked inpaint uplink": up(INPAINT, Scenario.MASKED),
    "text_conditioned outpaint uplink": up(OUTPAINT, Scenario.TEXT_CONDITIONED),
    "text_conditioned t2i downlink": down(T2I, Scenario.TEXT_CONDITIONED),
    "adapted inpaint downlink": down(INPAINT, Scenario.ADAPTED),
    "adapted outpaint downlink": down(OUTPAINT, Scenario.ADAPTED),
}
each_message = pytest.mark.parametrize(("data", "decode"), MESSAGES.values(), ids=MESSAGES.keys())


def test_every_scenario_has_a_golden_message() -> None:
    assert {name.split()[0].upper() for name in MESSAGES} == {s.name for s in SCENARIOS}
    assert set(json.loads(FILE.read_text(encoding="ascii"))) == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_messages_never_change(name: str) -> None:
    golden = json.loads(FILE.read_text(encoding="ascii"))[name]
    assert MESSAGES[name][0].hex() == golden, "changed bytes mean a new format version"


@each_message
def test_every_truncation_is_refused(data: bytes, decode: Decoder) -> None:
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            decode(data[:end], BUNDLE)


@each_message
def test_every_flipped_bit_is_refused(data: bytes, decode: Decoder) -> None:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((BadMessageError, BundleMismatchError)):
            decode(bytes(damaged), BUNDLE)


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny weights with one bias a little larger."""
    weights = load(TINY)
    bias = weights["high.bias"].copy()
    bias[:8] += np.int32(np.abs(bias).max() // 4 + 64)
    path = tmp_path_factory.mktemp("other") / "tiny.safetensors"
    save(ExactWeights(weights.config, {**weights.arrays, "high.bias": bias}), path)
    return path


@each_message
def test_another_bundle_is_refused_by_name(data: bytes, decode: Decoder) -> None:
    with pytest.raises(BundleMismatchError):
        decode(data, dataclasses.replace(BUNDLE, fingerprint=bytes(32)))


@each_message
def test_a_bundle_with_the_same_prefix_is_refused(data: bytes, decode: Decoder) -> None:
    twin = dataclasses.replace(BUNDLE, fingerprint=BUNDLE.fingerprint[:2] + bytes(30))
    with pytest.raises(BadMessageError):
        decode(data, twin)


@each_message
def test_other_weights_under_the_same_name_are_found_out(
    data: bytes, decode: Decoder, other_weights: Path
) -> None:
    with pytest.raises(BadMessageError):
        decode(data, tiny_bundle(other_weights))
