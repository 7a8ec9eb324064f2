"""One request, one response: a turn of a conversation where the address allows it, else a POST.

It knows neither pixels nor words.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from edge_client.exchange.coded_exchange import Held, NamedBundle, SingleMessages, Stopwatch, Wishes
from edge_client.exchange.conversation import Conversation
from edge_client.transport.base import ORIGIN, NoSessionsError
from edge_client.transport.links import KEY_IN_HELLO, NAMES, open_link, scheme_of
from shared_protocol.http.contract import Preferences
from shared_protocol.http.origin import UNKNOWN
from shared_protocol.messages import Request
from shared_protocol.session.paths import route_of
from shared_protocol.tokens import ImageTokens

_POST = ("http", "https", "unix")


class BestExchange:
    """A conversation; single messages where whatever is between the ends lets none through.

    Args:
        bundle: must be the cloud's, too.
        server: its address, see `transport.links.LINKS`.
        api_key: proves who asks; None = nobody in particular.
        timeout: seconds for one turn in all, waiting and repetitions included.
        wishes: what to hear meanwhile.
        session: 8 bytes that name the conversation; None = new ones.
        turn: number of the turn that comes next.
        offers: whole pictures that the cloud may still have of this conversation.
    """

    def __init__(  # noqa: PLR0913 - what a conversation is made of; two of them resume an old one
        self,
        bundle: NamedBundle,
        server: str,
        api_key: str | None = None,
        timeout: float = 120.0,
        wishes: Wishes | None = None,
        session: bytes | None = None,
        turn: int = 0,
        offers: Sequence[ImageTokens] = (),
    ) -> None:
        scheme = scheme_of(server)
        self._bundle = bundle
        self._server = server.rstrip("/") if scheme in _POST else server
        self._api_key = api_key
        self._timeout = timeout
        self._wishes = wishes or Wishes()
        self._way = NAMES[scheme]
        self._posts: SingleMessages | None = None
        self._owned = ExitStack()
        self._said = "", ""
        self._talk = Conversation(
            bundle,
            lambda left: open_link(self._server, api_key, left, route_of(self.session)),
            timeout,
            api_key if scheme in KEY_IN_HELLO else None,
            self._wishes,
            session,
            turn,
            offers,
        )

    @property
    def way(self) -> str:
        """What carries the turns, in a word: "WebSocket", "TCP", "TLS", "pipe" or "HTTP"."""
        return self._way

    @property
    def session(self) -> bytes:
        """8 bytes that name the conversation."""
        return self._talk.state.session

    @property
    def turn(self) -> int:
        """Number of the turn that comes next."""
        return self._talk.state.turn

    def listen(self, wishes: Wishes) -> None:
        """From the next turn on hear other things; single messages go on as they began.

        A hello says what is wanted, so that another wish than before opens the link anew.
        """
        before, self._wishes = self._wishes, wishes
        self._talk.wishes = wishes
        if _told_in_hello(before) != _told_in_hello(wishes):
            self._talk.close()

    def hold(self, request: Request, watch: Stopwatch) -> Held:
        """See `Exchange.hold`."""
        self._tell_origin()
        if self._posts is None:
            try:
                return self._talk.hold(request, watch)
            except NoSessionsError:
                if scheme_of(self._server) not in _POST:
                    raise
                self._posts = self._single_messages()
        return self._posts.hold(request, watch)

    def _tell_origin(self) -> None:
        """Open the link anew for a request of another origin: turns have no place for it."""
        origin = ORIGIN.get()
        if origin is UNKNOWN and self._said == ("", ""):
            return
        said = origin.request_id, origin.trace_id
        if said != self._said and scheme_of(self._server) in _POST:
            self._talk.close()
        self._said = said

    def _single_messages(self) -> SingleMessages:
        from edge_client.transport.schemes import open_transport  # httpx takes its time

        self._way = "HTTP"
        wish = Preferences(steps=self._wishes.reports)
        opened = open_transport(self._server, self._api_key, self._timeout, wish)
        transport = self._owned.enter_context(opened)
        return SingleMessages(self._bundle, transport, self._wishes.on_step)

    def cancel(self) -> None:
        """End the turn that another thread waits for; over plain HTTP that cannot be done."""
        self._talk.cancel()

    def close(self) -> None:
        """Let go of everything; a later turn opens it again."""
        self._talk.close()
        self._owned.close()
        self._posts = None


def _told_in_hello(wishes: Wishes) -> tuple[int, bool]:
    return wishes.reports if wishes.on_step else 0, wishes.on_preview is not None
