from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bundle import toy_mask_prior

from cloud_server.training.recipes.mask_prior import KINDS, draw
from shared_protocol.coding.mask_codec import (
    PATTERNS,
    MaskMode,
    MaskPrior,
    _stream,
    _walk,
    decode_mask,
    encode_mask,
    load_mask_prior,
    save_mask_prior,
)
from shared_protocol.errors import BadMessageError, CheckpointError, TruncatedError
from shared_protocol.tokens import Flags

BUILTIN = Path(__file__).parents[4] / "shared_protocol" / "weights" / "builtin"
HELD_OUT_SEED = 20_261
MASKS = 40
MEAN_BYTES = {"rectangle": 5.0, "object": 9.0, "brush": 9.0, "blob": 14.0, "rough blob": 14.5}
"""Targets at 16x16 tokens; rough blobs have no target, only what they must not exceed."""

masks = st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
    lambda shape: st.binary(min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda data: (np.frombuffer(data, dtype=np.uint8) > 127).reshape(shape)
    )
)


@pytest.fixture(scope="module")
def prior() -> MaskPrior:
    return load_mask_prior(BUILTIN / "mask_prior.msgpack")


@given(masks)
@settings(max_examples=60, deadline=None)
def test_any_mask_comes_back_and_never_takes_more_than_its_bits_and_a_byte(flags: Flags) -> None:
    prior = toy_mask_prior()
    data = encode_mask(flags, prior)
    assert np.array_equal(decode_mask(data, flags.shape, prior), flags)
    assert len(data) <= math.ceil(flags.size / 8) + 1


@given(masks)
@settings(max_examples=30, deadline=None)
def test_a_mask_comes_back_without_a_prior(flags: Flags) -> None:
    assert np.array_equal(decode_mask(encode_mask(flags), flags.shape), flags)


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (64, 1), (64, 64), (16, 16)])
def test_empty_full_and_chequered_masks_come_back(shape: tuple[int, int], prior: MaskPrior) -> None:
    chequered = np.indices(shape).sum(axis=0) % 2 == 0
    for flags in (np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool), chequered):
        assert np.array_equal(decode_mask(encode_mask(flags, prior), shape, prior), flags)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_that_people_paint_are_small(kind: str, prior: MaskPrior) -> None:
    rng = np.random.default_rng(HELD_OUT_SEED)
    sizes = []
    for _ in range(MASKS):
        flags = draw(kind, rng)
        data = encode_mask(flags, prior)
        assert np.array_equal(decode_mask(data, flags.shape, prior), flags)
        sizes.append(len(data))
    assert np.mean(sizes) <= MEAN_BYTES[kind]


def test_a_random_mask_never_takes_more_than_33_bytes(prior: MaskPrior) -> None:
    rng = np.random.default_rng(HELD_OUT_SEED)
    for _ in range(20):
        assert len(encode_mask(rng.random((16, 16)) < 0.5, prior)) <= 33


@pytest.mark.parametrize("shape", [(16, 17), (16, 32), (24, 19), (32, 16), (32, 32)])
def test_larger_and_oblong_masks_come_back_and_never_exceed_their_bits(
    shape: tuple[int, int], prior: MaskPrior
) -> None:
    rng = np.random.default_rng(HELD_OUT_SEED)
    for flags in (*(draw(kind, rng, *shape) for kind in KINDS), rng.random(shape) < 0.5):
        data = encode_mask(flags, prior)
        assert np.array_equal(decode_mask(data, shape, prior), flags)
        assert len(data) <= math.ceil(flags.size / 8) + 1


def test_every_rectangle_takes_at_most_two_bytes(prior: MaskPrior) -> None:
    for top, bottom, left, right in ((0, 16, 0, 16), (3, 4, 15, 16), (5, 11, 2, 14)):
        flags = np.zeros((16, 16), dtype=bool)
        flags[top:bottom, left:right] = True
        assert len(encode_mask(flags, prior)) <= 2


def test_the_context_coder_is_within_one_byte_of_its_ideal_length(prior: MaskPrior) -> None:
    flags = draw("blob", np.random.default_rng(HELD_OUT_SEED), 20, 24)
    bits = math.log2(16 / 9)

    def measure(row: int, column: int, ones: int, total: int) -> int:
        nonlocal bits
        bit = int(flags[row, column])
        bits -= math.log2((ones if bit else total - ones) / total)
        return bit

    _walk(flags.shape, MaskMode.CONTEXT, prior, measure)
    assert 8 * len(_stream(flags, MaskMode.CONTEXT, prior)) <= bits + 8.01


def test_a_flag_is_predicted_from_flags_before_it_only(prior: MaskPrior) -> None:
    flags = draw("brush", np.random.default_rng(1))
    changed = flags.copy()
    changed[8, 5:] ^= True
    changed[9:] ^= True
    seen: dict[str, list[tuple[int, int]]] = {"whole": [], "changed": []}

    for name, grid in (("whole", flags), ("changed", changed)):

        def note(row: int, column: int, ones: int, total: int, grid=grid, name=name) -> int:  # type: ignore[no-untyped-def]
            seen[name].append((ones, total))
            return int(grid[row, column])

        _walk(flags.shape, MaskMode.CONTEXT, prior, note)
    assert seen["whole"][: 8 * 16 + 6] == seen["changed"][: 8 * 16 + 6]


@given(st.binary(max_size=40), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_mask_or_a_typed_error(data: bytes, height: int, width: int) -> None:
    try:
        flags = decode_mask(data, (height, width))
    except BadMessageError:
        return
    assert flags.shape == (height, width)
    assert flags.dtype == np.bool_


def test_a_mask_cut_far_from_its_end_is_refused() -> None:
    flags = np.random.default_rng(3).random((20, 20)) < 0.5
    with pytest.raises(TruncatedError):
        decode_mask(encode_mask(flags)[:20], (20, 20))


def test_bytes_after_a_mask_are_refused(prior: MaskPrior) -> None:
    data = encode_mask(draw("object", np.random.default_rng(3)), prior)
    for extra in (b"\0", bytes(20), b"\x01" * 20):
        with pytest.raises(BadMessageError):
            decode_mask(data + extra, (16, 16), prior)


def test_a_prior_file_comes_back(tmp_path: Path) -> None:
    prior = toy_mask_prior()
    save_mask_prior(prior, tmp_path / "prior")
    again = load_mask_prior(tmp_path / "prior")
    assert np.array_equal(again.ones, prior.ones)
    assert np.array_equal(again.totals, prior.totals)


def test_a_broken_prior_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "prior").write_bytes(b"\x80")
    for name in ("prior", "missing"):
        with pytest.raises(CheckpointError):
            load_mask_prior(tmp_path / name)
    counts = np.ones(PATTERNS, dtype=np.int32)
    with pytest.raises(CheckpointError, match="coded"):
        MaskPrior(counts, counts)
