"""A turn as the page asks for it, from a request's fields.

It does not know how a turn is taken.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field

from edge_client.gateway.requests.fields import Fields
from edge_client.gateway.requests.picture_wish import MOST_PARTIALS, SEEDS
from shared_protocol.messages import MAX_GUIDANCE, MAX_MENDS, MAX_STEPS
from shared_protocol.tokens import MAX_GRID

TASKS = ("t2i", "inpaint", "outpaint", "vqa")
SIDES = ("left", "right", "up", "down")


@dataclass(frozen=True)
class TurnWish:
    """A turn.

    Args:
        task: one of `TASKS`.
        text: prompt or question.
        round: name of the picture that it is about; "" for a new one.
        cells: what is repainted, packed; see `Lattice.flags`.
        sides: by how many columns and rows it grows, by side.
        seed: equal seeds give equal results.
        negative: what the picture is not to show.
        steps, guidance, mend: see `Options`.
        partials: most intermediate pictures.
    """

    task: str
    text: str
    round: str = ""
    cells: bytes = field(default=b"", repr=False)
    sides: tuple[int, int, int, int] = (0, 0, 0, 0)
    seed: int = 0
    negative: str = ""
    steps: int | None = None
    guidance: float | None = None
    mend: int | None = None
    partials: int = 0


def read_turn(fields: Fields) -> TurnWish:
    """The turn that a request asks for.

    Raises:
        RefusedError: a value that cannot be used, or a field that does not exist.
    """
    task = fields.choice("task", TASKS, "")
    if not task:
        raise fields.wrong("task", fields.raw("task"), f"one of {', '.join(TASKS)}")
    name = fields.text("round")
    if not name and task != "t2i":
        raise fields.refused("round", "is missing: name the picture that the turn is about")
    sides = fields.inside("sides")
    seed = fields.whole("seed", 0, SEEDS - 1)
    wish = TurnWish(
        task=task,
        text=fields.text("text"),
        round=name,
        cells=_cells(fields),
        sides=tuple(sides.whole(side, 0, MAX_GRID, 0) or 0 for side in SIDES),  # type: ignore[arg-type]
        seed=secrets.randbelow(SEEDS) if seed is None else seed,
        negative=fields.text("negative"),
        steps=fields.whole("steps", 1, MAX_STEPS),
        guidance=fields.number("guidance", 0, MAX_GUIDANCE),
        mend=fields.whole("mend", 0, MAX_MENDS),
        partials=fields.whole("partials", 0, MOST_PARTIALS, 0) or 0,
    )
    for left in (*fields.left(), *sides.left()):
        raise fields.refused(left, "is no field of a turn")
    return wish


def _cells(fields: Fields) -> bytes:
    text = fields.text("cells")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fields.refused("cells", "is no base64") from None
