"""Intermediate tokens of a picture that is being made: frames for the eye, only as asked for.

It does not know where the tokens come from, nor how they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_protocol.coding.drop_codec import even_order
from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.message.parts import CodecBundle, response_context, translated
from shared_protocol.messages import Request
from shared_protocol.session import fields
from shared_protocol.session.kinds import DOWN_ODDS, Down
from shared_protocol.session.port import Port, Reader, Writer
from shared_protocol.session.state import SessionState
from shared_protocol.tasks import TABLE, Direction, Scenario
from shared_protocol.tokens import Codes, Flags

PREVIEW_CODES = 16
"""Tokens of one preview."""


@dataclass
class Preview:
    """Intermediate tokens of one turn, as far as they were shown; equal at both ends.

    They are spread evenly over what is being made, `PREVIEW_CODES` more with each frame, and serve
    nobody but the eye: the reply does not build on them.
    """

    codes: Codes
    shown: Flags
    _context: CodingContext
    _bundle: CodecBundle
    _allowed: tuple[Scenario, ...]
    _binding: bytes

    @classmethod
    def of(cls, request: Request, state: SessionState, bundle: CodecBundle) -> Preview | None:
        """Nothing shown yet; None for a task that makes no picture."""
        spec = TABLE[request.task].image(Direction.DOWNLINK)
        if spec is None:
            return None
        context = response_context(request, bundle.grid)
        shown = np.zeros(context.shape, dtype=bool)
        binding = bundle.fingerprint + state.digest
        return cls(context.known_codes.copy(), shown, context, bundle, spec.scenarios, binding)

    def next_places(self) -> Flags:
        """(H, W) bool: which tokens come with the next frame; none when all were shown."""
        left = self._context.targets & ~self.shown
        order = np.where(left, even_order(*left.shape), np.iinfo(np.int64).max)
        places = np.zeros(left.size, dtype=bool)
        places[order.ravel().argsort(kind="stable")[:PREVIEW_CODES]] = True
        return places.reshape(left.shape) & left

    def encode(self, codes: Codes) -> bytes | None:
        """The next frame, from the (H, W) codes as they are now; None when all were shown."""
        if not self.next_places().any():
            return None
        writer = Writer()
        writer.symbol(DOWN_ODDS, Down.PREVIEW)
        self._code(writer, codes)
        writer.check(self._binding)
        return writer.finish()

    def decode(self, reader: Reader) -> None:
        """Take in a frame whose kind was read already: `codes` and `shown` have more."""
        with translated():
            self._code(reader, None)
            reader.check(self._binding)
            reader.finish()

    def _code(self, port: Port, codes: Codes | None) -> None:
        places = self.next_places()
        known = self._context.known | self.shown
        context = CodingContext(places, known, np.where(known, self.codes, 0), self._context.text)
        values = None if codes is None else codes[places].astype(np.int32)
        candidates = fields.candidates_of(self._bundle, self._allowed, None, False)
        _, found = fields.code_image(port, self._bundle, context, self._allowed, values, candidates)
        self.codes[places] = found
        self.shown = self.shown | places
