"""The edge of a pipeline that sends pixels: code, send, decode, and count every byte.

It does not know how the cloud makes a picture, nor how a rate is chosen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

import httpx

from edge_client.client import EdgeBundle
from edge_client.evaluation.codecs import find_codec
from edge_client.evaluation.pixel_loop.gateway import CODEC_HEADER
from edge_client.evaluation.pixel_loop.message import (
    PixelParts,
    PixelRequest,
    pack_request,
    unpack_answer,
)
from edge_client.transport.counted_http import CountedHttp
from shared_protocol.errors import TransportError, error_from_wire
from shared_protocol.http.contract import task_path
from shared_protocol.tasks import Task
from shared_protocol.tokenizers.image import Pixels


@dataclass(frozen=True, eq=False)
class PixelExchange:
    """One request over the pixel hop.

    Args:
        up: the request's body by parts.
        down: bytes of the reply's body.
        down_header: of them, what the codec counts as header.
        wire_up, wire_down: all that went over the connection, HTTP headers included.
        pixels: (H, W, 3) uint8 as the edge sees them; None for vqa.
        answer: in words; None for the others.
        seconds: from the request to the decoded reply; coding the request is not in it.
    """

    up: PixelParts
    down: int
    down_header: int
    wire_up: int
    wire_down: int
    pixels: Pixels | None
    answer: str | None
    seconds: float


class PixelClient:
    """Talks to a `PixelGateway` over one kept-alive connection.

    Args:
        url: of the gateway.
        bundle: for its text and mask coders.
        timeout: seconds for one exchange.
    """

    def __init__(self, url: str, bundle: EdgeBundle, timeout: float = 600.0) -> None:
        self._url = url
        self._bundle = bundle
        self._handler = CountedHttp()
        self._client = httpx.Client(transport=self._handler, timeout=timeout, trust_env=False)

    def __enter__(self) -> PixelClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(
        self,
        task: Task,
        request: PixelRequest,
        codec: str,
        target: float = 1.0,
        setting: float | None = None,
    ) -> PixelExchange:
        """Send a request whose picture is coded already, and decode the reply.

        Args:
            task: any but STORE.
            request: with its coded picture.
            codec: name of the one that coded it, such as "vvc/2"; the reply's is of its kind.
            target: picture bytes that the reply should have.
            setting: of the reply's codec instead.

        Raises:
            UnimicError: what the gateway answered instead, or why it could not be reached.
        """
        start = time.perf_counter()
        body, parts = pack_request(request, self._bundle)
        sent, received = self._handler.sent, self._handler.received
        query = {"codec": codec, "target": f"{target:g}"}
        if setting is not None:
            query["setting"] = f"{setting:g}"
        data, replied = self._post(task, body, query)
        coder = find_codec(replied) if replied else None
        return PixelExchange(
            up=parts,
            down=len(data),
            down_header=0 if coder is None else coder.header_bytes(data),
            wire_up=self._handler.sent - sent,
            wire_down=self._handler.received - received,
            pixels=None if coder is None else coder.decode(data),
            answer=self._words(data) if coder is None else None,
            seconds=time.perf_counter() - start,
        )

    def _post(self, task: Task, body: bytes, query: dict[str, str]) -> tuple[bytes, str]:
        try:
            reply = self._client.post(f"{self._url}{task_path(task)}", params=query, content=body)
        except httpx.HTTPError as error:
            raise TransportError(f"cannot talk to {self._url}: {error}", "try again") from error
        if reply.status_code != 200:
            raise error_from_wire(reply.json())
        return reply.content, reply.headers.get(CODEC_HEADER, "")

    def _words(self, data: bytes) -> str:
        return self._bundle.text_tokenizer.decode(unpack_answer(data, self._bundle)).strip()
