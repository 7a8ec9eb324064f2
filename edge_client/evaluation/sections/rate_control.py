"""Rate control (the paper's section VI-B): fewer tokens sent, and what that does to the results.

The edge leaves tokens out, by how many bits they take, and the cloud fills them in: before it
paints (inpaint, outpaint), before it answers (vqa), or as the result itself (picture: the tokens
that are left out are asked for as an inpainting, which shows what a receiver without them has).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edge_client.client import EdgeClient, Interaction
from edge_client.evaluation import metrics
from edge_client.evaluation.context import Case, Context, Records, Section
from edge_client.evaluation.grading import plain
from edge_client.evaluation.interactions import (
    Talk,
    ask_all,
    case_mask,
    good,
    request_of,
    source_pixels,
)
from edge_client.evaluation.sections.vqa import is_right
from edge_client.evaluation.tables import rate_semantics
from edge_client.evaluation.tables.quality import available, frechet
from edge_client.evaluation.tables.results import Cell, Plot, Series, Table
from edge_client.rate_control import Budget, Order, within
from shared_protocol.cases import CaseRecord
from shared_protocol.errors import ConfigError
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens

TITLE = "Rate control"
RATIOS = (1.0, 0.75, 0.5, 0.25, 0.1)
MAX_CASES = 24
"""Cases of a task that are asked at every ratio and in every order; --limit may lower it."""
PICTURE = "picture"
STREAMS = (PICTURE, "inpaint", "outpaint", "vqa")
COLUMNS = (
    "task",
    "left out first",
    "keep ratio",
    "cases",
    "bytes up",
    "image tokens",
    "which are left out",
    "bytes down",
    "as with all tokens",
    "PSNR, dB",
    "Frechet, EfficientNet-Lite0",
    "answers right",
)


def run(context: Context) -> Section:
    """Run every task at every keep ratio and in every order."""
    records = context.records("rate_control")
    rows: list[tuple[Cell, ...]] = []
    with context.connect() as session:
        for stream in STREAMS:
            for order, ratio in _settings(context, stream):
                found = _run(context, session, records, stream, order, ratio)
                if found:
                    rows.append(_row(context, stream, order, ratio, found, records))
    if not rows:
        raise ConfigError(f"{context.data.folder} holds no pictures", "name other data")
    notes = (
        "picture: what is left out comes back as an inpainting; PSNR is of the whole picture to "
        "the tokenised original, Frechet to the originals.",
        "inpaint: PSNR is of the repainted part to the original, Frechet of whole results.",
        "as with all tokens: share of tokens made by the cloud (picture: of all tokens) or of "
        "answers that equal those with all tokens sent.",
        "bytes up are whole messages, with those that say which tokens are left out.",
    )
    table = Table("rate-control", "Fewer tokens", COLUMNS, tuple(rows), notes)
    semantic = rate_semantics.compare(context, _inpaintings(context, records))
    tables, more = ((semantic[0],), semantic[1]) if semantic else ((), ())
    return Section("rate-control", TITLE, (table, *tables), (*_plots(rows), *more))


def _inpaintings(context: Context, records: Records) -> list[rate_semantics.Point]:
    """What came of the inpaintings at every ratio and in every order, as pictures."""
    tokenizer, size = context.bundle.image_tokenizer(), context.bundle.vocabulary.codebook_size
    points = []
    for order, ratio in _settings(context, "inpaint"):
        for case in context.cases("inpaint")[:MAX_CASES]:
            record = good(records, _id(case, "inpaint", order, ratio))
            if record is None or "shown" not in record:
                continue
            codes = np.array(record["tokens"], dtype=np.int32)
            label = "tokens, all sent" if ratio == 1.0 else f"tokens, {order.value} first"
            shown = tokenizer.detokenize(ImageTokens(codes, size))
            points.append(rate_semantics.Point(label, ratio, case, record["shown"], shown))
    return points


def _settings(context: Context, stream: str) -> list[tuple[Order, float]]:
    """All tokens once, then every order with every smaller ratio."""
    whole = [] if stream == PICTURE else [(Order.EVEN, 1.0)]
    ratios = context.keep_ratios or RATIOS
    return whole + [(order, ratio) for order in Order for ratio in ratios if ratio < 1.0]


def _run(
    context: Context,
    session: EdgeClient,
    records: Records,
    stream: str,
    order: Order,
    ratio: float,
) -> Found:
    """The cases of a task with their records; under ids of their own there."""
    cases = context.cases("inpaint" if stream == PICTURE else stream)[:MAX_CASES]
    names = {_id(case, stream, order, ratio): case for case in cases}

    def ask(named: Case) -> dict[str, Any]:
        record = _ask(context, session, stream, names[named.id], Budget(ratio, order=order))
        return {"id": named.id, **record}

    asked = [replace(case, id=name) for name, case in names.items()]
    ask_all(context, asked, records, ask, f"{stream}, {order.value} {ratio:g}")
    return [(case, r) for name, case in names.items() if (r := good(records, name))]


def _id(case: Case, stream: str, order: Order, ratio: float) -> str:
    return f"{stream}.{case.id}.{order.value}.{ratio:g}"


def _ask(
    context: Context, session: EdgeClient, stream: str, case: Case, budget: Budget
) -> dict[str, Any]:
    talk = _interact(context, session, stream, case, budget)
    image = talk.response.image
    made = None
    if image is not None:
        flags = talk.request.known(context.bundle.grid)[1]
        made = (image.codes if stream == PICTURE else image.codes[flags]).ravel().tolist()
    sizes = talk.uplink.sizes
    marks = sizes.mask if stream == PICTURE else sizes.dropped
    return {
        "up": sizes.total,
        "image": sizes.image,
        "marks": marks,
        "down": talk.downlink.sizes.total,
        "shown": sizes.image + sizes.mask + sizes.dropped + talk.downlink.sizes.image,
        "answer": talk.answer,
        "made": made,
        "tokens": None if image is None else image.codes.tolist(),
        "error": None,
    }


def _interact(
    context: Context, session: EdgeClient, stream: str, case: Case, budget: Budget
) -> Interaction:
    pixels, options = source_pixels(context, case), context.options(case)
    if stream == "vqa":
        return session.vqa(pixels, case.prompt, Options(seed=options.seed), budget)
    if stream == "outpaint":
        extension = Extension(**(case.extend or {}))
        return session.outpaint(pixels, extension, case.prompt, options, budget)
    mask = case_mask(context, case)
    assert mask is not None, "every case of this task repaints something"
    if stream == "inpaint":
        return session.inpaint(pixels, mask, case.prompt, options, budget)
    return _picture(context, session, case, pixels, budget)


def _picture(
    context: Context, session: EdgeClient, case: Case, pixels: Pixels, budget: Budget
) -> Interaction:
    """What is left out of the whole picture, asked for as an inpainting."""
    asked = request_of(context, replace(case, task="vqa", box=None, mask=None))
    dropped = within(budget, asked, context.bundle).dropped
    assert dropped is not None, "this stream has no ratio of 1"
    return session.inpaint(pixels, dropped, case.prompt, context.options(case))


Found = Sequence[tuple[Case, dict[str, Any]]]
"""Cases of one task, order and ratio with their records."""


def _row(
    context: Context, stream: str, order: Order, ratio: float, found: Found, records: Records
) -> tuple[Cell, ...]:
    def mean(name: str) -> float:
        return float(np.mean([record[name] for _, record in found]))

    psnr, distance = _distances(context, stream, found)
    return (
        stream,
        "–" if ratio == 1.0 else order.value,
        ratio,
        len(found),
        mean("up"),
        mean("image"),
        mean("marks"),
        mean("down"),
        _agreement(context, stream, found, records),
        psnr,
        distance,
        _right(found),
    )


def _agreement(context: Context, stream: str, found: Found, records: Records) -> Cell:
    shares = []
    for case, record in found:
        whole = _with_all(context, stream, case, records)
        if whole is None:
            continue
        if record["answer"] is not None:
            shares.append(float(plain(record["answer"]) == plain(whole)))
        else:
            shares.append(float(np.mean(np.array(record["made"]) == np.array(whole))))
    return float(np.mean(shares)) if shares else "–"


def _with_all(context: Context, stream: str, case: Case, records: Records) -> Any:
    """The answer, or the tokens made, of the same case with all tokens sent."""
    if stream == PICTURE:
        image = request_of(context, replace(case, task="vqa", box=None, mask=None)).image
        assert image is not None
        return image.codes.ravel()
    record = good(records, _id(case, stream, *_settings(context, stream)[0]))
    return None if record is None else record["answer"] or record["made"]


def _right(found: Found) -> Cell:
    asked = [(case, record) for case, record in found if case.task == "vqa" and case.answers]
    graded = [
        Talk(case, CaseRecord(case.id, case.task, record["answer"])) for case, record in asked
    ]
    return float(np.mean([is_right(talk) for talk in graded])) if graded else "–"


def _distances(context: Context, stream: str, found: Found) -> tuple[Cell, Cell]:
    """PSNR and Frechet distance, where there is something to compare with."""
    if stream not in (PICTURE, "inpaint"):
        return "–", "–"
    tokenizer, size = context.bundle.image_tokenizer(), context.bundle.vocabulary.codebook_size
    originals, results, values = [], [], []
    for case, record in found:
        original = source_pixels(context, case)
        codes = np.array(record["tokens"], dtype=np.int32)
        result = tokenizer.detokenize(ImageTokens(codes, size))
        mask = case_mask(context, case)
        assert mask is not None, "these cases repaint something"
        where = np.kron(mask.flags, np.ones((tokenizer.stride,) * 2, dtype=bool))
        seen = tokenizer.detokenize(tokenizer.tokenize(original))
        values.append(
            metrics.psnr(result, seen)
            if stream == PICTURE
            else metrics.psnr(result, original, where)
        )
        originals.append(original)
        results.append(result)
    finite = [value for value in values if math.isfinite(value)]
    mean: Cell = float(np.mean(finite)) if finite else "identical"
    enough = len(results) > 1
    return mean, available(lambda: frechet(results, originals)) if enough else "–"


def _plots(rows: Sequence[Sequence[Cell]]) -> list[Plot]:
    plots = []
    for column, name, label in (
        ("bytes up", "rate-control-bytes", "bytes up"),
        ("as with all tokens", "rate-control-agreement", "share as with all tokens"),
        ("answers right", "rate-control-answers", "share of answers right"),
        ("PSNR, dB", "rate-control-psnr", "PSNR, dB"),
    ):
        series = _series(rows, "keep ratio", column)
        if series:
            plots.append(Plot(name, f"{TITLE}: {label}", "keep ratio", label, series))
    series = _series(rows, "bytes up", "PSNR, dB")
    if series:
        title = f"{TITLE}: rate against quality"
        plots.append(Plot("rate-control-curve", title, "bytes up", "PSNR, dB", series))
    return plots


def _series(rows: Sequence[Sequence[Cell]], across: str, up: str) -> tuple[Series, ...]:
    """One line for each task and order, by keep ratio; all tokens sent belong to every order."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        named = dict(zip(COLUMNS, row, strict=True))
        ratio, x, y = (_number(named[name]) for name in ("keep ratio", across, up))
        if ratio is None or x is None or y is None:
            continue
        first = str(named["left out first"])
        for order in [o.value for o in Order] if ratio == 1.0 else [first]:
            points.setdefault(f"{named['task']}, {order} first", []).append((ratio, x, y))
    return tuple(
        Series(label, [x for _, x, _ in sorted(found)], [y for _, _, y in sorted(found)])
        for label, found in points.items()
    )


def _number(cell: Cell) -> float | None:
    return float(cell) if isinstance(cell, (int, float)) else None
