"""`cmc`: the four modes of CMC-Bench (cross-modality compression), with the server or other models.

Pairs of a model that describes and one that paints are tried with a fixed partner each, as the
paper does: the first that is named. The first pair is also tried at other strengths, lengths of
text and quantisers, where those are given.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_client.evaluation.baselines import baselines
from edge_client.evaluation.codecs import PixelCodec, available, find_codec
from edge_client.evaluation.context import Context, Plot, Section, Series, Tile
from edge_client.evaluation.metrics.opinions import CONTENT
from edge_client.evaluation.pixel_loop.cmc_models import (
    FILE,
    SERVER,
    CaptionCommand,
    Captioner,
    CaptionFile,
    PaintCommand,
    Painter,
    Server,
    read_captions,
)
from edge_client.evaluation.pixel_loop.cross_modality import (
    CODEC_ALONE,
    MODES,
    SAID,
    STRENGTHS,
    CrossModality,
    Plan,
)
from edge_client.evaluation.tables.cmc_tables import (
    UNSORTED,
    Group,
    content_table,
    improvement_table,
    measure_table,
    rate_plots,
    rate_table,
    score_table,
    sweep_plots,
)
from edge_client.evaluation.tables.comparing import flat_name, scores, ssim_or_none
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
        UnimicError: the server, the data or a model cannot be used.
    """
    codec = _first(context, names)
    sweeps = _sweeps(context, *_names(context))
    groups = _measure(context, codec, _plans(context, sweeps))
    if not groups:
        raise ConfigError(f"{context.data.folder} holds no pictures", "name other data")
    usual = [group for group in groups if group.plan == _usual(group.plan)]
    improved = improvement_table(groups)
    return Section(
        NAME,
        "Cross-modality compression (the modes of CMC-Bench)",
        (
            rate_table(groups, codec.name),
            measure_table(groups),
            *([improved] if improved else []),
            content_table([group for group in usual if group.plan.mode in STRENGTHS]),
            score_table(usual),
        ),
        (_plot(groups), *rate_plots(groups), *_sweep_plots(groups, sweeps)),
        _examples(context, groups),
    )


def _first(context: Context, names: Sequence[str]) -> PixelCodec:
    baselines(context, (), CODECS)  # the run's own codecs can be found from here on
    wanted = names or context.codecs or CODECS
    for name in wanted:
        if available(name):
            return find_codec(name)
    raise ConfigError(
        f"none of {', '.join(wanted)} is available here",
        "install the extra: pip install -c docker/constraints.txt '.[bench]'",
    )


# ------------------------------------------------------------------------------------------------
# What is tried
# ------------------------------------------------------------------------------------------------


def _names(context: Context) -> tuple[list[str], list[str]]:
    """Who describes and who paints, the fixed partners first; the server is always among them."""
    given = context.cmc
    captioners = [FILE] if given.captions else []
    captioners += [name for name, _ in given.i2t]
    return [*captioners, SERVER], [*(name for name, _ in given.t2i), SERVER]


def _usual(plan: Plan) -> Plan:
    """The same pair and mode at the mode's own settings."""
    return Plan(plan.mode, plan.i2t, plan.t2i)


def _plans(context: Context, sweeps: dict[str, list[Plan]]) -> list[Plan]:
    captioners, painters = _names(context)
    first = captioners[0], painters[0]
    plans = [Plan(mode, *first) for mode in MODES]
    plans += [Plan(mode, name, first[1]) for name in captioners[1:] for mode in SAID]
    plans += [Plan(mode, first[0], name) for name in painters[1:] for mode in STRENGTHS]
    return list(dict.fromkeys([*plans, *(plan for sweep in sweeps.values() for plan in sweep)]))


def _sweeps(
    context: Context, captioners: Sequence[str], painters: Sequence[str]
) -> dict[str, list[Plan]]:
    """Setting -> the plans that differ in it, of the first pair."""
    given, first = context.cmc, (captioners[0], painters[0])
    quantisers = [qp for qp in context.qp if isinstance(qp, int)]
    return {
        "strength": [
            Plan(mode, *first, strength=strength)
            for mode in ("pixel", "image", "full")
            for strength in given.strengths
        ],
        "words": [Plan(mode, *first, words=n) for mode in ("text", "full") for n in given.words],
        "QP": [Plan(mode, *first, qp=qp) for mode in ("full", CODEC_ALONE) for qp in quantisers],
    }


@contextmanager
def _models(
    context: Context,
) -> Iterator[tuple[dict[str, Captioner], dict[str, Painter]]]:
    given = context.cmc
    with context.transport() as transport:
        server = Server(context.bundle, transport, context.options())
        captioners: dict[str, Captioner] = {
            name: CaptionCommand(command, context.timeout) for name, command in given.i2t
        }
        if given.captions is not None:
            captioners[FILE] = CaptionFile(given.captions)
        painters: dict[str, Painter] = {
            name: PaintCommand(command, context.options().seed, context.timeout)
            for name, command in given.t2i
        }
        yield {**captioners, SERVER: server}, {**painters, SERVER: server}


# ------------------------------------------------------------------------------------------------
# Measuring
# ------------------------------------------------------------------------------------------------


def _measure(context: Context, codec: PixelCodec, plans: Sequence[Plan]) -> list[Group]:
    records = context.records(NAME)
    paths = {flat_name(path, context.data.folder): path for path in context.pictures()}
    found: dict[Plan, list[dict[str, Any]]] = {plan: [] for plan in plans}
    digests = {plan: _digest(context, plan) for plan in plans}
    with _models(context) as models:
        modes = CrossModality(context.bundle, codec, *models)
        for name in context.track(list(paths), NAME):
            for plan in plans:
                key = f"{name}/{plan.name}/{codec.name}{digests[plan]}"
                if "asked" not in (records.get(key) or {}):  # older ones tell less
                    made = _record(context, modes, paths[name], plan)
                    records.add({"id": key, "picture": name, "mode": plan.name, **made})
                found[plan].append(records[key])

    def source(one: Any) -> Pixels:
        return _source(context, paths[str(one["picture"])])

    return [
        Group(plan, mine, [_picture(context, plan, one["picture"]) for one in mine], source)
        for plan, mine in found.items()
        if mine
    ]


def _digest(context: Context, plan: Plan) -> str:
    """What tells results of a plan from those of other commands or captions under its name."""
    given = context.cmc
    told = dict(given.i2t).get(plan.i2t, "") if plan.mode in SAID else ""
    if plan.i2t == FILE and plan.mode in SAID and given.captions is not None:
        told = read_captions(given.captions)
    drawn = dict(given.t2i).get(plan.t2i, "") if plan.mode in STRENGTHS else ""
    if not told and not drawn:
        return ""
    return "/" + hashlib.sha256(f"{told}\0{drawn}".encode()).hexdigest()[:8]


def _source(context: Context, path: Path) -> Pixels:
    height, width = context.picture_size
    return load_picture(path, height, width).pixels


def _record(context: Context, modes: CrossModality, path: Path, plan: Plan) -> dict[str, Any]:
    source, name = _source(context, path), path.relative_to(context.data.folder).as_posix()
    sent = modes.compress(source, plan, name)
    start = time.perf_counter()
    made = modes.restore(sent, *source.shape[:2])
    seconds = time.perf_counter() - start
    target = _picture(context, plan, flat_name(path, context.data.folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    save_picture(target, made)
    return {
        "kind": kind_of(path.relative_to(context.data.folder)),
        "pixels": source.shape[0] * source.shape[1],
        "text_bytes": len(sent.text),
        "characters": sent.characters,
        "asked": sent.asked,
        "picture_bytes": len(sent.picture) - sent.header_bytes,
        "header_bytes": sent.header_bytes,
        "bytes": sent.total,
        "encode_seconds": round(sent.seconds, 4),
        "decode_seconds": round(seconds, 4),
        "ssim": ssim_or_none(made, source),
        **scores(made, source),
    }


def kind_of(path: Path) -> str:
    """The kind of content, by the folder that a picture lies in.

    >>> kind_of(Path("test/sci/a.png")), kind_of(Path("a.png"))
    ('SCI', 'all')
    """
    found = [part.upper() for part in path.parts[:-1] if part.upper() in CONTENT]
    return found[-1] if found else UNSORTED


def _picture(context: Context, plan: Plan, name: str) -> Path:
    folder = plan.name.replace(", ", "_").replace(" ", "-").replace("/", "-")
    return context.folder(NAME) / "pictures" / folder / f"{name}.png"


# ------------------------------------------------------------------------------------------------
# Plots and examples
# ------------------------------------------------------------------------------------------------


def _sweep_plots(groups: Sequence[Group], sweeps: dict[str, list[Plan]]) -> list[Plot]:
    plots = []
    for name, plans in sweeps.items():
        mine = [group for group in groups if group.plan in plans]
        plots += sweep_plots(mine, name, lambda plan, name=name: _setting(plan, name))  # type: ignore[misc]
    return plots


def _setting(plan: Plan, name: str) -> float | None:
    if name == "QP":
        return None if plan.qp is None else float(plan.qp)
    return plan.strength if name == "strength" else float(plan.words)


def _plot(groups: Sequence[Group]) -> Plot:
    series = []
    for group in groups:
        mine = [one for one in group.found if one["psnr"] is not None]
        if mine:
            sizes, quality = [one["bytes"] for one in mine], [one["psnr"] for one in mine]
            series.append(Series(group.plan.name, sizes, quality))
    title = "Consistency of each picture by mode"
    return Plot(f"{NAME}-psnr", title, "bytes", "PSNR, dB", tuple(series), "scatter")


def _examples(context: Context, groups: Sequence[Group]) -> tuple[tuple[Tile, ...], ...]:
    """The first pictures in every mode (Figs. A11 to A17)."""
    usual = [group for group in groups if group.plan == _usual(group.plan)]
    rows = []
    for name in list(dict.fromkeys(one["picture"] for one in groups[0].found))[:EXAMPLES]:
        tiles = []
        for group in usual:
            for one in group.found:
                if one["picture"] == name:
                    caption = f"{name}, {group.plan.name}: {one['bytes']} B"
                    tiles.append(Tile(_picture(context, group.plan, name), caption))
        rows.append(tuple(tiles))
    return tuple(rows)
