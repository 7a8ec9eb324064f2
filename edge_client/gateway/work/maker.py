"""Pictures from a wish: drawn anew, edited under a mask, continued beyond their edges.

It does not know HTTP, nor how a turn travels: it is given sessions, and tells of what is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from edge_client.gateway.requests.edit_request import EditWish
from edge_client.gateway.requests.picture_wish import SEEDS, PictureWish
from edge_client.gateway.work.costs import bytes_of
from edge_client.gateway.work.edit_area import EditArea, area_of
from edge_client.gateway.work.jobs import Telling
from edge_client.gateway.work.known_pictures import KnownPictures, Round
from edge_client.gateway.work.output import inside, packed, picture_of, sized
from edge_client.gateway.work.partials import PartialPictures, expected_previews
from edge_client.gateway.work.session_pool import Seat, SessionPool
from edge_client.session.cost import TurnCost
from edge_client.session.picture import Picture
from shared_protocol.tokens import Codes, Flags, ImageTokens

_SAME_SHAPE = 0.005
_PARTIAL_SIDE = 1024
"""Longest side of an intermediate picture."""


@dataclass(frozen=True)
class Partial:
    """An intermediate picture.

    Args:
        number: of the picture that is being made, from 0.
        index: which of its intermediate ones, from 0.
        data: its file.
        size: (width, height).
    """

    number: int
    index: int
    data: bytes = field(repr=False)
    size: tuple[int, int]


@dataclass(frozen=True)
class Made:
    """A finished picture.

    Args:
        number: which of the request's, from 0.
        round: the picture, kept under a name.
        size: (width, height).
        seed: what it was made with.
        costs: of its turns.
        warnings: what the user should know.
        seconds: that it took.
        created: when, in seconds of the epoch.
    """

    number: int
    round: Round
    size: tuple[int, int]
    seed: int
    costs: tuple[TurnCost, ...]
    warnings: tuple[str, ...]
    seconds: float
    created: int


@dataclass(frozen=True)
class _One:
    """One of the pictures of a wish."""

    number: int
    seed: int
    wish: PictureWish
    telling: Telling
    started: float

    @property
    def options(self) -> dict[str, Any]:
        wish = self.wish
        return {
            "negative": wish.negative,
            "seed": self.seed,
            "steps": wish.steps,
            "guidance": wish.guidance,
            "mend": wish.mend,
        }


class PictureMaker:
    """Makes pictures.

    Args:
        pool: sessions to make them in.
        known: pictures that went through.
        least: tokens on the shorter side of a picture, as the bundle says.
    """

    def __init__(self, pool: SessionPool, known: KnownPictures, least: int) -> None:
        self._pool = pool
        self._known = known
        self._least = least

    def generate(self, wish: PictureWish, telling: Telling) -> list[Made]:
        """As many pictures as a wish says, each told as `Made` when it is finished.

        Several are made at once, in as many sessions as are free; events need them in order.

        Raises:
            UnimicError: the first failure.
        """
        ones = _ones(wish, telling)
        if len(ones) == 1 or wish.stream:
            return [self._generated(one) for one in ones]
        with ThreadPoolExecutor(len(ones)) as threads:
            contexts = [copy_context() for _ in ones]
            return list(threads.map(lambda own, one: own.run(self._generated, one), contexts, ones))

    def edit(self, asked: EditWish, telling: Telling) -> list[Made]:
        """A picture with a part of it made anew, as often as the wish says.

        All are made in one session, one after another, so that the picture travels once.

        Raises:
            RefusedError: nothing says which part.
            UnimicError: the first failure.
        """
        wish = asked.wish
        names = dict(wish.params)
        mask_name, image_name = names.get("mask", "mask"), names.get("image", "image")
        area = area_of(asked, mask_name, image_name, self._least)
        data = area.picture
        seat = self._known.seat_of(data)
        with self._seat(seat, wish.partials > 0, telling) as seat:
            picture = self._known.open(seat, data)
            return [self._edited(seat, picture, area, asked, one) for one in _ones(wish, telling)]

    # ---------------------------------------------------------------------------------------------

    @contextmanager
    def _seat(self, wanted: Seat | None, previews: bool, telling: Telling) -> Iterator[Seat]:
        with self._pool.borrow(wanted, previews, lambda: telling.cancelled) as seat:
            telling.uses(seat.session)
            try:
                telling.stop_if_cancelled()
                yield seat
            finally:
                telling.leaves(seat.session)

    def _generated(self, one: _One) -> Made:
        wish = one.wish
        with self._seat(None, wish.partials > 0, one.telling) as seat:
            self._listen(seat, one, None, lambda image: _fitted(image, wish.size))
            picture = seat.session.new(wish.prompt, **one.options)
            costs, told = _spent(picture), list(picture.warnings)
            shape = None if wish.size is None else _other_shape(picture.size, wish.size)
            if shape is not None:
                one.telling.stop_if_cancelled()
                seat.listen(None, None)
                picture = picture.outpaint(wish.prompt, to=shape, **one.options)
                costs += _spent(picture)
                told += picture.warnings
                told.append(
                    f"the model makes squares: this one was continued to {shape}, in a second turn"
                )
            image, profile = picture_of(picture)
            return self._finished(seat, picture, sized(image, wish.size), profile, one, costs, told)

    def _edited(
        self, seat: Seat, picture: Picture, area: EditArea, asked: EditWish, one: _One
    ) -> Made:
        one.telling.stop_if_cancelled()
        wish = one.wish
        told = list(area.warnings)
        if wish.partials:
            self._listen(seat, one, *area.preview(picture, asked))
        else:
            seat.listen(None, None)
        if area.border is None:
            made = picture.inpaint(
                area.where(picture),
                wish.prompt,
                around=asked.around,
                edge=asked.edge,
                **one.options,
            )
        else:
            made = picture.outpaint(
                wish.prompt, edge=asked.edge, **area.border.sides, **one.options
            )
        told += made.warnings
        image, profile = picture_of(made)
        size = image.size if area.border is None else area.border.canvas
        if wish.size is not None and wish.size != size:
            size = inside(size, wish.size)
            if size != wish.size:
                told.append(
                    f"size {wish.size[0]}x{wish.size[1]} is of another shape than the picture: "
                    f"this is {size[0]}x{size[1]}"
                )
        return self._finished(
            seat, made, sized(image, size), profile, one, _spent(made), told, asked.picture
        )

    def _listen(
        self, seat: Seat, one: _One, known: Flags | None, show: Callable[[Any], Image.Image]
    ) -> None:
        """Have intermediate pictures told, if they are wanted."""
        if not one.wish.partials:
            seat.listen(None, None)
            return
        bundle = seat.session.bundle

        def tell(index: int, codes: Codes) -> None:
            tokens = ImageTokens(codes, bundle.vocabulary.codebook_size)
            image = show(Image.fromarray(bundle.image_tokenizer().detokenize(tokens)))
            image.thumbnail((_PARTIAL_SIDE, _PARTIAL_SIDE))
            data = packed(image, one.wish.kind, one.wish.compression)
            one.telling.say(Partial(one.number, index, data, image.size))

        height, width = bundle.grid
        tokens = height * width if known is None else int((~known).sum())
        steps = one.wish.steps or bundle.defaults.steps
        expected = expected_previews(tokens, steps)
        partials = PartialPictures(one.wish.partials, known, expected, tell)
        seat.listen(partials.on_step, partials.on_preview)

    def _finished(  # noqa: PLR0913 - all that is said of a picture
        self,
        seat: Seat,
        picture: Picture,
        image: Image.Image,
        profile: bytes | None,
        one: _One,
        costs: tuple[TurnCost, ...],
        told: list[str],
        before: bytes | None = None,
    ) -> Made:
        wish = one.wish
        data = packed(image, wish.kind, wish.compression, picture, profile)
        self._known.seen(seat, picture, data)
        seconds = time.perf_counter() - one.started
        about = {
            "task": costs[-1].what,
            "prompt": wish.prompt,
            "size": f"{image.width}x{image.height}",
            "seed": one.seed,
            "unimic": bytes_of(costs, seconds, told),
        }
        kept = self._known.keep(data, wish.kind, about, before)
        warnings = tuple(told)
        created = int(time.time())
        made = Made(one.number, kept, image.size, one.seed, costs, warnings, seconds, created)
        one.telling.say(made)
        return made


def _fitted(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """A picture in the size that is asked for, as far as its shape lets it."""
    return image if size is None else sized(image, inside(image.size, size))


def _ones(wish: PictureWish, telling: Telling) -> list[_One]:
    started = time.perf_counter()
    seeds = [(wish.seed + number) % SEEDS for number in range(wish.count)]
    return [_One(number, seed, wish, telling, started) for number, seed in enumerate(seeds)]


def _spent(picture: Picture) -> tuple[TurnCost, ...]:
    assert picture.cost is not None, "it was made by a turn"
    return (picture.cost,)


def _other_shape(size: tuple[int, int], wanted: tuple[int, int]) -> str | None:
    """The shape to continue a picture to; None if it has it already."""
    if abs(size[0] * wanted[1] / (size[1] * wanted[0]) - 1) < _SAME_SHAPE:
        return None
    return f"{wanted[0]}:{wanted[1]}"
