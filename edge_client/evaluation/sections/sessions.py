"""`sessions`: conversations as islands, as sessions, and by pixels of equal quality.

An island is a single message: it brings its picture every time. A session names what both ends
have. A pixel pipeline sends coded pictures, either with every turn or, as a session would, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_client.client import Interaction
from edge_client.evaluation.baselines import baselines
from edge_client.evaluation.codecs import PixelCodec, encode
from edge_client.evaluation.context import Cell, Context, Plot, Section, Series, Table
from edge_client.evaluation.conversations import (
    EIGHT_TURNS,
    Line,
    chats,
    hold,
    kept_tokens,
    unscripted,
)
from edge_client.evaluation.interactions import case_mask
from edge_client.evaluation.metrics import psnr
from edge_client.evaluation.tables.comparing import flat_name, mean
from edge_client.evaluation.tables.quality import SKIPPED
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import SingleMessages
from edge_client.pictures.images import load_picture
from edge_client.session.cost import TurnCost
from shared_protocol.cases import Case
from shared_protocol.tasks import Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens

NAME = "sessions"
CODECS = ("jpeg", "webp", "vvc")
MAX_PICTURES = 8
LONGEST_CHAT = 12
UNSCRIPTED = "unscripted"
UNSCRIPTED_SEED = 7
MAX_UNSCRIPTED = 2
ISLANDS, SESSION = "islands", "session"
KEPT = ", kept"
"""Of a pixel pipeline: every picture travels once."""

Found = Sequence[Mapping[str, Any]]


def run(context: Context) -> Section:
    """Measure what is missing and summarise.

    Raises:
        InternalError: a token outside an edit changed.
        UnimicError: the server or the data cannot be used.
    """
    codecs, missing = baselines(context, (), CODECS)
    records = context.records(NAME)
    scripts = _scripts(context)
    for name, path, script in context.track(scripts, NAME):
        height, width = context.picture_size
        pixels = load_picture(path, height, width).pixels
        for method, measure in _methods(context, codecs, pixels, script).items():
            key = f"{name}/{method}"
            if key not in records:
                records.add({"id": key, "script": name, "method": method, "turns": measure()})
    names = [name for name, _, _ in scripts]
    found = [one for one in records if one["script"] in names]
    return Section(
        NAME,
        "Conversations",
        (*_tables(found), *_unscripted_table(found)),
        _plots(found),
        notes=tuple(f"The codec {name} is not available here." for name in missing),
    )


def _scripts(context: Context) -> list[tuple[str, Any, Sequence[Line]]]:
    """(name, picture, turns): the eight turns about each picture, and chats of the cases."""
    paths = context.pictures()[:MAX_PICTURES]
    folder = context.data.folder
    found: list[tuple[str, Any, Sequence[Line]]] = [
        (f"eight turns/{flat_name(path, folder)}", path, EIGHT_TURNS) for path in paths
    ]
    asked = [case for case in context.data.cases if case.image and case.task in ("vqa", "inpaint")]
    lines = [_line(context, case) for case in asked]
    for chat in chats(lines, [str(case.image) for case in asked], LONGEST_CHAT):
        case = asked[lines.index(chat[0])]
        name = f"chats of {len(chat)}/{flat_name(context.picture(case), folder)}"
        found.append((name, context.picture(case), chat))
        if context.limit is not None and len(found) >= 2 * context.limit:
            break
    return found + _unscripted(context, paths)


def _unscripted(context: Context, paths: Sequence[Path]) -> list[tuple[str, Any, Sequence[Line]]]:
    """Turns that are drawn, other ones for each picture."""
    found: list[tuple[str, Any, Sequence[Line]]] = []
    for number, path in enumerate(paths[:MAX_UNSCRIPTED]):
        rng = np.random.default_rng([UNSCRIPTED_SEED, context.seed, number])
        lines, undone = unscripted(rng, context.bundle.grid)
        name = flat_name(path, context.data.folder)
        found.append((f"{UNSCRIPTED}, {undone} undone/{name}", path, lines))
    return found


def _line(context: Context, case: Case) -> Line:
    makes = case.id if case.task == "inpaint" else ""
    seed = (case.seed + context.seed) % 2**32
    mask = case_mask(context, case) if case.mask is not None else None
    task = Task.named(case.task)
    return Line(task, case.prompt, makes=makes, box=case.box, seed=seed, mask=mask)


def _methods(
    context: Context, codecs: Sequence[PixelCodec], pixels: Pixels, script: Sequence[Line]
) -> dict[str, Callable[[], list[dict[str, int]]]]:
    """How each method's bytes by turn are found; the tokens' results serve the pixels as well."""
    source = context.bundle.image_tokenizer().tokenize(pixels)
    held: list[Interaction] = []

    def islands() -> list[dict[str, int]]:
        with context.transport() as transport:
            posts = SingleMessages(context.bundle, transport)
            held[:] = hold(context.bundle, posts, source, script, context.steps)
        return [_sizes(done) for done in held]

    def session() -> list[dict[str, int]]:
        talk = BestExchange(context.bundle, context.server, context.api_key, context.timeout)
        try:
            found = hold(context.bundle, talk, source, script, context.steps)
        finally:
            talk.close()
        return [_sizes(done) for done in found]

    def by_pixels(codec: PixelCodec, kept: bool) -> list[dict[str, int]]:
        if not held:
            islands()
        return _pixel_turns(context, codec, pixels, script, held, kept)

    methods = {ISLANDS: islands, SESSION: session}
    for codec in codecs:
        methods[codec.name] = lambda codec=codec: by_pixels(codec, False)  # type: ignore[misc]
        methods[codec.name + KEPT] = lambda codec=codec: by_pixels(codec, True)  # type: ignore[misc]
    return methods


def _sizes(done: Interaction) -> dict[str, int]:
    cost = TurnCost.of(done)
    return {
        "kept": kept_tokens(done),
        "task": int(done.request.task),
        "up": cost.payload_up,
        "down": cost.payload_down,
        "wire_up": cost.wire_up,
        "wire_down": cost.wire_down,
    }


def _pixel_turns(
    context: Context,
    codec: PixelCodec,
    pixels: Pixels,
    script: Sequence[Line],
    held: Sequence[Interaction],
    kept: bool,
) -> list[dict[str, int]]:
    """Bytes by turn of a pipeline whose pictures are as near to the source as the tokens'."""
    tokenizer = context.bundle.image_tokenizer()
    target = psnr(pixels, tokenizer.detokenize(tokenizer.tokenize(pixels)))
    sizes: dict[bytes, int] = {}

    def size_of(tokens: ImageTokens | None, shown: Pixels) -> tuple[int, bool]:
        name = b"source" if tokens is None else tokens.codes.tobytes()
        new = name not in sizes
        if new:
            sizes[name] = smallest(codec, shown, target)
        return sizes[name], new

    turns, pictures = [], {"source": (None, pixels)}
    for line, done in zip(script, held, strict=True):
        tokens, shown = pictures[line.about]
        size, new = size_of(tokens, shown)
        up = len(line.text.encode()) + (size if new or not kept else 0)
        down = len((done.answer or "").encode())
        made = done.response.image
        if made is not None:
            drawn = tokenizer.detokenize(made)
            pictures[line.makes] = (made, drawn)  # type: ignore[assignment]
            down, _ = size_of(made, drawn)
        turns.append({"up": up, "down": down})
    return turns


def smallest(codec: PixelCodec, pixels: Pixels, target: float) -> int:
    """Picture bytes of the coarsest setting that comes to `target` dB, or of the finest."""
    settings = codec.settings
    low, high = 0, len(settings) - 1
    while low < high:
        middle = (low + high) // 2
        if psnr(pixels, encode(codec, pixels, settings[middle]).decode()) >= target:
            high = middle
        else:
            low = middle + 1
    return encode(codec, pixels, settings[low]).picture_bytes


# ------------------------------------------------------------------------------------------------
# Tables and plots
# ------------------------------------------------------------------------------------------------


def _tables(found: Found) -> tuple[Table, ...]:
    kinds = list(dict.fromkeys(_kind(one) for one in found))
    rows = []
    for kind in kinds:
        mine = [one for one in found if _kind(one) == kind]
        for method in dict.fromkeys(one["method"] for one in mine):
            rows.append(_row(kind, method, [one for one in mine if one["method"] == method]))
    return (
        Table(
            "sessions",
            "Bytes of a conversation, means over its pictures",
            (
                "conversation",
                "method",
                "pictures",
                "payload up",
                "payload down",
                "wire up",
                "wire down",
                "first turn up",
                "each further turn up",
            ),
            tuple(rows),
            (
                "Islands are single messages over HTTP, a session goes over WebSocket; its opening "
                "and progress are left out of the wire.",
                "Pixels have the PSNR of the tokens' picture at least, picture bytes only, words "
                "as UTF-8; 'kept' sends every picture once, as a session of pixels would.",
                "In every turn all tokens outside the edit were those of before.",
            ),
        ),
    )


def _unscripted_table(found: Found) -> tuple[Table, ...]:
    """What unscripted conversations were made of, and the tokens that they left alone."""
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        if not str(one["script"]).startswith(UNSCRIPTED) or one["method"] not in (ISLANDS, SESSION):
            continue
        told, _, picture = str(one["script"]).partition("/")
        tasks = [turn["task"] for turn in one["turns"]]
        counts = [tasks.count(int(task)) for task in (Task.INPAINT, Task.OUTPAINT, Task.VQA)]
        undone = int(told.split()[1])
        kept = sum(turn["kept"] for turn in one["turns"])
        sizes = [sum(turn[way] for turn in one["turns"]) for way in ("up", "down")]
        rows.append((picture, one["method"], len(tasks), *counts, undone, kept, 0, *sizes))
    columns = (
        "picture",
        "method",
        "turns",
        "inpaintings",
        "outpaintings",
        "questions",
        "undone",
        "tokens outside the edits",
        "of them changed",
        "payload up",
        "payload down",
    )
    note = "A changed token ends the run with an error, so that a table has none."
    title = "Unscripted edits, outpaintings, questions and undoing"
    return (Table("sessions-unscripted", title, columns, tuple(rows), (note,)),) if rows else ()


def _kind(one: Mapping[str, Any]) -> str:
    return str(one["script"]).partition("/")[0].partition(",")[0]


def _row(kind: str, method: str, mine: Found) -> tuple[Cell, ...]:
    def total(name: str) -> Cell:
        if name not in mine[0]["turns"][0]:
            return SKIPPED  # pixels are not sent, only coded
        return mean(float(sum(turn[name] for turn in one["turns"])) for one in mine)

    first = mean(float(one["turns"][0]["up"]) for one in mine)
    later = mean(float(np.mean([turn["up"] for turn in one["turns"][1:]])) for one in mine)
    names = ("up", "down", "wire_up", "wire_down")
    return (kind, method, len(mine), *(total(name) for name in names), first, later)


def _plots(found: Found) -> tuple[Plot, ...]:
    mine = [one for one in found if _kind(one) == "eight turns"]
    if not mine:
        return ()
    series = []
    for method in dict.fromkeys(one["method"] for one in mine):
        turns = [one["turns"] for one in mine if one["method"] == method]
        both = np.array([[turn["up"] + turn["down"] for turn in one] for one in turns], float)
        running = both.cumsum(axis=1).mean(axis=0)
        series.append(Series(method, list(range(1, len(running) + 1)), running.tolist()))
    title = "Payload of eight turns about one picture, both ways"
    return (Plot("sessions", title, "turn", "bytes so far", tuple(series)),)
