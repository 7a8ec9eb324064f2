"""Files of priors, and codes, at the last value that is taken and the first that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import brotli
import msgpack
import numpy as np
import pytest
from hostile_bundles import row
from toy_bundle import CODEBOOK, ToyEntropy, toy_mask_prior

from shared_protocol.coding import mask_codec, text_codec
from shared_protocol.coding.image_codec import (
    CodingContext,
    check_scenario,
    decode_codes,
    encode_codes,
    nothing_known,
)
from shared_protocol.coding.mask_codec import (
    MAX_COUNT,
    PATTERNS,
    MaskPrior,
    load_mask_prior,
    save_mask_prior,
)
from shared_protocol.coding.text_codec import (
    MASS,
    TextCoder,
    TextPrior,
    decode_text,
    encode_text,
    load_text_prior,
    packed_size,
)
from shared_protocol.errors import BadMessageError, CheckpointError, InvalidInputError, LimitError
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

TABLE: dict[str, Any] = {
    "order": 1, "keys": row(1, 2), "counts": row(1, 2), "successors": row(2, 0, 3),
    "levels": [5, 7], "masses": row(0, 1, 1), "keeps": row(256, 128),
}  # fmt: skip
"""After 1 comes 2; after 3 comes 0 or 3."""
SECOND = {
    "order": 2, "keys": row(3), "counts": row(1), "successors": row(1),
    "levels": [9], "masses": row(0), "keeps": row(0),
}  # fmt: skip
"""After 0, 3 comes 1."""
BASE = row(100, 200, 301, 1)


def load(folder: Path, tables: list[dict[str, Any]] | None = None, **changes: Any) -> TextPrior:
    content = {"version": 1, "end": 0, "base": BASE, "tables": tables or [], **changes}
    (folder / "prior").write_bytes(msgpack.packb(content))
    return load_text_prior(folder / "prior")


def test_frequencies_are_those_of_the_longest_context(tmp_path: Path) -> None:
    prior = load(tmp_path, [TABLE, SECOND])
    assert prior.size == 4
    assert prior.frequencies([]).tolist() == [100, 200, 301, 1]
    assert prior.frequencies([2]).tolist() == [100, 200, 301, 1]
    assert prior.frequencies([1]).tolist() == [100, 200, 306, 1]
    assert prior.frequencies([2, 3]).tolist() == [57, 100, 150, 8]
    assert prior.frequencies([3]).tolist() == [1, 10, 1, 1]
    assert prior.frequencies([1, 0, 3]).tolist() == [1, 10, 1, 1]
    assert load(tmp_path).frequencies([3]).tolist() == [100, 200, 301, 1]


WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"order": order}, "its rows do not fit") for order in (0, 3, True, 1.0)),
    ({"keeps": row(256)}, "its rows do not fit"),
    ({"keys": row(1)}, "its rows do not fit"),
    ({"counts": row(3)}, "its rows do not fit"),
    ({"counts": row(0, 3)}, "its counts do not fit"),
    ({"counts": row(1, 1)}, "its counts do not fit"),
    ({"counts": row(2, 2)}, "its counts do not fit"),
    ({"masses": row(0, 1)}, "its counts do not fit"),
    ({"masses": row(0, 1, 2)}, "out of bounds"),
    ({"keys": row(1, 0)}, "its contexts are not in order"),
    ({"keys": row(1, 3)}, r"a context is 4, not 0\.\.3"),
    ({"successors": row(2, 0, 4)}, r"a successor is 4, not 0\.\.3"),
    ({"levels": [5, MASS + 1]}, rf"a mass is {MASS + 1}, not 0\.\.{MASS}"),
    ({"levels": [-5, 7]}, r"a mass is -5, not"),
    ({"keeps": row(257, 128)}, r"a keep is 257, not 0\.\.256"),
    ({"keys": row(1, 2)[:-1]}, "cut short"),
    ({"keys": b"\xff" * 9}, "no Brotli stream"),
    ({"levels": [MASS, 7], "masses": row(0, 0, 1)}, "frequencies that cannot be coded"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_a_table_that_does_not_fit_itself_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path, [{**TABLE, **change}])


@pytest.mark.parametrize(
    "change", [{"levels": [MASS, 7]}, {"keeps": row(0, 256)}, {"keys": row(0, 3)}]
)
def test_a_table_may_hold_the_last_value_of_each(change: dict[str, Any], tmp_path: Path) -> None:
    assert load(tmp_path, [{**TABLE, **change}]).size == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tables": [TABLE] * 3}, "it has 3 tables, at most 2 are"),
        ({"end": 4}, "frequencies that cannot be coded"),
        ({"end": -1}, "frequencies that cannot be coded"),
        ({"base": row(1, 0, 1, 1)}, "frequencies that cannot be coded"),
        ({"base": row(1, MASS)}, "frequencies that cannot be coded"),
        ({"base": row(1, (1 << 40) + 1)}, f"a row holds {(1 << 40) + 1}"),
        ({"base": row(1, 1 << 40)}, "frequencies that cannot be coded"),
        ({"end": None}, "is not a text prior"),
    ],
)
def test_a_prior_that_no_coder_could_use_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path, **change)
    assert load(tmp_path, end=3, base=row(1, 1, 1, MASS - 3)).end_id == 3


def test_rows_and_files_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (
        ("MAX_VOCABULARY", 4), ("MAX_SUCCESSORS", 3), ("MAX_CONTEXTS", 2),
    ):  # fmt: skip
        monkeypatch.setattr(text_codec, name, most)
        assert load(tmp_path, [TABLE]).size == 4
        monkeypatch.setattr(text_codec, name, most - 1)
        with pytest.raises(CheckpointError, match=f"a row has over {most - 1} values") as caught:
            load(tmp_path, [TABLE])
        assert caught.value.remedy == "the file is damaged; install the bundle again"
        monkeypatch.undo()
    size = (tmp_path / "prior").stat().st_size
    monkeypatch.setattr(text_codec, "MAX_FILE", size)
    assert load_text_prior(tmp_path / "prior").size == 4
    monkeypatch.setattr(text_codec, "MAX_FILE", size - 1)
    with pytest.raises(CheckpointError, match="the most that are read"):
        load_text_prior(tmp_path / "prior")


def test_a_text_of_just_the_limit_is_read_by_every_coder() -> None:
    ids = np.full(10, 3, dtype=np.int32)
    prior = TextPrior(0, np.array([100, 200, 301, 1], dtype=np.int64))
    for coder, data in (
        (TextCoder.BROTLI, bytes(brotli.compress(ids.astype("<u2").tobytes()))),
        (TextCoder.PACKED, text_codec._encode_packed(ids, 4)),
        (TextCoder.PRIOR, text_codec._encode_prior(ids, prior)),
    ):
        assert np.array_equal(decode_text(data, coder, 4, prior, limit=10), ids)
        with pytest.raises(LimitError):
            decode_text(data, coder, 4, prior, limit=9)
    assert encode_text(ids, 4, prior, limit=10)
    with pytest.raises(LimitError, match="a text of 10 ids is over the limit of 9"):
        encode_text(ids, 4, prior, limit=9)
    with pytest.raises(BadMessageError, match="a text of 3 bytes is not whole ids"):
        decode_text(brotli.compress(b"\1\0\1"), TextCoder.BROTLI, 4)
    with pytest.raises(BadMessageError, match=r"text id 3 is outside 0\.\.2"):
        decode_text(text_codec._encode_packed(ids, 4), TextCoder.PACKED, 3)
    assert [packed_size(n, 4096) for n in (0, 1, 2, 127, 128)] == [1, 3, 4, 192, 194]
    assert [packed_size(8, size) for size in (1, 2, 3, 4, 5)] == [2, 2, 3, 3, 4]


# ---- masks ---------------------------------------------------------------------------------------


def test_counts_of_masks_have_a_smallest_and_a_largest() -> None:
    def prior(ones: int, total: int, size: int = PATTERNS) -> MaskPrior:
        return MaskPrior(np.full(size, ones, np.int32), np.full(size, total, np.int32))

    for ones, total in ((1, 2), (MAX_COUNT - 1, MAX_COUNT), (1, MAX_COUNT)):
        prior(ones, total)
    for ones, total, size in (
        (0, 2, PATTERNS), (2, 2, PATTERNS), (1, MAX_COUNT + 1, PATTERNS), (1, 2, PATTERNS - 1),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match="the mask prior has counts that cannot be coded"):
            prior(ones, total, size)


def test_counts_are_halved_beyond_the_largest_and_stay_above_nothing() -> None:
    def counted(one: int, total: int, bit: int) -> tuple[int, int]:
        ones, totals = [7, one], [9, total]
        mask_codec._count(ones, totals, 1, bit)
        assert (ones[0], totals[0]) == (7, 9)
        return ones[1], totals[1]

    assert counted(8, 16, 1) == (24, 32)
    assert counted(8, 16, 0) == (8, 32)
    assert counted(100, MAX_COUNT - 16, 0) == (100, MAX_COUNT)
    assert counted(100, MAX_COUNT - 15, 0) == (50, 50 + (MAX_COUNT - 99 + 1) // 2)
    assert counted(1, MAX_COUNT, 0) == (1, 1 + (MAX_COUNT + 16) // 2)
    assert counted(MAX_COUNT - 1, MAX_COUNT, 1) == (
        (MAX_COUNT + 16) // 2,
        (MAX_COUNT + 16) // 2 + 1,
    )


def test_a_file_of_masks_comes_back_up_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "masks"
    save_mask_prior(toy_mask_prior(), path)
    monkeypatch.setattr(mask_codec, "_MAX_FILE", path.stat().st_size)
    assert np.array_equal(load_mask_prior(path).ones, toy_mask_prior().ones)
    assert np.array_equal(load_mask_prior(path).totals, toy_mask_prior().totals)
    monkeypatch.setattr(mask_codec, "_MAX_FILE", path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match="the most that are read") as caught:
        load_mask_prior(path)
    assert caught.value.remedy == "the file is damaged; install the bundle again"
    path.write_bytes(msgpack.packb({"ones": [1]}))
    with pytest.raises(CheckpointError, match="is not a mask prior: 'totals'"):
        load_mask_prior(path)


# ---- image codes ---------------------------------------------------------------------------------


class Other(ToyEntropy):
    """Gives codes that nobody sent."""

    def __init__(self, *codes: int) -> None:
        self.codes = codes

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        return np.array(self.codes, dtype=np.int32)


def test_codes_that_a_model_may_not_give_are_refused() -> None:
    def decoded(*codes: int, scenario: Scenario = Scenario.GENERIC) -> list[int]:
        entropy, allowed = Other(*codes), (Scenario.GENERIC,)
        context = nothing_known(1, 2)
        return decode_codes(b"", context, allowed, entropy, CODEBOOK, scenario).tolist()

    assert decoded(0, CODEBOOK - 1) == [0, CODEBOOK - 1]
    for codes in ((1,), (1, 2, 3)):
        with pytest.raises(BadMessageError, match=f"{len(codes)} image codes came out, not 2"):
            decoded(*codes)
    for codes in ((-1, 0), (0, CODEBOOK)):
        with pytest.raises(BadMessageError, match=rf"an image code is outside 0\.\.{CODEBOOK - 1}"):
            decoded(*codes)
    with pytest.raises(BadMessageError, match="does not fit this message") as caught:
        decoded(1, 2, scenario=Scenario.MASKED)
    assert caught.value.remedy == "use generic, uniform"


def test_a_scenario_is_allowed_and_there_or_refused() -> None:
    entropy = ToyEntropy()
    check_scenario(Scenario.UNIFORM, (), entropy)
    with pytest.raises(InvalidInputError, match="this bundle has no text_conditioned model"):
        check_scenario(Scenario.TEXT_CONDITIONED, (Scenario.TEXT_CONDITIONED,), entropy)
    codes, context = np.full(16, 5, np.int32), nothing_known(4, 4)
    allowed = (Scenario.GENERIC, Scenario.MASKED)
    for wanted in (Scenario.UNIFORM, Scenario.GENERIC, Scenario.MASKED):
        assert encode_codes(codes, context, allowed, entropy, CODEBOOK, wanted)[0] is wanted
    assert encode_codes(codes, context, (), entropy, CODEBOOK) == (
        Scenario.UNIFORM,
        encode_codes(codes, context, allowed, entropy, CODEBOOK, Scenario.UNIFORM)[1],
    )
    first = encode_codes(codes, context, allowed, entropy, CODEBOOK, search=False)
    assert first == encode_codes(codes, context, allowed[:1], entropy, CODEBOOK)


def test_a_context_that_contradicts_itself_is_refused() -> None:
    yes, no = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    codes, text = np.zeros((2, 2), np.int32), np.zeros(0, np.int32)
    assert CodingContext(yes, no, codes, text).count == 4
    for wrong in (
        (yes, no[:1], codes, text),
        (yes, no, codes[:1], text),
        (yes[0], no[0], codes[0], text),
        (yes, no, codes, codes),
    ):
        with pytest.raises(ValueError, match=r"needs three \(H, W\) grids and a text row"):
            CodingContext(*wrong)
    with pytest.raises(ValueError, match="both known and a target"):
        CodingContext(yes, yes, codes, text)
