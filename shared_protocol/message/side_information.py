"""What both ends know before image tokens are coded, for either direction.

It does not know bytes or models; an entropy model makes of it what its scenario says.
"""

from __future__ import annotations

import numpy as np

from shared_protocol.entropy.context import CodingContext
from shared_protocol.messages import Request
from shared_protocol.tokens import Codes, Flags, KnownTokens


def request_context(
    readable: Flags, text: Codes, known: KnownTokens | None = None
) -> CodingContext:
    """The context of a request's image.

    Args:
        readable: (H, W) bool, the positions that the receiver is to have in the end: all that are
            neither masked nor dropped.
        text: (N,) ids of the request.
        known: tokens that the receiver has already; they serve as context and do not travel. What
            it has of masked or dropped positions is not looked at.
    """
    before = known or KnownTokens.none((readable.shape[0], readable.shape[1]))
    both = before.flags & readable
    return CodingContext(readable & ~both, both, np.where(both, before.codes, 0), text)


def response_context(request: Request, grid: tuple[int, int]) -> CodingContext:
    """The context of a response's image: what the request leaves open travels.

    Tokens that the request dropped are neither known to both ends nor sent.

    Args:
        request: what is answered.
        grid: (H, W) of the bundle's own picture.
    """
    codes, targets = request.known(grid)
    known = ~(targets | request.gaps(grid))
    return CodingContext(targets, known, np.where(known, codes, 0), request.text.ids)
