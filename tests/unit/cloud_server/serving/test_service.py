"""From requests to engine requests and back, and results that are made only once."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from serving_fakes import (
    BUNDLE,
    EOT,
    LONG_S,
    MSGPACK,
    STREAM,
    FailingEngine,
    FakeDefaults,
    FakeEngine,
    GatedEngine,
    a_message,
    a_request,
    fake_model,
    fake_settings,
    image,
    opened,
    serving,
    text,
)

from cloud_server.generation.work import AnswerResult, PictureResult
from cloud_server.serving.results.cache import ResultCache, size_of
from cloud_server.serving.service import Service, work_key
from cloud_server.serving.telemetry.metrics import Trace
from cloud_server.serving.ticket import Ticket
from cloud_server.serving.translation import (
    batch_key,
    canvas_of,
    check_request,
    expected_steps,
    to_response,
    to_work,
    tokens_down,
    tokens_up,
)
from shared_protocol.errors import InternalError, InvalidInputError, PromptError
from shared_protocol.message.codec import decode_response
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import TokenMask

SETTINGS = fake_settings()
KEYED = {**MSGPACK, "Idempotency-Key": "once"}


def check(request, settings=SETTINGS):
    check_request(request, request.task, BUNDLE, settings)


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Task.T2I, Task.VQA])
def test_a_task_that_needs_words_refuses_none(task):
    with pytest.raises(PromptError):
        check(replace(a_request(task), text=text()))


@pytest.mark.parametrize("task", [Task.INPAINT, Task.OUTPAINT])
def test_a_task_that_can_do_without_words_takes_none(task):
    check(replace(a_request(task), text=text()))


def test_the_longest_text_is_taken_and_one_more_token_refused():
    check(replace(a_request(), text=text(*range(8))))
    with pytest.raises(PromptError, match="9 tokens"):
        check(replace(a_request(), text=text(*range(9))))


def test_a_mask_over_everything_is_taken():
    mask = TokenMask(np.ones((4, 4), dtype=bool))
    check(replace(a_request(Task.INPAINT), mask=mask))


def test_a_picture_that_would_grow_beyond_the_limit_is_refused():
    request = replace(a_request(Task.OUTPAINT), extension=Extension(right=2, down=3))
    check(request, fake_settings(max_grid=7))
    with pytest.raises(InvalidInputError, match="7x6"):
        check(request, fake_settings(max_grid=6))


def test_a_question_needs_the_native_grid():
    with pytest.raises(InvalidInputError, match="4x5"):
        check(Request(Task.VQA, text(7), image(4, 5)))


def test_steps_and_answer_length_over_the_servers_limit_are_refused():
    check(a_request(steps=9), fake_settings(max_steps=9))
    with pytest.raises(InvalidInputError, match="steps is 10"):
        check(a_request(steps=10), fake_settings(max_steps=9))
    with pytest.raises(InvalidInputError, match="max_new_tokens is 10"):
        check(a_request(Task.VQA, max_new_tokens=10), fake_settings(max_new_tokens=9))


def test_another_task_than_the_paths_is_refused():
    with pytest.raises(InvalidInputError, match="asks for t2i"):
        check_request(a_request(Task.T2I), Task.VQA, BUNDLE, SETTINGS)


# ---- to the engine and back ------------------------------------------------------------------


def test_options_left_out_become_the_bundles_defaults():
    made = to_work(a_request(), BUNDLE)
    assert (made.steps, made.guidance, made.seed, made.grid) == (5, 2.0, 0, (4, 4))
    assert to_work(a_request(Task.VQA), BUNDLE).max_new_tokens == 6


def test_options_that_are_given_arrive_even_if_they_are_zero():
    made = to_work(a_request(steps=2, guidance=0.0, seed=9), BUNDLE)
    assert (made.steps, made.guidance, made.seed) == (2, 0.0, 9)
    assert to_work(a_request(Task.VQA, max_new_tokens=1), BUNDLE).max_new_tokens == 1


def test_every_task_becomes_its_kind_of_engine_request():
    made = {task: to_work(a_request(task), BUNDLE) for task in Task}
    kinds = ["t2i", "inpaint", "outpaint", "vqa", "classify"]
    assert [request.kind for request in made.values()] == kinds
    assert made[Task.INPAINT].mask.sum() == 4
    assert made[Task.OUTPAINT].extension == Extension(right=2)
    assert made[Task.VQA].codes.dtype == np.int64


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([5, 6, EOT], [5, 6]),
        ([5, EOT, 6], [5]),
        ([5, 300, 373, -1, 6], [5, 6]),
        ([], []),
        ([EOT], []),
    ],
)
def test_an_answer_holds_text_only_and_ends_at_its_end(ids, kept):
    result = AnswerResult(np.array(ids, dtype=np.int64), True)
    assert to_response(a_request(Task.VQA), result, BUNDLE).text.ids.tolist() == kept


def test_a_picture_of_another_size_than_asked_for_is_a_fault():
    with pytest.raises(InternalError):
        to_response(a_request(), PictureResult(np.zeros((4, 5), np.int64)), BUNDLE)


def test_requests_share_a_batch_only_if_task_steps_and_grids_are_equal():
    def key(request):
        return batch_key(request, BUNDLE)

    assert key(a_request(seed=1)) == key(a_request(seed=2))
    assert key(a_request()) == key(a_request(steps=5))
    assert key(a_request()) != key(a_request(steps=6))
    assert key(a_request()) != key(a_request(Task.INPAINT))
    wider = replace(a_request(Task.OUTPAINT), extension=Extension(right=3))
    assert key(a_request(Task.OUTPAINT)) != key(wider)
    assert key(a_request(Task.VQA)) == key(a_request(Task.VQA, max_new_tokens=9))


def test_canvas_steps_and_tokens_are_counted():
    assert canvas_of(a_request(Task.OUTPAINT), BUNDLE) == (4, 6)
    assert expected_steps(a_request(Task.VQA), BUNDLE) == FakeDefaults().max_new_tokens
    up = [tokens_up(a_request(task)) for task in Task]
    assert up == [2, 1 + 12, 1 + 16, 3 + 16, 16]
    grid = PictureResult(np.zeros((4, 6), np.int64))
    response = to_response(a_request(Task.OUTPAINT), grid, BUNDLE)
    assert tokens_down(a_request(Task.OUTPAINT), response) == 8


# ---- results made only once ------------------------------------------------------------------


def test_equal_digests_mean_equal_work():
    base = request_digest(a_request(Task.INPAINT))
    assert request_digest(a_request(Task.INPAINT, reply=Scenario.UNIFORM)) == base
    others = [
        a_request(Task.INPAINT, seed=1),
        a_request(Task.INPAINT, steps=3),
        a_request(Task.INPAINT, guidance=1.0),
        replace(a_request(Task.INPAINT), text=text(8)),
        replace(a_request(Task.INPAINT), mask=TokenMask(np.ones((4, 4), dtype=bool))),
        Request(Task.VQA, text(7), image()),
        Request(Task.OUTPAINT, text(7), image(), extension=Extension(left=1)),
        Request(Task.OUTPAINT, text(7), image(2, 8), extension=Extension(left=1)),
        Request(Task.T2I, text(7), options=Options()),
    ]
    digests = {base, *map(request_digest, others)}
    assert len(digests) == len(others) + 1


def a_result(count=16):
    return PictureResult(np.zeros((1, count), np.int64))


def test_kept_results_are_bounded_by_count_and_the_oldest_use_goes_first():
    cache = ResultCache(2, 10**9, 10.0)
    for name in "ab":
        cache.put((name, b""), a_result())
    assert cache.get(("a", b"")) is not None
    cache.put(("c", b""), a_result())
    assert [cache.get((name, b"")) is not None for name in "abc"] == [True, False, True]


def test_kept_results_are_bounded_by_memory():
    cache = ResultCache(100, 2 * size_of(a_result()), 10.0)
    for name in "abc":
        cache.put((name, b""), a_result())
        cache.put((name, b""), a_result())
    assert len(cache) == 2
    cache.put(("huge", b""), a_result(4000))
    assert len(cache) == 0


def test_kept_results_expire():
    now = [0.0]
    cache = ResultCache(100, 10**9, 10.0, clock=lambda: now[0])
    cache.put(("a", b""), a_result())
    now[0] = 9.9
    assert cache.get(("a", b"")) is not None
    now[0] = 10.0
    assert cache.get(("a", b"")) is None
    assert len(cache) == 0


def test_a_cache_of_no_entries_keeps_nothing():
    cache = ResultCache(0, 10**9, 10.0)
    cache.put(("a", b""), a_result())
    assert cache.get(("a", b"")) is None


@pytest.mark.anyio
async def test_a_retry_with_another_reply_coder_makes_nothing_again():
    runner = FakeEngine()
    async with serving(runner=runner) as (client, _):
        first = await client.post("/v1/t2i", content=a_message(), headers=KEYED)
        body = a_message(reply=Scenario.UNIFORM)
        second = await client.post("/v1/t2i", content=body, headers=KEYED)
        streamed = await client.post("/v1/t2i", content=body, headers={**KEYED, **STREAM})
    assert len(runner.requests) == 1
    answers = [decode_response(r.content, a_request(), BUNDLE).value for r in (first, second)]
    assert answers[0] == answers[1]
    assert streamed.content.endswith(second.content)


@pytest.mark.anyio
async def test_without_a_key_work_is_done_again():
    runner = FakeEngine()
    async with serving(runner=runner) as (client, _):
        for headers, seed in ((MSGPACK, 1), (MSGPACK, 1), (KEYED, 1)):
            await client.post("/v1/t2i", content=a_message(seed=seed), headers=headers)
    assert [request.seed for request in runner.requests] == [1, 1, 1]


@pytest.mark.anyio
async def test_a_key_that_names_other_work_is_refused_while_that_is_there():
    runner = FakeEngine()
    async with serving(runner=runner) as (client, service):
        replies = [
            await client.post("/v1/t2i", content=a_message(seed=seed), headers=KEYED)
            for seed in (1, 2, 1)
        ]
        assert [reply.status_code for reply in replies] == [200, 422, 200]
        assert replies[1].json()["code"] == "invalid_input"
        assert service.kept.cancel(work_key("", "once"))
        free = await client.post("/v1/t2i", content=a_message(seed=2), headers=KEYED)
    assert free.status_code == 200
    assert [request.seed for request in runner.requests] == [1, 2]


@pytest.mark.anyio
async def test_two_requests_with_one_key_at_once_share_the_work():
    runner = GatedEngine()
    with opened(runner.gate):
        async with serving(runner=runner) as (client, service):
            posts = [
                asyncio.create_task(client.post("/v1/t2i", content=a_message(), headers=KEYED))
                for _ in range(5)
            ]
            await asyncio.to_thread(runner.started.wait, LONG_S)
            while service.inflight < 5:
                await asyncio.sleep(0.001)
            runner.gate.set()
            replies = await asyncio.gather(*posts)
    assert len(runner.requests) == 1
    assert len({reply.content for reply in replies}) == 1


@pytest.mark.anyio
async def test_a_failure_is_not_kept():
    runner = FailingEngine(InvalidInputError("no"))
    async with serving(runner=runner) as (client, _):
        for _ in range(2):
            reply = await client.post("/v1/t2i", content=a_message(), headers=KEYED)
            assert reply.status_code == 422
    assert len(runner.requests) == 2


@pytest.mark.anyio
async def test_work_that_ran_out_of_time_is_there_for_the_retry():
    runner = GatedEngine()
    with opened(runner.gate):
        async with serving(fake_settings(request_timeout=0.5), runner) as (client, _):
            first = await client.post("/v1/t2i", content=a_message(), headers=KEYED)
            runner.gate.set()
            second = await client.post("/v1/t2i", content=a_message(), headers=KEYED)
    assert (first.status_code, second.status_code) == (504, 200)
    assert len(runner.requests) == 1


# ---- the queue that is passed in ---------------------------------------------------------------


class ImmediateQueue:
    """Runs every job as it comes, on the event loop: nothing like the batcher, yet a queue."""

    def __init__(self, model, on_batch):
        self._model, self._on_batch = model, on_batch
        self.calls = []

    depth = 0

    def start(self):
        self.calls.append("start")

    def check_room(self, owner):
        self.calls.append("check_room")

    def submit(self, job, key, owner, price):
        self.calls.append(("submit", key[0]))
        ticket = Ticket(job, key, lambda: None)
        self._on_batch(1)
        ticket.done.set_result(self._model.engine.run([job])[0])
        return ticket

    def retry_after(self, owner):
        return 1.0

    def refuse(self):
        self.calls.append("refuse")

    def stop_now(self):
        self.calls.append("stop_now")

    async def close(self, grace_s):
        self.calls.append("close")


@pytest.mark.anyio
async def test_any_queue_may_stand_in_front_of_the_model():
    queues = []

    def make_queue(model, on_batch):
        queues.append(ImmediateQueue(model, on_batch))
        return queues[-1]

    service = Service(SETTINGS, fake_model, make_queue)
    await service.start()
    await service.ready()
    trace = Trace(Task.T2I)
    with service.admission():
        async with service.job(a_message(seed=3), trace, None) as job:
            data = await job.message()
    _, targets = a_request(seed=3).known(BUNDLE.grid)
    response = decode_response(data, a_request(seed=3), BUNDLE).value
    assert response.image.codes[targets].tolist() == [(n + 3) % 64 for n in range(16)]
    service.stop_now()
    await service.close(0.0)
    asked = ["start", "check_room", ("submit", Task.T2I), "stop_now", "refuse", "close"]
    assert queues[0].calls == asked


def test_a_service_that_has_not_begun_can_be_stopped_at_once():
    Service(SETTINGS, fake_model, ImmediateQueue).stop_now()
