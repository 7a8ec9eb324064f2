"""Says whether a picture shows what was asked, by the model's own answers: yes or no.

For models that have no head to point with; it does not know how pictures are drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloud_server.generation.mending.looking import Onlooker
from cloud_server.generation.mending.wording import Wording
from cloud_server.prompts.asked import Asked


def shows(
    codes: NDArray[np.int64],
    text_ids: NDArray[np.int64],
    asked: Asked | None,
    onlooker: Onlooker,
    wording: Wording,
) -> bool:
    """Whether the model says yes to every thing that was asked for, or to the prompt as a whole.

    Args:
        codes: (side, side) of a whole picture.
        text_ids: (N,) of the prompt.
        asked: what the prompt was understood to ask for, if it was.
    """
    if asked is not None:
        questions = [wording.whether(thing.phrase) for thing in asked.things]
    else:
        questions = [wording.whether(wording.text(text_ids.tolist()))]
    return all(
        onlooker.answer(codes, question).casefold().startswith("yes") for question in questions
    )
