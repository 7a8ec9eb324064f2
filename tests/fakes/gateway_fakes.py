"""A gateway on a loopback port, in front of a cloud in memory that holds conversations."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from edge_fakes import ANSWER, FakeBundle, FakeWords
from PIL import Image
from session_cloud import ToyCloud, ToyLink

from edge_client.gateway.app import create_app
from edge_client.gateway.host import Host
from edge_client.gateway.service import Gateway
from edge_client.gateway.settings import GatewaySettings
from edge_client.session.session import Session
from shared_protocol.errors import WorkCancelledError
from shared_protocol.messages import Request, Response
from shared_protocol.session.frames import encode_error
from shared_protocol.session.state import SessionState
from shared_protocol.tasks import Task, merge
from shared_protocol.tokens import ImageTokens

PAINTED = 200
"""The code, and grey, of every token that the cloud makes."""
_START_S = 20.0


def answer(request: Request, grid: tuple[int, int] = (4, 4)) -> Response:
    """Paints every new token in one grey, and has one answer to all questions."""
    if request.task is Task.VQA:
        return Response(Task.VQA, text=FakeWords().encode(ANSWER))
    known, targets = request.known(grid)
    painted = np.full(int(targets.sum()), PAINTED, dtype=np.int32)
    return Response(request.task, image=ImageTokens(merge(known, targets, painted), 8192))


class SlowLink(ToyLink):
    """Replies only while the cloud's gate is open; a cancelled turn ends in an error."""

    greeted = False
    before: SessionState | None = None

    def _turn(self, frame: bytes, state: SessionState) -> None:
        self.before = state
        super()._turn(frame, state)

    def receive(self, timeout: float) -> bytes:
        cloud = self.cloud
        assert isinstance(cloud, GatewayCloud)
        greeting, self.greeted = not self.greeted, True
        while not greeting and not cloud.gate.is_set():
            if self.cancelled:
                self.cancelled = 0
                self._waiting.clear()
                cloud.done.clear()
                self.state = self.before  # a turn that ends in an error changes nothing
                cloud.ended += 1
                return encode_error(WorkCancelledError("ended"))
            time.sleep(0.005)
        return super().receive(timeout)


class GatewayCloud(ToyCloud):
    """See `answer`; `gate` closed keeps all replies back, `ended` counts cancelled turns."""

    def __init__(self) -> None:
        super().__init__(bundle=FakeBundle(), respond=answer)
        self.gate = threading.Event()
        self.gate.set()
        self.ended = 0

    def link(self, seconds: float = 0.0) -> ToyLink:
        return SlowLink(self)


class LiveGateway:
    """A gateway that listens.

    Attributes:
        cloud: behind it.
        gateway: it.
        client: an HTTP client of it.
    """

    def __init__(self, cloud: GatewayCloud, **settings: Any) -> None:
        self.cloud = cloud
        wanted = GatewaySettings(port=0, **settings)
        bundle: Any = FakeBundle()
        self.gateway = Gateway(
            wanted, lambda: Session("http://h", bundle=bundle, timeout=20), bundle, "http://h"
        )
        config = uvicorn.Config(
            create_app(self.gateway), port=0, log_config=None, access_log=False, ws="none",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._said: list[str] = []
        self._host = Host(config, self.gateway, self._said.append)
        self._thread = threading.Thread(target=self._host.run)

    def __enter__(self) -> LiveGateway:
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._said:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = self._host.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.cloud.gate.set()
        self._host.should_exit = True
        self._thread.join(_START_S)

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        """JSON to a path of the API; underscores in names of headers are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/v1/{path}", json=body, headers=named)

    def form(self, path: str, data: dict[str, str], files: Any) -> httpx.Response:
        """A form to a path of the API."""
        return self.client.post(f"/v1/{path}", data=data, files=files)


@contextmanager
def live_gateway(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[LiveGateway]:
    """A gateway whose sessions meet a cloud in memory."""
    cloud = GatewayCloud()
    monkeypatch.delenv("UNIMIC_API_KEY", raising=False)
    monkeypatch.delenv("UNIMIC_GATEWAY_KEY", raising=False)
    monkeypatch.setattr("edge_client.exchange.best.open_link", lambda *_: cloud.link())
    with LiveGateway(cloud, **settings) as gateway:
        yield gateway


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def scene(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture whose tokens all differ."""
    across = np.arange(size[0])[None, :] // 16 * 16 + np.arange(size[1])[:, None] // 16
    return Image.fromarray(np.repeat(across[..., None], 3, axis=2).astype(np.uint8))


def mask(size: tuple[int, int] = (64, 64), hole: tuple[int, int, int, int] = (16, 16, 32, 32)):
    """A file that is transparent inside of a hole (left, top, right, bottom)."""
    image = Image.new("RGBA", size, (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), hole)
    return png(image)


def data_url(data: bytes, kind: str = "image/png") -> str:
    """A picture as chats send it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture_in(body: dict[str, Any], place: int = 0) -> Image.Image:
    """A picture of an answer."""
    return Image.open(io.BytesIO(base64.b64decode(body["data"][place]["b64_json"])))


def events_of(text: str) -> list[Any]:
    """The data of server-sent events."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def asked(text: str, picture: bytes | None = None) -> dict[str, Any]:
    """A message of a user."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if picture is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_url(picture)}})
    return {"role": "user", "content": parts}
