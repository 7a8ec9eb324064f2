"""Rate against quality of every codec on the source pictures, with tokens as the point to compare.

It asks no server: a picture is coded and decoded on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_client.evaluation.codecs import PixelCodec, encode
from edge_client.evaluation.context import Context, Plot, Records, Series, Table
from edge_client.evaluation.metrics import bd_rate
from edge_client.evaluation.tables.comparing import flat_name, mean, mean_psnr, scores
from edge_client.evaluation.tables.quality import SKIPPED
from edge_client.pictures.images import load_picture
from shared_protocol.errors import ConfigError
from shared_protocol.message.picture_file import read_picture, write_picture
from shared_protocol.tokenizers.image import Pixels

MAX_PICTURES = 24
"""So many of the source pictures at most; the slowest codec takes seconds for each point."""
POINTS = 6
ANCHOR = "jpeg"
TOKENS = "tokens"


def measure(context: Context, codecs: Sequence[PixelCodec]) -> list[dict[str, Any]]:
    """A record for every picture, codec and setting, and one for its tokens."""
    records = context.records("codecs", "curves")
    height, width = context.picture_size
    found = []
    for path in context.track(context.pictures()[:MAX_PICTURES], "curves"):
        pixels = load_picture(path, height, width).pixels
        name = flat_name(path, context.data.folder)
        found.append(_token_point(context, name, pixels, records))
        for codec in codecs:
            for setting in spread(codec.settings, POINTS):
                found.append(_point(codec, setting, name, pixels, records))
    return found


def spread(settings: Sequence[float], count: int) -> list[float]:
    """`count` of the settings from the coarsest on, denser there, up to three quarters.

    >>> spread(tuple(range(101)), 4)
    [0, 8, 33, 75]
    """
    places = (np.arange(count) / (count - 1)) ** 2 * 0.75 * (len(settings) - 1)
    return [settings[place] for place in dict.fromkeys(places.astype(int).tolist())]


def _point(
    codec: PixelCodec, setting: float, name: str, pixels: Pixels, records: Records
) -> dict[str, Any]:
    key = f"{name}/{codec.name}/{setting:g}"
    known = records.get(key)
    if known is None:
        coded = encode(codec, pixels, setting)
        known = {
            "id": key,
            "method": codec.name,
            "setting": setting,
            **_rates(coded.picture_bytes, coded.header_bytes, pixels),
            **scores(coded.decode(), pixels),
        }
        records.add(known)
    return known


def _token_point(context: Context, name: str, pixels: Pixels, records: Records) -> dict[str, Any]:
    key = f"{name}/{TOKENS}"
    known = records.get(key)
    if known is None:
        tokenizer = context.bundle.image_tokenizer()
        tokens = tokenizer.tokenize(pixels)
        file = read_picture(write_picture(tokens, context.bundle), context.bundle).anatomy
        known = {
            "id": key,
            "method": TOKENS,
            "setting": 0,
            **_rates(file.image, file.total - file.image, pixels),
            **scores(tokenizer.detokenize(tokens), pixels),
        }
        records.add(known)
    return known


def _rates(picture_bytes: int, header_bytes: int, pixels: Pixels) -> dict[str, float]:
    area = pixels.shape[0] * pixels.shape[1]
    return {"bpp": picture_bytes * 8 / area, "header_bpp": header_bytes * 8 / area}


def table_and_plots(
    found: Sequence[dict[str, Any]], methods: Sequence[str]
) -> tuple[Table, tuple[Plot, ...]]:
    """Mean points, and the rate that each codec saves against JPEG (or the first) at equal PSNR."""
    curves = {name: _mean_points(found, name) for name in (TOKENS, *methods)}
    anchor = ANCHOR if ANCHOR in methods or not methods else methods[0]
    rows = []
    for name, points in curves.items():
        saved = _saving(curves.get(anchor, []), points) if name != TOKENS else None
        for index, point in enumerate(points):
            cell = f"{saved:+.1%}" if saved is not None and not index else SKIPPED
            rows.append(
                (
                    name,
                    point["setting"] if name != TOKENS else SKIPPED,
                    point["bpp"],
                    point["bpp"] + point["header"],
                    point["psnr"],
                    point["st_lpips"],
                    cell,
                )
            )
    table = Table(
        "codecs-curves",
        "Rate and quality of the codecs on the source pictures, no server",
        ("method", "setting", "bpp", "bpp with headers", "PSNR, dB", "ST-LPIPS", "BD-rate"),
        tuple(rows),
        (
            f"Means over at most {MAX_PICTURES} pictures; bpp leaves out what sender and receiver "
            "could agree on once (see the codecs' modules).",
            f"BD-rate: mean rate against {anchor} at equal PSNR, of the mean curves.",
        ),
    )
    return table, (_plot(curves, "psnr", "PSNR, dB"), _plot(curves, "st_lpips", "ST-LPIPS"))


def _mean_points(found: Sequence[dict[str, Any]], method: str) -> list[dict[str, Any]]:
    mine = [one for one in found if one["method"] == method]
    points = []
    for setting in dict.fromkeys(one["setting"] for one in mine):
        group = [one for one in mine if one["setting"] == setting]
        points.append(
            {
                "setting": setting,
                "bpp": float(np.mean([one["bpp"] for one in group])),
                "header": float(np.mean([one["header_bpp"] for one in group])),
                "psnr": mean_psnr(group),
                "st_lpips": mean([one["st_lpips"] for one in group]),
            }
        )
    return points


def _saving(anchor: list[dict[str, Any]], test: list[dict[str, Any]]) -> float | None:
    curves = [[p for p in points if isinstance(p["psnr"], float)] for points in (anchor, test)]
    if min(map(len, curves)) < 2:
        return None
    columns = [[point[key] for point in points] for points in curves for key in ("bpp", "psnr")]
    try:
        return bd_rate(*columns)
    except ConfigError:
        return None


def _plot(curves: dict[str, list[dict[str, Any]]], key: str, label: str) -> Plot:
    series = []
    for name, points in curves.items():
        usable = [point for point in points if isinstance(point[key], float)]
        if usable:
            x, y = [point["bpp"] for point in usable], [point[key] for point in usable]
            series.append(Series(name, x, y))
    return Plot(
        f"codecs-{key.replace('_', '-')}",
        f"Rate against {label.partition(',')[0]}",
        "bits per pixel, without headers",
        label,
        tuple(series),
    )
