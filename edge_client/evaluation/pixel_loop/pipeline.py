"""One case by tokens and by a pixel codec at the same rate, as records that can be compared.

It does not know tables. Both ways use one token server, one picture and one seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_client.evaluation.codecs import Match, PixelCodec, fixed_rate, match_rate
from edge_client.evaluation.context import Case, Context
from edge_client.evaluation.exchanges import Exchange, exchange
from edge_client.evaluation.grading import is_right
from edge_client.evaluation.interactions import case_mask
from edge_client.evaluation.pixel_loop.client import PixelClient, PixelExchange
from edge_client.evaluation.pixel_loop.gateway import Made
from edge_client.evaluation.pixel_loop.message import PixelRequest
from edge_client.evaluation.tables.comparing import pixel_flags, scores
from edge_client.pictures.images import load_picture
from edge_client.pictures.outputs import save_picture
from edge_client.transport.http import HttpTransport
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags, TextTokens, TokenMask

TOKENS = "tokens"
CLOUD_REC, CLOUD_GEN = "cloud-rec", "cloud-gen"
"""The picture as the cloud sees it, and as it made it, before it travels back."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A case, ready to be asked either way.

    Args:
        case: it.
        task: its task.
        text: its prompt or question in tokens.
        options: steps and seed.
        source: (H, W, 3) uint8; None for t2i.
        mask: inpainting only.
        extension: outpainting only.
        stride: pixels on a token's side, where there is a source.
    """

    case: Case
    task: Task
    text: TextTokens
    options: Options
    source: Pixels | None = None
    mask: TokenMask | None = None
    extension: Extension | None = None
    stride: int = 0

    @property
    def known(self) -> Flags | None:
        """(H, W) bool, the source's pixels that the result is to keep; None = all of them."""
        return None if self.mask is None else pixel_flags(~self.mask.flags, self.stride)

    def kept_part(self, result: Pixels) -> Pixels:
        """What of a result stands where the source stood."""
        assert self.source is not None, "t2i keeps nothing"
        left, up = (
            (0, 0)
            if self.extension is None
            else (self.extension.left * self.stride, self.extension.up * self.stride)
        )
        height, width = self.source.shape[:2]
        return result[up : up + height, left : left + width]


def set_up(context: Context, case: Case) -> Setting:
    """The case with its picture read and its mask on the token grid.

    Raises:
        UnimicError: the picture or its box cannot be used.
    """
    text = context.bundle.text_tokenizer.encode(case.prompt)
    task, options = Task.named(case.task), context.options(case)
    if case.image is None:
        return Setting(case, task, text, options)
    height, width = context.picture_size
    picture = load_picture(context.picture(case), height, width)
    mask = None
    if case.repaints:
        mask = case_mask(context, case)
    extension = Extension(**case.extend) if case.extend else None
    stride = context.bundle.stride
    return Setting(case, task, text, options, picture.pixels, mask, extension, stride)


def by_tokens(
    context: Context, setting: Setting, transport: HttpTransport, picture: Path
) -> dict[str, Any]:
    """The case as UniMIC does it; the result is saved as `picture`."""
    tokenizer = context.bundle.image_tokenizer()
    image = None if setting.source is None else tokenizer.tokenize(setting.source)
    request = Request(
        setting.task, setting.text, image, setting.mask, setting.extension, setting.options
    )
    done = exchange(context.bundle, transport, request)
    result = None if done.response.image is None else tokenizer.detokenize(done.response.image)
    # The cloud never sees the tokens under the mask; as in the paper all of them are shown here.
    seen = None if image is None else tokenizer.detokenize(image)
    answer = None
    if done.response.text is not None:
        answer = context.bundle.text_tokenizer.decode(done.response.text).strip()
    # Tokens arrive as they were sent, so what the edge shows is what the cloud has.
    return {
        **_identity(setting, TOKENS),
        "bytes": _token_bytes(done),
        **_quality(setting, seen, result, result, answer),
        "seconds": round(done.seconds, 4),
        "picture": _saved(picture, result),
        "stages": _saved_stages(picture, seen, result),
    }


def _token_bytes(done: Exchange) -> dict[str, int]:
    up, down = done.uplink.sizes, done.downlink.sizes
    return {
        "up_picture": up.image,
        "up_mask": up.mask,
        "up_text": up.text,
        "up_body": up.total,
        "up_header": 0,
        "down_picture": down.image,
        "down_text": down.text,
        "down_body": down.total,
        "down_header": 0,
    }


@dataclass(frozen=True)
class Way:
    """How pictures are coded on their two ways.

    Args:
        codec: for both.
        up, down: picture bytes to aim at; of no use with fixed settings.
        fixed: the codec's settings up and down; None = those that come nearest to the bytes.
        method: what records call it; "" = the codec's name.
    """

    codec: PixelCodec
    up: float
    down: float
    fixed: tuple[float, float] | None = None
    method: str = ""

    @property
    def name(self) -> str:
        """What records call it."""
        return self.method or self.codec.name

    def coded(self, source: Pixels) -> Match:
        """The picture as it goes up."""
        if self.fixed is None:
            return match_rate(self.codec, source, max(1.0, self.up), shrink=True)
        return fixed_rate(self.codec, source, self.fixed[0])


def by_codec(
    setting: Setting,
    way: Way,
    client: PixelClient,
    last_made: Callable[[], Made],
    picture: Path,
) -> dict[str, Any]:
    """The case through pixels.

    Args:
        setting: the case.
        way: codec and rates.
        client: of a gateway.
        last_made: what the gateway made of the request that was answered last.
        picture: where the result is saved.
    """
    codec = way.codec
    match = None if setting.source is None else way.coded(setting.source)
    request = PixelRequest(
        setting.text,
        b"" if match is None else match.coded.payload,
        setting.mask,
        setting.extension,
        setting.options,
    )
    name = codec.name if match is None else match.coded.codec.name
    back = None if way.fixed is None else way.fixed[1]
    done = client.ask(setting.task, request, name, max(1.0, way.down), back)
    made = last_made()
    return {
        **_identity(setting, way.name),
        "bytes": _pixel_bytes(done, 0 if match is None else match.coded.header_bytes),
        "up_match": None if match is None else _described(match),
        "down_match": None if made.match is None else _described(made.match),
        **_quality(setting, made.received, made.pixels, done.pixels, done.answer),
        "seconds": round(done.seconds, 4),
        "picture": _saved(picture, done.pixels),
        "stages": _saved_stages(picture, made.received, made.pixels),
    }


def _pixel_bytes(done: PixelExchange, up_header: int) -> dict[str, int]:
    words = done.pixels is None
    return {
        "up_picture": done.up.picture - up_header,
        "up_mask": done.up.mask,
        "up_text": done.up.text,
        "up_body": done.up.total,
        "up_header": up_header,
        "down_picture": 0 if words else done.down - done.down_header,
        "down_text": done.down - 1 if words else 0,
        "down_body": done.down,
        "down_header": done.down_header,
        "up_wire": done.wire_up,
        "down_wire": done.wire_down,
    }


def _described(match: Any) -> dict[str, Any]:
    return {
        "codec": match.coded.codec.name,
        "setting": match.coded.setting,
        "reached": match.reached,
        "shrunk": match.shrunk,
        "least": match.least_bytes,
        "target": match.target,
    }


def _identity(setting: Setting, method: str) -> dict[str, Any]:
    return {
        "id": record_id(setting.case, method),
        "case": setting.case.id,
        "task": setting.case.task,
        "method": method,
    }


def record_id(case: Case, method: str) -> str:
    """The id of the record of a case by a method."""
    return f"{case.id}/{method}"


def _quality(
    setting: Setting,
    received: Pixels | None,
    made: Pixels | None,
    shown: Pixels | None,
    answer: str | None,
) -> dict[str, Any]:
    """What each hop did to the picture: up, down, and both to the part that was to be kept."""
    source, known, accepted = setting.source, setting.known, setting.case.answers
    kept = None
    if source is not None and shown is not None:
        kept = scores(setting.kept_part(shown), source, known)
    return {
        "up": None if source is None or received is None else scores(received, source),
        "down": None if made is None or shown is None else scores(shown, made),
        "kept": kept,
        "answer": answer,
        "right": is_right(setting.case, answer) if answer is not None and accepted else None,
    }


def _saved_stages(
    picture: Path, received: Pixels | None, made: Pixels | None
) -> dict[str, str | None]:
    """What the cloud saw and what it made, as files beside the result."""
    return {
        stage: _saved(stage_path(picture, stage), pixels)
        for stage, pixels in ((CLOUD_REC, received), (CLOUD_GEN, made))
    }


def stage_path(picture: Path, stage: str) -> Path:
    """Where a stage of the result that is saved as `picture` lies.

    >>> stage_path(Path("jpeg/a.png"), CLOUD_REC).as_posix()
    'jpeg/a.cloud-rec.png'
    """
    return picture.with_name(f"{picture.stem}.{stage}.png")


def _saved(path: Path, pixels: Pixels | None) -> str | None:
    if pixels is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(path, np.ascontiguousarray(pixels))
    return path.name
