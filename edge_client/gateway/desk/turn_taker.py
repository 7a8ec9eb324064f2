"""Takes the turns of a person at the page: in a session that has the picture, if one is free.

It does not know HTTP. What was made is a round of the desk; a turn that fails changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from edge_client.gateway.desk.desk import Desk, Round, TurnTaken, new_name
from edge_client.gateway.desk.lattice import Lattice, extension_of
from edge_client.gateway.desk.pixel_formats import sizes_of
from edge_client.gateway.desk.round_files import shown
from edge_client.gateway.desk.wish import SIDES, TurnWish
from edge_client.gateway.work.jobs import Telling
from edge_client.gateway.work.partials import PartialPictures, expected_previews
from edge_client.gateway.work.session_pool import Seat, SessionPool
from edge_client.pictures.edits import Look, for_inpainting
from edge_client.pictures.mask_files import Mask
from edge_client.pictures.sources import Source, open_content
from edge_client.session.picture import Picture
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.tokens import MAX_GRID, Codes, Flags, ImageTokens, TokenMask

Place = tuple[float, float, float, float]
"""left, top, width, height in pixels of the picture that is made."""


@dataclass(frozen=True)
class Step:
    """How far a turn is: so many steps of all."""

    done: int
    total: int


@dataclass(frozen=True)
class Glimpse:
    """An intermediate picture.

    Args:
        index: which, from 0.
        data: its file.
        kind: its media type.
        at: what of the picture it shows.
    """

    index: int
    data: bytes = field(repr=False)
    kind: str
    at: Place


Taken = tuple[TurnTaken, Round | None]


class TurnTaker:
    """Opens pictures and takes turns about them.

    Args:
        pool: sessions to take them in.
        desk: keeps what comes of them.
        bundle: of all sessions.
    """

    def __init__(self, pool: SessionPool, desk: Desk, bundle: Bundle) -> None:
        self._pool = pool
        self._desk = desk
        self._bundle = bundle

    def open(self, data: bytes, name: str) -> Round:
        """Take in a picture's file, or a `.umic` file; tokens that it carries are kept.

        Raises:
            ImageError: not a readable picture.
        """
        source = open_content(data, name, self._bundle)
        seen = source.seen()
        tokens = seen.tokens or self._bundle.image_tokenizer().tokenize(seen.pixels)
        source = replace(source, tokens=tokens, geometry=seen.geometry)
        told = tuple(seen.told(self._bundle.stride))
        made = Round(new_name(), None, "open", name, source, sizes_of(seen.pixels), told)
        return self._desk.add(made)

    def take(self, wish: TurnWish, telling: Telling) -> Taken:
        """Take a turn; steps and glimpses are told meanwhile.

        Raises:
            RefusedError: the round is not kept, or the cells are not its own.
            UnimicError: it could not be done.
        """
        about = self._desk.round(wish.round) if wish.round and wish.task != "t2i" else None
        previews = wish.partials > 0 and wish.task != "vqa"
        wanted = None if about is None else about.seat
        with self._pool.borrow(wanted, previews, lambda: telling.cancelled) as seat:
            telling.uses(seat.session)
            try:
                telling.stop_if_cancelled()
                return self._taken(seat, about, wish, telling)
            finally:
                telling.leaves(seat.session)

    # ---------------------------------------------------------------------------------------------

    def _taken(self, seat: Seat, about: Round | None, wish: TurnWish, telling: Telling) -> Taken:
        if about is None:
            with self._heard(seat, wish, telling, None, (0.0, 0.0, *self._native)):
                made = seat.session.new(wish.text, **_options(wish))
            return self._made(seat, None, wish, made)
        picture = _in_session(seat, about.source)
        if wish.task == "vqa":
            answer = picture.ask(wish.text, seed=wish.seed)
            about.seat = seat
            turn = self._desk.note(
                "vqa", wish.text, about, None, answer.cost, answer.warnings, str(answer)
            )
            return turn, None
        change = self._inpaint if wish.task == "inpaint" else self._outpaint
        return self._made(seat, about, wish, change(seat, picture, wish, telling))

    def _inpaint(self, seat: Seat, picture: Picture, wish: TurnWish, telling: Telling) -> Picture:
        lattice = Lattice.of(picture.source)
        where = lattice.where(lattice.flags(wish.cells))
        known, at = _known(picture.source, where)
        with self._heard(seat, wish, telling, known, at):
            return picture.inpaint(where, wish.text, **_options(wish))

    def _outpaint(self, seat: Seat, picture: Picture, wish: TurnWish, telling: Telling) -> Picture:
        each, (width, height) = extension_of(picture.source), picture.size
        left, right, up, down = wish.sides
        at = (
            0.0,
            0.0,
            width + (left + right) * each["width"],
            height + (up + down) * each["height"],
        )
        sides: dict[str, Any] = dict(zip(SIDES, wish.sides, strict=True))
        known = np.zeros((each["rows"] + up + down, each["columns"] + left + right), dtype=bool)
        known[up : up + each["rows"], left : left + each["columns"]] = True
        if max(known.shape) > MAX_GRID:
            # The model is shown one end of the picture only, whose glimpses have no place here.
            wish = replace(wish, partials=0)
        with self._heard(seat, wish, telling, known, at):
            return picture.outpaint(wish.text, **sides, **_options(wish))

    def _made(self, seat: Seat, about: Round | None, wish: TurnWish, picture: Picture) -> Taken:
        assert picture.cost is not None, "it was made by a turn"
        if about is not None:
            about.seat = seat
        made = Round(
            new_name(),
            None if about is None else about.name,
            wish.task,
            wish.text,
            picture.source,
            sizes_of(picture.pixels),
            picture.warnings,
            seat,
            _options(wish),
        )
        self._desk.add(made)
        turn = self._desk.note(wish.task, wish.text, about, made, picture.cost, picture.warnings)
        return turn, made

    @property
    def _native(self) -> tuple[float, float]:
        height, width = self._bundle.grid
        return width * self._bundle.stride, height * self._bundle.stride

    @contextmanager
    def _heard(
        self, seat: Seat, wish: TurnWish, telling: Telling, known: Flags | None, at: Place
    ) -> Iterator[None]:
        """Have steps, and glimpses if they are wanted, told of the turn inside."""
        bundle = self._bundle
        tokens = bundle.grid[0] * bundle.grid[1] if known is None else int((~known).sum())
        expected = expected_previews(tokens, wish.steps or bundle.defaults.steps)
        partials = PartialPictures(wish.partials, known, expected, self._glimpse(telling, at))
        seat.listen(
            lambda done, total: telling.say(Step(done, total)),
            partials.on_preview if wish.partials else None,
        )
        try:
            yield
        finally:
            # What the link brings stays as it is, so that it need not be opened anew.
            seat.listen(_no_step, _no_preview if wish.partials else None)

    def _glimpse(self, telling: Telling, at: Place) -> Callable[[int, Codes], None]:
        def tell(index: int, codes: Codes) -> None:
            tokens = ImageTokens(codes, self._bundle.vocabulary.codebook_size)
            data, kind = shown(self._bundle.image_tokenizer().detokenize(tokens))
            telling.say(Glimpse(index, data, kind, at))

        return tell


def _in_session(seat: Seat, source: Source) -> Picture:
    assert source.tokens is not None, "a round has its tokens"
    return Picture(seat.session, source.tokens, source, source.name)


def _options(wish: TurnWish) -> dict[str, Any]:
    return {
        "negative": wish.negative,
        "seed": wish.seed,
        "steps": wish.steps,
        "guidance": wish.guidance,
        "mend": wish.mend,
    }


def _no_step(done: int, total: int) -> None:
    """Nobody hears."""


def _no_preview(codes: Codes, there: Flags) -> None:
    """Nobody sees."""


def _known(source: Source, where: Any) -> tuple[Flags, Place]:
    """Tokens that stay, and what of the picture the model sees."""
    geometry = source.usual
    if isinstance(where, TokenMask):
        flags = where.flags
    else:
        found = for_inpainting(source, Mask(Image.fromarray(where), "the mask"), Look())
        geometry, flags = found.picture.geometry, found.tokens.flags
    stride = source.bundle.stride
    (left, top), (right, bottom) = (
        geometry.to_photo(0, 0),
        geometry.to_photo(flags.shape[1] * stride, flags.shape[0] * stride),
    )
    return np.logical_not(flags), (left, top, right - left, bottom - top)
