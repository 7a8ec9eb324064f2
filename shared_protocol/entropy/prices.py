"""What codes would cost to send, for whoever may still choose between them.

It does not know who chooses, or messages. All choices of a picture are priced by one parallel pass,
with every other code as it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.scenarios import layout
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

Whole = npt.NDArray[np.int64]
Nats = npt.NDArray[np.float64]


class CodePrices:
    """Prices under one scenario and context.

    Args:
        models: the bundle's models.
        scenario: one that they have.
        context: what both ends know, and which codes travel.
    """

    def __init__(self, models: EntropyModels, scenario: Scenario, context: CodingContext) -> None:
        self._engine = models.engine(scenario)
        self._plan = layout(scenario, context, self._engine.config)
        self._targets = np.flatnonzero(context.targets)

    def __call__(self, codes: Whole, places: Whole, choices: Whole) -> Nats:
        """Nats of each choice at its place, all other codes being as they are.

        Args:
            codes: (N,) of the whole grid, in raster order.
            places: (R,) positions among them that travel.
            choices: (R, K) codes that may stand there.

        Returns:
            (R, K).
        """
        travelling = codes[self._targets].astype(np.int32)
        rows = np.searchsorted(self._targets, places)
        return self._engine.choice_nats(self._plan, travelling, rows, choices)


def context_of(targets: npt.NDArray[np.bool_], codes: Whole, text: Codes) -> CodingContext:
    """The context in which the targets (H, W) of a picture travel and all else is known."""
    known_codes = np.where(targets, 0, codes).astype(np.int32)
    return CodingContext(targets, ~targets, known_codes, text.astype(np.int32))
