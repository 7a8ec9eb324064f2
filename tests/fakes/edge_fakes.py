"""A bundle, entropy models and a cloud small enough to run in a test, around the real codec."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_client.transport.base import Reply
from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.coding.range_coder import RangeDecoder
from shared_protocol.errors import UnimicError
from shared_protocol.http.reply_stream import ServerTiming
from shared_protocol.labels import LabelSet, Ranking, level_of
from shared_protocol.message.codec import decode_request, encode_response
from shared_protocol.messages import OnStep, Request, Response
from shared_protocol.tasks import Scenario, Task, merge
from shared_protocol.tokens import Codes, ImageTokens, TextTokens
from shared_protocol.vocabulary import Vocabulary

VOCABULARY = Vocabulary(300, 8192)
ANSWER = "two red balloons"


class FakeEntropy:
    """Codes below 256 in one byte, under a key; ends with different keys disagree."""

    paths: dict[Scenario, Any] = {}  # noqa: RUF012 - nothing is recorded for a fake

    def __init__(self, key: int = 0, scenarios: tuple[Scenario, ...] = tuple(Scenario)[1:]) -> None:
        self.key = key
        self.scenarios = scenarios

    def available(self) -> tuple[Scenario, ...]:
        return self.scenarios

    decoded_by = "a fake"

    def warm_up(self) -> None:
        pass

    def encode(self, scenario: Scenario, codes: Codes, context: CodingContext) -> bytes:
        kind = "u1" if codes.max(initial=0) < 256 else "<u4"
        return (codes ^ self.key).astype(kind).tobytes()

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        kind = "u1" if len(data) == context.count else "<u4"
        return np.frombuffer(data, kind).astype(np.int32) ^ self.key

    def bits_by_token(self, scenario: Scenario, codes: Codes, context: CodingContext) -> np.ndarray:
        """A dark token is cheap, a bright one dear."""
        return codes.astype(np.float64)

    def intervals(self, scenario: Scenario, codes: Codes, context: CodingContext) -> np.ndarray:
        """Every code below 256 has 1/256: 8 bits, in a high and a low part of 4 each."""
        values = codes ^ self.key
        parts = np.stack([values // 16 % 16, values % 16], axis=1)
        return np.stack([parts, np.ones_like(parts), np.full_like(parts, 16)], axis=2)

    def read(self, scenario: Scenario, context: CodingContext, decoder: RangeDecoder) -> Codes:
        codes = []
        for _ in range(context.count):
            parts = []
            for _ in range(2):
                parts.append(decoder.target(16))
                decoder.advance(parts[-1], 1, 16)
            codes.append((parts[0] * 16 + parts[1]) ^ self.key)
        return np.array(codes, dtype=np.int32)


class FakeWords:
    """One id per byte."""

    def encode(self, text: str) -> TextTokens:
        return TextTokens(np.frombuffer(text.encode(), np.uint8), VOCABULARY.text_size)

    def decode(self, tokens: TextTokens) -> str:
        return bytes(tokens.ids.tolist()).decode()


class FakeTokenizer:
    """A token is the grey of its patch."""

    stride = 16
    codebook_size = 8192
    computed_by = "a fake"

    def tokenize(self, pixels: np.ndarray) -> ImageTokens:
        height, width = pixels.shape[0] // 16, pixels.shape[1] // 16
        grey = pixels.reshape(height, 16, width, 16, 3).mean(axis=(1, 3, 4))
        return ImageTokens(grey.astype(np.int32), 8192)

    def detokenize(self, tokens: ImageTokens) -> np.ndarray:
        grey = np.kron(np.minimum(tokens.codes, 255), np.ones((16, 16), dtype=np.int32))
        return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


class FakeBundle:
    """What a session and a codec need of a bundle."""

    name = "fake"
    vocabulary = VOCABULARY
    eot_id = 0
    defaults = SimpleNamespace(steps=5, guidance=2.0, max_new_tokens=40)
    stride = 16
    max_text_tokens = 40
    text_prior = None
    mask_prior = None
    text_tokenizer = FakeWords()
    reads_plain_text = False
    known_words: Any = None

    def __init__(
        self,
        entropy_key: int = 0,
        fingerprint: bytes = bytes(32),
        grid: tuple[int, int] = (4, 4),
    ) -> None:
        self.grid = grid
        self.entropy = FakeEntropy(entropy_key)
        self.fingerprint = fingerprint
        self.tokenizer_fingerprint = bytes(31) + b"t"

    def entropy_fingerprint(self, scenario: Scenario) -> bytes | None:
        return bytes([self.entropy.key % 256]) * 32 if scenario in self.entropy.scenarios else None

    def image_tokenizer(self) -> FakeTokenizer:
        return FakeTokenizer()


class FakeCloud:
    """A transport with a cloud behind it, that paints every new token in one colour.

    Args:
        bundle: the cloud's.
        painted: the code that it generates; `faults` are raised first.
    """

    def __init__(self, bundle: FakeBundle, painted: int = 200) -> None:
        self.bundle = bundle
        self.painted = painted
        self.names = tuple(f"thing {number}" for number in range(300))
        self.faults: list[UnimicError] = []
        self.keys: list[str] = []
        self.messages: list[bytes] = []
        self.requests: list[Request] = []

    def exchange(
        self, task: Task, message: bytes, key: str, on_step: OnStep | None = None
    ) -> Reply:
        self.keys.append(key)
        self.messages.append(message)
        request = decode_request(message, self.bundle).value
        assert request.task is task
        self.requests.append(request)
        if on_step is not None:
            on_step(1, 1)
        if self.faults:
            raise self.faults.pop(0)
        encoded = encode_response(self.answer(request), request, self.bundle)
        timing = ServerTiming(decode=1.0, queue=2.0, model=30.0, encode=4.0)
        return Reply(encoded.data, timing, len(message), len(encoded.data) + 9, 1)

    def answer(self, request: Request) -> Response:
        if request.task is Task.VQA:
            return Response(Task.VQA, text=FakeWords().encode(ANSWER))
        if request.task is Task.CLASSIFY:
            return Response(Task.CLASSIFY, labels=self.labels(request))
        known, targets = request.known(self.bundle.grid)
        painted = np.full(int(targets.sum()), self.painted, dtype=np.int32)
        return Response(request.task, image=ImageTokens(merge(known, targets, painted), 8192))

    def labels(self, request: Request) -> Ranking:
        """The names that begin where the first token says, each half as likely as the last."""
        assert request.image is not None
        names = self.names
        count = min(request.options.top, len(names))
        first = int(request.image.codes[0, 0])
        numbers = [(first + place) % len(names) for place in range(count)]
        levels = tuple(level_of(0.5 ** (place + 1)) for place in range(count))
        said = tuple(names[number] for number in numbers)
        return Ranking(LabelSet.of(names), tuple(numbers), levels, said)

    def info(self) -> dict[str, Any]:
        return {"bundle": self.bundle.name, "fingerprint": self.bundle.fingerprint.hex()}


class FailingCloud(FakeCloud):
    """Refuses every request with one error."""

    def __init__(self, bundle: FakeBundle, error: Callable[[], UnimicError]) -> None:
        super().__init__(bundle)
        self.error = error

    def exchange(self, *_: Any, **__: Any) -> Reply:
        raise self.error()
