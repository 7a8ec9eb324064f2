"""The cloud of a pipeline that sends pixels: decode, tokenise, ask the token server, code again.

It holds a codec and the image tokenizer beside a token server that knows nothing of it, and listens
on the loopback interface only. It is a measuring instrument, not a service.

::

    edge ── coded picture ─► decode ─ tokenise ─────► token server
         ◄─ coded picture ── encode ─ detokenise ◄──┘

The hop to the token server is inside that cloud and costs the edge nothing.

Which codec to use and how many bytes to aim at for the reply are settings of a measurement: they
stand in the query of the address and in a header of the reply; the bodies are what a pipeline with
fixed settings would send.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from edge_client.client import EdgeBundle
from edge_client.evaluation.codecs import Match, find_codec, fixed_rate, match_rate
from edge_client.evaluation.exchanges import exchange
from edge_client.evaluation.pixel_loop.message import pack_answer, unpack_request
from edge_client.transport.http import HttpTransport
from shared_protocol.errors import (
    BodyTooLargeError,
    InvalidInputError,
    NotFoundError,
    UnimicError,
    error_to_wire,
)
from shared_protocol.http.contract import FILE_TYPE, JSON_TYPE, task_path
from shared_protocol.messages import Request
from shared_protocol.tasks import TABLE, Task
from shared_protocol.tokenizers.image import Pixels

MAX_BODY = 64 * 2**20
CODEC_HEADER = "Codec"


@dataclass(frozen=True, eq=False)
class Made:
    """What the cloud had in its hands for one request, which no client gets to see.

    Args:
        received: the decoded picture of the request, (H, W, 3) uint8; None for t2i.
        pixels: the picture that was made, before it was coded; None for vqa.
        match: how the reply's picture was coded; None for vqa.
    """

    received: Pixels | None
    pixels: Pixels | None = None
    match: Match | None = None


@dataclass(frozen=True)
class Reply:
    """A body, and the name of the codec that a picture in it was coded with."""

    body: bytes
    codec: str = ""


class PixelGateway:
    """Serves pixel requests on a free loopback port for as long as its context lasts.

    Args:
        bundle: also that of the token server.
        connect: opens a transport to the token server; called once for each request.
        on_made: told what was made, on the gateway's own threads, before the reply is sent.
    """

    def __init__(
        self,
        bundle: EdgeBundle,
        connect: Callable[[], HttpTransport],
        on_made: Callable[[Made], None] | None = None,
    ) -> None:
        self._bundle = bundle
        self._connect = connect
        self._on_made = on_made or (lambda made: None)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> PixelGateway:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(
        self,
        task: Task,
        body: bytes,
        codec_name: str,
        target: float,
        setting: float | None = None,
    ) -> Reply:
        """The body that answers `body`.

        Args:
            task: what is asked for.
            body: see `pixel_loop.message`.
            codec_name: of the request's picture, such as "vvc/2"; the reply's is of its kind.
            target: picture bytes that the reply should have.
            setting: of the reply's codec instead; None = what comes nearest to the target.

        Raises:
            UnimicError: the request is none, or the token server refused.
        """
        codec = find_codec(codec_name)
        asked = unpack_request(body, self._bundle)
        tokenizer = self._bundle.image_tokenizer()
        received = codec.decode(asked.picture) if asked.picture else None
        request = Request(
            task,
            asked.text,
            None if received is None else tokenizer.tokenize(received),
            asked.mask,
            asked.extension,
            asked.options,
        )
        with closing(self._connect()) as transport:
            response = exchange(self._bundle, transport, request).response
        if response.text is not None:
            self._on_made(Made(received))
            return Reply(pack_answer(response.text, self._bundle))
        assert response.image is not None, "a response holds a picture or a text"
        pixels = tokenizer.detokenize(response.image)
        back = find_codec(codec_name.partition("/")[0])
        if setting is None:
            match = match_rate(back, pixels, target, shrink=True)
        else:
            match = fixed_rate(back, pixels, setting)
        self._on_made(Made(received, pixels, match))
        return Reply(match.coded.payload, match.coded.codec.name)


def _number(query: Mapping[str, str], name: str) -> float | None:
    given = query.get(name)
    if given is None:
        return None
    try:
        return float(given)
    except ValueError as error:
        raise InvalidInputError(f"a {name} of {given}", "give a number") from error


def _task_at(path: str) -> Task:
    known = {task_path(task): task for task, row in TABLE.items() if row.needs_text}
    if path not in known:
        raise NotFoundError(f"there is nothing at {path!r}", f"known are {', '.join(known)}")
    return known[path]


def _handler_of(gateway: PixelGateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            status, kind, body, codec = 200, FILE_TYPE, b"", ""
            try:
                reply = self._answer()
                body, codec = reply.body, reply.codec
            except UnimicError as error:
                status, kind = error.http_status, JSON_TYPE
                body = json.dumps(error_to_wire(error)).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if codec:
                self.send_header(CODEC_HEADER, codec)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _answer(self) -> Reply:
            size = int(self.headers.get("Content-Length") or 0)
            if size > MAX_BODY:
                self.close_connection = True
                raise BodyTooLargeError(f"a body of {size:,} bytes", f"at most {MAX_BODY:,}")
            body = self.rfile.read(size)
            address = urlsplit(self.path)
            query = dict(parse_qsl(address.query))
            target, setting = (_number(query, name) for name in ("target", "setting"))
            return gateway.answer(
                _task_at(address.path),
                body,
                query.get("codec", ""),
                1.0 if target is None else target,
                setting,
            )

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a measurement prints its tables only."""

    return Handler
