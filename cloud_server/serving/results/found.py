"""Work that somebody asks after by its key: how far it is, or its reply.

It does not know how work is found or done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cloud_server.generation.work import Result
from cloud_server.serving.translation import ServedBundle, to_response
from shared_protocol.message.codec import encode_response
from shared_protocol.messages import Request


@dataclass(frozen=True)
class FoundJob:
    """Such work.

    Args:
        bundle: codes the reply.
        on_codec_thread: runs what would keep the event loop from other requests.
        request: what was asked.
        result: what came of it; None while it is not done.
        progress: (finished steps, all steps) while it is not done; None once it is.
    """

    bundle: ServedBundle
    on_codec_thread: Callable[..., Awaitable[Any]]
    request: Request
    result: Result | None
    progress: tuple[int, int] | None = None

    async def message(self) -> bytes:
        """The encoded response of work that is done."""
        assert self.result is not None, "asked for when it is done"
        response = to_response(self.request, self.result, self.bundle)
        encoded = await self.on_codec_thread(encode_response, response, self.request, self.bundle)
        data: bytes = encoded.data
        return data
