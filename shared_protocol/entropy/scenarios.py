r"""Which order and which context each scenario uses: coding context in, sequence layout out.

It does not know weights, frequencies or bytes. All scenarios share one sequence shape, so that one
network serves them all:

```
  text ids          holes / known codes           targets, raster order
 +----+----+-----+  +-----+-----+-----+  +-----------+-----------+-----------+
 | t0 | t1 | ... |  | p0  | p1  | ... |  | 1st       | 2nd       | 3rd   ... |
 +----+----+-----+  +-----+-----+-----+  +-----------+-----------+-----------+
  \______________ prefix _____________/     predicts    predicts    predicts
   every entry sees the whole prefix        code 0      code 1      code 2
                                          each sees the prefix and the entries before it
```

An entry of the grid is its row, its column, a kind, and nine slots of the code table: slot 0 holds
the entry's own code (prefix) or the code that was coded last (targets); slots 1..8 hold the eight
neighbours as far as they are known at that moment. Neighbours that are not, name the reason:
beyond the edge, a target yet to come, or a hole.

```
   1 2 3      coded  coded  coded
   4 x 5      coded    x    future        x = the target that this entry predicts
   6 7 8      future future future
```
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.entropy.config import (
    KIND_HOLE,
    KIND_KNOWN,
    KIND_TARGET,
    NEIGHBOURS,
    SLOTS,
    EntropyConfig,
)
from shared_protocol.errors import InvalidInputError, TokenRangeError
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes, Flags, check_grid


@dataclass(frozen=True, eq=False)
class Layout:
    """One sequence, complete but for the codes that travel.

    Args:
        text: (T,) int32 rows of the text table; T may be 0.
        prefix_slots: (P, SLOTS) int32 rows of the code table; P may be 0.
        prefix_places: (P, 2) int32 row and column.
        prefix_kinds: (P,) int32.
        target_places: (M, 2) int32 row and column, in coding order.
        target_kind: the kind of every target entry.
        board: (H+2, W+2) int32 code table rows before the first target is coded, with a border.
    """

    text: Codes
    prefix_slots: Codes
    prefix_places: Codes
    prefix_kinds: Codes
    target_places: Codes
    target_kind: int
    board: Codes

    @property
    def count(self) -> int:
        """M."""
        return len(self.target_places)


def layout(scenario: Scenario, context: CodingContext, config: EntropyConfig) -> Layout:
    """The sequence that `scenario` makes of `context`.

    Raises:
        InvalidInputError: `Scenario.UNIFORM`, which needs no model.
        TokenRangeError: a text id or known code outside its table, or an impossible grid.
    """
    if scenario not in RULES:
        raise InvalidInputError(f"scenario {scenario!r} has no entropy model")
    _check(context, config)
    return RULES[scenario](context, config)


def generic(context: CodingContext, config: EntropyConfig) -> Layout:
    """P(x_i | x_<i): nothing but the codes that were coded before (eq. 9).

    ```
    (no prefix) | 1st 2nd 3rd ...
    ```

    What the receiver may know besides (text, known codes) is not looked at; positions that do not
    travel are holes.
    """
    none = np.zeros(context.shape, dtype=bool)
    return _compose(Scenario.GENERIC, context, config, text=False, known=none, entries=none)


def masked(context: CodingContext, config: EntropyConfig) -> Layout:
    """The masked positions stay in the context as placeholders (eqs. 10-14).

    ```
    HOLE HOLE HOLE ... | 1st 2nd 3rd ...        HOLE = a masked position, known to both ends
    ```
    """
    none = np.zeros(context.shape, dtype=bool)
    holes = ~context.targets
    return _compose(Scenario.MASKED, context, config, text=False, known=none, entries=holes)


def text_conditioned(context: CodingContext, config: EntropyConfig) -> Layout:
    """P(x_i | x_<i, text) and, where both ends hold a part of the picture, that part too (eq. 15).

    ```
    t0 t1 ... | code code HOLE code ... | 1st 2nd 3rd ...
    ```
    """
    return _with_text(Scenario.TEXT_CONDITIONED, context, config)


def adapted(context: CodingContext, config: EntropyConfig) -> Layout:
    """The layout of `text_conditioned`; the targets' kind says that a backbone made the codes."""
    return _with_text(Scenario.ADAPTED, context, config)


RULES = {
    Scenario.GENERIC: generic,
    Scenario.MASKED: masked,
    Scenario.TEXT_CONDITIONED: text_conditioned,
    Scenario.ADAPTED: adapted,
}


def target_slots(plan: Layout, codes: Codes, config: EntropyConfig) -> Codes:
    """What every target entry sees, given all codes: the teacher-forced form.

    Args:
        plan: the sequence.
        codes: (M,) the codes that travel; entry i depends on codes[:i] alone.
        config: sizes.

    Returns:
        (M, SLOTS) int32 rows of the code table.
    """
    count = plan.count
    slots = np.full((count, SLOTS), config.outside_row, dtype=np.int32)
    slots[1:, 0] = codes[: max(count - 1, 0)]
    rows, columns = plan.target_places.T + 1
    board = plan.board.copy()
    order = np.full(board.shape, -1, dtype=np.int64)
    board[rows, columns] = codes
    order[rows, columns] = own = np.arange(count)
    for slot, (down, right) in enumerate(NEIGHBOURS, start=1):
        place = rows + down, columns + right
        slots[:, slot] = np.where(order[place] >= own, config.future_row, board[place])
    return slots


def _with_text(scenario: Scenario, context: CodingContext, config: EntropyConfig) -> Layout:
    entries = ~context.targets
    return _compose(scenario, context, config, text=True, known=context.known, entries=entries)


def _compose(
    scenario: Scenario,
    context: CodingContext,
    config: EntropyConfig,
    *,
    text: bool,
    known: Flags,
    entries: Flags,
) -> Layout:
    height, width = context.shape
    board = np.full((height + 2, width + 2), config.outside_row, dtype=np.int32)
    inner = np.where(context.targets, config.future_row, config.hole_row)
    board[1:-1, 1:-1] = np.where(known, context.known_codes, inner)
    places = np.argwhere(entries).astype(np.int32)
    flags = known[entries]
    ids = context.text[: config.text_limit] if text else context.text[:0]
    return Layout(
        text=ids.astype(np.int32),
        prefix_slots=_prefix_slots(board, places),
        prefix_places=places,
        prefix_kinds=np.where(flags, KIND_KNOWN, KIND_HOLE).astype(np.int32),
        target_places=np.argwhere(context.targets).astype(np.int32),
        target_kind=KIND_TARGET + int(scenario) - 1,
        board=board,
    )


def _prefix_slots(board: Codes, places: Codes) -> Codes:
    rows, columns = places.T + 1  # the board has a border
    around = [board[rows + down, columns + right] for down, right in ((0, 0), *NEIGHBOURS)]
    return np.stack(around, axis=1)


def _check(context: CodingContext, config: EntropyConfig) -> None:
    check_grid(*context.shape)
    for values, size, what in (
        (context.text, config.text_size, "text id"),
        (context.known_codes[context.known], config.codebook_size, "known code"),
    ):
        if values.size and (int(values.min()) < 0 or int(values.max()) >= size):
            raise TokenRangeError(f"a {what} is outside 0..{size - 1}")
