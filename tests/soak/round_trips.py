"""Random messages through every coder of a bundle and back: what comes out is what went in.

It does not know processes or clocks. Trip n of a kind is a pure function of the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_protocol.coding.labels_codec import decode_labels, encode_labels
from shared_protocol.coding.mask_codec import decode_mask, encode_mask
from shared_protocol.coding.text_codec import (
    TextCoder,
    decode_text,
    encode_text,
)
from shared_protocol.errors import UnimicError
from shared_protocol.labels import LEVELS, LabelSet, LabelWish, Ranking
from shared_protocol.message.picture_file import Coding, read_picture, write_picture
from shared_protocol.messages import Options, Request, Response
from shared_protocol.selfcheck.trials import Trials
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS
from shared_protocol.session.port import Reader
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_reply, decode_turn, encode_reply, encode_turn
from shared_protocol.tasks import TABLE, Task, merge
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask

SESSION = b"soak-ing"
TURNS = 4
"""Turns of one conversation; each is two messages, a turn and its reply."""
LONGEST = 60


@dataclass(frozen=True)
class Kind:
    """One way through the coders.

    Args:
        name: what the table calls it.
        messages: how many messages one trip codes.
        trip: does it; None if all is well, else what went wrong.
    """

    name: str
    messages: int
    trip: Callable[[int], str | None]


def kinds(bundle: Any, trials: Trials) -> list[Kind]:
    """Every way that a bundle has.

    Args:
        bundle: a `CodecBundle` and `PictureBundle`.
        trials: single messages of the same bundle.
    """
    trips = _Trips(bundle, trials.seed)
    found = [
        Kind(f"message {each.slug}", 1, lambda n, each=each: trials.run(each, n))  # type: ignore[misc]
        for each in bundle.entropy.available()
    ]
    return [
        *found,
        Kind("conversation", 2 * TURNS, trips.conversation),
        Kind("text", 1, trips.text),
        Kind("mask", 1, trips.mask),
        Kind("labels", 1, trips.labels),
        Kind("picture file", 1, trips.file),
    ]


class _Trips:
    """What `Trials` does not draw."""

    def __init__(self, bundle: Any, seed: int) -> None:
        self._bundle = bundle
        self._seed = seed

    def _rng(self, kind: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, 100 + kind, number))

    def text(self, number: int) -> str | None:
        """Ids by the shortest coder."""
        rng, size, prior = self._rng(0, number), *self._text_sides()
        ids = _ids(rng, size, LONGEST)
        coder, data = encode_text(ids, size, prior)
        same = np.array_equal(decode_text(data, coder, size, prior), ids)
        return None if same else f"text {number}, coder {TextCoder(coder).name}"

    def _text_sides(self) -> tuple[int, Any]:
        return self._bundle.vocabulary.text_size, self._bundle.text_prior

    def mask(self, number: int) -> str | None:
        """A mask of any shape."""
        rng, prior = self._rng(1, number), self._bundle.mask_prior
        flags = _mask(rng, _shape(rng))
        same = np.array_equal(decode_mask(encode_mask(flags, prior), flags.shape, prior), flags)
        return None if same else f"mask {number}"

    def labels(self, number: int) -> str | None:
        """Labels of a set of any size, with names and without."""
        rng = self._rng(4, number)
        ranking, wish = _ranking(rng, int(rng.integers(1, 256)), bool(number % 2))
        same = decode_labels(encode_labels(ranking, wish), wish) == ranking.told(wish)
        return None if same else f"labels {number}"

    def file(self, number: int) -> str | None:
        """A picture file of either coding, with and without metadata."""
        rng = self._rng(2, number)
        image = _image(rng, self._bundle.vocabulary.codebook_size)
        told = {"prompt": "x" * int(rng.integers(0, 50)), "seed": number} if number % 2 else {}
        coding = Coding.SMALLEST if number % 4 < 2 else Coding.DURABLE
        stored = read_picture(write_picture(image, self._bundle, coding, told), self._bundle)
        same = stored.image == image and stored.metadata == told
        return None if same else f"picture file {number}"

    def conversation(self, number: int) -> str | None:
        """Turns and replies, both ends with a state of their own."""
        rng = self._rng(3, number)
        device = cloud = SessionState(SESSION)
        last: ImageTokens | None = None
        for _ in range(TURNS):
            request = self._request(rng, last)
            response = self._response(rng, request)
            up, reference = encode_turn(request, device, self._bundle)
            turn = decode_turn(_opened(up.data, UP_ODDS), len(up.data), cloud, self._bundle)
            down = encode_reply(response, turn.request, cloud, self._bundle)
            answer = decode_reply(
                _opened(down.data, DOWN_ODDS), len(down.data), request, device, self._bundle
            )
            device = device.after(request, reference, answer.response)
            cloud = cloud.after(turn.request, turn.reference, response)
            if answer.response != response or device.digest != cloud.digest:
                return f"conversation {number}, turn {device.turn}"
            last = response.image or request.image
        return None

    def _request(self, rng: np.random.Generator, last: ImageTokens | None) -> Request:
        """A request about the picture before, or about a new one."""
        size = self._bundle.vocabulary.text_size
        task = (Task.T2I, Task.VQA, Task.INPAINT, Task.CLASSIFY)[int(rng.integers(4))]
        text = TextTokens(_ids(rng, size, 12 if TABLE[task].needs_text else 0), size)
        if task is Task.T2I:
            return Request(task, text)
        new = last is None or rng.random() < 0.3
        image = _image(rng, self._bundle.vocabulary.codebook_size) if new else last
        assert image is not None
        mask = TokenMask(_mask(rng, image.shape)) if task is Task.INPAINT else None
        options = Options(top=int(rng.integers(1, 256)), names=True)
        options = options if TABLE[task].answers_in_labels else Options()
        return Request(task, text, image, mask, options=options)

    def _response(self, rng: np.random.Generator, request: Request) -> Response:
        if TABLE[request.task].answers_in_words:
            size = self._bundle.vocabulary.text_size
            return Response(request.task, text=TextTokens(_ids(rng, size, 10), size))
        if TABLE[request.task].answers_in_labels:
            return Response(request.task, labels=_ranking(rng, request.options.top, True)[0])
        codes, targets = request.known(self._bundle.grid)
        size = self._bundle.vocabulary.codebook_size
        fill = rng.integers(0, size, int(targets.sum())).astype(np.int32)
        return Response(request.task, ImageTokens(merge(codes, targets, fill), size))


def checked(kind: Kind, number: int) -> str | None:
    """One trip; an error is a fault, too."""
    try:
        return kind.trip(number)
    except (UnimicError, AssertionError) as error:
        return f"{kind.name} {number}: {error!r}"


def _opened(frame: bytes, odds: tuple[int, ...]) -> Reader:
    reader = Reader(frame)
    reader.symbol(odds)
    return reader


def _ids(rng: np.random.Generator, size: int, longest: int) -> np.ndarray:
    """Ids of which low ones are likelier, as in texts."""
    count = int(rng.integers(0, longest + 1))
    return (size * rng.random(count) ** 3).astype(np.int32)


def _ranking(rng: np.random.Generator, most: int, names: bool) -> tuple[Ranking, LabelWish]:
    """Labels of a set of any size, and what the other end knows before they come."""
    of = LabelSet(rng.bytes(32), int(rng.integers(1, 2 ** int(rng.integers(1, 17)) + 1)))
    count = min(most, of.count)
    numbers = tuple(rng.permutation(of.count)[:count].tolist())
    levels = tuple(np.sort(rng.integers(0, LEVELS, count))[::-1].tolist())
    called = tuple(f"{number} {'é' * (number % 20)}" for number in numbers)
    return Ranking(of, numbers, levels, called), LabelWish(most, names, None if names else of)


def _shape(rng: np.random.Generator) -> tuple[int, int]:
    if rng.random() < 0.5:
        return 16, 16
    return int(rng.integers(1, 13)), int(rng.integers(1, 13))


def _mask(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    flags = rng.random(shape) < rng.uniform(0.0, 0.7)
    if rng.random() < 0.5:
        flags[:] = False
        flags[: int(rng.integers(1, shape[0] + 1)), : int(rng.integers(1, shape[1] + 1))] = True
    flags[int(rng.integers(shape[0])), int(rng.integers(shape[1]))] = True
    return flags


def _image(rng: np.random.Generator, size: int) -> ImageTokens:
    """Runs of equal codes."""
    height, width = _shape(rng)
    runs = rng.integers(0, size, (height, -(-width // 3)))
    return ImageTokens(np.repeat(runs, 3, axis=1)[:, :width].astype(np.int32), size)
