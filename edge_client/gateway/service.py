"""What the paths of a gateway share: its settings, sessions, pictures and work under way.

It knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from edge_client.gateway.requests.fetching import fetch_picture
from edge_client.gateway.requests.pictures import PictureReader
from edge_client.gateway.settings import GatewaySettings
from edge_client.gateway.work.asker import Asker
from edge_client.gateway.work.jobs import Jobs
from edge_client.gateway.work.known_pictures import KnownPictures
from edge_client.gateway.work.maker import PictureMaker
from edge_client.gateway.work.session_pool import SessionPool
from edge_client.session.session import Session
from shared_protocol.bundles.bundle import Bundle

OWNER = "unimic"


class Gateway:
    """A device's way to a cloud, for applications.

    Args:
        settings: how it listens and what it lets in.
        make_session: makes a session with the cloud of one bundle.
        bundle: that bundle.
        server: the cloud's address, for people.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        make_session: Callable[[], Session],
        bundle: Bundle,
        server: str,
    ) -> None:
        self.settings = settings
        self.bundle = bundle
        self.server = server
        self.url = ""
        self.pool = SessionPool(make_session, settings.sessions)
        self.known = KnownPictures(bundle)
        self.maker = PictureMaker(self.pool, self.known, min(bundle.grid))
        self.asker = Asker(self.pool, self.known)
        fetch = fetch_picture if settings.allow_fetch else None
        self.reader = PictureReader(self._made, fetch)

    @property
    def model(self) -> str:
        """What the only model is called."""
        return f"{OWNER}-{self.bundle.name}"

    @cached_property
    def jobs(self) -> Jobs:
        """Work under way."""
        return Jobs(self.settings.sessions + self.settings.queue)

    def told_of_model(self, asked: str | None) -> tuple[str, ...]:
        """A warning where another model was asked for."""
        if not isinstance(asked, str) or asked in ("", self.model):
            return ()
        return (f"model {asked[:80]!r} is not here: {self.model} answers",)

    def close(self) -> None:
        """End all work and let go of the cloud."""
        self.jobs.close()
        self.pool.close()

    def _made(self, name: str) -> bytes | None:
        found = self.known.round(name)
        return self.known.picture_of_talk(name) if found is None else found.data
