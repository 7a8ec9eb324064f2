"""What both ends know before the image part of a message is decoded.

It does not know models, tasks or bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_protocol.tokens import Codes, Flags


@dataclass(frozen=True, eq=False)
class CodingContext:
    """The side information of an image part; equal at sender and receiver, or nothing decodes.

    Args:
        targets: (H, W) bool, True at the M positions whose codes travel, in raster order.
        known: (H, W) bool, True where both ends hold the code already. A position that is neither
            a target nor known is a hole (under the mask, on the way up).
        known_codes: (H, W) int32, the codes where `known`, 0 elsewhere.
        text: (N,) int32 text ids of the same interaction; N may be 0.

    Raises:
        ValueError: shapes that differ, or a position that is a target and known.
    """

    targets: Flags
    known: Flags
    known_codes: Codes
    text: Codes

    def __post_init__(self) -> None:
        shapes = (self.targets.shape, self.known.shape, self.known_codes.shape)
        if self.targets.ndim != 2 or len(set(shapes)) != 1 or self.text.ndim != 1:
            raise ValueError(f"a coding context needs three (H, W) grids and a text row: {shapes}")
        if bool((self.targets & self.known).any()):
            raise ValueError("a position cannot be both known and a target")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in tokens."""
        return self.targets.shape[0], self.targets.shape[1]

    @property
    def count(self) -> int:
        """M, the number of codes that travel."""
        return int(self.targets.sum())


def nothing_known(height: int, width: int, text: Codes | None = None) -> CodingContext:
    """The context of a whole (H, W) image that the receiver has never seen."""
    return CodingContext(
        targets=np.ones((height, width), dtype=bool),
        known=np.zeros((height, width), dtype=bool),
        known_codes=np.zeros((height, width), dtype=np.int32),
        text=np.zeros(0, dtype=np.int32) if text is None else text,
    )
