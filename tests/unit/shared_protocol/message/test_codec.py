"""Requests and responses to bytes and back: what travels, by which model, at which cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bundle import (
    CODEBOOK,
    TEXT_SIZE,
    ToyBundle,
    answer,
    image,
    requests,
    text,
)

from shared_protocol.coding.image_codec import CodingContext, nothing_known
from shared_protocol.errors import (
    BadMessageError,
    InvalidInputError,
    LimitError,
    PromptError,
    TokenRangeError,
)
from shared_protocol.message import bitstream
from shared_protocol.message.codec import (
    CodecBundle,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    inspect,
)
from shared_protocol.messages import Options, Request, Response
from shared_protocol.tasks import TABLE, Direction, Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask

REQUESTS = requests()
each_request = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
Decoder = Callable[[bytes], object]


@pytest.fixture(scope="module")
def bundle() -> ToyBundle:
    return ToyBundle()


def assert_same(received: Request, sent: Request) -> None:
    for name in ("task", "text", "mask", "extension", "options"):
        assert getattr(received, name) == getattr(sent, name)
    assert (received.image is None) == (sent.image is None)
    assert np.array_equal(received.known((16, 16))[0], sent.known((16, 16))[0])


@each_request
def test_a_request_comes_back(request_: Request, bundle: ToyBundle) -> None:
    encoded = encode_request(request_, bundle)
    decoded = decode_request(encoded.data, bundle)
    assert_same(decoded.value, request_)
    assert decoded.anatomy == encoded.anatomy


@each_request
def test_a_response_comes_back_merged_with_what_was_known(
    request_: Request, bundle: ToyBundle
) -> None:
    at_cloud = decode_request(encode_request(request_, bundle).data, bundle).value
    encoded = encode_response(answer(at_cloud), at_cloud, bundle)
    decoded = decode_response(encoded.data, request_, bundle)
    assert decoded.value == answer(request_)
    assert decoded.anatomy == encoded.anatomy


def test_what_stands_under_the_mask_does_not_travel(bundle: ToyBundle) -> None:
    request = REQUESTS["inpaint"]
    assert request.image is not None
    assert request.mask is not None
    received = decode_request(encode_request(request, bundle).data, bundle).value
    assert received.image is not None
    assert not received.image.codes[request.mask.flags].any()
    other = np.where(request.mask.flags, 4_711, request.image.codes)
    changed = dataclasses.replace(request, image=ImageTokens(other, CODEBOOK))
    assert encode_request(changed, bundle).data == encode_request(request, bundle).data


@given(
    words=st.lists(st.integers(0, TEXT_SIZE - 1), max_size=64),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**32 - 1),
    scenario=st.sampled_from([None, Scenario.UNIFORM, Scenario.MASKED, Scenario.GENERIC]),
)
@settings(max_examples=40, deadline=None)
def test_any_inpainting_comes_back(
    bundle: ToyBundle,
    words: list[int],
    shape: tuple[int, int],
    seed: int,
    scenario: Scenario | None,
) -> None:
    rng = np.random.default_rng(seed)
    flags = rng.random(shape) < 0.5
    flags[0, 0] = True
    picture = ImageTokens(rng.integers(0, CODEBOOK, shape), CODEBOOK)
    options = Options(seed=seed)
    sent = Request(Task.INPAINT, text(*words), picture, TokenMask(flags), options=options)
    assert_same(decode_request(encode_request(sent, bundle, scenario).data, bundle).value, sent)


@given(
    steps=st.none() | st.integers(1, 100),
    guidance=st.none() | st.floats(0, 25),
    seed=st.integers(0, 2**32 - 1),
    longest=st.none() | st.integers(1, 512),
    sides=st.tuples(*[st.integers(0, 24)] * 4).filter(any),
)
@settings(max_examples=60, deadline=None)
def test_any_options_come_back(
    bundle: ToyBundle,
    steps: int | None,
    guidance: float | None,
    seed: int,
    longest: int | None,
    sides: tuple[int, int, int, int],
) -> None:
    options = Options(steps, guidance, seed, longest, Scenario.ADAPTED)
    sent = Request(Task.OUTPAINT, text(1), image(), extension=Extension(*sides), options=options)
    assert_same(decode_request(encode_request(sent, bundle).data, bundle).value, sent)


def test_requests_and_responses_are_not_taken_for_each_other(bundle: ToyBundle) -> None:
    vqa = REQUESTS["vqa"]
    up = encode_request(vqa, bundle).data
    down = encode_response(answer(vqa), vqa, bundle).data
    with pytest.raises(BadMessageError, match="vqa downlink, expected a request"):
        decode_request(down, bundle)
    with pytest.raises(BadMessageError, match="vqa uplink, expected vqa downlink"):
        decode_response(up, vqa, bundle)


def test_the_smallest_scenario_is_taken_unless_one_is_named(bundle: ToyBundle) -> None:
    request = REQUESTS["inpaint"]
    specs = TABLE[Task.INPAINT].scenarios(Direction.UPLINK)
    allowed = [s for s in specs if s in bundle.entropy.available()]
    sizes = {s: len(encode_request(request, bundle, s).data) for s in (*allowed, Scenario.UNIFORM)}
    best = encode_request(request, bundle)
    assert len(best.data) == min(sizes.values())
    assert best.anatomy.scenario is min(sizes, key=lambda s: sizes[s])
    for scenario, size in sizes.items():
        encoded = encode_request(request, bundle, scenario)
        assert (encoded.anatomy.scenario, len(encoded.data)) == (scenario, size)


def test_without_search_the_first_model_that_is_there_is_tried(bundle: ToyBundle) -> None:
    quick = encode_request(REQUESTS["inpaint"], bundle, search=False)
    assert quick.anatomy.scenario is Scenario.MASKED


def test_a_reply_uses_the_scenario_that_the_request_names(bundle: ToyBundle) -> None:
    request = REQUESTS["t2i_tuned"]
    encoded = encode_response(answer(request), request, bundle)
    assert encoded.anatomy.scenario is Scenario.GENERIC


@pytest.mark.parametrize("scenario", [Scenario.MASKED, Scenario.TEXT_CONDITIONED])
def test_a_scenario_that_does_not_fit_or_is_not_there_is_refused(
    scenario: Scenario, bundle: ToyBundle
) -> None:
    with pytest.raises(InvalidInputError, match=r"use|choose"):
        encode_request(REQUESTS["vqa"], bundle, scenario)
    wrong = Request(Task.T2I, text(1), options=Options(reply=scenario))
    with pytest.raises(InvalidInputError, match=r"use|choose"):
        encode_request(wrong, bundle)


def test_a_message_that_names_a_scenario_out_of_place_is_refused(bundle: ToyBundle) -> None:
    frame = bitstream.unpack(encode_request(REQUESTS["vqa"], bundle).data)
    forged = bitstream.pack(dataclasses.replace(frame, scenario=Scenario.MASKED))
    with pytest.raises(BadMessageError, match="masked"):
        decode_request(forged, bundle)


def test_a_text_over_the_bundles_limit_is_refused_on_both_sides(bundle: ToyBundle) -> None:
    long = Request(Task.T2I, text(*[5] * 65))
    with pytest.raises(PromptError, match="at most 64"):
        encode_request(long, bundle)
    generous = dataclasses.replace(bundle, max_text_tokens=100)
    with pytest.raises(LimitError):
        decode_request(encode_request(long, generous).data, bundle)


def test_tokens_of_another_vocabulary_are_refused(bundle: ToyBundle) -> None:
    other = ImageTokens(np.zeros((16, 16), dtype=int), 64)
    foreign = dataclasses.replace(REQUESTS["vqa"], image=other)
    with pytest.raises(TokenRangeError):
        encode_request(foreign, bundle)
    with pytest.raises(TokenRangeError):
        encode_request(Request(Task.T2I, TextTokens([1], 50)), bundle)


def test_an_extension_beyond_the_largest_grid_is_refused(bundle: ToyBundle) -> None:
    wide = Request(Task.OUTPAINT, text(1), image(), extension=Extension(left=64))
    with pytest.raises(TokenRangeError):
        encode_request(wide, bundle)


def test_a_response_may_not_change_what_is_known(bundle: ToyBundle) -> None:
    request = REQUESTS["inpaint"]
    good = answer(request)
    assert good.image is not None
    codes = good.image.codes.copy()
    codes[0, 0] ^= 1
    bad = Response(Task.INPAINT, ImageTokens(codes, CODEBOOK))
    with pytest.raises(InvalidInputError, match="changes"):
        encode_response(bad, request, bundle)
    with pytest.raises(InvalidInputError, match="response"):
        encode_response(answer(REQUESTS["vqa"]), request, bundle)
    small = Response(Task.INPAINT, image(8, 8))
    with pytest.raises(InvalidInputError, match="asks"):
        encode_response(small, request, bundle)


@each_request
def test_the_anatomy_adds_up_and_the_container_takes_at_most_sixteen_bytes(
    request_: Request, bundle: ToyBundle
) -> None:
    for encoded in (
        encode_request(request_, bundle),
        encode_response(answer(request_), request_, bundle),
    ):
        anatomy = encoded.anatomy
        assert anatomy.sizes.total == len(encoded.data)
        assert anatomy.sizes.container <= 16
        assert dataclasses.replace(anatomy, counts=None, uniform=None) == inspect(encoded.data)


def test_the_uniform_size_is_thirteen_bits_a_token(bundle: ToyBundle) -> None:
    anatomy = encode_request(REQUESTS["vqa"], bundle).anatomy
    assert anatomy.counts is not None
    assert anatomy.uniform is not None
    assert (anatomy.counts.image_codes, anatomy.uniform.image) == (256, 416)


def test_defaults_cost_no_byte(bundle: ToyBundle) -> None:
    assert encode_request(Request(Task.T2I, text(1)), bundle).anatomy.sizes.parameters == 0


def test_the_coding_context_is_the_same_at_both_ends(bundle: ToyBundle) -> None:
    seen: list[CodingContext] = []

    class Spy(type(bundle.entropy)):  # type: ignore[misc]
        def encode(self, scenario: Scenario, codes: object, context: CodingContext) -> bytes:
            seen.append(context)
            return bytes(super().encode(scenario, codes, context))

        def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> object:
            seen.append(context)
            return super().decode(scenario, data, context)

    spied: CodecBundle = dataclasses.replace(bundle, entropy=Spy())
    for request in REQUESTS.values():
        seen.clear()
        up = encode_request(request, spied, search=False).data
        received = decode_request(up, spied).value
        down = encode_response(answer(received), received, spied, search=False).data
        decode_response(down, request, spied)
        for ours, theirs in zip(seen[::2], seen[1::2], strict=True):
            for name in ("targets", "known", "known_codes", "text"):
                assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_context_refuses_positions_that_are_known_and_targets() -> None:
    everything = nothing_known(4, 4)
    with pytest.raises(ValueError, match="both"):
        dataclasses.replace(everything, known=everything.targets)
    with pytest.raises(ValueError, match="grids"):
        dataclasses.replace(everything, known=np.zeros((4, 5), dtype=bool))
