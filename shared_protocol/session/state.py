"""What both ends keep of a conversation: pictures, options and the number of the next turn.

It does not know how a turn is coded. Values are immutable: a turn that fails leaves the old state,
one that succeeds makes a new one, the same at both ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from shared_protocol.coding.bits import array_bytes
from shared_protocol.errors import InvalidInputError
from shared_protocol.labels import USUAL_TOP
from shared_protocol.message.bitstream import pack_parameters
from shared_protocol.messages import GUIDANCE_UNIT, Options, Request, Response
from shared_protocol.tasks import TABLE, Direction, Task, positions
from shared_protocol.tokens import Flags, KnownTokens

MAX_PICTURES = 32
"""Pictures of one conversation; the one that was used longest ago is forgotten first."""
SESSION_ID_BYTES = 8
HASH_BYTES = 8
MAX_TURN = (1 << 32) - 1


@dataclass(frozen=True, eq=False)
class KnownPicture:
    """Tokens of a picture that both ends have.

    Args:
        tokens: (H, W) codes, and where they are known.
    """

    tokens: KnownTokens

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the shape, of what is known and of its codes."""
        said = array_bytes(self.tokens.flags) + array_bytes(self.tokens.codes)
        return hashlib.sha256(said).digest()

    @property
    def name(self) -> bytes:
        """The bytes that offer this picture in a hello."""
        return self.digest[:HASH_BYTES]


@dataclass(frozen=True)
class Reference:
    """A picture that both ends have, or a window of it.

    Args:
        index: its place among the state's pictures.
        top, left: where the window begins, in tokens.
    """

    index: int
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class SessionState:
    """What both ends know before a turn.

    Args:
        session: 8 bytes that name the conversation.
        turn: number of the turn that comes next.
        pictures: the one that was used last comes last.
        options: those of the turn before.
    """

    session: bytes
    turn: int = 0
    pictures: tuple[KnownPicture, ...] = ()
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        if len(self.session) != SESSION_ID_BYTES:
            raise InvalidInputError(f"a session id has {len(self.session)} bytes, not 8")
        if not 0 <= self.turn <= MAX_TURN:
            raise InvalidInputError(f"turn {self.turn} is outside 0..{MAX_TURN}")
        if len(self.pictures) > MAX_PICTURES:
            raise InvalidInputError(f"{len(self.pictures)} pictures, at most {MAX_PICTURES} fit")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything above; ends whose states differ notice it at the next turn."""
        digest = hashlib.sha256(self.session + self.turn.to_bytes(8, "big"))
        digest.update(pack_parameters(option_values(self.options)))
        for picture in self.pictures:
            digest.update(picture.digest)
        return digest.digest()

    def restart(self, turn: int, pictures: Sequence[KnownPicture] = ()) -> SessionState:
        """The same conversation before `turn`, when only `pictures` are known for certain."""
        return SessionState(self.session, turn, tuple(pictures))

    def find(self, request: Request, native: tuple[int, int]) -> Reference | None:
        """The picture that holds the request's, as far as it is known; the latest of the best.

        A picture of which nothing would be saved is not found. What is asked about a
        picture of the bundle's own grid, (H, W) = `native`, may be a window of a larger one.
        """
        if request.image is None:
            return None
        best: tuple[int, Reference] | None = None
        wanted = readable(request)
        for index in reversed(range(len(self.pictures))):
            for reference in self._places(index, request, native):
                known = self.known(reference, request.image.shape)
                if not np.array_equal(np.where(known.flags, request.image.codes, 0), known.codes):
                    continue
                useful = int((known.flags & wanted).sum())
                if useful and (best is None or useful > best[0]):
                    best = useful, reference
        return None if best is None else best[1]

    def _places(self, index: int, request: Request, native: tuple[int, int]) -> Iterator[Reference]:
        """Where in picture `index` a picture like the request's could be."""
        assert request.image is not None, "asked of requests with a picture"
        height, width = self.pictures[index].tokens.shape
        if not windowed(request.task, (height, width), native):
            if (height, width) == request.image.shape:
                yield Reference(index)
        elif request.image.shape == native:
            for top in range(height - native[0] + 1):
                for left in range(width - native[1] + 1):
                    yield Reference(index, top, left)

    def known(self, reference: Reference, grid: tuple[int, int]) -> KnownTokens:
        """What both ends have of the (H, W) picture that a reference names."""
        tokens = self.pictures[reference.index].tokens
        if tokens.shape == grid:
            return tokens
        rows = slice(reference.top, reference.top + grid[0])
        columns = slice(reference.left, reference.left + grid[1])
        return KnownTokens(tokens.codes[rows, columns], tokens.flags[rows, columns])

    def after(
        self, request: Request, reference: Reference | None, response: Response
    ) -> SessionState:
        """The state once the turn is over; equal at both ends.

        Args:
            request: the turn's.
            reference: which picture it named; None for one that came with it, or for none.
            response: the whole merged picture, or words.
        """
        index = None if reference is None else reference.index
        pictures = [p for place, p in enumerate(self.pictures) if place != index]
        if request.image is not None:
            pictures = _with(pictures, self._source_after(request, reference))
        if response.image is not None:
            known = ~request.gaps(response.image.shape)
            pictures = _with(pictures, KnownTokens(response.image.codes, known))
        return SessionState(
            self.session,
            self.turn + 1,
            tuple(pictures[-MAX_PICTURES:]),
            replace(request.options, reply=None, names=False),
        )

    def _source_after(self, request: Request, reference: Reference | None) -> KnownTokens:
        """What both ends know of the picture that was asked about once the request has arrived."""
        assert request.image is not None, "asked of requests with a picture"
        came = readable(request)
        if reference is None:
            return KnownTokens(request.image.codes, came)
        whole = self.pictures[reference.index].tokens
        height, width = request.image.shape
        rows = slice(reference.top, reference.top + height)
        columns = slice(reference.left, reference.left + width)
        codes, flags = whole.codes.copy(), whole.flags.copy()
        new = came & ~flags[rows, columns]
        codes[rows, columns][new] = request.image.codes[new]
        flags[rows, columns] |= came
        return KnownTokens(codes, flags)


def windowed(task: Task, grid: tuple[int, int], native: tuple[int, int]) -> bool:
    """Whether a turn of `task` about a picture of (H, W) = `grid` is about a window of it."""
    larger = grid[0] >= native[0] and grid[1] >= native[1] and grid != native
    return not TABLE[task].makes_picture and larger


def readable(request: Request) -> Flags:
    """(H, W) bool: the tokens of the request's picture that the receiver needs."""
    assert request.image is not None, "asked of requests with a picture"
    spec = TABLE[request.task].image(Direction.UPLINK)
    assert spec is not None, "such a task sends a picture up"
    mask = None if request.mask is None else request.mask.flags
    wanted = positions(spec.subset, request.image.shape, mask, None)
    return wanted if request.dropped is None else wanted & ~request.dropped.flags


def option_values(options: Options) -> dict[int, int]:
    """Options as numbers by position; what is left to the bundle is missing."""
    guidance = None if options.guidance is None else round(options.guidance / GUIDANCE_UNIT)
    values = (
        options.steps,
        guidance,
        options.seed,
        options.max_new_tokens,
        options.mend,
        None if options.top == USUAL_TOP else options.top,
    )
    return {index: value for index, value in enumerate(values) if value is not None}


def _with(pictures: list[KnownPicture], tokens: KnownTokens) -> list[KnownPicture]:
    """`pictures` with one more at the end, in place of an equal one."""
    new = KnownPicture(tokens)
    return [*(p for p in pictures if p.digest != new.digest), new]
