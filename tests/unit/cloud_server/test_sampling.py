"""Masked decoding and answers: shortcuts are exact, known codes stay, rows are independent."""

import numpy as np
import pytest
import torch
from tiny_backbone import CODES, EOT, MAX_TEXT_LEN, VOCABULARY, positions, tiny_backbone

from cloud_server.backbone.showo import ShowoBackbone
from cloud_server.prompting import (
    codes_to_input_ids,
    mmu_mask,
    mmu_sequence,
    t2i_mask,
    t2i_sequence,
)
from cloud_server.sampling import (
    POLICIES,
    STANDARD,
    AnswerOptions,
    RowGenerators,
    decode_masked,
    generate_text,
    guided_image_logits,
    keep_top_k,
)

KERNEL_TOLERANCE = 1e-4  # the same sums in another order, float32
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
    )
    for current in (codes, torch.full_like(codes, -1)):
        batch = logits_of(current.expand(3, -1))
        free = _full_logits(backbone, TEXTS[1], current)
        for row, (text, scale) in enumerate(zip(TEXTS, (0.0, 1.5, 3.0), strict=True)):
            expected = (1 + scale) * _full_logits(backbone, text, current) - scale * free
            torch.testing.assert_close(
                batch[row : row + 1], expected, atol=KERNEL_TOLERANCE, rtol=1e-4
            )


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
@pytest.mark.parametrize("temperature", [0.0, 1.0, 50.0])
def test_known_codes_never_change_and_all_become_known(policy: object, temperature: float) -> None:
    codes = torch.full((2, 16), -1)
    codes[0, :15] = torch.arange(15)
    codes[1, :4] = torch.arange(4)
    steps: list[tuple[int, int]] = []
    decoded = decode_masked(
        lambda current: torch.randn(*current.shape, 32, generator=torch.Generator().manual_seed(1)),
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
        lambda current: torch.zeros(1, 16, 32),
        codes,
        steps=3,
        temperatures=[100.0],
        policy=STANDARD,
        noise=_generators(3),
    )
    assert torch.equal(decoded, codes)


def test_rows_draw_from_their_own_generators() -> None:
    probabilities = torch.full((2, 5, 32), 1 / 32)
    both, alone = _generators(5, 6), _generators(6)
    assert torch.equal(both.choose(probabilities)[1], alone.choose(probabilities[1:])[0])
    assert torch.equal(both.uniform(5)[1], alone.uniform(5)[0])


def _recomputed_answer(backbone: ShowoBackbone, question: np.ndarray, limit: int) -> list[int]:
    """Greedy decoding that reads the whole sequence anew for every token."""
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
