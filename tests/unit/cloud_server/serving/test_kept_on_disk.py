"""Named work of a server with a folder of results: found, forgotten and bounded, over restarts."""

import asyncio

import pytest
from serving_fakes import (
    MSGPACK,
    FailingEngine,
    FakeEngine,
    GatedEngine,
    a_message,
    a_request,
    fake_settings,
    opened,
    serving,
)
from test_batcher import until

from cloud_server.serving.results.kept import KeptWork
from shared_protocol.errors import InvalidInputError, PromptError
from shared_protocol.message.parameters import request_digest
from shared_protocol.tasks import Task

pytestmark = pytest.mark.anyio
KEYED = {**MSGPACK, "Idempotency-Key": "once"}


async def ask(client, seed=3, key="once"):
    headers = {**MSGPACK, "Idempotency-Key": key}
    return await client.post("/v1/t2i", content=a_message(seed=seed), headers=headers)


def replays(metrics):
    (line,) = [each for each in metrics.splitlines() if each.startswith("unimic_replays_total ")]
    return float(line.split()[1])


async def test_a_retry_after_a_restart_costs_no_work_and_a_deleted_result_does(tmp_path):
    settings = fake_settings(results_folder=tmp_path / "r")
    first, second, third, fourth = (FakeEngine() for _ in range(4))
    async with serving(settings, first) as (client, _):
        made = await ask(client)
    async with serving(settings, second) as (client, service):
        again = await ask(client)
        found = await client.get("/v1/jobs/once")
        assert len(service.kept._results) == 1, "it is in memory now"
        assert (await ask(client, 5, "other")).status_code == 200
    async with serving(settings, third) as (client, _):
        assert (await client.get("/v1/jobs/once")).status_code == 404, "nobody has asked yet"
        assert (await ask(client)).status_code == 200
        assert (await client.delete("/v1/jobs/once")).status_code == 204
    async with serving(settings, fourth) as (client, _):
        assert (await ask(client)).content == made.content
        assert (await ask(client, 5, "other")).status_code == 200
    assert made.content == again.content == found.content
    assert [len(each.requests) for each in (first, second, third, fourth)] == [1, 1, 0, 1]
    assert second.requests[0].seed == 5


async def test_without_a_folder_a_restart_forgets():
    engines = FakeEngine(), FakeEngine()
    for engine in engines:
        async with serving(runner=engine) as (client, _):
            assert (await ask(client)).status_code == 200
    assert [len(each.requests) for each in engines] == [1, 1]


async def test_names_are_remembered_as_many_as_may_be_kept_or_under_way():
    kept = KeptWork(fake_settings(cache_entries=2, max_inflight=1, max_queue=1))
    request = a_request()
    for name in ("one", "two", "three"):
        assert await kept.known((name, request_digest(request)), request) is None
    await kept.known(("one", request_digest(request)), request)
    await kept.known(("four", request_digest(request)), request)
    assert list(kept._asked) == ["three", "one", "four"]
    assert [kept.cancel(name) for name in ("two", "one")] == [False, False]
    assert kept.find("three") is None


async def test_a_name_is_of_its_work_while_that_is_under_way_or_known_and_free_after_a_failure():
    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(runner=engine) as (client, service):
            asking = asyncio.create_task(ask(client, 3))
            await until(engine.started.is_set)
            other = await ask(client, 4)
            assert (other.status_code, other.json()["code"]) == (422, "invalid_input")
            assert "Idempotency-Key" in other.json()["message"]
            assert (await client.get("/v1/jobs/once")).status_code == 202
            engine.gate.set()
            assert (await asking).status_code == 200
            assert (await ask(client, 4)).status_code == 422
            name = next(iter(service.kept._asked))
            with pytest.raises(InvalidInputError, match="another request"):
                service.kept.check_same(name, a_request(Task.VQA))
            service.kept.check_same("never asked", a_request(Task.VQA))
            assert (await client.delete("/v1/jobs/once")).status_code == 204
            assert (await ask(client, 4)).status_code == 200
    async with serving(runner=FailingEngine(PromptError("no"))) as (client, _):
        assert [(await ask(client, seed)).json()["code"] for seed in (3, 4)] == ["bad_prompt"] * 2
        assert (await client.get("/v1/jobs/once")).status_code == 404


async def test_work_of_a_name_is_kept_as_long_as_the_settings_say_and_told_as_known():
    async with serving(fake_settings(keep_lost=12.5)) as (client, service):
        tickets, submit = [], service._queue.submit

        def noted(*parts):
            tickets.append(submit(*parts))
            return tickets[-1]

        service._queue.submit = noted
        before = await client.get("/metrics")
        assert (await ask(client)).status_code == 200
        assert (await ask(client)).status_code == 200
        await client.post("/v1/t2i", content=a_message(seed=9), headers=MSGPACK)
        after = await client.get("/metrics")
    assert [ticket.keep_s for ticket in tickets] == [12.5, 0.0]
    assert replays(after.text) - replays(before.text) == 1
