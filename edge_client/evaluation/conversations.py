"""Scripts of conversations about one picture, and holding them over any exchange.

It does not measure links or pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

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


UNSCRIPTED_TURNS = 24
MOST_COLUMNS = 4
"""Token columns or rows that an unscripted outpainting adds."""
LARGEST = 2
"""Times the native side that an unscripted picture may grow to."""
_QUESTIONS = ("how many objects are there?", "describe the picture", "is there a fox?")
_WISHES = ("a fox", "a red balloon on a beach", "a tree at night", "a penguin", "snow")


def unscripted(
    rng: np.random.Generator, grid: tuple[int, int], turns: int = UNSCRIPTED_TURNS
) -> tuple[list[Line], int]:
    """Turns that nobody wrote down: inpaintings, outpaintings, questions, and undoing.

    Undoing sends nothing: what follows is about the picture before, which both ends still have.

    Args:
        rng: draws them.
        grid: (H, W) of the source, in tokens.
        turns: without those that undo.

    Returns:
        The turns, and how often an edit was undone before one of them.
    """
    pictures, undone = [(SOURCE, grid)], 0
    lines: list[Line] = []
    while len(lines) < turns:
        name, shape = pictures[-1]
        drawn = rng.random()
        if drawn < 0.2 and len(pictures) > 1:
            pictures.pop()
            undone += 1
            continue
        number, seed = len(lines) + 1, int(rng.integers(2**31))
        if drawn < 0.45:
            # A model reads pictures of its own size only: of those there are, the latest.
            native = [known for known, size in pictures if size == grid][-1]
            lines.append(Line(Task.VQA, str(rng.choice(_QUESTIONS)), native, seed=seed))
            continue
        wish, makes = str(rng.choice(_WISHES)), f"turn {number}"
        sides = _sides(rng, shape, grid) if drawn > 0.8 else None
        if sides is not None:
            line = Line(Task.OUTPAINT, wish, name, makes, None, sides.right, seed)
            lines.append(replace(line, left=sides.left, up=sides.up, down=sides.down))
            shape = sides.canvas(*shape)
        else:
            mask = _any_mask(rng, shape)
            lines.append(Line(Task.INPAINT, wish, name, makes, seed=seed, mask=mask))
        pictures.append((makes, shape))
    return lines, undone


def _sides(
    rng: np.random.Generator, shape: tuple[int, int], grid: tuple[int, int]
) -> Extension | None:
    """What an outpainting adds; None where the picture is as large as it may get."""
    side = str(rng.choice(("left", "right", "up", "down")))
    along = side in ("left", "right")
    room = LARGEST * grid[along] - shape[along]
    if room <= 0:
        return None
    return Extension(**{side: int(rng.integers(1, min(MOST_COLUMNS, room) + 1))})


def _any_mask(rng: np.random.Generator, shape: tuple[int, int]) -> TokenMask:
    """One to three boxes that may overlap, never the whole picture."""
    flags = np.zeros(shape, dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        sizes = [int(rng.integers(1, max(2, side // 2))) for side in shape]
        top, left = (int(rng.integers(0, n - k + 1)) for n, k in zip(shape, sizes, strict=True))
        flags[top : top + sizes[0], left : left + sizes[1]] = True
    if flags.all():
        flags[0, 0] = False
    return TokenMask(flags)


def kept_tokens(done: Interaction) -> int:
    """How many tokens a turn had to leave as they were; `hold` has checked that it did."""
    image = done.response.image
    return 0 if image is None else int((~done.request.known(image.shape)[1]).sum())


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
