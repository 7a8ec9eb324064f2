"""One interaction, top to bottom: tokenise, encode, exchange, decode, detokenise.

It does not know files, terminals or HTTP: pixels and words come in, pixels and words go out, and
a `Transport` carries the bytes.

::

    words, pixels ─ tokenise ─► Request ── encode ─► ═══╗
                                   │                    ║ transport
    words, pixels ◄ detokenise ── Response ◄ decode ◄ ══╝
                                   merge

When the two ends' entropy models disagree, a message does not decode, on either end: it seems too
short, too long, or fails its checksum. Then the same work is asked for once more with uniform
coding, which needs no model: larger, and right.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_client.replies import ServerTiming, printable
from edge_client.transport import OnStep, Reply, Transport
from shared_protocol.anatomy import Anatomy, Decoded, Encoded
from shared_protocol.codec import CodecBundle, decode_response, encode_request
from shared_protocol.errors import (
    BadMagicError,
    BadMessageError,
    BundleMismatchError,
    LimitError,
    PromptError,
    UnimicError,
    UnsupportedVersionError,
)
from shared_protocol.image_codec import ImageEntropy
from shared_protocol.messages import Options, Request, Response
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokenizers.image import ImageTokenizer
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask, check_grid

Pixels = npt.NDArray[np.uint8]


class Words(Protocol):
    """Text to ids and back."""

    def encode(self, text: str) -> TextTokens:
        """Ids of `text`."""

    def decode(self, tokens: TextTokens) -> str:
        """Text of `tokens`."""


class EdgeEntropy(ImageEntropy, Protocol):
    """Entropy models that can be made ready before they are needed."""

    def warm_up(self) -> None:
        """Read weights and make the decoder ready; cheap when it is."""


class EdgeBundle(CodecBundle, Protocol):
    """What a session needs of a bundle; `bundles.Bundle` is one."""

    @property
    def entropy(self) -> EdgeEntropy:
        """Entropy models of the image tokens."""

    @property
    def name(self) -> str:
        """What the bundle calls itself."""

    @property
    def text_tokenizer(self) -> Words:
        """Text to ids and back."""

    def image_tokenizer(self) -> ImageTokenizer:
        """Pixels to codes and back."""


@dataclass(frozen=True)
class Wire:
    """What an interaction cost on the wire, all attempts and the reply's progress included.

    Args:
        sent, received: body bytes.
        attempts: requests made; 1 unless something went wrong on the way.
    """

    sent: int = 0
    received: int = 0
    attempts: int = 0

    def __add__(self, reply: Reply) -> Wire:
        return Wire(
            self.sent + reply.sent,
            self.received + reply.received,
            self.attempts + reply.attempts,
        )


@dataclass(frozen=True, eq=False)
class Interaction:
    """One interaction and everything measured on its way.

    Args:
        request: what was asked, in tokens.
        response: what was answered, in tokens.
        uplink, downlink: what the two messages are made of.
        canvas: (height, width) in pixels of the picture that the task is about.
        milliseconds: time by stage, see `report.STAGES`; stages that did not occur are missing.
        wire: see `Wire`.
        pixels: (H, W, 3) uint8 result, or None (VQA).
        answer: answer, or None (all but VQA).
        warnings: what the user should know, in words.
    """

    request: Request
    response: Response
    uplink: Anatomy
    downlink: Anatomy
    canvas: tuple[int, int]
    milliseconds: Mapping[str, float]
    wire: Wire
    pixels: Pixels | None = None
    answer: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """Which of the four."""
        return self.request.task


class EdgeSession:
    """A user's side of the conversation with a cloud.

    Args:
        bundle: must be the server's, too.
        transport: carries messages.
        on_step: called with (finished steps, all steps) while the cloud works.
    """

    def __init__(
        self, bundle: EdgeBundle, transport: Transport, on_step: OnStep | None = None
    ) -> None:
        self._bundle = bundle
        self._transport = transport
        self._on_step = on_step
        self._loaded = False

    def t2i(self, prompt: str, options: Options | None = None) -> Interaction:
        """A picture from a prompt.

        Raises:
            PromptError: the prompt is empty or too long.
            UnimicError: whatever else went wrong, typed; so do all four tasks.
        """
        return self._interact(_Ask(Task.T2I, prompt), options)

    def inpaint(
        self, pixels: Pixels, mask: TokenMask, prompt: str, options: Options | None = None
    ) -> Interaction:
        """`pixels` (H, W, 3) uint8 with what is under `mask` made anew."""
        return self._interact(_Ask(Task.INPAINT, prompt, pixels, mask=mask), options)

    def outpaint(
        self, pixels: Pixels, extension: Extension, prompt: str, options: Options | None = None
    ) -> Interaction:
        """`pixels` (H, W, 3) uint8, continued by `extension` token columns and rows."""
        return self._interact(_Ask(Task.OUTPAINT, prompt, pixels, extension=extension), options)

    def vqa(self, pixels: Pixels, question: str, options: Options | None = None) -> Interaction:
        """An answer to a question about `pixels` (H, W, 3) uint8."""
        return self._interact(_Ask(Task.VQA, question, pixels), options)

    def _interact(self, ask: _Ask, options: Options | None) -> Interaction:
        watch = Stopwatch()
        text = self._words_to_tokens(ask)  # cheap, and refuses before anything is loaded
        with watch("load"):
            tokenizer = self._load(ask.task)
        with watch("tokenise"):
            image = None if ask.pixels is None else tokenizer.tokenize(ask.pixels)
        if image is not None and ask.extension is not None:
            check_grid(*ask.extension.canvas(*image.shape))
        request = Request(ask.task, text, image, ask.mask, ask.extension, options or Options())

        talk = _Conversation(self._bundle, self._transport, self._on_step, watch)
        uplink, downlink = talk.hold(request)

        response = downlink.value
        with watch("detokenise"):
            pixels = None if response.image is None else tokenizer.detokenize(response.image)
            answer = None if response.text is None else self._tokens_to_words(response.text)
        return Interaction(
            request=request,
            response=response,
            uplink=uplink.anatomy,
            downlink=downlink.anatomy,
            canvas=_canvas(response.image or image, tokenizer.stride),
            milliseconds=watch.milliseconds,
            wire=talk.wire,
            pixels=pixels,
            answer=answer,
            warnings=tuple(talk.warnings),
        )

    def _words_to_tokens(self, ask: _Ask) -> TextTokens:
        noun = "question" if ask.task is Task.VQA else "prompt"
        if not ask.text.strip():
            raise PromptError(f"the {noun} is empty", "say what the picture should show, or ask")
        tokens = self._bundle.text_tokenizer.encode(ask.text)
        limit = self._bundle.max_text_tokens
        if len(tokens) > limit:
            raise PromptError(
                f"the {noun} has {len(tokens)} tokens, at most {limit} fit", "shorten it"
            )
        return tokens

    def _tokens_to_words(self, tokens: TextTokens) -> str:
        return self._bundle.text_tokenizer.decode(tokens).strip()

    def _load(self, task: Task) -> ImageTokenizer:
        """The image tokenizer, with all else that is read on first use, so that stages are pure."""
        tokenizer = self._bundle.image_tokenizer()
        if not self._loaded:
            side = tokenizer.stride
            tokenizer.detokenize(tokenizer.tokenize(np.zeros((side, side, 3), dtype=np.uint8)))
            _ = self._bundle.text_prior, self._bundle.mask_prior
            self._loaded = True
        if task is not Task.VQA:  # an answer in words needs no decoder of image tokens
            self._bundle.entropy.warm_up()
        return tokenizer


@dataclass(frozen=True, eq=False)
class _Ask:
    """What the user wants, before it is tokens."""

    task: Task
    text: str
    pixels: Pixels | None = None
    mask: TokenMask | None = None
    extension: Extension | None = None


class Stopwatch:
    """Adds up milliseconds by stage; `watch("encode")` is a context manager."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter() - start) * 1000.0)

    def add(self, stage: str, milliseconds: float) -> None:
        """Count `milliseconds` towards `stage`."""
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + milliseconds

    def add_exchange(self, milliseconds: float, timing: ServerTiming) -> None:
        """Split an exchange into what the server says it spent, and the network."""
        parts = {
            "server decode": timing.decode,
            "server queue": timing.queue,
            "model": timing.model,
            "server encode": timing.encode,
        }
        for stage, spent in parts.items():
            if spent is not None:
                self.add(stage, spent)
        self.add("network", max(0.0, milliseconds - timing.total))


@dataclass
class _Conversation:
    """Request up, response down, under one idempotency key, with uniform coding to fall back on."""

    bundle: EdgeBundle
    transport: Transport
    on_step: OnStep | None
    watch: Stopwatch
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    wire: Wire = field(default_factory=Wire)
    warnings: list[str] = field(default_factory=list)

    def hold(self, request: Request) -> tuple[Encoded, Decoded[Response]]:
        """The uplink that was understood, and the response."""
        uplink, reply = self._ask(request)
        try:
            return uplink, self._decode(reply, request)
        except BadMessageError as error:
            # An answer in words holds no image tokens: asking again would change nothing.
            if self.warnings or request.task is Task.VQA or not _may_be_disagreement(error):
                raise
        self.warnings.append(_DISAGREE.format("this end could not decode the server's"))
        uplink, reply = self._ask(_plain(request))
        return uplink, self._decode(reply, request)

    def _ask(self, request: Request) -> tuple[Encoded, Reply]:
        uplink = self._encode(request)
        try:
            return uplink, self._send(request.task, uplink.data)
        except BadMessageError as error:
            self.wire += Reply(b"", sent=len(uplink.data))
            if self.warnings or not _may_be_disagreement(error):
                raise
        self.warnings.append(_DISAGREE.format("the server could not decode this end's"))
        uplink = self._encode(_plain(request), Scenario.UNIFORM)
        return uplink, self._send(request.task, uplink.data)

    def _encode(self, request: Request, scenario: Scenario | None = None) -> Encoded:
        with self.watch("encode"):
            return encode_request(request, self.bundle, scenario)

    def _send(self, task: Task, message: bytes) -> Reply:
        start = time.perf_counter()
        try:
            reply = self.transport.exchange(task.name.lower(), message, self.key, self.on_step)
        except BundleMismatchError as error:
            raise _mismatch(self.bundle, self.transport) from error
        self.watch.add_exchange((time.perf_counter() - start) * 1000.0, reply.timing)
        self.wire += reply
        return reply

    def _decode(self, reply: Reply, request: Request) -> Decoded[Response]:
        with self.watch("decode"):
            try:
                return decode_response(reply.message, request, self.bundle)
            except BundleMismatchError as error:
                raise _mismatch(self.bundle, self.transport) from error


_DISAGREE = (
    "{} entropy-coded tokens, so they were sent again with uniform coding: "
    "the result is right, the message larger; 'edge-client info' says which end differs"
)


def _may_be_disagreement(error: BadMessageError) -> bool:
    """Whether a message that does not decode may be due to the entropy models of the two ends."""
    return not isinstance(error, (BadMagicError, UnsupportedVersionError, LimitError))


def _plain(request: Request) -> Request:
    """`request`, asking for a reply that needs no entropy model."""
    if request.task is Task.VQA:
        return request
    return replace(request, options=replace(request.options, reply=Scenario.UNIFORM))


def _mismatch(bundle: EdgeBundle, transport: Transport) -> BundleMismatchError:
    """The same error with both fingerprints in it, which the message itself has no room for."""
    theirs: dict[str, Any] = {}
    with suppress(UnimicError):
        theirs = transport.info()
    name, fingerprint = str(theirs.get("bundle", "?")), str(theirs.get("fingerprint", "?"))
    return BundleMismatchError(
        f"this end holds bundle {bundle.name} ({bundle.fingerprint.hex()[:16]}), "
        f"the server {printable(name, 40)} ({printable(fingerprint)[:16]})",
        "install the same release on both ends, or name the server's bundle with --bundle",
    )


def _canvas(image: ImageTokens | None, stride: int) -> tuple[int, int]:
    """(height, width) in pixels."""
    assert image is not None, "every task has a picture on one of its ways"
    return image.shape[0] * stride, image.shape[1] * stride
