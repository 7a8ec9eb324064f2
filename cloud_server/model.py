"""A loaded model: everything that serving needs at hand, behind protocols.

It does not know how it was loaded, nor what it is used for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from cloud_server import engine
from cloud_server.translation import ServedBundle
from shared_protocol import codec
from shared_protocol.messages import Request, Response
from shared_protocol.tasks import Scenario


class Runner(Protocol):
    """The part of `engine.Engine` that serving needs."""

    def run(
        self, requests: Sequence[engine.Request], on_step: engine.OnStep | None = None
    ) -> Sequence[engine.Result]: ...


class MessageCodec(Protocol):
    """Messages to values and back, for one bundle; byte counts by part come along."""

    def decode(self, data: bytes) -> tuple[Request, Mapping[str, float]]: ...

    def encode(
        self, response: Response, request: Request, scenario: Scenario | None
    ) -> tuple[bytes, Mapping[str, float]]: ...


@dataclass(frozen=True)
class Model:
    """Everything that is loaded, ready to serve.

    Args:
        bundle: what both ends share.
        engine: the model.
        codec: messages of this bundle.
        device: where the model runs, in words.
        max_batch: most requests in one pass.
        scenarios: the entropy models of the bundle.
        entropy: what /v1/info says about the entropy models.
    """

    bundle: ServedBundle
    engine: Runner
    codec: MessageCodec
    device: str
    max_batch: int
    scenarios: Sequence[Scenario]
    entropy: Mapping[str, Any]


class BundleCodec:
    """`shared_protocol.codec` for one bundle.

    Args:
        bundle: what both ends share.
    """

    def __init__(self, bundle: codec.CodecBundle) -> None:
        self._bundle = bundle

    def decode(self, data: bytes) -> tuple[Request, Mapping[str, float]]:
        """See `codec.decode_request`."""
        decoded = codec.decode_request(data, self._bundle)
        return decoded.value, asdict(decoded.anatomy.sizes)

    def encode(
        self, response: Response, request: Request, scenario: Scenario | None
    ) -> tuple[bytes, Mapping[str, float]]:
        """See `codec.encode_response`."""
        encoded = codec.encode_response(response, request, self._bundle, scenario)
        return encoded.data, asdict(encoded.anatomy.sizes)
