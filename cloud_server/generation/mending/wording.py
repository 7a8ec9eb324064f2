"""The texts by which a model is told what to mend and asked what it sees; ids to what they ask for.

It does not know codes or a network; the words are those that the built-in models were taught.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_server.generation.prompting import QuestionFrame
from cloud_server.prompts.asked import Asked

Ids = NDArray[np.int64]
_SEEN = "is there {}"
_COUNTED = "how many objects are there?"
_LISTED = "list the objects."
_BEHIND = "what is the background?"
_EMPTY = "an empty scene {}"


class Wording:
    """Texts as ids.

    Args:
        encode: text to ids, without special ones.
        decode: ids to text.
        frame: ids around a question.
        eot_id: id that opens and closes texts.
        read: what a prompt asks for; None where it is not understood.
    """

    def __init__(
        self,
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[Sequence[int]], str],
        frame: QuestionFrame,
        eot_id: int,
        read: Callable[[str], Asked | None] | None = None,
    ) -> None:
        self._encode, self._decode, self._read = encode, decode, read
        self._frame, self.eot_id = frame, eot_id

    def prompt(self, text: str) -> Ids:
        """A prompt."""
        return np.array(self._encode(text), dtype=np.int64)

    def asked(self, prompt: Ids) -> Asked | None:
        """What a prompt asks for; None where that was not understood."""
        if self._read is None or not len(prompt):
            return None
        return self._read(self.text(prompt.tolist()))

    def empty(self, place: str) -> Ids:
        """A prompt for a scene with nothing in it; `place` is a phrase such as "on a beach"."""
        return self.prompt(_EMPTY.format(place))

    def up_to_name(self, phrase: str) -> Ids:
        """The opening of the question whether a thing is there; the last id names the thing."""
        return np.array(
            [self.eot_id, *self._frame.before, *self._encode(_SEEN.format(phrase))], dtype=np.int64
        )

    def whether(self, phrase: str) -> Ids:
        """The framed question whether something is there."""
        return self._frame.wrap(self.prompt(f"{_SEEN.format(phrase)}?"))

    @property
    def how_many(self) -> Ids:
        """The framed question how many things there are."""
        return self._frame.wrap(self.prompt(_COUNTED))

    @property
    def which(self) -> Ids:
        """The framed question which things there are."""
        return self._frame.wrap(self.prompt(_LISTED))

    @property
    def behind(self) -> Ids:
        """The framed question what the background is."""
        return self._frame.wrap(self.prompt(_BEHIND))

    def text(self, ids: Sequence[int]) -> str:
        """What an answer says."""
        return self._decode([index for index in ids if index != self.eot_id]).strip()
