"""The part that says labels: there and back, its size, and bytes that are none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_protocol.coding.labels_codec import (
    MAX_NAME_BYTES,
    cut,
    decode_labels,
    encode_labels,
    from_said,
    number_bits,
    said_by,
)
from shared_protocol.errors import (
    BadMessageError,
    InvalidInputError,
    LabelsMismatchError,
    LimitError,
    TrailingBytesError,
    TruncatedError,
)
from shared_protocol.labels import LEVELS, LabelSet, LabelWish, Ranking

THOUSAND = LabelSet.of([f"label {number}" for number in range(1000)])
FIVE = Ranking(THOUSAND, (3, 999, 0, 77, 500), (60, 20, 9, 9, 0))
NAMED = replace(FIVE, names=("fox", "ein Hut", "日", "x" * 300, "é" * 150))


def rankings() -> st.SearchStrategy[tuple[Ranking, LabelWish]]:
    @st.composite
    def build(draw: st.DrawFn) -> tuple[Ranking, LabelWish]:
        of = LabelSet(draw(st.binary(min_size=32, max_size=32)), draw(st.integers(1, 1 << 16)))
        most = draw(st.integers(1, 255))
        size = min(most, of.count)
        number = st.integers(0, of.count - 1)
        if size * 3 > of.count:
            numbers = draw(st.permutations(range(of.count)))[:size]
        else:
            numbers = draw(st.lists(number, min_size=size, max_size=size, unique=True))
        levels = draw(st.lists(st.integers(0, LEVELS - 1), min_size=size, max_size=size))
        names = draw(st.booleans())
        text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
        called = draw(st.lists(text, min_size=size, max_size=size)) if names else []
        ranking = Ranking(of, tuple(numbers), tuple(sorted(levels)[::-1]), tuple(called))
        return ranking, LabelWish(most, names, None if names else of)

    return build()


@given(rankings())
@settings(max_examples=60, deadline=None)
def test_any_ranking_comes_back_and_only_in_one_form(made: tuple[Ranking, LabelWish]) -> None:
    ranking, wish = made
    data = encode_labels(ranking, wish)
    back = decode_labels(data, wish)
    names = tuple(cut(name).decode() for name in ranking.names)
    assert back == replace(ranking, names=names)
    assert encode_labels(back, wish) == data
    assert from_said(said_by(back)) == back


def test_five_of_a_thousand_take_ten_bytes_and_the_name_of_their_set() -> None:
    assert len(encode_labels(FIVE, LabelWish(5, held=THOUSAND))) == 2 + 10
    assert [number_bits(n) for n in (1, 2, 3, 1000, 1024, 1025, 1 << 16)] == [
        1, 1, 2, 10, 10, 11, 16,
    ]  # fmt: skip


def test_names_are_cut_between_characters() -> None:
    back = decode_labels(encode_labels(NAMED, LabelWish(5, names=True)), LabelWish(5, names=True))
    assert back.names == ("fox", "ein Hut", "日", "x" * 200, "é" * 100)
    assert max(len(name.encode()) for name in back.names) == MAX_NAME_BYTES


@pytest.mark.parametrize("wish", [LabelWish(5), LabelWish(5, held=LabelSet.of(("a", "b")))])
def test_labels_of_a_set_whose_names_are_not_held_are_refused_by_type(wish: LabelWish) -> None:
    data = encode_labels(FIVE, LabelWish(5, held=THOUSAND))
    with pytest.raises(LabelsMismatchError, match=THOUSAND.fingerprint[:2].hex()):
        decode_labels(data, wish)


@pytest.mark.parametrize(
    ("ranking", "wish"), [(FIVE, LabelWish(5, held=THOUSAND)), (NAMED, LabelWish(5, names=True))]
)
def test_every_cut_and_every_byte_more_is_refused(ranking: Ranking, wish: LabelWish) -> None:
    data = encode_labels(ranking, wish)
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            decode_labels(data[:end], wish)
    with pytest.raises(TrailingBytesError):
        decode_labels(data + b"\0", wish)


def test_a_set_that_claims_too_many_labels_is_refused_before_they_are_read() -> None:
    wish = LabelWish(5, names=True)
    data = bytes(32) + b"\x80\x80\x04"  # 65,537 labels
    with pytest.raises(LimitError, match="over the limit of 65535"):
        decode_labels(data, wish)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (b"\x00", BadMessageError),
        (b"\x01\xff", BadMessageError),
        (b"\xc9\x01" + bytes(201), LimitError),
    ],
)
def test_names_that_are_none_are_refused(name: bytes, error: type[Exception]) -> None:
    one = LabelSet(bytes(32), 2)
    data = encode_labels(Ranking(one, (1,), (63,), ("a",)), LabelWish(1, names=True))
    with pytest.raises(error):
        decode_labels(data[:-2] + name, LabelWish(1, names=True))


@pytest.mark.parametrize(
    ("numbers", "levels", "said"),
    [((1, 1), (9, 9), "twice"), ((0, 3), (9, 9), "outside"), ((0, 1), (8, 9), "order")],
)
def test_labels_that_no_ranking_has_are_refused(
    numbers: tuple[int, int], levels: tuple[int, int], said: str
) -> None:
    three = LabelSet.of("abc")
    bits = "".join(f"{n:02b}{v:06b}" for n, v in zip(numbers, levels, strict=True))
    data = three.fingerprint[:2] + int(bits, 2).to_bytes(2, "big")
    with pytest.raises(InvalidInputError, match=said):
        decode_labels(data, LabelWish(2, held=three))
