"""One exchange in tokens with the server, for measurements that hold tokens from round to round.

It does not know pixels or words: a request goes up and a response comes down, as in `client`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_client.exchange.coded_exchange import CodedExchange, NamedBundle, Stopwatch, Wire
from edge_client.transport.base import Transport
from shared_protocol.message.anatomy import Anatomy
from shared_protocol.messages import Request, Response


@dataclass(frozen=True, eq=False)
class Exchange:
    """What came of a request.

    Args:
        response: what was answered.
        uplink, downlink: what the two messages are made of.
        wire: body bytes both ways, retries and progress included.
        milliseconds: time by stage, as in `report.STAGES`.
    """

    response: Response
    uplink: Anatomy
    downlink: Anatomy
    wire: Wire
    milliseconds: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(self.milliseconds.values()) / 1000.0


def exchange(bundle: NamedBundle, transport: Transport, request: Request) -> Exchange:
    """Send `request` and decode the response.

    Raises:
        UnimicError: whatever went wrong.
    """
    watch = Stopwatch()
    talk = CodedExchange(bundle, transport, None, watch)
    uplink, downlink = talk.hold(request)
    return Exchange(
        downlink.value, uplink.anatomy, downlink.anatomy, talk.wire, dict(watch.milliseconds)
    )
