"""Scripts of conversations about one picture, and holding them over any exchange.

It does not measure links or pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_client.client import EdgeClient, Interaction
from edge_client.exchange.coded_exchange import Exchange
from edge_client.pictures.geometry import Geometry
from edge_client.pictures.images import Picture
from edge_client.pictures.masks import box_mask, token_mask
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.errors import InternalError
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import ImageTokens, TokenMask

SOURCE = "source"
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Line:
    """One turn of a script.

    Args:
        task: what is asked.
        text: prompt or question.
        about: which picture: `SOURCE`, or the `makes` of a line before.
        makes: what to call the picture that comes back; "" for an answer.
        box: what is repainted, in pixels; or
        mask: the same in tokens.
        right, left, up, down: token columns and rows that are added.
        seed: of the turn.
    """

    task: Task
    text: str
    about: str = SOURCE
    makes: str = ""
    box: Box | None = None
    right: int = 0
    seed: int = 0
    mask: TokenMask | None = None
    left: int = 0
    up: int = 0
    down: int = 0


EIGHT_TURNS = (
    Line(Task.VQA, "how many objects are there?"),
    Line(Task.VQA, "what is left of the tree?"),
    Line(Task.VQA, "is there a fox?"),
    Line(Task.INPAINT, "a fox and a penguin on a beach at night", SOURCE, "one", (144, 80, 96, 96)),
    Line(Task.VQA, "is there a penguin?", "one"),
    Line(Task.INPAINT, "a fox and a balloon on a beach at night", "one", "two", (16, 16, 64, 80)),
    Line(Task.OUTPAINT, "on a beach at night", "two", "three", right=8),
    Line(Task.VQA, "describe the picture", "one"),
)
"""Questions, edits, and a question about the picture before the last."""


def hold(
    bundle: Bundle,
    exchange: Exchange,
    source: ImageTokens,
    script: Sequence[Line],
    steps: int | None = None,
    after: Callable[[Interaction], None] = lambda done: None,
) -> list[Interaction]:
    """Every turn of a script about a picture.

    Args:
        bundle: of both ends.
        exchange: how requests are answered.
        source: (H, W) tokens.
        script: the turns.
        steps: decoding steps of pictures; None = the bundle's.
        after: told every turn.

    Raises:
        InternalError: a token outside an edit changed.
    """
    client = EdgeClient(bundle, exchange)
    pictures, done = {SOURCE: source}, []
    for line in script:
        told = _ask(client, bundle, pictures[line.about], line, steps)
        after(told)
        if told.response.image is not None:
            _check_kept(told)
            pictures[line.makes] = told.response.image
        done.append(told)
    return done


def _ask(
    client: EdgeClient, bundle: Bundle, picture: ImageTokens, line: Line, steps: int | None
) -> Interaction:
    options = Options(steps=steps, seed=line.seed)
    if line.task is Task.VQA:
        return client.vqa(picture, line.text, Options(seed=line.seed))
    if line.task is Task.OUTPAINT:
        sides = Extension(line.left, line.right, line.up, line.down)
        return client.outpaint(picture, sides, line.text, options)
    if line.mask is not None:
        return client.inpaint(picture, line.mask, line.text, options)
    assert line.box is not None, "an inpainting has a box or a mask"
    return client.inpaint(picture, mask_of(line.box, bundle, picture.shape), line.text, options)


def mask_of(box: Box, bundle: Bundle, grid: tuple[int, int]) -> TokenMask:
    """The tokens of an (H, W) picture under a box of its pixels."""
    height, width = (side * bundle.stride for side in grid)
    geometry = Geometry((width, height), (width, height))
    blank = np.zeros((height, width, 3), dtype=np.uint8)
    return token_mask(box_mask([box], Picture("a picture", blank, geometry)), grid)


def _check_kept(done: Interaction) -> None:
    request, image = done.request, done.response.image
    assert image is not None, "asked of pictures"
    known, targets = request.known(image.shape)
    changed = int((image.codes[~targets] != known[~targets]).sum())
    if changed:
        raise InternalError(f"{changed} tokens outside an edit changed")


def chats(cases: Sequence[Line], pictures: Sequence[str], most: int) -> Iterator[list[Line]]:
    """Cases about one picture as one conversation each, of two to `most` turns."""
    for name in dict.fromkeys(pictures):
        mine = [line for line, of in zip(cases, pictures, strict=True) if of == name][:most]
        if len(mine) > 1:
            yield mine
