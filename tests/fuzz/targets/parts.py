"""The coded parts of messages, each by itself: text, masks, dropped tokens, image codes.

Every range-coded stream that is accepted is the only one for its symbols: written again it is the
same, byte for byte. Brotli text, masks and dropped tokens have several forms, and are compared as
values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from toy_bundle import CODEBOOK, LABELS, TEXT_SIZE, half_mask, image, ranking, requests

from shared_protocol.coding.bits import read_varint, write_varint
from shared_protocol.coding.drop_codec import decode_dropped, encode_dropped
from shared_protocol.coding.image_codec import decode_codes, encode_codes
from shared_protocol.coding.labels_codec import decode_labels, encode_labels, from_said, said_by
from shared_protocol.coding.mask_codec import decode_mask, encode_mask
from shared_protocol.coding.range_coder import RangeEncoder
from shared_protocol.coding.text_codec import TextCoder, decode_text, encode_text, write_prior
from shared_protocol.errors import LabelsMismatchError
from shared_protocol.labels import MAX_LABELS, LabelSet, LabelWish
from shared_protocol.message.parts import request_context, response_context, translated
from shared_protocol.messages import Options
from shared_protocol.tasks import Scenario
from targets.target import MESSAGE, Read, Target
from targets.toys import BUNDLE, all_requests

LIMIT = 300
GRIDS = ((16, 16), (1, 1), (9, 20), (12, 5), (4, 64))
LARGEST = (64, 64)
"""Takes a second of Python; the choice of 255 stands for it."""


def read_text(data: bytes) -> None:
    """The first byte chooses coder, size of the vocabulary and prior."""
    choice, data = (data or b"\0")[0], data[1:]
    coder = TextCoder(choice % 3)
    size = (TEXT_SIZE, 70_000, 2, 1)[choice // 3 % 4] if coder is not TextCoder.PRIOR else TEXT_SIZE
    prior = BUNDLE.text_prior if choice // 12 % 2 == 0 and size == TEXT_SIZE else None
    ids = decode_text(data, coder, size, prior, LIMIT)
    best, shortest = encode_text(ids, size, prior, LIMIT)
    assert np.array_equal(decode_text(shortest, best, size, prior, LIMIT), ids)
    if coder is TextCoder.PRIOR:
        assert prior is not None
        encoder = RangeEncoder()
        write_prior(encoder, ids, prior)
        assert encoder.finish() == data
    if best is not TextCoder.BROTLI and coder is best:
        assert shortest == data


def _texts() -> Iterator[bytes]:
    for size, choice in ((TEXT_SIZE, 0), (70_000, 3), (2, 6), (1, 9)):
        for count in (0, 1, 5, 200):
            ids = (np.arange(count, dtype=np.int32) * 7 + 2) % size
            prior = BUNDLE.text_prior if size == TEXT_SIZE else None
            coder, data = encode_text(ids, size, prior)
            yield bytes([choice + coder]) + data
            coder, data = encode_text(np.repeat(ids, 3)[:LIMIT], size)
            yield bytes([choice + coder]) + data


def read_masks(data: bytes) -> None:
    """The first byte chooses grid and prior."""
    choice, data = (data or b"\0")[0], data[1:]
    grid = LARGEST if choice == 255 else GRIDS[choice % len(GRIDS)]
    prior = BUNDLE.mask_prior if choice < 128 else None
    flags = decode_mask(data, grid, prior)
    again = encode_mask(flags, prior)
    assert len(again) <= len(data)
    assert np.array_equal(decode_mask(again, grid, prior), flags)


def _masks() -> Iterator[bytes]:
    for place, (height, width) in enumerate(GRIDS):
        checks = np.indices((height, width)).sum(0) % 3 == 0
        bow = half_mask(height, width).flags if height > 2 else np.ones((height, width), dtype=bool)
        for flags in (checks, bow, np.zeros_like(checks), np.ones_like(checks)):
            yield bytes([place]) + encode_mask(flags, BUNDLE.mask_prior)
            yield bytes([place + 128 + (len(GRIDS) - 128 % len(GRIDS))]) + encode_mask(flags)


def read_dropped(data: bytes) -> None:
    """The first byte chooses grid, prior and whether a mask stands before."""
    choice, data = (data or b"\0")[0], data[1:]
    grid = LARGEST if choice == 255 else GRIDS[choice % len(GRIDS)]
    prior = BUNDLE.mask_prior if choice < 128 else None
    mask = half_mask(*grid).flags if choice // 5 % 2 and grid[0] > 2 else None
    flags = decode_dropped(data, grid, mask, prior)
    if mask is not None and (flags & mask).any():
        return  # refused by the request's own check
    again = encode_dropped(flags, mask, prior)
    assert np.array_equal(decode_dropped(again, grid, mask, prior), flags)


def _dropped() -> Iterator[bytes]:
    for seed in _masks():
        yield seed[:1] + b"\0" + seed[1:]
    for place in range(len(GRIDS) * 2):
        yield bytes([place]) + write_varint(1 + place)


def prepare_codes(folder: Path) -> Read:
    """The first byte chooses context and scenario."""
    contexts = []
    for request in all_requests():
        if request.image is not None:
            gone = request.left_out
            flags = np.ones(request.image.shape, dtype=bool) if gone is None else ~gone
            contexts.append(request_context(flags, request.text.ids))
        if request.row.makes_picture:
            contexts.append(response_context(request, BUNDLE.grid))

    def read(data: bytes) -> None:
        choice, data = (data or b"\0")[0], data[1:]
        context = contexts[choice % len(contexts)]
        scenario = (*BUNDLE.entropy.available(), Scenario.UNIFORM)[choice // len(contexts) % 4]
        allowed, entropy = BUNDLE.entropy.available(), BUNDLE.entropy
        codes = decode_codes(data, context, allowed, entropy, CODEBOOK, scenario)
        _, again = encode_codes(codes, context, allowed, entropy, CODEBOOK, scenario)
        back = decode_codes(again, context, allowed, entropy, CODEBOOK, scenario)
        assert np.array_equal(back, codes)
        if scenario is Scenario.UNIFORM:
            assert again == data

    return read


def _codes() -> Iterator[bytes]:
    allowed, entropy = BUNDLE.entropy.available(), BUNDLE.entropy
    place = 0
    for request in all_requests():
        contexts = []
        if request.image is not None:
            gone = request.left_out
            flags = np.ones(request.image.shape, dtype=bool) if gone is None else ~gone
            contexts.append(request_context(flags, request.text.ids))
        if request.row.makes_picture:
            contexts.append(response_context(request, BUNDLE.grid))
        for context in contexts:
            codes = image(*context.shape).codes[context.targets]
            _, data = encode_codes(codes, context, allowed, entropy, CODEBOOK, Scenario.GENERIC)
            yield bytes([place]) + data
            place += 1


def prepare_labels(folder: Path) -> Read:
    """The first byte chooses how many labels are asked for, and whether their names come along."""
    sets = (LABELS, LabelSet.of(("fox",)), LabelSet(LABELS.fingerprint, MAX_LABELS))

    def read(data: bytes) -> None:
        choice, data = (data or b"\0")[0], data[1:]
        most, held = (1, 5, 255)[choice % 3], sets[choice // 3 % 3]
        wish = LabelWish(most, choice >= 128, held if choice < 128 else None)
        with translated():
            found = decode_labels(data, wish)
        assert encode_labels(found, wish) == data
        assert from_said(said_by(found)) == found

    return read


def _labels() -> Iterator[bytes]:
    for place, most in enumerate((1, 5, 255)):
        asked = replace(requests()["classify"], options=Options(top=most))
        yield bytes([place]) + encode_labels(ranking(asked), asked.label_wish)
        named = replace(asked, options=Options(top=most, names=True), held=None)
        yield bytes([129 + place]) + encode_labels(ranking(named), named.label_wish)


def read_varints(data: bytes) -> None:
    """Lengths: the shortest form is the only one."""
    value, end = read_varint(data, 0, 1 << 30)
    assert write_varint(value) == data[:end]


CODING = "shared_protocol.coding"
RANGE = f"{CODING}.range_coder"
TARGETS = (
    Target("text", lambda folder: read_text, _texts, (f"{CODING}.text_codec", RANGE), MESSAGE, 500),
    Target(
        "masks", lambda folder: read_masks, _masks, (f"{CODING}.mask_codec", RANGE), MESSAGE, 600
    ),
    Target(
        "dropped", lambda folder: read_dropped, _dropped, (f"{CODING}.drop_codec",), MESSAGE, 600
    ),
    Target(
        "labels",
        prepare_labels,
        _labels,
        (f"{CODING}.labels_codec", f"{CODING}.bits"),
        (*MESSAGE, LabelsMismatchError),
        600,
    ),
    Target("codes", prepare_codes, _codes, (f"{CODING}.image_codec", RANGE), MESSAGE, 600),
    Target(
        "varints",
        lambda folder: read_varints,
        lambda: [write_varint(n) for n in (0, 1, 127, 128, 300, 1 << 20, 1 << 30)],
        (f"{CODING}.bits",),
        MESSAGE,
        8,
    ),
)
