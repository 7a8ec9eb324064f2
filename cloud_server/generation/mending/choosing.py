"""Says whether a picture shows what was asked, by the model's own answers: yes or no.

For models that have no head to point with; it does not know how pictures are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cloud_server.generation.mending.looking import Onlooker
from cloud_server.generation.mending.wording import Wording
from cloud_server.prompts.asked import Asked

Picture = TypeVar("Picture")


def best_of(
    tries: int,
    count: int,
    draw: Callable[[int, Sequence[int]], list[Picture]],
    is_right: Callable[[int, Picture], bool],
) -> list[Picture]:
    """The first right picture of each request, or its first one where none is right.

    Args:
        tries: most pictures of one request, at least 1.
        count: number of requests.
        draw: number of the try, from 0, and the requests that it is for, to a picture of each.
        is_right: whether the picture of a request shows what it asks for; not called for one try.
    """
    results = draw(0, range(count))
    wrong = [i for i in range(count) if tries > 1 and not is_right(i, results[i])]
    for number in range(1, tries):
        if not wrong:
            break
        drawn = dict(zip(wrong, draw(number, wrong), strict=True))
        # The last try is no better than the first where none shows what was asked.
        right = {i: picture for i, picture in drawn.items() if is_right(i, picture)}
        results = [right.get(i, picture) for i, picture in enumerate(results)]
        wrong = [i for i in wrong if i not in right]
    return results


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
