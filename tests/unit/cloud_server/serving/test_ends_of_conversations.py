"""How conversations end, what a turn that fails leaves, and pictures shown while they are made."""

import asyncio
import time

import numpy as np
import pytest
from serving_fakes import (
    BUNDLE,
    FailingEngine,
    FakeEngine,
    GatedEngine,
    SlowEngine,
    a_request,
    fake_result,
    opened,
)
from test_batcher import until
from test_conversation import SESSION, Device, Link, conversations

from cloud_server.serving.conversation import Conversations
from cloud_server.serving.frame_link import LinkClosedError
from shared_protocol.errors import InvalidInputError, LimitError, OverloadedError
from shared_protocol.session.hello import Status
from shared_protocol.session.kinds import DOWN_ODDS, Down
from shared_protocol.session.port import Reader
from shared_protocol.session.previews import Preview
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_reply
from shared_protocol.tasks import Task

pytestmark = pytest.mark.anyio


def exposed(talks):
    return talks.service.metrics.expose(0, 0).decode()


def counted(talks, status, task="t2i"):
    return f'unimic_requests_total{{status="{status}",task="{task}"}} 1.0' in exposed(talks)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (LimitError("a frame is over the limit"), "conversation ended: over_limit"),
        (RuntimeError("secret detail"), "conversation failed"),
        (TimeoutError(), None),
    ],
)
async def test_a_link_that_fails_ends_its_conversation_and_no_other(caplog, error, line):
    caplog.set_level("INFO")

    class Failing(Link):
        async def receive(self):
            raise error

    async with conversations() as talks:
        await asyncio.wait_for(talks.serve(Failing()), 10)
        assert [each for each in caplog.messages if "conversation" in each] == [line] * bool(line)
        assert talks.open == 0
        assert (await Device(talks).open()).status is Status.OPEN


async def test_a_fault_of_the_work_is_told_with_its_number_and_the_conversation_goes_on(caplog):
    engine = FailingEngine(ValueError("secret detail"))
    async with conversations(engine) as talks:
        device = Device(talks)
        await device.open()
        for _ in range(2):
            error = await device.ask(a_request(Task.T2I))
            assert error.code == "internal"
            assert "secret detail" not in error.message
            number = error.message.partition("incident ")[2].rstrip(")")
            assert f"incident {number}" in caplog.text
            assert "number" in error.remedy
        await device.leave()
        assert 'unimic_requests_total{status="500",task="t2i"} 2.0' in exposed(talks)
        assert talks.busy == 0


async def test_a_time_limit_of_the_works_own_is_a_fault_and_no_deadline():
    async with conversations(FailingEngine(TimeoutError("of a socket"))) as talks:
        device = Device(talks)
        await device.open()
        assert (await device.ask(a_request(Task.T2I))).code == "internal"


async def test_a_turn_over_its_time_limit_is_told_so():
    engine = GatedEngine()
    with opened(engine.gate):
        async with conversations(engine, request_timeout=0.05) as talks:
            device = Device(talks)
            await device.open()
            error = await device.ask(a_request(Task.T2I))
            assert (error.code, error.message) == ("deadline", "it took longer than 0.05 s")
            assert "fewer steps" in error.remedy
            await until(lambda: counted(talks, 504))


async def test_a_turn_whose_device_is_gone_is_counted_as_such():
    engine = GatedEngine()
    with opened(engine.gate):
        async with conversations(engine) as talks:
            device = Device(talks)
            await device.open()
            device.send(a_request(Task.T2I))
            await until(engine.started.is_set)
            await device.leave()
            assert counted(talks, 499)


@pytest.mark.parametrize("first", [Task.VQA, Task.T2I])
async def test_a_refusal_of_what_may_have_been_misread_makes_both_ends_forget_first(first):
    async with conversations(max_steps=10) as talks:
        device = Device(talks)
        await device.open()
        await device.ask(a_request(first))
        assert await device.ask(a_request(Task.T2I, steps=50)) is Down.UNKNOWN
        assert 'status="400"' in exposed(talks)
        device.state = device.state.restart(device.state.turn)
        error = await device.ask(a_request(Task.T2I, steps=50))
        assert isinstance(error, InvalidInputError)
        assert (await device.ask(a_request(Task.T2I, steps=10))).image is not None


@pytest.mark.parametrize(("most", "of_one"), [(1, 1), (2, 1), (4, 3), (8, 6)])
async def test_one_address_may_have_three_quarters_of_all_conversations(most, of_one):
    async with conversations(max_sessions=most) as talks:

        async def opened_from(address):
            device = Device(talks, session=address.ljust(8).encode()[:8])
            device.serving.cancel()
            device.serving = asyncio.create_task(talks.serve(device.link, address=address))
            return await device.open()

        for _ in range(of_one):
            assert (await opened_from("one")).status is Status.OPEN
        refused = await opened_from("one")
        assert isinstance(refused.error, OverloadedError)
        assert refused.error.retry_after == 2.0
        assert f"{of_one} " in refused.error.message
        for number in range(most - of_one):
            assert (await opened_from(f"o{number}")).status is Status.OPEN
        assert talks.open == most
        assert (await opened_from("late")).status is Status.ERROR


async def test_a_refusal_that_nobody_takes_is_no_fault():
    class Deaf(Link):
        async def send(self, frame):
            raise LinkClosedError

    async with conversations(max_sessions=1) as talks:
        await Device(talks).open()
        await asyncio.wait_for(talks.serve(Deaf()), 10)
        assert talks.open == 1


async def test_draining_ends_at_once_where_nothing_is_under_way_and_else_when_its_time_is_over():
    async with conversations() as talks:
        started = time.monotonic()
        await talks.drain(10.0)
        assert time.monotonic() - started < 5
        async with talks.turn():
            async with talks.turn():
                assert talks.busy == 2
            assert talks.busy == 1
            waiting = asyncio.create_task(talks.drain(10.0))
            await asyncio.sleep(0)
            assert not waiting.done()
            await talks.drain(0.001)
        await asyncio.wait_for(waiting, 5)
        assert talks.busy == 0


# ------------------------------------------------------------------------------------------------
# Pictures while they are made
# ------------------------------------------------------------------------------------------------


class Showing(FakeEngine):
    """Shows its picture at every step."""

    def work(self, requests, on_step):
        (request,) = requests
        for step in range(1, 9):
            if getattr(request, "watch", None) is not None:
                request.watch(fake_result(request).codes)
            time.sleep(0.01)
            on_step(step, 8)


async def frames_of(device, request):
    """The kinds of all frames of a turn, what was shown, and the reply."""
    state = SessionState(device.state.session, device.state.turn, device.state.pictures)
    preview = Preview.of(request, state, BUNDLE)
    device.send(request)
    kinds = []
    while True:
        data = await device.frame()
        reader = Reader(data)
        kinds.append(Down(reader.symbol(DOWN_ODDS)))
        if kinds[-1] is Down.PREVIEW:
            preview.decode(reader)
        elif kinds[-1] is not Down.PROGRESS:
            break
    answer = decode_reply(reader, len(data), request, device.state, BUNDLE).response
    device.state = device.state.after(request, device.reference, answer)
    return kinds, preview, answer


async def test_a_picture_is_shown_once_whole_where_that_is_wished():
    async with conversations(Showing()) as talks:
        device = Device(talks, progress=4, previews=True)
        await device.open()
        kinds, preview, answer = await frames_of(device, a_request(Task.T2I, seed=4))
        assert kinds[:2] == [Down.PROGRESS, Down.PREVIEW]
        assert kinds.count(Down.PREVIEW) == 1, "all 16 tokens of it are in one frame"
        assert kinds.count(Down.PROGRESS) > 1
        assert preview.shown.all()
        assert np.array_equal(preview.codes, answer.image.codes)
        kinds, _, answer = await frames_of(device, a_request(Task.VQA))
        assert kinds == [Down.REPLY]
        assert answer.text is not None
        await device.leave()
        lines = exposed(talks).splitlines()
        (down,) = [line for line in lines if 'body_bytes_total{direction="down"}' in line]
        assert float(down.split()[-1]) > 16 * 2


@pytest.mark.parametrize(
    ("engine", "hello"),
    [
        (Showing(), {"progress": 4}),
        (Showing(), {"previews": True}),
        (SlowEngine(0.01), {"progress": 4, "previews": True}),
    ],
    ids=["no wish", "no progress", "nothing to show"],
)
async def test_else_nothing_is_shown(engine, hello):
    async with conversations(engine) as talks:
        device = Device(talks, **hello)
        await device.open()
        kinds, _, answer = await frames_of(device, a_request(Task.T2I, seed=4))
        assert Down.PREVIEW not in kinds
        assert (Down.PROGRESS in kinds) == ("progress" in hello)
        assert answer.image is not None


async def test_two_conversations_of_one_host_keep_their_pictures_within_its_limits():
    async with conversations(picture_bytes=1, picture_total=1) as talks:
        assert isinstance(talks, Conversations)
        device = Device(talks)
        await device.open()
        await device.ask(a_request(Task.VQA))
        pictures = device.state.pictures
        await device.leave()
        again = Device(talks, session=SESSION)
        assert (await again.open(pictures)).known == (False,)
