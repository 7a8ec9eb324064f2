"""Masked decoding and answers: shortcuts are exact, known codes stay, rows are independent."""

import numpy as np
import pytest
import torch
from tiny_backbone import CODES, EOT, MAX_TEXT_LEN, VOCABULARY, positions, tiny_backbone

from cloud_server.generation.backbone.showo import ShowoBackbone
from cloud_server.generation.image_logits import guided_image_logits
from cloud_server.generation.masked_decoding import (
    POLICIES,
    STANDARD,
    RowGenerators,
    decode_masked,
    race_times,
    unknown_places,
)
from cloud_server.generation.prompting import (
    codes_to_input_ids,
    mmu_mask,
    mmu_sequence,
    t2i_mask,
    t2i_sequence,
)
from cloud_server.generation.text_decoding import (
    AnswerOptions,
    PictureReader,
    generate_text,
    keep_top_k,
)

KERNEL_TOLERANCE = 1e-4  # the same sums in another order, float32
DRAWS = 20_000
SHARE_TOLERANCE = 0.02  # five standard deviations of a share of so many draws
TEXTS = [np.array([64, 308, 306]), np.array([], dtype=np.int64), np.arange(40)]


@pytest.fixture(scope="module")
def backbone() -> ShowoBackbone:
    return tiny_backbone()


def _generators(*seeds: int) -> RowGenerators:
    return RowGenerators([torch.Generator().manual_seed(seed) for seed in seeds])


def _full_logits(backbone: ShowoBackbone, text: np.ndarray, codes: torch.Tensor) -> torch.Tensor:
    """Logits of whole, padded sequences without a cache."""
    ids = t2i_sequence(
        [text.tolist()],
        codes_to_input_ids(codes, VOCABULARY),
        VOCABULARY,
        eot_id=EOT,
        max_text_len=MAX_TEXT_LEN,
    )
    logits = backbone.logits(ids, t2i_mask(ids, VOCABULARY), positions(ids))
    return logits[:, MAX_TEXT_LEN + 2 : -1, VOCABULARY.image_offset : VOCABULARY.mask_id]


def test_cached_unpadded_logits_equal_full_sequences(backbone: ShowoBackbone) -> None:
    codes = torch.from_numpy(CODES.reshape(1, -1)).clone()
    codes[:, ::2] = -1
    logits_of = guided_image_logits(
        backbone,
        VOCABULARY,
        TEXTS,
        guidance=[0.0, 1.5, 3.0],
        eot_id=EOT,
        max_text_len=MAX_TEXT_LEN,
        tokens=16,
    )
    for current, places in (
        (codes, torch.arange(16)),
        (torch.full_like(codes, -1), torch.arange(16)),
        (codes, torch.tensor([14, 0, 6])),
    ):
        batch = logits_of(current.expand(3, -1), places.expand(3, -1))
        free = _full_logits(backbone, TEXTS[1], current)
        for row, (text, scale) in enumerate(zip(TEXTS, (0.0, 1.5, 3.0), strict=True)):
            expected = (1 + scale) * _full_logits(backbone, text, current) - scale * free
            torch.testing.assert_close(
                batch[row : row + 1], expected[:, places], atol=KERNEL_TOLERANCE, rtol=1e-4
            )


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
@pytest.mark.parametrize("temperature", [0.0, 1.0, 50.0])
def test_known_codes_never_change_and_all_become_known(policy: object, temperature: float) -> None:
    codes = torch.full((2, 16), -1)
    codes[0, :15] = torch.arange(15)
    codes[1, :4] = torch.arange(4)
    steps: list[tuple[int, int]] = []
    decoded = decode_masked(
        lambda _, places: torch.randn(
            *places.shape, 32, generator=torch.Generator().manual_seed(1)
        ),
        codes,
        steps=5,
        temperatures=[temperature] * 2,
        policy=policy,  # type: ignore[arg-type]
        noise=_generators(1, 2),
        on_step=lambda *step: steps.append(step),
    )
    assert torch.equal(decoded[codes >= 0], codes[codes >= 0])
    assert (decoded >= 0).all()
    assert steps == [(step, 5) for step in range(1, 6)]


def test_row_with_nothing_unknown_stays_as_it_is() -> None:
    codes = torch.arange(16).reshape(1, 16)
    decoded = decode_masked(
        lambda _, places: torch.zeros(*places.shape, 32),
        codes,
        steps=3,
        temperatures=[100.0],
        policy=STANDARD,
        noise=_generators(3),
    )
    assert torch.equal(decoded, codes)


def test_rows_draw_from_their_own_generators() -> None:
    probabilities = torch.full((2, 5, 32), 1 / 32)
    places = torch.arange(5).expand(2, -1)
    both, alone = _generators(5, 6), _generators(6)
    drawn = both.choose(probabilities, places, 5)[1]
    assert torch.equal(drawn, alone.choose(probabilities[1:], places[1:], 5)[0])
    assert torch.equal(both.uniform(5)[1], alone.uniform(5)[0])


def test_draws_at_some_places_are_those_of_a_multinomial_at_all_places() -> None:
    probabilities = torch.rand(7, 40, generator=torch.Generator().manual_seed(2))
    everywhere = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(9))
    places = torch.tensor([[5, 0, 3]])
    drawn = _generators(9).choose(probabilities[places], places, 7)
    assert torch.equal(drawn[0], everywhere[places[0], 0])


def test_times_are_bit_for_bit_those_of_exponential() -> None:
    first, second = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    expected = torch.empty(300, 1000).exponential_(generator=first)
    assert torch.equal(race_times(300, 1000, second), expected)
    expected = torch.empty(3, 5).exponential_(generator=first)
    assert torch.equal(race_times(3, 5, second, torch.tensor([2, 0])), expected[[2, 0]])


def test_draws_follow_the_probabilities() -> None:
    chances = torch.tensor([0.0, 0.2, 0.5, 0.0, 0.3])
    probabilities = chances.expand(1, DRAWS, 5)
    for drawn in (
        _generators(3).choose_at(probabilities, torch.tensor([DRAWS])),
        _generators(4).choose(probabilities, torch.arange(DRAWS)[None], DRAWS),
    ):
        shares = drawn[0].bincount(minlength=5) / DRAWS
        torch.testing.assert_close(shares, chances, atol=SHARE_TOLERANCE, rtol=0)
        assert shares[0] == shares[3] == 0


def test_draws_at_unknown_places_do_not_depend_on_other_rows() -> None:
    probabilities = torch.rand(2, 6, 32, generator=torch.Generator().manual_seed(8))
    drawn = _generators(5, 6).choose_at(probabilities, torch.tensor([6, 2]))
    alone = _generators(6).choose_at(probabilities[1:, :2], torch.tensor([2]))
    assert torch.equal(drawn[1, :2], alone[0])


def test_unknown_places_are_filled_up_to_those_of_the_row_with_most() -> None:
    codes = torch.tensor([[-1, 3, -1, -1], [5, 3, 2, -1]])
    places = unknown_places(codes)
    assert places[0].tolist() == [0, 2, 3]
    assert places[1, 0] == 3
    assert len(set(places[1].tolist())) == 3
    assert unknown_places(codes.clamp(min=0)).shape == (2, 1)


def _recomputed_answer(backbone: ShowoBackbone, question: np.ndarray, limit: int) -> list[int]:
    """Greedy decoding that reads the whole sequence again for every token."""
    prompt = mmu_sequence(CODES, question, VOCABULARY, eot_id=EOT)
    answer: list[int] = []
    while len(answer) < limit and answer[-1:] != [EOT]:
        ids = torch.tensor([prompt + answer])
        logits = backbone.logits(ids, mmu_mask(ids, VOCABULARY), positions(ids))
        answer.append(int(logits[0, -1, : VOCABULARY.text_size].argmax()))
    return answer


def test_batched_cached_answers_equal_recomputed_ones(backbone: ShowoBackbone) -> None:
    questions = [np.array([5, 6, 7]), np.array([8]), np.arange(20, 31)]
    answers = generate_text(
        PictureReader(backbone, VOCABULARY),
        backbone,
        VOCABULARY,
        codes=[CODES] * 3,
        questions=questions,
        options=[AnswerOptions(limit) for limit in (9, 4, 7)],
        eot_id=EOT,
        noise=_generators(0, 0, 0),
    )
    expected = [
        _recomputed_answer(backbone, question, limit)
        for question, limit in zip(questions, (9, 4, 7), strict=True)
    ]
    assert answers == expected


def test_answer_stops_after_eot(backbone: ShowoBackbone) -> None:
    question = np.array([5, 6, 7])
    first = _recomputed_answer(backbone, question, 3)
    answer = generate_text(
        PictureReader(backbone, VOCABULARY),
        backbone,
        VOCABULARY,
        codes=[CODES],
        questions=[question],
        options=[AnswerOptions(50)],
        eot_id=EOT,
        noise=_generators(0),
    )[0]
    assert answer[:3] == first
    assert EOT not in answer[:-1]


def test_top_k_keeps_ties() -> None:
    kept = keep_top_k(torch.tensor([1.0, 3.0, 2.0, 2.0]), 2)
    assert torch.isfinite(kept).tolist() == [False, True, True, True]
    assert torch.isfinite(keep_top_k(kept, None)).sum() == 3
