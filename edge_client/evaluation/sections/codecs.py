"""`codecs`: the four tasks over pixels, by every codec that runs here, beside tokens.

Same server, same pictures, same seeds. Each codec is brought as near as it comes to the bytes that
the tokens took, for each picture and each way; where its coarsest setting takes more, it may shrink
the picture first, which the paper's baselines may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_client.evaluation.codecs import NAMES, PixelCodec, find_codecs
from edge_client.evaluation.context import Cell, Context, Records, Section, Table, Tile
from edge_client.evaluation.metrics import wilson
from edge_client.evaluation.pixel_loop.client import PixelClient
from edge_client.evaluation.pixel_loop.gateway import Made, PixelGateway
from edge_client.evaluation.pixel_loop.pipeline import (
    TOKENS,
    Setting,
    by_codec,
    by_tokens,
    record_id,
    set_up,
)
from edge_client.evaluation.tables import rate_curves
from edge_client.evaluation.tables.comparing import (
    frechet_cell,
    interval,
    mean,
    mean_psnr,
    mean_score,
    read_pixels,
)
from edge_client.evaluation.tables.quality import SKIPPED
from edge_client.pictures.images import load_picture
from shared_protocol.cases import TASKS
from shared_protocol.tokenizers.image import Pixels

NAME = "codecs"
EXAMPLES = 2
"""Cases of each task on the sheet of examples."""

LastMade = Callable[[], Made]


def run(context: Context, names: Sequence[str] = ()) -> Section:
    """Measure what is missing and summarise.

    Args:
        context: see `Context`.
        names: codecs to compare with, by name; empty = those of the context, or all.

    Raises:
        UnimicError: the server or the data cannot be used.
    """
    codecs, missing = find_codecs(names or context.codecs or NAMES)
    found = _measure(context, codecs)
    methods = [TOKENS, *(codec.name for codec in codecs)]
    real = _real_pictures(context)
    tables = [
        _task_table(context, task, [one for one in found if one["task"] == task], methods, real)
        for task in TASKS
        if any(one["task"] == task for one in found)
    ]
    curves, plots = rate_curves.table_and_plots(
        rate_curves.measure(context, codecs), [codec.name for codec in codecs]
    )
    least = _least_table(found, methods[1:])
    notes = tuple(f"The codec {name} is not available here." for name in missing)
    return Section(
        NAME,
        "Pixel codecs at the rate of tokens",
        (*tables, *([least] if least.rows else []), *([curves] if curves.rows else [])),
        plots if curves.rows else (),
        _examples(context, found, methods),
        notes,
    )


def _measure(context: Context, codecs: Sequence[PixelCodec]) -> list[dict[str, Any]]:
    """A record for every case by every method; those that are there are not made again."""
    records = context.records(NAME)
    cases = [case for task in TASKS for case in context.cases(task)]
    found = []
    with context.transport() as transport, _pixel_cloud(context) as (client, last_made):
        for case in context.track(cases, "codecs"):
            setting = set_up(context, case)
            key = record_id(case, TOKENS)
            if key not in records:
                picture = _picture(context, TOKENS, case.id)
                records.add(by_tokens(context, setting, transport, picture))
            rates = records[key]["bytes"]
            found.append(records[key])
            for codec in codecs:
                found.append(_coded(context, setting, codec, rates, records, (client, last_made)))
    return found


def _coded(
    context: Context,
    setting: Setting,
    codec: PixelCodec,
    rates: dict[str, int],
    records: Records,
    cloud: tuple[PixelClient, LastMade],
) -> dict[str, Any]:
    key = record_id(setting.case, codec.name)
    if key not in records:
        picture = _picture(context, codec.name, setting.case.id)
        records.add(by_codec(setting, codec, rates, *cloud, picture))
    return records[key]


@contextmanager
def _pixel_cloud(context: Context) -> Iterator[tuple[PixelClient, LastMade]]:
    """A gateway before the server, a client of it, and what it made last."""
    made: list[Made] = []
    gateway = PixelGateway(context.bundle, context.transport, made.append)
    with gateway, PixelClient(gateway.url, context.bundle, context.timeout) as client:
        yield client, lambda: made[-1]


def _picture(context: Context, method: str, case: str) -> Path:
    return context.folder(NAME) / "pictures" / method / f"{case}.png"


def _real_pictures(context: Context) -> list[Pixels]:
    height, width = context.picture_size
    return [load_picture(path, height, width).pixels for path in context.pictures()]


def _task_table(
    context: Context,
    task: str,
    found: Sequence[dict[str, Any]],
    methods: Sequence[str],
    real: Sequence[Pixels],
) -> Table:
    height, width = context.picture_size
    rows = [
        _row(context, method, [one for one in found if one["method"] == method], real)
        for method in methods
    ]
    return Table(
        f"codecs-{task}",
        f"{task} by tokens and by pixels",
        (
            "method",
            "cases",
            "bpp up",
            "bpp down",
            "bpp total",
            "body bytes up",
            "body bytes down",
            "PSNR up, dB",
            "ST-LPIPS up",
            "PSNR down, dB",
            "ST-LPIPS down",
            "PSNR kept, dB",
            "95 % interval",
            "Frechet",
            "exact match",
            "95 % interval of it",
        ),
        tuple(rows),
        (
            f"bpp: bits of pictures and masks over {width}x{height} pixels, without text, framing "
            "and what the codecs' receivers could know beforehand; body bytes: whole HTTP bodies.",
            "up: the picture that the cloud sees against the source (outside the mask); down: the "
            "picture that the edge shows against the one that the cloud made; kept: the part of "
            "the result that was to stay as it was against the source.",
            f"Frechet: distance of EfficientNet-Lite0 features, not FID, of the results from the "
            f"{len(real)} source pictures of the data; compare within this table only.",
        ),
    )


def _row(
    context: Context, method: str, found: Sequence[dict[str, Any]], real: Sequence[Pixels]
) -> tuple[Cell, ...]:
    height, width = context.picture_size
    up = _mean_bytes(found, "up_picture", "up_mask")
    down = _mean_bytes(found, "down_picture")
    scale = 8 / (height * width)
    kept = [one["kept"] for one in found]
    numbers = [one["psnr"] for one in kept if one is not None and one["psnr"] is not None]
    return (
        method,
        len(found),
        up * scale,
        down * scale,
        (up + down) * scale,
        _mean_bytes(found, "up_body"),
        _mean_bytes(found, "down_body"),
        mean_psnr(one["up"] for one in found),
        mean_score((one["up"] for one in found), "st_lpips"),
        mean_psnr(one["down"] for one in found),
        mean_score((one["down"] for one in found), "st_lpips"),
        mean_psnr(kept),
        interval(numbers),
        _frechet(context, found, real),
        *_match_cells(found),
    )


def _mean_bytes(found: Sequence[dict[str, Any]], *names: str) -> float:
    return mean(float(sum(one["bytes"][name] for name in names)) for one in found) or 0.0


def _frechet(context: Context, found: Sequence[dict[str, Any]], real: Sequence[Pixels]) -> Cell:
    made = [
        read_pixels(_picture(context, one["method"], one["case"]))
        for one in found
        if one["picture"]
    ]
    return frechet_cell(made, real)


def _match_cells(found: Sequence[dict[str, Any]]) -> tuple[Cell, Cell]:
    judged = [one["right"] for one in found if one["right"] is not None]
    if not judged:
        return SKIPPED, SKIPPED
    share = wilson(sum(judged), len(judged))
    return share.value, f"{share.low:.2f} to {share.high:.2f}"


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


def _examples(
    context: Context, found: Sequence[dict[str, Any]], methods: Sequence[str]
) -> tuple[tuple[Tile, ...], ...]:
    """The first cases of each task that makes pictures, one row each, one tile a method."""
    rows: list[tuple[Tile, ...]] = []
    for task in TASKS[:3]:
        ids = list(dict.fromkeys(one["case"] for one in found if one["task"] == task))
        for case in ids[:EXAMPLES]:
            mine = {one["method"]: one for one in found if one["case"] == case}
            rows.append(tuple(_tile(context, mine[method]) for method in methods if method in mine))
    return tuple(row for row in rows if row)


def _tile(context: Context, one: dict[str, Any]) -> Tile:
    size = one["bytes"]
    caption = f"{one['case']}, {one['method']}: {size['up_body']} B up, {size['down_body']} B down"
    return Tile(_picture(context, one["method"], one["case"]), caption)
