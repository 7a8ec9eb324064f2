"""The engine: batched equals unbatched, known codes stay, every kind of request works."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tiny_backbone import CODES, SIDE, VOCABULARY, builtin_engine, tiny_engine

from cloud_server.generation.engine import Engine
from cloud_server.generation.work import AnswerResult, AnswerWork, PictureResult, PictureWork, Work
from shared_protocol.errors import InvalidInputError, MaskError, TokenRangeError
from shared_protocol.tasks import Extension

TEXT = np.array([64, 308, 306])
MASK = np.eye(SIDE, dtype=bool)


def _codes(engine: Engine, requests: Sequence[Work]) -> list[np.ndarray]:
    results = engine.run(requests)
    return [result.codes for result in results if isinstance(result, PictureResult)]


def _t2i(seed: int, text: np.ndarray = TEXT, guidance: float = 2.0) -> PictureWork:
    return PictureWork("t2i", text, steps=4, guidance=guidance, seed=seed)


BATCHES: dict[str, list[PictureWork]] = {
    "t2i": [_t2i(1), _t2i(2, np.arange(30)), _t2i(3, np.array([], dtype=np.int64), 0.0)],
    "negative": [_t2i(1), replace(_t2i(1), negative_ids=np.arange(9)), _t2i(2, np.arange(30))],
    "inpaint": [
        PictureWork("inpaint", TEXT, CODES, MASK, steps=4, seed=4),
        PictureWork("inpaint", TEXT, CODES, ~MASK, steps=4, seed=5),
    ],
    "outpaint": [
        PictureWork("outpaint", TEXT, CODES, extension=Extension(left=2), steps=4, seed=6),
        PictureWork("outpaint", TEXT, CODES, extension=Extension(right=5, up=3), steps=4, seed=7),
    ],
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batched_pictures_equal_unbatched_ones(kind: str) -> None:
    engine = tiny_engine()
    alone = [_codes(engine, [request])[0] for request in BATCHES[kind]]
    together = _codes(engine, BATCHES[kind])
    reversed_order = _codes(engine, BATCHES[kind][::-1])[::-1]
    for first, second, third in zip(alone, together, reversed_order, strict=True):
        assert np.array_equal(first, second)
        assert np.array_equal(first, third)


def test_a_negative_prompt_takes_the_place_of_the_empty_one() -> None:
    engine = tiny_engine()
    plain, none = _t2i(1), replace(_t2i(1), negative_ids=np.array([], dtype=np.int64))
    other, unguided = replace(_t2i(1), negative_ids=np.arange(9)), _t2i(1, guidance=0.0)
    codes = _codes(engine, [plain, none, other])
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])
    # Led away from the very prompt that it is led to, nothing guides at all.
    same = _codes(engine, [replace(_t2i(1), negative_ids=TEXT), unguided])
    assert np.array_equal(same[0], same[1])


@pytest.mark.parametrize("kind", BATCHES)
def test_shared_forward_passes_give_the_same_pictures_here(kind: str) -> None:
    one, many = tiny_engine(), tiny_engine(requests_per_forward=8)
    for first, second in zip(_codes(one, BATCHES[kind]), _codes(many, BATCHES[kind]), strict=True):
        assert np.array_equal(first, second)


@pytest.mark.slow
def test_builtin_batches_equal_unbatched_ones() -> None:
    found = builtin_engine()
    if found is None:
        pytest.skip("no built-in weights in this checkout")
    engine, _ = found
    requests = [_t2i(seed, np.arange(10 * seed, 10 * seed + 5 + seed)) for seed in (1, 2, 3)]
    for request, codes in zip(requests, _codes(engine, requests), strict=True):
        assert np.array_equal(codes, _codes(engine, [request])[0])


def test_seeds_make_different_pictures() -> None:
    first, second = _codes(tiny_engine(), [_t2i(1), _t2i(2)])
    assert first.shape == (SIDE, SIDE)
    assert not np.array_equal(first, second)


def test_inpainting_keeps_codes_outside_the_mask() -> None:
    (codes, other) = _codes(tiny_engine(), BATCHES["inpaint"])
    assert np.array_equal(codes[~MASK], CODES[~MASK])
    assert np.array_equal(other[MASK], CODES[MASK])


@pytest.mark.parametrize("shape", [(4, 4), (6, 9), (4, 10), (3, 4), (2, 3)])
def test_inpainting_works_on_any_grid(shape: tuple[int, int]) -> None:
    codes = np.zeros(shape, dtype=np.int64) + 3
    mask = np.zeros(shape, dtype=bool)
    mask[1:, 1:] = True
    request = PictureWork("inpaint", TEXT, codes, mask, steps=3)
    (result,) = _codes(tiny_engine(), [request])
    assert result.shape == shape
    assert np.array_equal(result[~mask], codes[~mask])
    assert 0 <= result.min() <= result.max() < VOCABULARY.codebook_size


@pytest.mark.parametrize(
    "extension",
    [Extension(1, 2, 3, 4), Extension(up=9), Extension(left=7, right=1), Extension(down=1)],
)
def test_outpainting_keeps_the_picture_in_its_place(extension: Extension) -> None:
    request = PictureWork("outpaint", TEXT, CODES, extension=extension, steps=2)
    (result,) = _codes(tiny_engine(), [request])
    assert result.shape == extension.canvas(SIDE, SIDE)
    known = ~extension.new_positions(SIDE, SIDE)
    assert np.array_equal(result[known], CODES.reshape(-1))
    assert result.min() >= 0


def test_prompt_can_fill_a_wide_grid() -> None:
    (result,) = _codes(tiny_engine(), [replace(_t2i(1), grid=(4, 10))])
    assert result.shape == (4, 10)
    assert result.min() >= 0


def test_progress_rises_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    tiny_engine().run(BATCHES["outpaint"], lambda *step: seen.append(step))
    shares = [step / total for step, total in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_batched_answers_equal_unbatched_ones() -> None:
    engine = tiny_engine()
    requests: list[Work] = [
        AnswerWork(np.arange(3 + row), CODES, 6 + row, temperature, seed=row)
        for row, temperature in enumerate((0.0, 1.0, 0.7))
    ]
    together = engine.run(requests)
    for request, result in zip(requests, together, strict=True):
        (alone,) = engine.run([request])
        assert isinstance(alone, AnswerResult)
        assert isinstance(result, AnswerResult)
        assert np.array_equal(alone.text_ids, result.text_ids)
        assert result.text_ids.max(initial=0) < VOCABULARY.text_size


def test_empty_batch_gives_nothing() -> None:
    assert tiny_engine().run([]) == []


def test_mixed_batches_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="shares kind and steps"):
        tiny_engine().run([_t2i(1), replace(_t2i(1), steps=5)])


def test_codes_outside_the_codebook_are_refused() -> None:
    request = PictureWork("inpaint", TEXT, CODES + 100, MASK, steps=2)
    with pytest.raises(TokenRangeError):
        tiny_engine().run([request])


def test_contradictory_requests_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        PictureWork("t2i", TEXT, CODES)
    with pytest.raises(InvalidInputError):
        PictureWork("inpaint", TEXT, CODES)
    with pytest.raises(InvalidInputError):
        PictureWork("outpaint", TEXT, CODES)
    with pytest.raises(MaskError):
        PictureWork("inpaint", TEXT, CODES, MASK[:2])
    with pytest.raises(InvalidInputError):
        replace(_t2i(1), steps=0)


def test_question_about_another_grid_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="needs a full"):
        tiny_engine().run([AnswerWork(TEXT, CODES[:2])])
