"""Turns over bits of messages, frames and files, and counts what is accepted all the same.

    python tests/fuzz/flips.py --minutes 1

Content that is accepted and differs from what was sent must be as rare as the check allows: one in
2^32 behind the CRC of messages and files, one in 2^16 behind the check of a frame.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import catalogue
import numpy as np

catalogue.reachable()

from damage import flipped  # noqa: E402 - the fakes are reachable only now
from targets.toys import BUNDLE, all_requests, conversation  # noqa: E402
from toy_bundle import answer, image  # noqa: E402

from shared_protocol.errors import BundleMismatchError, UnimicError  # noqa: E402
from shared_protocol.message.codec import (  # noqa: E402
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.message.parameters import request_digest  # noqa: E402
from shared_protocol.message.picture_file import read_picture, write_picture  # noqa: E402
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS, Down, Up  # noqa: E402
from shared_protocol.session.port import Reader  # noqa: E402
from shared_protocol.session.turns import decode_reply, decode_turn  # noqa: E402

CRC, CHECK = 2.0**-32, 2.0**-16
SURE = 1e-6
"""A count that is this unlikely by chance breaks the claim."""


@dataclass(frozen=True)
class Sent:
    """Bytes, how they are read, and what they said."""

    data: bytes
    read: Callable[[bytes], object]

    def outcome(self, data: bytes) -> str:
        """What became of other bytes: "refused", "same" content, or "other" content."""
        try:
            found = self.read(data)
        except (UnimicError, BundleMismatchError):
            return "refused"
        return "same" if found == self.read(self.data) else "other"


@dataclass
class Count:
    """What became of the flips of one kind."""

    kind: str
    chance: float
    flips: int = 0
    refused: int = 0
    same: int = 0
    other: int = 0

    @property
    def within(self) -> bool:
        """Whether so many would be accepted by chance, too."""
        mean, left = self.flips * self.chance, 1.0
        for number in range(self.other):
            left -= math.exp(-mean + number * math.log(mean) - math.lgamma(number + 1))
        return left > SURE

    def __str__(self) -> str:
        told = "" if self.within else "  MORE THAN THE CHECK ALLOWS"
        return (
            f"{self.kind:<12}{self.flips:>12,}{self.refused:>12,}{self.same:>10,}{self.other:>8,}"
            f"{self.flips * self.chance:>12.4f}{told}"
        )


HEAD = f"{'kind':<12}{'flips':>12}{'refused':>12}{'same':>10}{'other':>8}{'expected':>12}"


def requests_sent() -> list[Sent]:
    """Messages up."""

    def read(data: bytes) -> object:
        found = decode_request(data, BUNDLE).value
        return request_digest(found), found.options

    return [Sent(encode_request(each, BUNDLE).data, read) for each in all_requests()]


def responses_sent() -> list[Sent]:
    """Messages down."""
    return [
        Sent(
            encode_response(answer(each), each, BUNDLE).data,
            lambda data, each=each: decode_response(data, each, BUNDLE).value,  # type: ignore[misc]
        )
        for each in all_requests()
    ]


def turns_sent() -> list[Sent]:
    """Turns of a conversation; any other kind of frame counts as refused."""

    def reader_of(turn):
        def read(data: bytes) -> object:
            reader = Reader(data)
            if reader.symbol(UP_ODDS) != Up.TURN:
                raise UnimicError("another kind of frame")
            return request_digest(decode_turn(reader, len(data), turn.state, BUNDLE).request)

        return read

    return [Sent(turn.up, reader_of(turn)) for turn in conversation()]


def replies_sent() -> list[Sent]:
    """Replies of a conversation."""

    def reader_of(turn):
        def read(data: bytes) -> object:
            reader = Reader(data)
            if reader.symbol(DOWN_ODDS) != Down.REPLY:
                raise UnimicError("another kind of frame")
            return decode_reply(reader, len(data), turn.request, turn.state, BUNDLE).response

        return read

    return [Sent(turn.down, reader_of(turn)) for turn in conversation()]


def files_sent() -> list[Sent]:
    """Picture files of both codings."""
    from shared_protocol.message.picture_file import Coding

    def read(data: bytes) -> object:
        stored = read_picture(data, BUNDLE)
        return stored.image, stored.metadata

    return [
        Sent(write_picture(image(*shape), BUNDLE, coding, {"prompt": "a fox", "seed": 3}), read)
        for coding in Coding
        for shape in ((16, 16), (3, 2))
    ]


KINDS: dict[str, tuple[Callable[[], list[Sent]], float]] = {
    "requests": (requests_sent, CRC),
    "responses": (responses_sent, CRC),
    "files": (files_sent, CRC),
    "turns": (turns_sent, CHECK),
    "replies": (replies_sent, CHECK),
}


def flip(kind: str, seed: int, trials: int, seconds: float = math.inf) -> Count:
    """Flip bits of one kind so often, or so long."""
    make, chance = KINDS[kind]
    sent, rng, count = make(), np.random.default_rng((seed, len(kind))), Count(kind, chance)
    end = time.monotonic() + seconds
    while count.flips < trials and time.monotonic() < end:
        one = sent[int(rng.integers(len(sent)))]
        outcome = one.outcome(flipped(rng, one.data))
        count.flips += 1
        setattr(count, outcome, getattr(count, outcome) + 1)
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Flip bits; 1 if more was accepted than the checks allow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="in all [%(default)s]")
    parser.add_argument("--share", type=float, default=1.0, help="of the minutes [%(default)s]")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="[the time]")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}\n{HEAD}", flush=True)
    counts = []
    for kind in KINDS:
        seconds = args.minutes * args.share * 60 / len(KINDS)
        counts.append(flip(kind, args.seed, sys.maxsize, seconds))
        print(counts[-1], flush=True)
    return int(not all(count.within for count in counts))


if __name__ == "__main__":
    sys.exit(main())
