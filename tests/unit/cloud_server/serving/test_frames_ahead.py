"""Turns that arrive while the server looks elsewhere: none of them is lost."""

import asyncio

import pytest
from serving_fakes import a_request
from test_batcher import until
from test_conversation import Device, conversations

from shared_protocol.tasks import Task

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("moments", range(6))
async def test_a_turn_that_comes_in_the_moment_of_a_reply_is_not_lost(moments):
    """As from a device that is faster than the server's next look at what it has sent."""
    async with conversations() as talks:
        device = Device(talks)
        await device.open()
        requests = [a_request(Task.T2I, seed=seed) for seed in range(3)]
        answered = []

        async def send(frame):
            device.link.down.put_nowait(frame)
            answered.append(await device.reply(requests[len(answered)]))
            if len(answered) < len(requests):
                device.send(requests[len(answered)])
            for _ in range(moments):
                await asyncio.sleep(0)

        device.link.send = send
        device.send(requests[0])
        await until(lambda: len(answered) == len(requests))
        assert all(hasattr(each, "image") for each in answered)
