"""What both ends keep of a conversation: pictures, options and the number of the next turn.

It does not know how a turn is coded. Values are immutable: a turn that fails leaves the old state,
one that succeeds makes a new one, the same at both ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from shared_protocol.coding.bits import array_bytes
from shared_protocol.errors import InvalidInputError
from shared_protocol.message.bitstream import pack_parameters
from shared_protocol.messages import GUIDANCE_UNIT, Options, Request, Response
from shared_protocol.tasks import TABLE, Direction, positions
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

    def find(self, request: Request) -> int | None:
        """Index of a picture that holds the request's, as far as it is known; the latest first.

        A picture of which nothing would be saved is not found.
        """
        if request.image is None:
            return None
        best: tuple[int, int] | None = None
        codes, wanted = request.image.codes, readable(request)
        for index in reversed(range(len(self.pictures))):
            known = self.pictures[index].tokens
            if known.shape != request.image.shape:
                continue
            if not np.array_equal(np.where(known.flags, codes, 0), known.codes):
                continue
            useful = int((known.flags & wanted).sum())
            if useful and (best is None or useful > best[0]):
                best = useful, index
        return None if best is None else best[1]

    def after(self, request: Request, reference: int | None, response: Response) -> SessionState:
        """The state once the turn is over; equal at both ends.

        Args:
            request: the turn's.
            reference: which picture it named; None for one that came with it, or for none.
            response: the whole merged picture, or words.
        """
        pictures = [p for index, p in enumerate(self.pictures) if index != reference]
        if request.image is not None:
            before = None if reference is None else self.pictures[reference].tokens
            pictures = _with(pictures, source_after(request, before))
        if response.image is not None:
            grid = response.image.shape
            known = ~request.gaps(grid)
            pictures = _with(pictures, KnownTokens(response.image.codes, known))
        return SessionState(
            self.session,
            self.turn + 1,
            tuple(pictures[-MAX_PICTURES:]),
            replace(request.options, reply=None),
        )


def readable(request: Request) -> Flags:
    """(H, W) bool: the tokens of the request's picture that the receiver needs."""
    assert request.image is not None, "asked of requests with a picture"
    spec = TABLE[request.task].image(Direction.UPLINK)
    assert spec is not None, "such a task sends a picture up"
    mask = None if request.mask is None else request.mask.flags
    wanted = positions(spec.subset, request.image.shape, mask, None)
    return wanted if request.dropped is None else wanted & ~request.dropped.flags


def source_after(request: Request, before: KnownTokens | None) -> KnownTokens:
    """What both ends know of the request's picture once the request has arrived."""
    assert request.image is not None, "asked of requests with a picture"
    came = readable(request)
    if before is None:
        return KnownTokens(request.image.codes, came)
    codes = np.where(before.flags, before.codes, request.image.codes)
    return KnownTokens(codes, before.flags | came)


def option_values(options: Options) -> dict[int, int]:
    """Options as numbers by position; what is left to the bundle is missing."""
    guidance = None if options.guidance is None else round(options.guidance / GUIDANCE_UNIT)
    values = (options.steps, guidance, options.seed, options.max_new_tokens)
    return {index: value for index, value in enumerate(values) if value is not None}


def _with(pictures: list[KnownPicture], tokens: KnownTokens) -> list[KnownPicture]:
    """`pictures` with one more at the end, in place of an equal one."""
    new = KnownPicture(tokens)
    return [*(p for p in pictures if p.digest != new.digest), new]
