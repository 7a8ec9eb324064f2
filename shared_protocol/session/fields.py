"""The fields of a turn as symbols: references, options, text, masks, sides and image codes.

It does not know which fields a turn has, nor in which order. Every function both writes and reads,
see `port`; all odds here are normative, SESSION.md lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log2

import numpy as np

from shared_protocol.coding.drop_codec import first_even
from shared_protocol.coding.image_codec import CodingContext, read_codes, write_codes
from shared_protocol.coding.labels_codec import (
    MAX_NAME_BYTES,
    PREFIX_BYTES,
    cut,
    held_set,
    said_by,
)
from shared_protocol.coding.mask_codec import read_mask, write_mask
from shared_protocol.coding.range_coder import RangeEncoder
from shared_protocol.coding.text_codec import TextCoder, packed_size, read_prior, write_prior
from shared_protocol.errors import BadMessageError, InvalidInputError
from shared_protocol.labels import LEVELS, MAX_LABELS, MAX_TOP, LabelSet, LabelWish, Ranking
from shared_protocol.message.parts import CodecBundle
from shared_protocol.messages import (
    GUIDANCE_UNIT,
    MAX_GUIDANCE,
    MAX_MENDS,
    MAX_NEW_TOKENS,
    MAX_STEPS,
    Options,
    Request,
)
from shared_protocol.session.port import Port, Reader, Writer, code_flag, code_number, code_words
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import MAX_GRID, Codes, Flags, check_grid

TASK_ODDS = {Task.T2I: 2, Task.INPAINT: 4, Task.OUTPAINT: 2, Task.VQA: 7, Task.CLASSIFY: 1}
CURRENT, OLDER, NEW = range(3)
REFERENCE_ODDS = (28, 2, 2)
RARELY, SELDOM = (63, 1), (255, 1)
"""(no, yes) of what is unusual, and of what is more so."""
SAME_OPTIONS_ODDS = (1, 31)
SAME_TOP_ODDS = (31, 1)
LEAVE_ODDS = (1, 1)
PRIOR_ODDS = (1, 15)
SIDE_ODDS = {"none": 192, "half": 24, "other": 1}


def code_task(port: Port, task: Task | None) -> Task:
    """Which task."""
    return Task(port.symbol(list(TASK_ODDS.values()), None if task is None else int(task)))


def code_reference(port: Port, count: int, reference: int | None, writing: bool) -> int | None:
    """Index of one of `count` pictures, the last being the current one; None = a new picture."""
    if count == 0:
        return None
    kind, place = None, None
    if writing:
        kind = NEW if reference is None else CURRENT if reference == count - 1 else OLDER
        place = reference if kind == OLDER else None
    kind = port.symbol(REFERENCE_ODDS, kind)
    if kind == OLDER:
        if count == 1:
            raise BadMessageError("a turn names an older picture, but there is one only")
        return port.uniform(count - 1, place)
    return count - 1 if kind == CURRENT else None


def code_grid(port: Port, native: tuple[int, int], grid: tuple[int, int] | None) -> tuple[int, int]:
    """(H, W) of a new picture in tokens; the bundle's own costs next to nothing."""
    if not code_flag(port, RARELY, None if grid is None else grid != native):
        return native
    height, width = (
        port.uniform(MAX_GRID, None if grid is None else grid[side] - 1) + 1 for side in (0, 1)
    )
    return height, width


def code_options(port: Port, before: Options, options: Options | None) -> Options:
    """Options, of which those that stay as they were in the turn `before` cost nothing."""
    reply = _code_reply(port, options)
    same = None if options is None else _numbers(options) == _numbers(before)
    if code_flag(port, SAME_OPTIONS_ODDS, same):
        numbers = _numbers(before)
    else:
        largest = round(MAX_GUIDANCE / GUIDANCE_UNIT)
        limits = (MAX_STEPS, largest, None, MAX_NEW_TOKENS, MAX_MENDS)
        given = (None,) * len(limits) if options is None else _numbers(options)
        numbers = tuple(
            _code_option(port, limit, value, options is not None)
            for limit, value in zip(limits, given, strict=True)
        )
    steps, guidance, seed, longest, mend = numbers
    units = None if guidance is None else guidance * GUIDANCE_UNIT
    return Options(steps, units, seed or 0, longest, reply, mend)


def _numbers(options: Options) -> tuple[int | None, ...]:
    guidance = None if options.guidance is None else round(options.guidance / GUIDANCE_UNIT)
    return (
        options.steps,
        guidance,
        options.seed or None,
        options.max_new_tokens,
        options.mend,
    )


def _code_option(port: Port, limit: int | None, value: int | None, writing: bool) -> int | None:
    """A number from 0 to `limit` (32 bits without one), or none at all."""
    if not code_flag(port, LEAVE_ODDS, (value is not None) if writing else None):
        return None
    return code_number(port, 32, value) if limit is None else port.uniform(limit + 1, value)


def _code_reply(port: Port, options: Options | None) -> Scenario | None:
    reply = None if options is None else options.reply
    if not code_flag(port, SELDOM, None if options is None else reply is not None):
        return None
    return Scenario(port.uniform(len(Scenario), reply))


def code_label_wish(port: Port, before: Options, options: Options, writing: bool) -> Options:
    """`options` with how many labels are wanted, mostly as before, and whether with names."""
    top = before.top
    if code_flag(port, SAME_TOP_ODDS, (options.top != top) if writing else None):
        top = port.uniform(MAX_TOP, options.top - 1 if writing else None) + 1
    names = code_flag(port, RARELY, options.names if writing else None)
    return replace(options, top=top, names=names)


def code_labels(port: Port, wish: LabelWish, ranking: Ranking | None) -> Ranking:
    """The likeliest labels, and their names where they are wanted.

    Raises:
        LabelsMismatchError: they are of a set whose names the reader does not hold.
    """
    of = _code_set(port, wish, None if ranking is None else ranking.of)
    count = min(wish.most, of.count)
    numbers, levels, names, most = [], [], [], LEVELS
    for place in range(count):
        numbers.append(port.uniform(of.count, None if ranking is None else ranking.numbers[place]))
        level = port.uniform(most, None if ranking is None else ranking.levels[place])
        levels.append(level)
        most = level + 1  # the likeliest comes first
    for place in range(count if wish.names else 0):
        name = None if ranking is None else cut(ranking.names[place]).decode()
        names.append(code_words(port, MAX_NAME_BYTES, name))
    if not all(names):
        raise BadMessageError("the name of a label is empty")
    found = Ranking(of, tuple(numbers), tuple(levels), tuple(names))
    port.note(said_by(found))
    return found


def _code_set(port: Port, wish: LabelWish, of: LabelSet | None) -> LabelSet:
    """Of which set labels are: all of its fingerprint and its size, or two bytes to know it by."""
    if not wish.names:
        prefix = None if of is None else int.from_bytes(of.fingerprint[:PREFIX_BYTES], "big")
        said = port.uniform(1 << 8 * PREFIX_BYTES, prefix).to_bytes(PREFIX_BYTES, "big")
        return held_set(said, wish) if of is None else of
    digest = bytes(port.uniform(256, None if of is None else of.fingerprint[i]) for i in range(32))
    return LabelSet(digest, port.uniform(MAX_LABELS, None if of is None else of.count - 1) + 1)


def code_text(
    port: Port, bundle: CodecBundle, limit: int, ids: Codes | None
) -> tuple[TextCoder, Codes]:
    """Text ids (N,), by the bundle's prior or uniformly; returns the coder, too.

    Raises:
        BadMessageError: more than `limit` ids were read, or they need a prior that is not there.
    """
    size, prior = bundle.vocabulary.text_size, bundle.text_prior
    with_prior = False
    if prior is not None:
        with_prior = code_flag(port, PRIOR_ODDS, None if ids is None else _fits(ids, bundle))
    if with_prior and prior is not None:
        if isinstance(port, Writer):
            assert ids is not None
            write_prior(port.encoder, ids, prior)
        else:
            ids = read_prior(port.decoder, prior, limit)
    else:
        count = port.uniform(limit + 1, None if ids is None else len(ids))
        given = [None] * count if ids is None else np.asarray(ids).tolist()
        ids = np.array([port.uniform(size, each) for each in given], dtype=np.int32)
    assert ids is not None
    port.note(ids)
    return (TextCoder.PRIOR if with_prior else TextCoder.PACKED), ids


def code_negative(
    port: Port, bundle: CodecBundle, ids: Codes | None, writing: bool
) -> Codes | None:
    """Ids of the negative prompt, coded like a text; None = there is none."""
    if not code_flag(port, SELDOM, (ids is not None) if writing else None):
        return None
    return code_text(port, bundle, bundle.max_text_tokens, ids)[1]


def _fits(ids: Codes, bundle: CodecBundle) -> bool:
    """Whether the prior can code `ids`, and in no more bytes than uniform coding."""
    prior = bundle.text_prior
    if prior is None or prior.end_id in ids:
        return False
    encoder = RangeEncoder()
    write_prior(encoder, ids, prior)
    return encoder.bits <= 8 * packed_size(len(ids), bundle.vocabulary.text_size)


def code_mask(port: Port, bundle: CodecBundle, grid: tuple[int, int], flags: Flags | None) -> Flags:
    """The (H, W) tokens that are to be made anew."""
    if isinstance(port, Writer):
        assert flags is not None, "a writer is told what to write"
        write_mask(port.encoder, flags, bundle.mask_prior)
    else:
        flags = read_mask(port.decoder, grid, bundle.mask_prior)
    port.note(flags)
    return flags


def code_dropped(
    port: Port, bundle: CodecBundle, free: Flags, dropped: Flags | None, writing: bool
) -> Flags | None:
    """The (H, W) tokens that are left out, among those that are `free` to be; None = none are."""
    if not code_flag(port, RARELY, (dropped is not None) if writing else None):
        return None
    count = 0 if dropped is None else int(dropped.sum())
    even = None if dropped is None else bool(np.array_equal(first_even(count, free), dropped))
    if code_flag(port, LEAVE_ODDS, even):
        found = port.uniform(int(free.sum()) + 1, count)
        return first_even(found, free)
    return code_mask(port, bundle, (free.shape[0], free.shape[1]), dropped)


def code_extension(
    port: Port, grid: tuple[int, int], native: tuple[int, int], extension: Extension | None
) -> Extension:
    """How many columns and rows are added on each side; half of the native grid is usual.

    Raises:
        TokenRangeError: the extended grid is too large.
        InvalidInputError: nothing is added.
    """
    given = (None,) * 4 if extension is None else extension.sides
    halves = (native[1] // 2, native[1] // 2, native[0] // 2, native[0] // 2)
    left, right, up, down = (
        port.symbol(_side_odds(half), side) for half, side in zip(halves, given, strict=True)
    )
    found = Extension(left, right, up, down)
    check_grid(*found.canvas(*grid))
    return found


def _side_odds(half: int) -> list[int]:
    odds = [SIDE_ODDS["other"]] * (MAX_GRID + 1)
    odds[half] = SIDE_ODDS["half"]
    odds[0] = SIDE_ODDS["none"]
    return odds


def code_image(
    port: Port,
    bundle: CodecBundle,
    context: CodingContext,
    allowed: Sequence[Scenario],
    codes: Codes | None,
    candidates: Sequence[Scenario] = (),
) -> tuple[Scenario | None, Codes]:
    """The codes (M,) of the context's targets, and how they are coded; nothing for M = 0.

    Args:
        allowed: the models that Table I allows here, the likeliest first.
        codes: for a writer.
        candidates: those that a writer tries.
    """
    if context.count == 0:
        return None, np.zeros(0, dtype=np.int32)
    size = bundle.vocabulary.codebook_size
    names = [*allowed, Scenario.UNIFORM]
    odds = [12, *[2] * (len(allowed) - 1), 1]
    if isinstance(port, Writer):
        assert codes is not None, "a writer is told what to write"

        def say(scenario: Scenario) -> None:
            port.symbol(odds, names.index(scenario))

        bits = {name: log2(sum(odds) / each) for name, each in zip(names, odds, strict=True)}
        prices = {name: bits[name] for name in (*candidates, Scenario.UNIFORM)}
        used = write_codes(port.encoder, codes, context, bundle.entropy, size, prices, say)
    else:
        assert isinstance(port, Reader)
        used = names[port.symbol(odds)]
        codes = read_codes(port.decoder, context, bundle.entropy, size, used)
    port.note(codes)
    return used, codes


def candidates_of(
    bundle: CodecBundle, allowed: Sequence[Scenario], wanted: Scenario | None, search: bool
) -> list[Scenario]:
    """The models that a sender tries: the one that is wanted, all that there are, or the first."""
    if wanted is not None:
        return [wanted] if wanted is not Scenario.UNIFORM else []
    ready = [scenario for scenario in allowed if scenario in bundle.entropy.available()]
    return ready if search else ready[:1]


def check_request(request: Request, bundle: CodecBundle) -> None:
    """Refuse ids of another vocabulary than the bundle's, and texts that are too long."""
    vocabulary = bundle.vocabulary
    for text in (request.text, request.negative):
        if text is not None and text.vocabulary_size != vocabulary.text_size:
            raise InvalidInputError(
                f"the text ids are of {text.vocabulary_size}, the bundle's of "
                f"{vocabulary.text_size}"
            )
        if text is not None and len(text) > bundle.max_text_tokens:
            raise InvalidInputError(
                f"the text has {len(text)} tokens", f"use at most {bundle.max_text_tokens}"
            )
    if request.image is not None and request.image.codebook_size != vocabulary.codebook_size:
        raise InvalidInputError(
            f"the image codes are of {request.image.codebook_size}, the bundle's of "
            f"{vocabulary.codebook_size}"
        )
