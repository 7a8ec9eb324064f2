"""Questions about pictures with gaps: filled in first, answered after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from serving_fakes import BUNDLE, a_request
from tiny_backbone import SIDE, VOCABULARY, tiny_engine

from cloud_server.generation.masked_decoding import STANDARD
from cloud_server.generation.work import FILL_STEPS, AnswerWork, PictureResult, PictureWork
from cloud_server.serving.translation import batch_key, to_work, tokens_up
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import Request
from shared_protocol.tasks import Task
from shared_protocol.tokens import TokenMask

GAPS = TokenMask(np.arange(16).reshape(4, 4) > 11)


def gappy(task: Task = Task.VQA) -> Request:
    """A request whose last row of tokens was left out."""
    request = a_request(task)
    flags = GAPS.flags if request.mask is None else GAPS.flags & ~request.mask.flags
    return replace(request, dropped=TokenMask(flags))


def question(seed: int, missing: np.ndarray | None = None) -> AnswerWork:
    codes = (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 7 + seed) % VOCABULARY.codebook_size
    return AnswerWork(np.array([3, 4]), codes, max_new_tokens=4, seed=seed, missing=missing)


def test_gaps_are_filled_without_a_prompt_and_then_the_question_is_answered():
    missing = np.zeros((SIDE, SIDE), dtype=bool)
    missing[-1] = True
    asked = question(5, missing)
    fill = PictureWork(
        "inpaint",
        np.zeros(0, dtype=np.int64),
        codes=asked.codes,
        mask=missing,
        steps=FILL_STEPS,
        guidance=0.0,
        seed=5,
    )
    engine = tiny_engine()
    (made,) = engine.run([fill])
    assert isinstance(made, PictureResult)
    assert not np.array_equal(made.codes, asked.codes), "what stands in a gap is not looked at"
    (by_hand,) = engine.run([replace(asked, codes=made.codes, missing=None)])
    steps: list[tuple[int, int]] = []
    (answer,) = engine.run([asked], lambda done, total: steps.append((done, total)))
    assert answer.text_ids.tolist() == by_hand.text_ids.tolist()
    all_steps = FILL_STEPS + STANDARD.settle_passes
    assert steps[all_steps - 1] == (all_steps, all_steps)
    assert len(steps) > FILL_STEPS


def test_a_batch_of_gappy_and_whole_pictures_answers_each_as_alone():
    missing = np.zeros((SIDE, SIDE), dtype=bool)
    missing[0, 0] = True
    batch = [question(1), question(2, missing), question(3)]
    together = tiny_engine().run(batch)
    alone = [tiny_engine().run([one])[0] for one in batch]
    assert [r.text_ids.tolist() for r in together] == [r.text_ids.tolist() for r in alone]


def test_a_question_says_which_tokens_are_missing():
    work = to_work(gappy(), BUNDLE)
    assert isinstance(work, AnswerWork)
    assert np.array_equal(work.missing, GAPS.flags)
    assert to_work(a_request(Task.VQA), BUNDLE).missing is None


def test_edits_generate_dropped_tokens_together_with_the_others():
    inpaint = to_work(gappy(Task.INPAINT), BUNDLE)
    assert inpaint.mask.sum() == 4 + (GAPS.flags & ~a_request(Task.INPAINT).mask.flags).sum()
    outpaint = to_work(gappy(Task.OUTPAINT), BUNDLE)
    assert np.array_equal(outpaint.mask, GAPS.flags)
    assert to_work(a_request(Task.OUTPAINT), BUNDLE).mask is None


def test_a_request_with_gaps_is_another_request():
    whole = a_request(Task.VQA)
    assert request_digest(gappy()) != request_digest(whole)
    assert batch_key(gappy(), BUNDLE) != batch_key(whole, BUNDLE)
    assert tokens_up(whole) - tokens_up(gappy()) == GAPS.count
