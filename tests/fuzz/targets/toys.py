"""Conversations and messages of the toy bundle, from which targets take their seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from toy_bundle import ToyBundle, answer, half_mask, image, requests, text

from shared_protocol.messages import Options, Request
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import encode_reply, encode_turn
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import KnownTokens, TokenMask

BUNDLE = ToyBundle()
SESSION = b"sessions"


def dropping() -> dict[str, Request]:
    """Requests that leave out tokens, evenly and not."""
    from shared_protocol.coding.drop_codec import first_even

    odd = np.zeros((16, 16), dtype=bool)
    odd[0, :3] = True
    even = first_even(40, ~half_mask().flags)
    return {
        "vqa_dropped": Request(Task.VQA, text(5), image(), dropped=TokenMask(odd)),
        "inpaint_dropped": Request(
            Task.INPAINT, text(5), image(), half_mask(), dropped=TokenMask(even)
        ),
        "outpaint_mended": Request(
            Task.OUTPAINT,
            text(4, 4),
            image(5, 9),
            extension=Extension(1, 2, 0, 3),
            options=Options(guidance=0.0, mend=2),
        ),
    }


def all_requests() -> list[Request]:
    """One of each kind."""
    first = [request for request in requests().values() if request.task is not Task.CLASSIFY]
    return [*first, *dropping().values(), *classifying()]


def classifying() -> list[Request]:
    """Requests for labels; last everywhere, since stored inputs name requests by their place."""
    found = [request for request in requests().values() if request.task is Task.CLASSIFY]
    return [*found, replace(found[0], dropped=dropping()["vqa_dropped"].dropped)]


def some_known(request: Request) -> KnownTokens | None:
    """A part of the request's picture, as if the receiver had it; None without a picture."""
    if request.image is None:
        return None
    flags = np.zeros(request.image.shape, dtype=bool)
    flags[: request.image.shape[0] // 2] = True
    return KnownTokens(request.image.codes, flags)


@dataclass(frozen=True)
class Turn:
    """A turn of a conversation: what both ends knew before it, what was asked, both frames."""

    state: SessionState
    request: Request
    up: bytes
    down: bytes


def conversation() -> list[Turn]:
    """Turns about pictures that come anew, are known, and grow."""
    script = [
        Request(Task.T2I, text(9, 10)),
        Request(Task.VQA, text(5, 6), image()),
        Request(Task.VQA, text(7), image()),
        *all_requests()[: -len(classifying())],
        Request(Task.VQA, text(7), image(5, 9)),
        *classifying(),
    ]
    state, turns = SessionState(SESSION), []
    for request in script:
        up, reference = encode_turn(request, state, BUNDLE)
        response = answer(request)
        down = encode_reply(response, request, state, BUNDLE)
        turns.append(Turn(state, request, up.data, down.data))
        state = state.after(request, reference, response)
    return turns
