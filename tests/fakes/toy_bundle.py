"""A small bundle without torch: a toy entropy model and priors that no recipe can change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.coding.mask_codec import PATTERNS, TEMPLATE, MaskPrior
from shared_protocol.coding.range_coder import RangeDecoder, RangeEncoder
from shared_protocol.coding.text_codec import ContextTable, TextPrior
from shared_protocol.labels import LabelSet, Ranking
from shared_protocol.messages import Options, Request, Response
from shared_protocol.tasks import Extension, Scenario, Task, merge
from shared_protocol.tokens import Codes, ImageTokens, TextTokens, TokenMask
from shared_protocol.vocabulary import Vocabulary

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT_SIZE, CODEBOOK = 4096, 8192
NAMES = tuple(f"thing {number}" for number in range(1000))
LABELS = LabelSet.of(NAMES)


class ToyEntropy:
    """Predicts that a code is the one before it; the odds hang on all of the context."""

    def available(self) -> tuple[Scenario, ...]:
        return (Scenario.GENERIC, Scenario.MASKED, Scenario.ADAPTED)

    def encode(self, scenario: Scenario, codes: Codes, context: CodingContext) -> bytes:
        encoder = RangeEncoder()
        for start, frequency, total in self.intervals(scenario, codes, context).tolist():
            encoder.encode(start, frequency, total)
        return encoder.finish()

    def intervals(
        self, scenario: Scenario, codes: Codes, context: CodingContext
    ) -> NDArray[np.int64]:
        rows, last, odds = [], 0, _odds(scenario, context)
        for code in codes.tolist():
            same = (4096 - odds, odds, 4096)
            rows += [same] if code == last else [(0, 4096 - odds, 4096), (code, 1, CODEBOOK)]
            last = code
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        decoder = RangeDecoder(data)
        codes = self.read(scenario, context, decoder)
        decoder.finish()
        return codes

    def read(self, scenario: Scenario, context: CodingContext, decoder: RangeDecoder) -> Codes:
        codes, last, odds = [], 0, _odds(scenario, context)
        for _ in range(context.count):
            if not decoder.decode_bit(odds, 4096):
                last = decoder.target(CODEBOOK)
                decoder.advance(last, 1, CODEBOOK)
            codes.append(last)
        return np.array(codes, dtype=np.int32)


def _odds(scenario: Scenario, context: CodingContext) -> int:
    seen = int(context.known_codes.sum()) + int(context.text.sum()) + int(context.known.sum())
    return 1024 + 512 * (seen % 4) + 64 * scenario


def toy_text_prior() -> TextPrior:
    """Zipf's law, and after even ids their successor is likely."""
    base = np.maximum(1, 60_000 // (np.arange(TEXT_SIZE, dtype=np.int64) + 2))
    keys = np.arange(0, TEXT_SIZE - 1, 2, dtype=np.int64)
    one = np.ones(len(keys), dtype=np.int64)
    first = ContextTable(1, keys, np.arange(len(keys) + 1), keys + 1, one * (1 << 19), one * 128)
    second = ContextTable(2, keys[5:6] * TEXT_SIZE + 11, np.array([0, 2]), np.array([3, 700]),
                          np.array([1 << 17, 1 << 18]), np.array([64]))  # fmt: skip
    return TextPrior(0, base, (first, second))


def toy_mask_prior() -> MaskPrior:
    """A flag is like most of the flags around it."""
    votes = np.array([bin(pattern).count("1") for pattern in range(PATTERNS)], dtype=np.int32)
    ones = 4 + 12 * votes
    return MaskPrior(ones, np.full(PATTERNS, 8 + 12 * len(TEMPLATE), dtype=np.int32))


@dataclass
class ToyBundle:
    """Satisfies `CodecBundle` and `PictureBundle`."""

    name: str = "toy"
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(TEXT_SIZE, CODEBOOK))
    fingerprint: bytes = hashlib.sha256(b"toy").digest()
    tokenizer_fingerprint: bytes = hashlib.sha256(b"toy tokenizer").digest()
    entropy_name: bytes = b"toy entropy"
    grid: tuple[int, int] = (16, 16)
    max_text_tokens: int = 64
    text_prior: TextPrior | None = field(default_factory=toy_text_prior)
    mask_prior: MaskPrior | None = field(default_factory=toy_mask_prior)
    entropy: ToyEntropy = field(default_factory=ToyEntropy)

    def entropy_fingerprint(self, scenario: Scenario) -> bytes | None:
        return hashlib.sha256(self.entropy_name).digest() if self.entropy_name else None


def text(*ids: int) -> TextTokens:
    return TextTokens(np.array(ids, dtype=np.int32), TEXT_SIZE)


def image(height: int = 16, width: int = 16) -> ImageTokens:
    """A picture of horizontal runs, without any random number generator."""
    cells = np.arange(height * width, dtype=np.int64).reshape(height, width) // 3
    return ImageTokens(cells * 2_654_435_761 % 2**32 % CODEBOOK, CODEBOOK)


def half_mask(height: int = 16, width: int = 16) -> TokenMask:
    """A bow: a rectangle less two corners."""
    flags = np.zeros((height, width), dtype=bool)
    flags[height // 4 : height // 2 + 2, width // 4 : width // 2 + 3] = True
    flags[height // 4, width // 4] = flags[height // 2 + 1, width // 2 + 2] = False
    return TokenMask(flags)


def requests() -> dict[str, Request]:
    """One request of each kind, and variants with options and other grids."""
    words = text(17, 18, 300, 4, 5, 2210)
    tuned = Options(steps=12, guidance=2.5, seed=70_000, reply=Scenario.GENERIC)
    return {
        "t2i": Request(Task.T2I, words),
        "t2i_tuned": Request(Task.T2I, words, options=tuned),
        "t2i_negative": Request(Task.T2I, words, negative=text(12, 300, 0)),
        "t2i_empty": Request(Task.T2I, text()),
        "inpaint": Request(Task.INPAINT, words, image(), half_mask()),
        "inpaint_oblong": Request(Task.INPAINT, words, image(9, 20), half_mask(9, 20)),
        "outpaint": Request(Task.OUTPAINT, words, image(), extension=Extension(left=2, down=5)),
        "vqa": Request(Task.VQA, words, image(), options=Options(max_new_tokens=20)),
        "classify": Request(Task.CLASSIFY, text(), image(), held=LABELS),
        "classify_named": Request(
            Task.CLASSIFY, text(), image(9, 20), options=Options(top=3, names=True)
        ),
    }


def ranking(request: Request) -> Ranking:
    """Labels of the toy set with their names, as many as `request` asks for."""
    count = min(request.options.top, LABELS.count)
    numbers = [(7 + 333 * place) % LABELS.count for place in range(count)]
    levels = tuple(max(0, 50 - 9 * place) for place in range(count))
    return Ranking(LABELS, tuple(numbers), levels, tuple(NAMES[number] for number in numbers))


def answer(request: Request) -> Response:
    """A response that fits `request`."""
    if request.task is Task.VQA:
        return Response(request.task, text=text(8, 9))
    if request.task is Task.CLASSIFY:
        return Response(request.task, labels=ranking(request).told(request.label_wish))
    codes, targets = request.known((16, 16))
    fill = image(*codes.shape).codes[targets]
    return Response(request.task, ImageTokens(merge(codes, targets, fill), CODEBOOK))
