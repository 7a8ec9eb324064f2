"""What a frame is: the first symbol of its stream.

It does not know what follows that symbol.
"""

from __future__ import annotations

from enum import IntEnum

VERSION = 2
"""Of the session protocol."""


class Up(IntEnum):
    """Frames of the device after its hello; the numbers are fixed on the wire."""

    TURN = 0
    RESET = 1
    """Forget all pictures and options; the next turn has the number that follows."""
    CANCEL = 2
    """End the turn that is under way."""


class Down(IntEnum):
    """Frames of the cloud after its hello; the numbers are fixed on the wire."""

    REPLY = 0
    PROGRESS = 1
    PREVIEW = 2
    ERROR = 3
    """The turn failed; what the ends know has not changed."""
    UNKNOWN = 4
    """The turn could not be read: both ends forget all pictures and options."""


UP_ODDS = (4092, 2, 2)
DOWN_ODDS = (3984, 64, 32, 8, 8)
