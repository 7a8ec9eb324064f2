"""`cmc`: the four modes of CMC-Bench (cross-modality compression), with the same server.

Consistency is measured against the source, picture by picture; perception by the distance of the
results from the sources as sets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_client.evaluation.codecs import PixelCodec, available, find_codec
from edge_client.evaluation.context import (
    Cell,
    Context,
    Plot,
    Section,
    Series,
    Table,
    Tile,
)
from edge_client.evaluation.metrics.optional import clip_i
from edge_client.evaluation.pixel_loop.cross_modality import MODES, RATIO, STRENGTHS, CrossModality
from edge_client.evaluation.tables.comparing import (
    flat_name,
    frechet_cell,
    interval,
    mean,
    mean_psnr,
    mean_score,
    read_pixels,
    scores,
    ssim_or_none,
)
from edge_client.evaluation.tables.quality import SKIPPED
from edge_client.pictures.images import load_picture
from edge_client.pictures.outputs import save_picture
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.image import Pixels

NAME = "cmc"
CODECS = ("vvc", "hevc", "avif", "webp", "jpeg")
"""The first that runs here codes the pictures; the paper's is VVC."""
EXAMPLES = 4


def run(context: Context, names: Sequence[str] = ()) -> Section:
    """Measure what is missing and summarise.

    Args:
        context: see `Context`.
        names: codecs in order of preference; empty = those of the context, or `CODECS`.

    Raises:
        ConfigError: none of the codecs runs here.
        UnimicError: the server or the data cannot be used.
    """
    codec = _first(names or context.codecs or CODECS)
    found = _measure(context, codec)
    table = _table(context, found, codec)
    return Section(
        NAME,
        "Cross-modality compression (the modes of CMC-Bench)",
        (table,) if found else (),
        (_plot(found),) if found else (),
        _examples(context, found),
        (
            "CLIPIQA, LIQE and TOPIQ, further measures of CMC-Bench, are not available here: no "
            "package brings their weights.",
        ),
    )


def _first(names: Sequence[str]) -> PixelCodec:
    for name in names:
        if available(name):
            return find_codec(name)
    raise ConfigError(
        f"none of {', '.join(names)} is available here",
        "install the extra: pip install -c docker/constraints.txt '.[bench]'",
    )


def _measure(context: Context, codec: PixelCodec) -> list[dict[str, Any]]:
    records, found = context.records(NAME), []
    with context.transport() as transport:
        modes = CrossModality(context.bundle, transport, codec, context.options())
        for path in context.track(context.pictures(), NAME):
            source, name = _source(context, path), flat_name(path, context.data.folder)
            for mode in MODES:
                key = f"{name}/{mode}/{codec.name}"
                if key not in records:
                    records.add(_record(context, modes, name, source, mode, key))
                found.append(records[key])
    return found


def _source(context: Context, path: Path) -> Pixels:
    height, width = context.picture_size
    return load_picture(path, height, width).pixels


def _record(
    context: Context, modes: CrossModality, name: str, source: Pixels, mode: str, key: str
) -> dict[str, Any]:
    sent = modes.compress(source, mode)
    start = time.perf_counter()
    made = modes.restore(sent, *source.shape[:2])
    seconds = time.perf_counter() - start
    target = _picture(context, mode, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_picture(target, made)
    return {
        "id": key,
        "picture": name,
        "mode": mode,
        "text_bytes": len(sent.text),
        "picture_bytes": len(sent.picture) - sent.header_bytes,
        "header_bytes": sent.header_bytes,
        "bytes": sent.total,
        "ratio": source.size / sent.total,
        "encode_seconds": round(sent.seconds, 4),
        "decode_seconds": round(seconds, 4),
        "ssim": ssim_or_none(made, source),
        **scores(made, source),
    }


def _picture(context: Context, mode: str, name: str) -> Path:
    return context.folder(NAME) / "pictures" / mode.replace(" ", "-") / f"{name}.png"


def _table(context: Context, found: Sequence[dict[str, Any]], codec: PixelCodec) -> Table:
    rows = [_row(context, mode, _of(found, mode)) for mode in MODES]
    return Table(
        NAME,
        "Bytes, consistency and perception by mode",
        (
            "mode",
            "strength",
            "pictures",
            "text bytes",
            "picture bytes",
            "bpp",
            "compression, 1 to",
            "PSNR, dB",
            "95 % interval",
            "SSIM",
            "ST-LPIPS",
            "CLIP-I",
            "Frechet",
            "encode, s",
            "decode, s",
        ),
        tuple(rows),
        (
            f"The pixel codec is {codec.name}, set near 1:{RATIO:,} for each picture; its headers, "
            "which could be agreed on once, are not counted. Everything else is.",
            "Consistency with the source: PSNR, SSIM, ST-LPIPS, CLIP-I. Perception: Frechet, the "
            "distance of EfficientNet-Lite0 features of all results from those of the sources.",
            "encode includes the server's caption, decode the server's generation.",
        ),
    )


def _of(found: Sequence[dict[str, Any]], mode: str) -> list[dict[str, Any]]:
    return [one for one in found if one["mode"] == mode]


def _row(context: Context, mode: str, found: Sequence[dict[str, Any]]) -> tuple[Cell, ...]:
    height, width = context.picture_size
    paths = {flat_name(path, context.data.folder): path for path in context.pictures()}
    sources = [_source(context, paths[one["picture"]]) for one in found]
    made = [read_pixels(_picture(context, mode, one["picture"])) for one in found]
    numbers = [one["psnr"] for one in found if one["psnr"] is not None]
    size = mean(float(one["bytes"]) for one in found) or 0.0
    return (
        mode,
        STRENGTHS.get(mode, SKIPPED),
        len(found),
        mean(float(one["text_bytes"]) for one in found),
        mean(float(one["picture_bytes"]) for one in found),
        size * 8 / (height * width),
        height * width * 3 / size if size else SKIPPED,
        mean_psnr(found),
        interval(numbers),
        mean_score(found, "ssim"),
        mean_score(found, "st_lpips"),
        clip_i(made, sources),
        frechet_cell(made, sources),
        mean(one["encode_seconds"] for one in found),
        mean(one["decode_seconds"] for one in found),
    )


def _plot(found: Sequence[dict[str, Any]]) -> Plot:
    series = []
    for mode in MODES:
        mine = [one for one in _of(found, mode) if one["psnr"] is not None]
        if mine:
            sizes, quality = [one["bytes"] for one in mine], [one["psnr"] for one in mine]
            series.append(Series(mode, sizes, quality))
    title = "Consistency of each picture by mode"
    return Plot(f"{NAME}-psnr", title, "bytes", "PSNR, dB", tuple(series), "scatter")


def _examples(context: Context, found: Sequence[dict[str, Any]]) -> tuple[tuple[Tile, ...], ...]:
    rows = []
    for name in list(dict.fromkeys(one["picture"] for one in found))[:EXAMPLES]:
        mine = [one for one in found if one["picture"] == name]
        rows.append(
            tuple(
                Tile(
                    _picture(context, one["mode"], name),
                    f"{name}, {one['mode']}: {one['bytes']} B",
                )
                for one in mine
            )
        )
    return tuple(rows)
