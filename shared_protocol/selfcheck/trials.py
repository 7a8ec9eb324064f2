"""Random and real messages of every kind, packed and read again: does each come back exactly?

It does not know sockets or models; messages pass through the same codec as an edge's and a
server's. Message n of a scenario is a pure function of the seed, so that a run can go on later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.coding.mask_codec import MaskPrior
from shared_protocol.coding.text_codec import TextPrior
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.errors import InvalidInputError, UnimicError
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.message.parts import CodecBundle
from shared_protocol.messages import Request, Response
from shared_protocol.selfcheck.witness import agrees, stream_bytes
from shared_protocol.tasks import TABLE, Direction, Extension, Scenario, Task, merge
from shared_protocol.tokens import Codes, Flags, ImageTokens, KnownTokens, TextTokens, TokenMask
from shared_protocol.vocabulary import Vocabulary

SIZE_SHARE, SIZE_BYTES = 0.005, 1
"""A stream is at most this much longer than its ideal length, as a share and in bytes."""
SIZE_EVERY = 20
"""The size of one message in so many is compared with its ideal length."""
REAL_SHARE = 0.5
NATIVE_SHARE = 0.25
LARGE_SHARE = 0.01
KNOWN_SHARE = 0.25
"""Of the requests with a picture, how many leave out what the receiver has already."""
DROPPED_SHARE = 0.2
SMALL_SIDE, LARGE_SIDE = 12, 32


@dataclass(frozen=True, eq=False)
class TrialBundle:
    """A bundle with other entropy models; satisfies `CodecBundle`."""

    vocabulary: Vocabulary
    fingerprint: bytes
    grid: tuple[int, int]
    max_text_tokens: int
    text_prior: TextPrior | None
    mask_prior: MaskPrior | None
    entropy: EntropyModels


def with_models(bundle: CodecBundle, models: EntropyModels) -> TrialBundle:
    """`bundle` with `models` as its entropy models."""
    return TrialBundle(
        bundle.vocabulary,
        bundle.fingerprint,
        bundle.grid,
        bundle.max_text_tokens,
        bundle.text_prior,
        bundle.mask_prior,
        models,
    )


@dataclass
class Sizes:
    """Coded bytes beside their ideal length and the witness's, and how many break a promise."""

    compared: int = 0
    coded: int = 0
    ideal: float = 0.0
    too_long: int = 0
    witness: int = 0
    disputed: int = 0

    def add(self, coded: int, ideal: float, witness: int | None = None) -> None:
        """Take in one stream; all in bytes, `witness` by the independent coder."""
        self.compared += 1
        self.coded += coded
        self.ideal += ideal
        if witness is not None:
            self.witness += witness
            self.disputed += not agrees(coded, witness)
        self.too_long += coded > ideal * (1 + SIZE_SHARE) + SIZE_BYTES


@dataclass
class Recorder:
    """Entropy models that remember what they coded last."""

    models: EntropyModels
    last: tuple[Scenario, Codes, CodingContext, int] | None = None

    def available(self) -> tuple[Scenario, ...]:
        return self.models.available()

    def encode(self, scenario: Scenario, codes: Codes, context: CodingContext) -> bytes:
        data = self.models.encode(scenario, codes, context)
        self.last = scenario, codes, context, len(data)
        return data

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        return self.models.decode(scenario, data, context)


@dataclass
class Trials:
    """Draws messages for one bundle and checks that they come back.

    Args:
        bundle: what both ends hold.
        pictures: (N, H, W) codes of real pictures; may be none.
        seed: of all messages.
        witnessed: also code what is compared with constriction.
    """

    bundle: TrialBundle
    pictures: Sequence[Codes] = ()
    seed: int = 0
    witnessed: bool = False
    sizes: Sizes = field(default_factory=Sizes)

    def run(self, scenario: Scenario, number: int) -> str | None:
        """One message: None if it came back exactly, else what went wrong."""
        rng = np.random.default_rng((self.seed, int(scenario), number))
        ways = ((task, direction) for task in TABLE for direction in Direction)
        cells = [(task, way) for task, way in ways if scenario in TABLE[task].scenarios(way)]
        task, direction = cells[int(rng.integers(len(cells)))]
        recorder = Recorder(self.bundle.entropy)
        bundle: Any = with_models(self.bundle, recorder)  # type: ignore[arg-type]
        try:
            same = self._round_trip(task, direction, scenario, bundle, rng)
        except UnimicError as error:
            return f"{task.name} {direction.name} {number}: {error}"
        if number % SIZE_EVERY == 0 and recorder.last is not None:
            used, codes, context, size = recorder.last
            models = self.bundle.entropy
            witness = None
            if self.witnessed:
                witness = stream_bytes(models.intervals(used, codes, context))
            self.sizes.add(size, models.code_length(used, codes, context) / 8, witness)
        return None if same else f"{task.name} {direction.name} {number}: other symbols came out"

    def _round_trip(
        self,
        task: Task,
        direction: Direction,
        scenario: Scenario,
        bundle: CodecBundle,
        rng: np.random.Generator,
    ) -> bool:
        request = self._request(task, rng)
        if direction is Direction.UPLINK:
            known = _known(rng, request)
            data = encode_request(request, bundle, scenario, known=known).data
            return _same(request, decode_request(data, bundle, known).value, bundle.grid)
        response = self._response(request, rng)
        data = encode_response(response, request, bundle, scenario).data
        return decode_response(data, request, bundle).value == response

    def _request(self, task: Task, rng: np.random.Generator) -> Request:
        text = self._text(rng)
        if not TABLE[task].needs_image:
            return Request(task, text)
        image, mask, extension = self._image(rng), None, None
        if TABLE[task].needs_mask:
            mask = TokenMask(_mask(rng, image.shape))
        if TABLE[task].needs_extension:
            sides = rng.integers(0, 4, 4)
            sides[int(rng.integers(4))] += 1
            extension = Extension(*map(int, sides))
        dropped = _dropped(rng, image.shape, mask) if rng.random() < DROPPED_SHARE else None
        text = text if TABLE[task].needs_text else TextTokens(text.ids[:0], text.vocabulary_size)
        return Request(task, text, image, mask, extension, dropped=dropped)

    def _response(self, request: Request, rng: np.random.Generator) -> Response:
        codes, targets = request.known(self.bundle.grid)
        fill = self._codes(rng, codes.shape)[targets]
        merged = merge(codes, targets, fill)
        return Response(request.task, ImageTokens(merged, self.bundle.vocabulary.codebook_size))

    def _image(self, rng: np.random.Generator) -> ImageTokens:
        drawn = rng.random()
        if drawn < NATIVE_SHARE:
            shape = self.bundle.grid
        else:
            side = LARGE_SIDE if drawn > 1 - LARGE_SHARE else SMALL_SIDE
            shape = int(rng.integers(1, side + 1)), int(rng.integers(1, side + 1))
        return ImageTokens(self._codes(rng, shape), self.bundle.vocabulary.codebook_size)

    def _codes(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Codes:
        """A window of a real picture, runs of equal codes, or noise."""
        if len(self.pictures) and rng.random() < REAL_SHARE:
            picture = self.pictures[int(rng.integers(len(self.pictures)))]
            tall, wide = (-(-size // side) for size, side in zip(shape, picture.shape, strict=True))
            return np.tile(picture, (tall, wide))[: shape[0], : shape[1]].astype(np.int32)
        size = self.bundle.vocabulary.codebook_size
        runs = rng.integers(0, size, (shape[0], -(-shape[1] // 3)))
        if rng.random() < 0.5:
            return np.repeat(runs, 3, axis=1)[:, : shape[1]].astype(np.int32)
        return rng.integers(0, size, shape).astype(np.int32)

    def _text(self, rng: np.random.Generator) -> TextTokens:
        size = self.bundle.vocabulary.text_size
        count = int(rng.integers(0, self.bundle.max_text_tokens + 1))
        return TextTokens(rng.integers(0, size, count).astype(np.int32), size)


def real_pictures(folder: Path) -> list[Codes]:
    """Every picture of the `*.npy` shards in `folder`, each (H, W).

    Raises:
        InvalidInputError: there is none.
    """
    shards = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))]
    pictures = [np.asarray(codes, dtype=np.int32) for shard in shards for codes in shard]
    if not pictures:
        raise InvalidInputError(f"{folder} holds no .npy shards of codes", "name another folder")
    return pictures


def _mask(rng: np.random.Generator, shape: tuple[int, int]) -> Flags:
    flags = rng.random(shape) < rng.uniform(0.05, 0.7)
    if rng.random() < 0.5:
        flags[:] = False
        flags[: int(rng.integers(1, shape[0] + 1)), : int(rng.integers(1, shape[1] + 1))] = True
    flags[int(rng.integers(shape[0])), int(rng.integers(shape[1]))] = True
    return flags


def _dropped(
    rng: np.random.Generator, shape: tuple[int, int], mask: TokenMask | None
) -> TokenMask | None:
    """Some of the tokens outside the mask, but not all; None if there are too few."""
    free = np.ones(shape, dtype=bool) if mask is None else ~mask.flags
    places = rng.permutation(np.flatnonzero(free))
    if len(places) < 2:
        return None
    flags = np.zeros(shape, dtype=bool)
    flags.flat[places[: int(rng.integers(1, len(places)))]] = True
    return TokenMask(flags)


def _known(rng: np.random.Generator, request: Request) -> KnownTokens | None:
    """Sometimes a part of the request's image, which the receiver is to have already."""
    if request.image is None or rng.random() >= KNOWN_SHARE:
        return None
    return KnownTokens(request.image.codes, rng.random(request.image.shape) < rng.random())


def _same(sent: Request, received: Request, grid: tuple[int, int]) -> bool:
    """Whether everything that travels is the same; codes under a mask or dropped ones do not."""
    names = ("task", "text", "mask", "extension", "dropped")
    named = all(getattr(sent, name) == getattr(received, name) for name in names)
    (ours, targets), (theirs, other_targets) = sent.known(grid), received.known(grid)
    shown = ~sent.gaps(grid)
    return (
        named
        and np.array_equal(targets, other_targets)
        and np.array_equal(ours[shown], theirs[shown])
    )
