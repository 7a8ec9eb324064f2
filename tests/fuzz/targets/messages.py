"""Whole messages: the container, its map of parameters, requests and responses.

Checksums are not believed here: whoever sends bytes on purpose can compute them, and what they
keep away from a decoder would never be tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from toy_bundle import answer

from shared_protocol.errors import BundleMismatchError, LabelsMismatchError
from shared_protocol.message import bitstream, parameters, parts
from shared_protocol.message.bitstream import HEADER_BYTES, frame_length, pack, unpack
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    inspect,
)
from shared_protocol.message.parameters import request_digest
from shared_protocol.tasks import Scenario
from targets.target import MESSAGE, Read, Target, changed
from targets.toys import BUNDLE, all_requests, some_known

ERRORS = (*MESSAGE, BundleMismatchError, LabelsMismatchError)
PARTS = tuple(f"shared_protocol.message.{name}" for name in ("codec", "parts", "parameters"))


def unverified(read: Read) -> Read:
    """`read`, with every checksum of messages taken for right."""

    def reading(data: bytes) -> object:
        with changed(parts, "verify", lambda frame, symbols, binding: None):
            return read(data)

    return reading


# ------------------------------------------------------------------------------------------------
# The container
# ------------------------------------------------------------------------------------------------


def read_container(data: bytes) -> None:
    """A frame that is accepted packs into the same bytes, and a stream is cut where it ends."""
    frame = unpack(data)
    assert pack(frame) == data
    assert frame_length(data) == len(data)
    for size in range(len(data)):
        assert frame_length(data[:size]) in (None, len(data))
    inspect(data)


def read_parameters(data: bytes) -> None:
    """The map of a message without parts, whose values are then looked at one by one."""
    body = bytes([bitstream.MAGIC, bitstream.VERSION << 4, 0x20]) + bytes(HEADER_BYTES - 3) + data
    size = len(body)
    head = (
        b"\xd8"
        if size == 16
        else b"\xc7" + bytes([size])
        if size < 256
        else b"\xc8" + size.to_bytes(2, "big")
    )
    frame = unpack(head + bytes([bitstream.EXT_TYPE]) + body)
    with parts.translated():
        parameters.from_map(frame.parameters, BUNDLE.grid)
        parameters.negative_of(frame.parameters, BUNDLE.vocabulary.text_size, 64)


def _maps() -> Iterator[bytes]:
    for request in all_requests():
        yield bitstream.pack_parameters(parameters.to_map(request, BUNDLE.grid)) + b"\1\0"


def _messages() -> Iterator[bytes]:
    for request in all_requests():
        yield encode_request(request, BUNDLE).data
        yield encode_response(answer(request), request, BUNDLE).data
        for scenario in (Scenario.UNIFORM, Scenario.GENERIC):
            if request.image is not None:
                yield encode_request(request, BUNDLE, scenario).data


# ------------------------------------------------------------------------------------------------
# Requests and responses
# ------------------------------------------------------------------------------------------------


def _same_request(data: bytes, known: parts.KnownTokens | None) -> None:
    """What was accepted, packed and read again, is the same."""
    decoded = decode_request(data, BUNDLE, known)
    request, scenario = decoded.value, decoded.anatomy.scenario
    again = encode_request(request, BUNDLE, scenario, known=known)
    back = decode_request(again.data, BUNDLE, known).value
    assert request_digest(back) == request_digest(request)
    assert back.options == request.options


def prepare_requests(folder: Path) -> Read:
    """The first byte says what the receiver knows already."""
    known = [None, *(some_known(request) for request in all_requests())]
    return unverified(lambda data: _same_request(data[1:], known[(data or b"\0")[0] % len(known)]))


def _requests() -> Iterator[bytes]:
    for data in _messages():
        yield b"\0" + data
    for place, request in enumerate(all_requests()):
        known = some_known(request)
        if known is not None:
            yield bytes([place + 1]) + encode_request(request, BUNDLE, known=known).data


def prepare_responses(folder: Path) -> Read:
    """The first byte says which request is answered."""
    asked = all_requests()

    def read(data: bytes) -> None:
        request = asked[(data or b"\0")[0] % len(asked)]
        decoded = decode_response(data[1:], request, BUNDLE)
        again = encode_response(decoded.value, request, BUNDLE, decoded.anatomy.scenario)
        assert decode_response(again.data, request, BUNDLE).value == decoded.value
        if decoded.value.image is not None:
            codes, targets = request.known(BUNDLE.grid)
            assert np.array_equal(decoded.value.image.codes[~targets], codes[~targets])

    return unverified(read)


def _responses() -> Iterator[bytes]:
    for place, request in enumerate(all_requests()):
        for scenario in (None, Scenario.UNIFORM):
            coded = encode_response(answer(request), request, BUNDLE, scenario)
            yield bytes([place]) + coded.data


TARGETS = (
    Target(
        "container",
        lambda folder: read_container,
        _messages,
        ("shared_protocol.message.bitstream", "shared_protocol.message.anatomy"),
        MESSAGE,
        longest=600,
    ),
    Target(
        "parameters",
        lambda folder: read_parameters,
        _maps,
        ("shared_protocol.message.parameters", "shared_protocol.message.bitstream"),
        MESSAGE,
        longest=300,
    ),
    Target("requests", prepare_requests, _requests, PARTS, ERRORS, longest=800),
    Target("responses", prepare_responses, _responses, PARTS, ERRORS, longest=800),
)
