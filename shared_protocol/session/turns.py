"""A turn and its reply as bytes and back: the fields of each in order.

It does not know connections, nor what becomes of a turn that fails.

::

    up    kind  task  reference  (grid)  options  text  mask | sides  (dropped)  new codes  check
    down  kind  text | labels | scenario and codes                                         check
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.errors import UnimicError
from shared_protocol.labels import Ranking
from shared_protocol.message.anatomy import Anatomy
from shared_protocol.message.parameters import request_digest
from shared_protocol.message.parts import (
    CodecBundle,
    request_context,
    response_context,
    translated,
)
from shared_protocol.messages import MAX_NEW_TOKENS, Admit, Claims, Options, Request, Response
from shared_protocol.session import fields
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS, Down, Up
from shared_protocol.session.ledger import Ledger
from shared_protocol.session.port import Port, Reader, Writer
from shared_protocol.session.state import Reference, SessionState, windowed
from shared_protocol.tasks import TABLE, Direction, Part, Row, Scenario, Task, merge
from shared_protocol.tokens import Codes, Flags, ImageTokens, KnownTokens, TextTokens, TokenMask


@dataclass(frozen=True)
class TurnBytes:
    """A turn as bytes, with its anatomy."""

    data: bytes
    anatomy: Anatomy


@dataclass(frozen=True)
class Turn:
    """A turn as a value.

    Args:
        request: what is asked; tokens that the receiver does not need read as code 0.
        reference: the picture that it names; None for a new one, or for none.
        anatomy: what it was made of.
    """

    request: Request
    reference: Reference | None
    anatomy: Anatomy


@dataclass(frozen=True)
class Answer:
    """A reply as a value, with its anatomy."""

    response: Response
    anatomy: Anatomy


# ------------------------------------------------------------------------------------------------
# Up
# ------------------------------------------------------------------------------------------------


def encode_turn(
    request: Request,
    state: SessionState,
    bundle: CodecBundle,
    scenario: Scenario | None = None,
    search: bool | None = None,
) -> tuple[TurnBytes, Reference | None]:
    """The frame that asks `request`, and which known picture it names.

    Args:
        request: its picture is looked for among those of the state; only what is missing travels.
        state: what both ends know.
        bundle: must be the receiver's, too.
        scenario: the model of new codes; None takes the smallest of those tried.
        search: try every model that Table I allows; None does what pays, as Table I says.

    Raises:
        InvalidInputError: a token id of another vocabulary, or a text that is too long.
    """
    fields.check_request(request, bundle)
    reference = state.find(request, bundle.grid)
    writer = Writer()
    writer.symbol(UP_ODDS, Up.TURN)
    spec = TABLE[request.task].image(Direction.UPLINK)
    allowed = () if spec is None else spec.scenarios
    tries = (spec is not None and spec.search) if search is None else search
    candidates = fields.candidates_of(bundle, allowed, scenario, tries)
    body = _Body(writer, state, bundle)
    body.walk(request, reference, candidates)
    writer.check(_binding(bundle, state))
    data = writer.finish()
    anatomy = body.ledger.anatomy(
        request.task, Direction.UPLINK, len(data), bundle, body.parameter_bits
    )
    return TurnBytes(data, anatomy), reference


class _RefusedError(Exception):
    """Carries what `admit` raised past the errors of the bytes."""

    def __init__(self, error: UnimicError) -> None:
        super().__init__(str(error))
        self.error = error


def decode_turn(
    reader: Reader,
    size: int,
    state: SessionState,
    bundle: CodecBundle,
    admit: Admit | None = None,
) -> Turn:
    """The turn whose kind `reader` has read already.

    Args:
        reader: the frame.
        size: of the whole frame in bytes.
        state: what both ends know.
        bundle: must be the sender's, too.
        admit: told what the turn claims to be as soon as it has said so: before its text, its
            masks and its codes are decoded, and again once an extension is known.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes, or with what the
            ends know of each other.
        InvalidInputError: raised by `admit`. The check was not read yet: where the state holds
            anything, the ends may merely differ in what they know.
    """
    try:
        return _decode_turn(_Body(reader, state, bundle, admit), size)
    except _RefusedError as refused:
        raise refused.error from None


def _decode_turn(body: _Body, size: int) -> Turn:
    reader, state, bundle = body.port, body.state, body.bundle
    assert isinstance(reader, Reader)
    with translated():
        request, reference = body.walk(None, None)
        reader.check(_binding(bundle, state))
        reader.finish()
        anatomy = body.ledger.anatomy(
            request.task, Direction.UPLINK, size, bundle, body.parameter_bits
        )
        return Turn(request, reference, anatomy)


class _Body:
    """The walk over a turn's fields, the same for both ends."""

    def __init__(
        self, port: Port, state: SessionState, bundle: CodecBundle, admit: Admit | None = None
    ) -> None:
        self.port = port
        self.state = state
        self.bundle = bundle
        self._admit = admit
        self.ledger = Ledger(port)
        self.parameter_bits = 0.0

    def walk(
        self,
        given: Request | None,
        reference: Reference | None,
        candidates: list[Scenario] | None = None,
    ) -> tuple[Request, Reference | None]:
        """Code `given`, or read a request, and which picture it names."""
        port, bundle = self.port, self.bundle
        task = fields.code_task(port, None if given is None else given.task)
        row = TABLE[task]
        known, grid = None, bundle.grid
        if row.needs_image:
            reference, known, grid = self._picture(task, given, reference)
        else:
            reference = None
        options = self._options(row, given)
        self._claim(task, grid, grid, options)
        text = self._text(row, None if given is None else given.text.ids)
        negative = self._negative(given) if row.makes_picture else None
        mask = extension = dropped = image = None
        if row.needs_mask:
            flags = None if given is None or given.mask is None else given.mask.flags
            mask = TokenMask(self._mask(flags, grid))
        if row.needs_extension:
            before = port.bits
            sides = None if given is None else given.extension
            extension = fields.code_extension(port, grid, bundle.grid, sides)
            self._claim(task, grid, extension.canvas(*grid), options)
            self.parameter_bits += port.bits - before
        if row.needs_image:
            dropped = self._dropped(given, mask, grid)
            needed = np.ones(grid, dtype=bool)
            for left_out in (mask, dropped):
                needed = needed if left_out is None else needed & ~left_out.flags
            context = request_context(needed, text.ids, known)
            image = self._image(given, task, context, candidates)
        if given is not None:
            return given, reference
        return Request(task, text, image, mask, extension, options, dropped, negative), reference

    def _claim(
        self, task: Task, grid: tuple[int, int], canvas: tuple[int, int], options: Options
    ) -> None:
        try:
            if self._admit is not None:
                self._admit(Claims(task, grid, canvas, options))
        except UnimicError as error:
            raise _RefusedError(error) from error

    def _picture(
        self, task: Task, given: Request | None, reference: Reference | None
    ) -> tuple[Reference | None, KnownTokens | None, tuple[int, int]]:
        """Which picture the turn is about, what is known of it, and its (H, W)."""
        pictures, native = self.state.pictures, self.bundle.grid
        writing = given is not None
        index = None if reference is None else reference.index
        index = fields.code_reference(self.port, len(pictures), index, writing)
        if index is None:
            shape = given.image.shape if given is not None and given.image is not None else None
            return None, None, fields.code_grid(self.port, native, shape)
        grid, found = pictures[index].tokens.shape, Reference(index)
        if windowed(task, grid, native):
            top, left = (None, None) if reference is None else (reference.top, reference.left)
            top = self.port.uniform(grid[0] - native[0] + 1, top)
            left = self.port.uniform(grid[1] - native[1] + 1, left)
            grid, found = native, Reference(index, top, left)
        return found, self.state.known(found, grid), grid

    def _options(self, row: Row, given: Request | None) -> Options:
        port, before, start = self.port, self.state.options, self.port.bits
        options = fields.code_options(port, before, None if given is None else given.options)
        if row.answers_in_labels:
            wanted = options if given is None else given.options
            options = fields.code_label_wish(port, before, wanted, given is not None)
        self.parameter_bits = port.bits - start
        return options

    def _text(self, row: Row, ids: Codes | None) -> TextTokens:
        bundle = self.bundle
        if not row.needs_text:
            return TextTokens(np.zeros(0, dtype=np.int32), bundle.vocabulary.text_size)
        with self.ledger.part(Part.TEXT):
            coder, found = fields.code_text(self.port, bundle, bundle.max_text_tokens, ids)
        self.ledger.text_coder = coder
        self.ledger.counts[Part.TEXT] = len(found)
        return TextTokens(found, bundle.vocabulary.text_size)

    def _negative(self, given: Request | None) -> TextTokens | None:
        bundle = self.bundle
        ids = None if given is None or given.negative is None else given.negative.ids
        before = self.port.bits
        found = fields.code_negative(self.port, bundle, ids, given is not None)
        self.parameter_bits += self.port.bits - before
        return None if found is None else TextTokens(found, bundle.vocabulary.text_size)

    def _mask(self, flags: Flags | None, grid: tuple[int, int]) -> Flags:
        with self.ledger.part(Part.MASK):
            found = fields.code_mask(self.port, self.bundle, grid, flags)
        self.ledger.counts[Part.MASK] = int(found.size)
        return found

    def _dropped(
        self, given: Request | None, mask: TokenMask | None, grid: tuple[int, int]
    ) -> TokenMask | None:
        free = np.ones(grid, dtype=bool) if mask is None else ~mask.flags
        flags = None if given is None or given.dropped is None else given.dropped.flags
        with self.ledger.part(Part.DROPPED):
            found = fields.code_dropped(self.port, self.bundle, free, flags, given is not None)
        if found is None:
            return None
        self.ledger.counts[Part.DROPPED] = int(found.size)
        return TokenMask(found)

    def _image(
        self,
        given: Request | None,
        task: Task,
        context: CodingContext,
        candidates: list[Scenario] | None,
    ) -> ImageTokens:
        spec = TABLE[task].image(Direction.UPLINK)
        assert spec is not None, "asked of tasks with a picture"
        codes = None
        if given is not None and given.image is not None:
            codes = given.image.codes[context.targets]
        with self.ledger.part(Part.IMAGE):
            used, found = fields.code_image(
                self.port, self.bundle, context, spec.scenarios, codes, candidates or ()
            )
        self.ledger.scenario = used
        self.ledger.counts[Part.IMAGE] = len(found)
        whole = merge(context.known_codes, context.targets, found)
        return ImageTokens(whole, self.bundle.vocabulary.codebook_size)


# ------------------------------------------------------------------------------------------------
# Down
# ------------------------------------------------------------------------------------------------


def encode_reply(
    response: Response, request: Request, state: SessionState, bundle: CodecBundle
) -> TurnBytes:
    """The frame that answers `request`, asked in `state`.

    The model of the codes is the one that the request asks for, else the smallest of those that
    Table I has a sender try.
    """
    writer = Writer()
    writer.symbol(DOWN_ODDS, Down.REPLY)
    ledger = Ledger(writer)
    spec = TABLE[request.task].image(Direction.DOWNLINK)
    if response.text is not None:
        _reply_text(ledger, bundle, response.text.ids)
    elif response.labels is not None:
        _reply_labels(ledger, request, response.labels.told(request.label_wish))
    else:
        assert spec is not None, "Response checks its parts"
        assert response.image is not None, "Response checks its parts"
        context = response_context(request, bundle.grid)
        codes = response.image.codes[context.targets]
        wanted = request.options.reply
        candidates = fields.candidates_of(bundle, spec.scenarios, wanted, spec.search)
        with ledger.part(Part.IMAGE):
            ledger.scenario, _ = fields.code_image(
                writer, bundle, context, spec.scenarios, codes, candidates
            )
        ledger.counts[Part.IMAGE] = len(codes)
    writer.check(_binding(bundle, state, request))
    data = writer.finish()
    return TurnBytes(data, ledger.anatomy(request.task, Direction.DOWNLINK, len(data), bundle, 0.0))


def decode_reply(
    reader: Reader, size: int, request: Request, state: SessionState, bundle: CodecBundle
) -> Answer:
    """The reply whose kind `reader` has read already, merged with what the request says.

    Raises:
        BadMessageError: whatever is wrong with the bytes, or they answer something else.
        LabelsMismatchError: labels without names, and of another set than `request.held`.
    """
    with translated():
        ledger = Ledger(reader)
        spec = TABLE[request.task].image(Direction.DOWNLINK)
        image = text = labels = None
        if request.row.answers_in_words:
            ids = _reply_text(ledger, bundle, None)
            text = TextTokens(ids, bundle.vocabulary.text_size)
        elif spec is None:
            labels = _reply_labels(ledger, request, None)
        else:
            context = response_context(request, bundle.grid)
            with ledger.part(Part.IMAGE):
                ledger.scenario, codes = fields.code_image(
                    reader, bundle, context, spec.scenarios, None
                )
            ledger.counts[Part.IMAGE] = len(codes)
            own = request.known(bundle.grid)[0]
            whole = merge(own, context.targets, codes)
            image = ImageTokens(whole, bundle.vocabulary.codebook_size)
        reader.check(_binding(bundle, state, request))
        reader.finish()
        anatomy = ledger.anatomy(request.task, Direction.DOWNLINK, size, bundle, 0.0)
        return Answer(Response(request.task, image, text, labels), anatomy)


def _reply_text(ledger: Ledger, bundle: CodecBundle, ids: Codes | None) -> Codes:
    with ledger.part(Part.TEXT):
        coder, found = fields.code_text(ledger.port, bundle, MAX_NEW_TOKENS, ids)
    ledger.text_coder = coder
    ledger.counts[Part.TEXT] = len(found)
    return found


def _reply_labels(ledger: Ledger, request: Request, ranking: Ranking | None) -> Ranking:
    with ledger.part(Part.LABELS):
        found = fields.code_labels(ledger.port, request.label_wish, ranking)
    ledger.counts[Part.LABELS] = len(found.numbers)
    return found


def _binding(bundle: CodecBundle, state: SessionState, request: Request | None = None) -> bytes:
    """What a check covers besides the symbols of its frame."""
    said = bundle.fingerprint + state.digest
    return said if request is None else said + request_digest(request)
