"""Questions about pictures with gaps: filled in first, answered after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from serving_fakes import BUNDLE, a_request

from cloud_server.generation import engine
from cloud_server.generation.filling import FilledAnswerRequest, FillingRunner
from cloud_server.serving.result_cache import request_digest
from cloud_server.serving.translation import FILL_STEPS, batch_key, to_engine, to_work, tokens_up
from shared_protocol.tasks import Task
from shared_protocol.tokens import TokenMask

GAPS = TokenMask(np.arange(16).reshape(4, 4) > 11)


def gappy(task: Task = Task.VQA) -> object:
    """A request whose last row of tokens was left out."""
    request = a_request(task)
    flags = GAPS.flags if request.mask is None else GAPS.flags & ~request.mask.flags
    return replace(request, dropped=TokenMask(flags))


class Recorder:
    """An engine that paints sevens and answers with the sum of the picture."""

    def __init__(self) -> None:
        self.batches: list[list[engine.Request]] = []

    def run(self, requests, on_step=None):
        self.batches.append(list(requests))
        return [self.result(request) for request in requests]

    def result(self, request: engine.Request) -> engine.Result:
        if isinstance(request, engine.GenerationRequest):
            return engine.GenerationResult(np.where(request.mask, 7, request.codes))
        return engine.AnswerResult(np.array([int(request.codes.sum())]), True)


def test_gaps_are_filled_without_a_prompt_and_then_the_question_is_asked():
    work = to_work(gappy(), BUNDLE)
    assert isinstance(work, FilledAnswerRequest)
    assert work.fill.text_ids.size == 0
    assert (work.fill.steps, work.fill.guidance) == (FILL_STEPS, 0.0)
    assert np.array_equal(work.fill.mask, GAPS.flags)
    recorder = Recorder()
    results = FillingRunner(recorder.run).run([work, work])
    assert [len(batch) for batch in recorder.batches] == [2, 2]
    asked = recorder.batches[1][0]
    assert (asked.codes[3] == 7).all()
    assert np.array_equal(asked.codes[:3], work.answer.codes[:3])
    assert np.array_equal(asked.text_ids, work.answer.text_ids)
    assert all(isinstance(result, engine.AnswerResult) for result in results)


def test_whole_requests_take_one_pass():
    recorder = Recorder()
    requests = [to_work(a_request(Task.VQA), BUNDLE)]
    FillingRunner(recorder.run).run(requests)
    assert recorder.batches == [requests]


def test_edits_make_dropped_tokens_anew_with_the_others():
    inpaint = to_work(gappy(Task.INPAINT), BUNDLE)
    assert inpaint.mask.sum() == 4 + (GAPS.flags & ~a_request(Task.INPAINT).mask.flags).sum()
    outpaint = to_work(gappy(Task.OUTPAINT), BUNDLE)
    assert np.array_equal(outpaint.mask, GAPS.flags)
    assert to_engine(a_request(Task.OUTPAINT), BUNDLE).mask is None


def test_a_request_with_gaps_is_another_request():
    whole = a_request(Task.VQA)
    assert request_digest(gappy()) != request_digest(whole)
    assert batch_key(gappy(), BUNDLE) != batch_key(whole, BUNDLE)
    assert tokens_up(whole) - tokens_up(gappy()) == GAPS.count
