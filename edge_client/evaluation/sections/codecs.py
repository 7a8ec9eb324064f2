"""`codecs`: the four tasks over pixels, by every codec that runs here, beside tokens.

Same server, same pictures, same seeds. Each codec is brought as near as it comes to the bytes that
the tokens took, for each picture and each way; where its coarsest setting takes more, it may shrink
the picture first, which the paper's baselines may not. With `--qp` each codec is also run at fixed
settings, as the paper's section VI-A has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edge_client.evaluation.baselines import baselines, fixed_name, fixed_settings
from edge_client.evaluation.codecs import BPG_NOTE, PixelCodec
from edge_client.evaluation.context import Cell, Context, Records, Section, Table
from edge_client.evaluation.pixel_loop.client import PixelClient
from edge_client.evaluation.pixel_loop.gateway import Made, PixelGateway
from edge_client.evaluation.pixel_loop.pipeline import (
    TOKENS,
    Setting,
    Way,
    by_codec,
    by_tokens,
    record_id,
    set_up,
)
from edge_client.evaluation.tables import rate_curves
from edge_client.evaluation.tables.codec_tables import (
    Shelf,
    example_row,
    result_path,
    stage_sheet,
    task_table,
)
from edge_client.evaluation.tables.comparing import mean
from edge_client.pictures.images import load_picture
from shared_protocol.cases import TASKS

NAME = "codecs"
EXAMPLES = 2
"""Cases of each task on the sheet of examples, and with a figure of their own."""
FIGURES = {"t2i": 11, "inpaint": 12, "outpaint": 13, "vqa": 10}
"""The paper's figure of each task."""
FIXED_NOTE = (
    "Section VI-A: fixed settings up and down, the paper's for each task; VVC ends at 63, which "
    "stands for the paper's 69. 'At QP' has the same one both ways."
)

LastMade = Callable[[], Made]


def run(context: Context, names: Sequence[str] = ()) -> Section:
    """Measure what is missing and summarise.

    Args:
        context: see `Context`.
        names: codecs to compare with, by name; empty = those of the context, or all.

    Raises:
        UnimicError: the server or the data cannot be used.
    """
    codecs, missing = baselines(context, names)
    found = _measure(context, codecs)
    methods = list(dict.fromkeys(one["method"] for one in found))
    shelf = _shelf(context)
    tables = [
        _with_figures(task_table(task, mine, methods, shelf), task, mine, shelf)
        for task in TASKS
        if (mine := [one for one in found if one["task"] == task])
    ]
    curves, plots = rate_curves.table_and_plots(
        rate_curves.measure(context, codecs), [codec.name for codec in codecs]
    )
    least = _least_table(found, [codec.name for codec in codecs])
    return Section(
        NAME,
        "Pixel codecs at the rate of tokens",
        (*tables, *([least] if least.rows else []), *([curves] if curves.rows else [])),
        plots if curves.rows else (),
        tuple(example_row(shelf, mine) for mine in _examples(found)),
        tuple(_notes(context, codecs, missing)),
    )


def _notes(context: Context, codecs: Sequence[PixelCodec], missing: Sequence[str]) -> list[str]:
    notes = [f"The codec {name} is not available here." for name in missing]
    names = [codec.name for codec in codecs]
    if "hevc" in names:
        notes.append(BPG_NOTE)
    if context.qp:
        notes.append(FIXED_NOTE)
    return notes


def _shelf(context: Context) -> Shelf:
    height, width = context.picture_size
    real = [load_picture(path, height, width).pixels for path in context.pictures()]
    return Shelf(context, context.folder(NAME) / "pictures", real)


def _measure(context: Context, codecs: Sequence[PixelCodec]) -> list[dict[str, Any]]:
    """A record for every case by every method; those that are there are not made again."""
    records = context.records(NAME)
    cases = [case for task in TASKS for case in context.cases(task)]
    found = []
    with context.transport() as transport, pixel_cloud(context) as cloud:
        for case in context.track(cases, "codecs"):
            setting = set_up(context, case)
            key = record_id(case, TOKENS)
            if key not in records:
                picture = result_path(context.folder(NAME) / "pictures", TOKENS, case.id)
                records.add(by_tokens(context, setting, transport, picture))
            rates = records[key]["bytes"]
            found.append(records[key])
            for way in _ways(context, setting, codecs, rates):
                found.append(_coded(context, setting, way, records, cloud))
    return found


def _ways(
    context: Context, setting: Setting, codecs: Sequence[PixelCodec], rates: dict[str, int]
) -> Iterator[Way]:
    """Every codec near the tokens' rate, and at each of the fixed settings that it has."""
    up, down = rates["up_picture"], rates["down_picture"]
    for codec in codecs:
        yield Way(codec, up, down)
        for qp in context.qp:
            fixed = fixed_settings(codec, setting.case.task, qp)
            if fixed is not None:
                yield Way(codec, up, down, fixed, fixed_name(codec, qp))


def _coded(
    context: Context,
    setting: Setting,
    way: Way,
    records: Records,
    cloud: tuple[PixelClient, LastMade],
) -> dict[str, Any]:
    key = record_id(setting.case, way.name)
    if key not in records:
        picture = result_path(context.folder(NAME) / "pictures", way.name, setting.case.id)
        records.add(by_codec(setting, way, *cloud, picture))
    return records[key]


@contextmanager
def pixel_cloud(context: Context) -> Iterator[tuple[PixelClient, LastMade]]:
    """A gateway before the server, a client of it, and what it made last."""
    made: list[Made] = []
    gateway = PixelGateway(context.bundle, context.transport, made.append)
    with gateway, PixelClient(gateway.url, context.bundle, context.timeout) as client:
        yield client, lambda: made[-1]


def _least_table(found: Sequence[dict[str, Any]], methods: Sequence[str]) -> Table:
    """How near each codec comes to the tokens' bytes at all."""
    rows: list[tuple[Cell, ...]] = []
    for method in methods:
        for way in ("up", "down"):
            mine = [one[f"{way}_match"] for one in found if one["method"] == method]
            known = [one for one in mine if one is not None]
            if known:
                rows.append((method, way, len(known), *_nearness(known)))
    return Table(
        "codecs-least",
        "Whether a codec reaches the bytes of the tokens",
        (
            "codec",
            "way",
            "pictures",
            "bytes aimed at",
            "least bytes at full size",
            "reached at full size, share",
            "reached when shrunk, share",
        ),
        tuple(rows),
        (
            "Picture bytes, headers left out. A codec whose least bytes are more than those aimed "
            "at codes the picture at 1/2, 1/4, 1/8 or 1/16 of its sides instead.",
        ),
    )


def _nearness(known: Sequence[dict[str, Any]]) -> tuple[Cell, ...]:
    return (
        mean(float(one["target"]) for one in known),
        mean(float(one["least"]) for one in known),
        mean(float(one["reached"] and not one["shrunk"]) for one in known),
        mean(float(one["reached"] and one["shrunk"]) for one in known),
    )


def _examples(found: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The records of the first cases of each task that makes pictures."""
    rows = []
    for task in TASKS[:3]:
        ids = list(dict.fromkeys(one["case"] for one in found if one["task"] == task))
        rows += [[one for one in found if one["case"] == case] for case in ids[:EXAMPLES]]
    return rows


def _with_figures(table: Table, task: str, found: Sequence[dict[str, Any]], shelf: Shelf) -> Table:
    """The table, with pictures of the first cases stage by stage: where they lie, in words."""
    notes = []
    for case in list(dict.fromkeys(one["case"] for one in found))[:EXAMPLES]:
        mine = [one for one in found if one["case"] == case]
        target = stage_sheet(shelf, mine, shelf.folder.parent / "figures" / f"{case}.png")
        if target.is_file():
            place = target.relative_to(shelf.context.out).as_posix()
            notes.append(f"As the paper's Fig. {FIGURES[task]}, by stage: ![{case}]({place})")
    return replace(table, notes=(*table.notes, *notes))
