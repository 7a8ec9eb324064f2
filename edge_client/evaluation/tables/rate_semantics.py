"""What inpaintings show, by the bytes they took: tokens at every keep ratio, and codecs (Fig. 9).

The codecs run the same cases over pixels, at a few multiples of the bytes that all tokens took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_client.evaluation.baselines import baselines
from edge_client.evaluation.context import Case, Cell, Context, Plot, Series, Table
from edge_client.evaluation.interactions import source_pixels
from edge_client.evaluation.metrics import optional
from edge_client.evaluation.pixel_loop.client import PixelClient
from edge_client.evaluation.pixel_loop.gateway import Made, PixelGateway
from edge_client.evaluation.pixel_loop.pipeline import Way, by_codec, record_id, set_up
from edge_client.evaluation.tables.codec_tables import result_path
from edge_client.evaluation.tables.comparing import fid_cell, frechet_cell, mean, read_pixels
from shared_protocol.tokenizers.image import Pixels

CODECS = ("hevc", "vvc", "vq-kmeans")
MULTIPLES = (0.5, 1.0, 2.0)
MAX_CASES = 24
MEASURES = ("CLIP-T", "CLIP-I", "Frechet", "FID")


@dataclass(frozen=True, eq=False)
class Point:
    """One inpainting.

    Args:
        method: of the line that it belongs to.
        setting: keep ratio of tokens, or multiple of their bytes.
        case: what was asked.
        bytes: of pictures and masks, both ways.
        shown: (H, W, 3) uint8, the result.
    """

    method: str
    setting: float
    case: Case
    bytes: float
    shown: Pixels


def compare(context: Context, tokens: Sequence[Point]) -> tuple[Table, tuple[Plot, ...]] | None:
    """The table and the plots; None without an inpainting."""
    if not tokens:
        return None
    points = [*tokens, *_by_codecs(context, tokens)]
    rows: list[tuple[Cell, ...]] = []
    lines: dict[str, list[tuple[Cell, ...]]] = {}
    for method, setting in dict.fromkeys((point.method, point.setting) for point in points):
        mine = [p for p in points if (p.method, p.setting) == (method, setting)]
        row = _row(context, method, setting, mine)
        rows.append(row)
        lines.setdefault(method, []).append(row)
    notes = (
        "Setting: share of tokens sent, or multiple of the bytes of all tokens that a codec aims "
        "at, both ways; bpp: pictures and masks, both ways, over the source's pixels.",
        "CLIP-T: result and prompt; CLIP-I, Frechet and FID: result and original.",
    )
    columns = ("method", "setting", "cases", "bpp total", *MEASURES)
    table = Table("rate-control-semantics", "Inpainting by rate", columns, tuple(rows), notes)
    return table, _plots(lines, columns)


def _row(
    context: Context, method: str, setting: float, points: Sequence[Point]
) -> tuple[Cell, ...]:
    height, width = context.picture_size
    shown = [point.shown for point in points]
    originals = [source_pixels(context, point.case) for point in points]
    size = mean(point.bytes for point in points) or 0.0
    return (
        method,
        setting,
        len(points),
        size * 8 / (height * width),
        optional.clip_t(shown, [point.case.prompt for point in points]),
        optional.clip_i(shown, originals),
        frechet_cell(shown, originals),
        fid_cell(shown, originals),
    )


def _by_codecs(context: Context, tokens: Sequence[Point]) -> list[Point]:
    codecs, _ = baselines(context, (), CODECS)
    records = context.records("rate-control", "codecs")
    folder = context.folder("rate-control") / "pictures"
    made: list[Made] = []
    gateway = PixelGateway(context.bundle, context.transport, made.append)
    points = []
    with gateway, PixelClient(gateway.url, context.bundle, context.timeout) as client:
        whole = [point for point in tokens if point.setting == 1.0][:MAX_CASES]
        for point in context.track(whole, "rate-control, codecs"):
            setting = set_up(context, point.case)
            for codec in codecs:
                for multiple in MULTIPLES:
                    half = max(1.0, point.bytes * multiple / 2)
                    way = Way(codec, half, half, method=f"{codec.name} x{multiple:g}")
                    key = record_id(point.case, way.name)
                    path = result_path(folder, way.name, point.case.id)
                    if key not in records:
                        records.add(by_codec(setting, way, client, lambda: made[-1], path))
                    sizes = records[key]["bytes"]
                    spent = sizes["up_picture"] + sizes["up_mask"] + sizes["down_picture"]
                    shown = read_pixels(path)
                    points.append(Point(codec.name, multiple, point.case, spent, shown))
    return points


def _plots(lines: dict[str, list[tuple[Cell, ...]]], columns: Sequence[str]) -> tuple[Plot, ...]:
    """One plot for each measure that has numbers; tokens all sent belong to every order."""
    plots = []
    for measure in MEASURES:
        place, x_place = columns.index(measure), columns.index("bpp total")
        series = []
        for method, rows in lines.items():
            known = [
                (float(x), float(y))
                for row in rows
                if isinstance(x := row[x_place], float) and isinstance(y := row[place], float)
            ]
            if known:
                xs, ys = (list(values) for values in zip(*sorted(known), strict=True))
                series.append(Series(method, xs, ys))
        if series:
            name = f"rate-control-{measure.lower()}"
            title = f"Inpainting: {measure} by rate"
            plots.append(Plot(name, title, "bits per pixel, both ways", measure, tuple(series)))
    return tuple(plots)
