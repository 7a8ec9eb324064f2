"""The cloud's end of a conversation, over a link in memory and with an engine that is none."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest
from serving_fakes import (
    BUNDLE,
    FakeEngine,
    GatedEngine,
    SlowEngine,
    a_request,
    fake_model,
    fake_settings,
    opened,
)
from test_batcher import until

from cloud_server.serving.batcher import batching_queue
from cloud_server.serving.conversation import Conversations
from cloud_server.serving.frame_link import LinkClosedError
from cloud_server.serving.service import Service
from shared_protocol.errors import InvalidInputError, OverloadedError, UnauthorizedError
from shared_protocol.session.frames import decode_error, decode_unknown, encode_cancel, encode_reset
from shared_protocol.session.hello import Hello, Status, decode_welcome, encode_hello
from shared_protocol.session.kinds import DOWN_ODDS, Down
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_reply, encode_turn
from shared_protocol.tasks import Task

pytestmark = pytest.mark.anyio
SESSION = b"sessions"
PREFIX = BUNDLE.fingerprint[:4]


class Link:
    """Both ends of a link in memory."""

    def __init__(self):
        self.up, self.down = asyncio.Queue(), asyncio.Queue()

    async def receive(self):
        data = await self.up.get()
        if data is None:
            raise LinkClosedError
        return data

    async def send(self, frame):
        self.down.put_nowait(frame)


class Device:
    """The device's end, as simple as can be."""

    def __init__(self, conversations, **hello):
        self.link = Link()
        self.state = SessionState(hello.pop("session", SESSION))
        self.serving = asyncio.create_task(conversations.serve(self.link))
        self._hello = hello

    async def open(self, offers=()):
        names = tuple(picture.name for picture in offers)
        hello = Hello(self._hello.pop("fingerprint", PREFIX), self.state.session,
                      self.state.turn, offers=names, **self._hello)  # fmt: skip
        self.link.up.put_nowait(encode_hello(hello))
        welcome = decode_welcome(await self.frame(), len(names))
        known = [p for p, there in zip(offers, welcome.known, strict=False) if there]
        self.state = self.state.restart(self.state.turn, known)
        return welcome

    async def frame(self):
        return await asyncio.wait_for(self.link.down.get(), 10)

    async def ask(self, request):
        self.send(request)
        return await self.reply(request)

    def send(self, request):
        self.turn, self.reference = encode_turn(request, self.state, BUNDLE)
        self.link.up.put_nowait(self.turn.data)

    async def reply(self, request):
        data = await self.frame()
        reader = Reader(data)
        kind = reader.symbol(DOWN_ODDS)
        if kind == Down.ERROR:
            return decode_error(reader)
        if kind != Down.REPLY:
            return Down(kind)
        answer = decode_reply(reader, len(data), request, self.state, BUNDLE)
        self.state = self.state.after(request, self.reference, answer.response)
        return answer.response

    async def leave(self):
        self.link.up.put_nowait(None)
        await asyncio.wait_for(self.serving, 10)


@asynccontextmanager
async def conversations(runner=None, **settings):
    chosen = fake_settings(**settings)
    service = Service(chosen, lambda: fake_model(runner), partial(batching_queue, chosen))
    await service.start()
    await service.ready()
    try:
        yield Conversations(service)
    finally:
        await service.close(0.0)


async def test_turns_follow_each_other_and_pictures_are_named():
    engine = FakeEngine()
    async with conversations(engine) as talks:
        device = Device(talks)
        assert (await device.open()).status is Status.OPEN
        made = await device.ask(a_request(Task.T2I, seed=4))
        size = len(device.turn.data)
        assert made.image.shape == (4, 4)
        question = await device.ask(a_request(Task.VQA))
        assert question.text is not None
        wide = await device.ask(a_request(Task.OUTPAINT))
        assert wide.image.shape == (4, 6)
        assert device.turn.anatomy.counts.image_codes == 0
        assert size > 0
        assert device.state.turn == 3
        assert [work.kind for work in engine.requests] == ["t2i", "vqa", "outpaint"]
        await device.leave()
        assert talks.open == 0


async def test_a_new_link_names_pictures_that_the_cloud_still_has():
    async with conversations() as talks:
        device = Device(talks)
        await device.open()
        await device.ask(a_request(Task.VQA))
        pictures = device.state.pictures
        await device.leave()
        again = Device(talks)
        again.state = again.state.restart(1)
        assert (await again.open(pictures)).known == (True,)
        await again.ask(a_request(Task.VQA))
        assert again.turn.anatomy.counts.image_codes == 0
        talks.pictures.clear()
        third = Device(talks)
        assert (await third.open(pictures)).known == (False,)
        await third.ask(a_request(Task.VQA))
        assert third.turn.anatomy.counts.image_codes == 16


async def test_a_picture_of_another_conversation_is_unknown_without_keys():
    async with conversations() as talks:
        device = Device(talks)
        await device.open()
        await device.ask(a_request(Task.VQA))
        other = Device(talks, session=b"another1")
        assert (await other.open(device.state.pictures)).known == (False,)


async def test_with_keys_a_picture_is_known_under_its_own_key_only(tmp_path):
    (tmp_path / "keys").write_text("ann key-a\nbob key-b\n")
    async with conversations(api_keys=tmp_path / "keys") as talks:
        device = Device(talks, key="key-a")
        await device.open()
        await device.ask(a_request(Task.VQA))
        tab = Device(talks, key="key-a", session=b"another1")
        assert (await tab.open(device.state.pictures)).known == (True,)
        stranger = Device(talks, key="key-b", session=SESSION)
        assert (await stranger.open(device.state.pictures)).known == (False,)
        nobody = Device(talks)
        welcome = await nobody.open()
        assert isinstance(welcome.error, UnauthorizedError)
        await asyncio.wait_for(nobody.serving, 10)


async def test_a_turn_that_is_repeated_runs_the_model_once():
    engine = FakeEngine()
    async with conversations(engine) as talks:
        for _ in range(3):
            device = Device(talks)
            await device.open()
            made = await device.ask(a_request(Task.T2I, seed=4))
            assert made.image is not None
            await device.leave()
        assert len(engine.batches) == 1


async def test_a_link_that_breaks_in_mid_turn_leaves_work_that_a_new_one_finds():
    engine = GatedEngine()
    with opened(engine.gate):
        async with conversations(engine) as talks:
            device = Device(talks)
            await device.open()
            device.send(a_request(Task.T2I, seed=4))
            await until(engine.started.is_set)
            await device.leave()
            engine.gate.set()
            again = Device(talks)
            await again.open()
            assert (await again.ask(a_request(Task.T2I, seed=4))).image is not None
            assert len(engine.batches) == 1


async def test_a_cancelled_turn_ends_its_work_and_the_next_one_is_served():
    engine = GatedEngine()
    with opened(engine.gate):
        async with conversations(engine) as talks:
            device = Device(talks)
            await device.open()
            request = a_request(Task.T2I, seed=4)
            device.send(request)
            await until(engine.started.is_set)
            device.link.up.put_nowait(encode_cancel(device.state))
            error = await device.reply(request)
            assert error.code == "cancelled"
            engine.gate.set()
            assert (await device.ask(a_request(Task.T2I, seed=5))).image is not None
            assert engine.steps_done < 10


async def test_a_cancel_that_comes_too_late_changes_nothing():
    async with conversations() as talks:
        device = Device(talks)
        await device.open()
        await device.ask(a_request(Task.T2I))
        device.link.up.put_nowait(encode_cancel(device.state))
        assert (await device.ask(a_request(Task.T2I, seed=2))).image is not None


async def test_a_frame_that_cannot_be_read_makes_both_ends_forget():
    async with conversations() as talks:
        device = Device(talks)
        await device.open()
        await device.ask(a_request(Task.VQA))
        for broken in (b"", b"\x12\x34", device.turn.data):
            device.link.up.put_nowait(broken)
            data = await device.frame()
            reader = Reader(data)
            assert reader.symbol(DOWN_ODDS) == Down.UNKNOWN
            decode_unknown(reader, SESSION)
        device.state = device.state.restart(device.state.turn)
        assert (await device.ask(a_request(Task.VQA))).text is not None
        assert device.turn.anatomy.counts.image_codes == 16


async def test_a_reset_takes_the_cloud_back_to_a_turn():
    async with conversations() as talks:
        device = Device(talks)
        await device.open()
        before = device.state
        await device.ask(a_request(Task.VQA))
        device.link.up.put_nowait(encode_reset(before))
        device.state = before
        assert (await device.ask(a_request(Task.VQA))).text is not None


async def test_what_the_server_will_not_do_is_told_and_the_conversation_goes_on():
    async with conversations(max_steps=10) as talks:
        device = Device(talks)
        await device.open()
        error = await device.ask(a_request(Task.T2I, steps=50))
        assert isinstance(error, InvalidInputError)
        assert "50" in error.message
        assert "10" in error.remedy
        assert (await device.ask(a_request(Task.T2I, steps=10))).image is not None


async def test_a_second_turn_before_the_first_reply_is_no_turn():
    engine = GatedEngine()
    with opened(engine.gate):
        async with conversations(engine) as talks:
            device = Device(talks)
            await device.open()
            device.send(a_request(Task.T2I, seed=4))
            await until(engine.started.is_set)
            device.send(a_request(Task.T2I, seed=5))
            assert (await device.reply(None)).code == "bad_message"


async def test_another_bundle_is_told_with_its_whole_name():
    async with conversations() as talks:
        device = Device(talks, fingerprint=b"none")
        welcome = await device.open()
        assert (welcome.status, welcome.fingerprint) == (Status.BUNDLE, BUNDLE.fingerprint)
        await asyncio.wait_for(device.serving, 10)


async def test_an_older_or_newer_device_is_told_our_version():
    async with conversations() as talks:
        device = Device(talks)
        device.link.up.put_nowait(b"\x07" + bytes(14))
        assert decode_welcome(await device.frame(), 0).status is Status.VERSION
        await asyncio.wait_for(device.serving, 10)


async def test_a_hello_that_never_comes_ends_the_connection():
    async with conversations(hello_timeout=0.01) as talks:
        device = Device(talks)
        await asyncio.wait_for(device.serving, 10)
        assert talks.open == 0


async def test_a_silent_conversation_is_ended():
    async with conversations(session_idle=0.05) as talks:
        device = Device(talks)
        await device.open()
        await asyncio.wait_for(device.serving, 10)


async def test_a_reader_that_takes_nothing_does_not_hold_the_server():
    class Stuck(Link):
        async def send(self, frame):
            if self.down.qsize():
                await asyncio.Event().wait()
            self.down.put_nowait(frame)

    async with conversations(request_timeout=0.1, hello_timeout=0.1) as talks:
        device = Device(talks)
        device.serving.cancel()
        device.link = Stuck()
        device.serving = asyncio.create_task(talks.serve(device.link))
        device.link.up.put_nowait(encode_hello(Hello(PREFIX, SESSION)))
        await until(lambda: device.link.down.qsize() == 1)
        device.send(a_request(Task.T2I))
        await asyncio.wait_for(device.serving, 10)
        assert talks.open == 0
        assert talks.busy == 0


async def test_too_many_conversations_are_refused_with_a_time_to_wait():
    async with conversations(max_sessions=1) as talks:
        first = Device(talks)
        await first.open()
        error = (await Device(talks).open()).error
        assert isinstance(error, OverloadedError)
        assert error.retry_after


async def test_draining_waits_for_the_turn_under_way():
    engine = GatedEngine()
    async with conversations(engine) as talks:
        device = Device(talks)
        await device.open()
        device.send(a_request(Task.T2I))
        await until(engine.started.is_set)
        talks.service.refuse()
        drained = asyncio.create_task(talks.drain(10.0))
        await asyncio.sleep(0.05)
        assert not drained.done()
        engine.gate.set()
        await drained
        assert talks.busy == 0
        assert (await device.reply(a_request(Task.T2I))).image is not None
        error = await device.ask(a_request(Task.T2I, seed=2))
        assert isinstance(error, OverloadedError)


@pytest.mark.parametrize("count", [0, 1, 4, 15])
async def test_at_most_as_many_reports_come_as_were_asked_for(count):
    async with conversations(SlowEngine(0.004)) as talks:
        device = Device(talks, progress=count)
        await device.open()
        device.send(a_request(Task.T2I, steps=50))
        seen = 0
        while await device.reply(a_request(Task.T2I, steps=50)) is Down.PROGRESS:
            seen += 1
        assert seen == count
        device.send(a_request(Task.VQA))
        assert await device.reply(a_request(Task.VQA)) is not Down.PROGRESS


async def test_a_turn_has_its_line_in_the_log_without_what_was_said(caplog):
    caplog.set_level("INFO")
    async with conversations() as talks:
        device = Device(talks)
        await device.open()
        await device.ask(a_request(Task.VQA))
        await device.leave()
    lines = [line for line in caplog.messages if "session=" in line]
    assert len(lines) == 1
    assert f"session={SESSION.hex()[:8]} turn=0 task=vqa status=200" in lines[0]
