"""What a conversation needs of a link, and frames of it that nobody loses.

It does not know what a frame says.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class LinkClosedError(Exception):
    """The other end is gone."""


class FrameLink(Protocol):
    """Carries whole frames."""

    async def receive(self) -> bytes:
        """The next frame; raises `LinkClosedError`, or `LimitError` for one that is too long."""

    async def send(self, frame: bytes) -> None:
        """Send one frame; returns when the link can take more."""


class FramesAhead:
    """The frames of a link, of which the next may be waited for without being taken.

    A receive that is given up would lose a frame that came in the same moment.

    Args:
        link: read by nobody else.
    """

    def __init__(self, link: FrameLink) -> None:
        self._link = link
        self._coming: asyncio.Future[bytes] | None = None

    def coming(self) -> asyncio.Future[bytes]:
        """The next frame, or what keeps it from coming; not to be cancelled."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._link.receive())
        return self._coming

    async def take(self) -> bytes:
        """The next frame; given up, it stays the next one."""
        await asyncio.wait({self.coming()})
        taken, self._coming = self.coming(), None
        return taken.result()

    async def close(self) -> None:
        """Wait for no frame any more."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
