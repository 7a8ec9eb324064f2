"""A response belongs to one request: what answers another one is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from toy_bundle import CODEBOOK, ToyBundle, answer, half_mask, image, requests, text

from shared_protocol.errors import BadMessageError, ChecksumError
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, TokenMask

REQUESTS = requests()
BUNDLE = ToyBundle()
Change = Callable[[Request], Request]


def other_image(request: Request) -> Request:
    assert request.image is not None
    codes = request.image.codes.copy()
    codes[0, 0] ^= 1
    return dataclasses.replace(request, image=ImageTokens(codes, CODEBOOK))


def other_mask(request: Request) -> Request:
    return dataclasses.replace(request, mask=TokenMask(half_mask().flags[::-1].copy()))


def other_text(request: Request) -> Request:
    return dataclasses.replace(request, text=text(17, 18, 301))


def optioned(**options: object) -> Change:
    def change(request: Request) -> Request:
        return dataclasses.replace(
            request,
            options=dataclasses.replace(request.options, **options),  # type: ignore[arg-type]
        )

    return change


def dropping(request: Request) -> Request:
    assert request.image is not None
    flags = np.zeros(request.image.shape, dtype=bool)
    flags[0, 0] = True
    return dataclasses.replace(request, dropped=TokenMask(flags))


CHANGES: dict[str, tuple[str, Change]] = {
    "another question": ("vqa", other_text),
    "another picture": ("vqa", other_image),
    "longer answers": ("vqa", optioned(max_new_tokens=21)),
    "another prompt": ("t2i", other_text),
    "another seed": ("t2i", optioned(seed=1)),
    "more steps": ("t2i", optioned(steps=13)),
    "other guidance": ("t2i", optioned(guidance=1.0)),
    "another source": ("inpaint", other_image),
    "dropped tokens": ("vqa", dropping),
    "another extension": (
        "outpaint",
        lambda request: dataclasses.replace(request, extension=Extension(right=2, up=5)),
    ),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_a_response_to_another_request_of_the_same_form_is_refused(
    name: str, change: Change
) -> None:
    asked, other = REQUESTS[name], change(REQUESTS[name])
    # Uniform coding decodes under any request, so that the checksum alone is left to tell.
    down = encode_response(answer(asked), asked, BUNDLE, Scenario.UNIFORM).data
    decode_response(down, asked, BUNDLE)
    with pytest.raises(ChecksumError, match="another request"):
        decode_response(down, other, BUNDLE)


def test_a_response_of_another_form_is_refused() -> None:
    inpaint, outpaint = REQUESTS["inpaint"], REQUESTS["outpaint"]
    down = encode_response(answer(inpaint), inpaint, BUNDLE).data
    with pytest.raises(BadMessageError, match="inpaint"):
        decode_response(down, outpaint, BUNDLE)
    with pytest.raises(BadMessageError):
        decode_response(down, other_mask(inpaint), BUNDLE)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_both_ends_compute_one_digest_though_they_differ_in_what_does_not_travel(
    request_: Request,
) -> None:
    at_cloud = decode_request(encode_request(request_, BUNDLE).data, BUNDLE).value
    assert request_digest(at_cloud) == request_digest(request_)


def test_how_a_request_or_its_reply_is_coded_is_no_part_of_the_digest() -> None:
    asked = REQUESTS["inpaint"]
    plain = optioned(reply=Scenario.UNIFORM)(asked)
    assert request_digest(plain) == request_digest(asked)
    down = encode_response(answer(plain), plain, BUNDLE).data
    assert decode_response(down, asked, BUNDLE).value == answer(asked)


def test_a_default_that_is_spelled_out_is_another_request() -> None:
    bare = Request(Task.T2I, text(1))
    assert request_digest(bare) != request_digest(optioned(steps=18)(bare))
    assert request_digest(bare) == request_digest(Request(Task.T2I, text(1), options=Options()))


def test_an_image_and_its_mask_cannot_be_mistaken_for_another_pair() -> None:
    digests = {request_digest(request) for request in REQUESTS.values()}
    digests |= {request_digest(change(REQUESTS[name])) for name, change in CHANGES.values()}
    assert len(digests) == len(REQUESTS) + len(CHANGES)
    tall = Request(Task.VQA, text(1), image(2, 8))
    wide = Request(Task.VQA, text(1), ImageTokens(image(2, 8).codes.reshape(8, 2), CODEBOOK))
    assert request_digest(tall) != request_digest(wide)
