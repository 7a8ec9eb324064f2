from __future__ import annotations

import math
from pathlib import Path

import brotli
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bundle import TEXT_SIZE, toy_text_prior

from shared_protocol.coding import text_codec
from shared_protocol.coding.bits import pack_bits, read_varint, unpack_bits, write_varint
from shared_protocol.coding.text_codec import (
    MASS,
    TextCoder,
    TextPrior,
    decode_text,
    dump_text_prior,
    encode_text,
    load_text_prior,
    packed_size,
    save_text_prior,
)
from shared_protocol.errors import (
    BadMessageError,
    CheckpointError,
    LimitError,
    TrailingBytesError,
    TruncatedError,
)
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.tokens import Codes, TextTokens

PRIOR = toy_text_prior()
BUILTIN = Path(__file__).parents[4] / "shared_protocol" / "weights" / "builtin"
BUILTIN_PRIOR = load_text_prior(BUILTIN / "text_prior.msgpack")
BUILTIN_TOKENIZER = TextTokenizer.load(BUILTIN / "text_tokenizer.json")
TEXT_RATE = 0.35
"""Coded bytes per byte of UTF-8 that the built-in prior must reach on everyday sentences."""

SENTENCES = """a cat sleeping on a windowsill in the afternoon sun
A red bicycle leaning against a brick wall.
two children building a sandcastle on the beach
What is the man in the blue jacket holding?
How many people are sitting at the table?
a bowl of noodle soup with chopsticks on a dark table
Is the woman wearing glasses?
A watercolor painting of mountains covered in fog
a small robot watering plants in a greenhouse
replace the car with a horse
an astronaut riding a horse on the moon
A busy street market in the rain, people with umbrellas
a vintage typewriter on a desk next to a cup of coffee
Where was this picture taken?
three green apples in a white bowl
Which animal is bigger, the dog or the cat?
a train crossing a stone bridge over a river
Extend the image to the right with more trees.
The quick brown fox jumps over the lazy dog.
a fox to the left of a house on a beach at night""".splitlines()

ids_of = st.lists(st.integers(0, TEXT_SIZE - 1), max_size=40).map(
    lambda ids: np.array(ids, dtype=np.int32)
)


def ids(*values: int) -> Codes:
    return np.array(values, dtype=np.int32)


@given(ids_of)
@settings(max_examples=60, deadline=None)
def test_any_ids_come_back(original: Codes) -> None:
    coder, data = encode_text(original, TEXT_SIZE, PRIOR)
    assert np.array_equal(decode_text(data, coder, TEXT_SIZE, PRIOR), original)
    assert len(data) <= packed_size(len(original), TEXT_SIZE)


@pytest.mark.parametrize("size", [1, 2, 3, 256, 4_096, 50_295, 65_536, 65_537, 2**20])
@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_every_alphabet_size_comes_back(size: int, count: int) -> None:
    original = (np.arange(count) * 7_919 % size).astype(np.int32)
    coder, data = encode_text(original, size)
    assert np.array_equal(decode_text(data, coder, size), original)


def test_each_coder_is_chosen_where_it_is_smallest() -> None:
    assert encode_text(ids(*[5] * 200), TEXT_SIZE, None)[0] is TextCoder.BROTLI
    assert encode_text(ids(4_000, 3_900), TEXT_SIZE, None)[0] is TextCoder.PACKED
    assert encode_text(ids(2, 3, 8, 9, 4), TEXT_SIZE, PRIOR)[0] is TextCoder.PRIOR


def test_the_end_id_inside_a_text_comes_back_by_another_coder() -> None:
    original = ids(4, PRIOR.end_id, 5)
    coder, data = encode_text(original, TEXT_SIZE, PRIOR)
    assert coder is not TextCoder.PRIOR
    assert np.array_equal(decode_text(data, coder, TEXT_SIZE, PRIOR), original)


def test_the_prior_codes_within_one_byte_of_its_ideal_length() -> None:
    original = ids(10, 11, 3, 700, 12, 13, 2_000, 4, 5, 6)
    bits, history = 0.0, []
    for symbol in [*original.tolist(), PRIOR.end_id]:
        frequencies = PRIOR.frequencies(history)
        bits -= math.log2(int(frequencies[symbol]) / int(frequencies.sum()))
        history.append(symbol)
    _, data = encode_text(original, TEXT_SIZE, PRIOR)
    assert 8 * len(data) <= bits + 8.01


def test_every_frequency_is_at_least_one_and_the_sum_can_be_coded() -> None:
    for history in ([], [10], [10, 11], [3], [10, 11, 3]):
        frequencies = PRIOR.frequencies(history)
        assert int(frequencies.min()) >= 1
        assert int(frequencies.sum()) <= 4 * MASS


@pytest.mark.parametrize("coder", list(TextCoder))
def test_a_text_cut_at_any_byte_is_refused(coder: TextCoder) -> None:
    original = ids(*range(2, 60, 3))
    data = _encode_as(coder, original)
    for end in range(len(data)):
        try:
            found = decode_text(data[:end], coder, TEXT_SIZE, PRIOR)
        except BadMessageError:
            continue
        assert coder is TextCoder.PRIOR
        assert not np.array_equal(found, original)


@pytest.mark.parametrize("coder", list(TextCoder))
def test_bytes_after_a_text_are_refused(coder: TextCoder) -> None:
    data = _encode_as(coder, ids(2, 4, 6)) + bytes(9)
    with pytest.raises(BadMessageError):
        decode_text(data, coder, TEXT_SIZE, PRIOR)


def _encode_as(coder: TextCoder, original: Codes) -> bytes:
    if coder is TextCoder.BROTLI:
        return bytes(brotli.compress(original.astype("<u2").tobytes()))
    if coder is TextCoder.PACKED:
        return write_varint(len(original)) + pack_bits(original, 12)
    return text_codec._encode_prior(original, PRIOR)


@given(st.binary(max_size=40), st.sampled_from(TextCoder))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_text_or_a_typed_error(data: bytes, coder: TextCoder) -> None:
    try:
        found = decode_text(data, coder, TEXT_SIZE, PRIOR, limit=100)
    except BadMessageError:
        return
    assert len(found) <= 100
    assert not found.size or 0 <= found.min() <= found.max() < TEXT_SIZE


def test_ids_outside_the_alphabet_are_refused() -> None:
    packed = write_varint(1) + pack_bits(ids(4_095), 12)
    with pytest.raises(BadMessageError, match="4095"):
        decode_text(packed, TextCoder.PACKED, 4_000)
    words = brotli.compress(np.array([5_000], dtype="<u2").tobytes())
    with pytest.raises(BadMessageError, match="outside"):
        decode_text(words, TextCoder.BROTLI, 4_096)


def test_a_brotli_bomb_is_refused_without_unpacking_it() -> None:
    with pytest.raises(LimitError):
        decode_text(brotli.compress(bytes(5_000_000)), TextCoder.BROTLI, TEXT_SIZE)


def test_a_lying_count_is_refused() -> None:
    with pytest.raises(LimitError):
        decode_text(write_varint(2**31), TextCoder.PACKED, TEXT_SIZE)
    with pytest.raises(TruncatedError):
        decode_text(write_varint(4_000), TextCoder.PACKED, TEXT_SIZE)


def test_more_ids_than_the_limit_are_refused_on_both_sides() -> None:
    with pytest.raises(LimitError):
        encode_text(ids(*[1] * 11), TEXT_SIZE, limit=10)
    for coder in TextCoder:
        with pytest.raises(LimitError):
            decode_text(_encode_as(coder, ids(*[1] * 11)), coder, TEXT_SIZE, PRIOR, limit=10)


def test_a_text_that_needs_a_prior_is_refused_without_one() -> None:
    with pytest.raises(BadMessageError, match="prior"):
        decode_text(b"", TextCoder.PRIOR, TEXT_SIZE)


@given(st.integers(0, 2**34))
def test_varints_come_back_in_their_shortest_form(value: int) -> None:
    data = write_varint(value)
    assert read_varint(data + b"\xff", 0, 2**35) == (value, len(data))


def test_bad_varints_are_refused() -> None:
    with pytest.raises(TruncatedError):
        read_varint(b"\x80", 0, 100)
    with pytest.raises(LimitError):
        read_varint(b"\xff" * 9, 0, 100)
    with pytest.raises(BadMessageError, match="shortest"):
        read_varint(b"\x80\x00", 0, 100)


def test_packed_bits_check_their_length_and_padding() -> None:
    data = pack_bits(ids(1, 2, 3), 3)
    assert np.array_equal(unpack_bits(data, 3, 3), ids(1, 2, 3))
    with pytest.raises(TruncatedError):
        unpack_bits(data[:-1], 3, 3)
    with pytest.raises(TrailingBytesError):
        unpack_bits(data + b"\0", 3, 3)
    with pytest.raises(BadMessageError, match="padding"):
        unpack_bits(data[:-1] + bytes([data[-1] | 1]), 3, 3)


def test_a_prior_file_comes_back(tmp_path: Path) -> None:
    save_text_prior(PRIOR, tmp_path / "prior")
    again = load_text_prior(tmp_path / "prior")
    assert dump_text_prior(again) == dump_text_prior(PRIOR)
    for history in ([], [10], [10, 11]):
        assert np.array_equal(again.frequencies(history), PRIOR.frequencies(history))


@pytest.mark.parametrize("content", [b"", b"\x80", b"no prior", b"\x81\xa3end\x00"])
def test_a_broken_prior_file_is_a_checkpoint_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "prior").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_text_prior(tmp_path / "prior")
    with pytest.raises(CheckpointError):
        load_text_prior(tmp_path / "missing")


def test_a_prior_with_impossible_frequencies_is_refused() -> None:
    with pytest.raises(CheckpointError):
        TextPrior(0, np.zeros(4, dtype=np.int64))
    with pytest.raises(CheckpointError):
        TextPrior(0, np.full(4, MASS, dtype=np.int64))


def test_everyday_sentences_take_at_most_the_promised_share_of_their_bytes() -> None:
    tokenizer = TextTokenizer.load(BUILTIN / "text_tokenizer.json")
    prior = load_text_prior(BUILTIN / "text_prior.msgpack")
    raw = [len(sentence.encode()) for sentence in SENTENCES]
    coded = [
        len(encode_text(tokenizer.encode(sentence).ids, tokenizer.size, prior)[1])
        for sentence in SENTENCES
    ]
    assert sum(coded) / sum(raw) <= TEXT_RATE
    assert sum(c / r for c, r in zip(coded, raw, strict=True)) / len(raw) <= TEXT_RATE


@given(words=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_unicode_text_comes_back_through_the_built_in_prior(words: str) -> None:
    tokens = BUILTIN_TOKENIZER.encode(words)
    coder, data = encode_text(tokens.ids, tokens.vocabulary_size, BUILTIN_PRIOR)
    back = decode_text(data, coder, tokens.vocabulary_size, BUILTIN_PRIOR)
    assert BUILTIN_TOKENIZER.decode(TextTokens(back, tokens.vocabulary_size)) == words
