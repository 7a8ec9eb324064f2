"""Tables and plots of cross-modality compression: rates, measures, content, scores and sweeps.

It asks no server. Consistency is measured against the source, picture by picture; perception on
the result alone, or on all results as a set. TOPIQ and its like are CMC-Bench's measures and run
where their weights are; SSIM and sharpness stand in for them under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_client.evaluation.context import Cell, Plot, Series, Table
from edge_client.evaluation.metrics import optional
from edge_client.evaluation.metrics.iqa import iqa, sharpness
from edge_client.evaluation.metrics.opinions import CONTENT, content_mean, overall
from edge_client.evaluation.pixel_loop.cross_modality import CODEC_ALONE, RATIO, STRENGTHS, Plan
from edge_client.evaluation.tables.comparing import (
    fid_cell,
    frechet_cell,
    interval,
    lpips_or_none,
    mean,
    mean_psnr,
    mean_score,
    read_pixels,
)
from edge_client.evaluation.tables.quality import SKIPPED, available
from shared_protocol.tokenizers.image import Pixels

CONSISTENCY = (
    "PSNR, dB",
    "SSIM",
    "ST-LPIPS",
    "LPIPS",
    "CLIPSIM",
    "TOPIQ-FR",
    "AHIQ",
    "DISTS",
    "PieAPP",
)
PERCEPTION = (
    "sharpness",
    "Frechet",
    "FID",
    "TOPIQ-NR",
    "CLIPIQA",
    "LIQE",
    "CNNIQA",
    "DBCNN",
    "HyperIQA",
)
MEASURES = (*CONSISTENCY, *PERCEPTION)
UNSORTED = "all"
"""Kind of content of pictures that lie in no folder called NSI, SCI or AIGI."""
SCALE = 5.0
"""CMC-Bench's scores go from 0 to 5; so do the stand-ins."""


@dataclass(frozen=True, eq=False)
class Group:
    """All pictures of one plan.

    Args:
        plan: how they were made.
        found: their records.
        paths: of the results, as many.
        source: gives the source of a record.
    """

    plan: Plan
    found: Sequence[Mapping[str, Any]]
    paths: Sequence[Path]
    source: Callable[[Mapping[str, Any]], Pixels]
    _known: dict[str, Cell] = field(default_factory=dict)

    @cached_property
    def made(self) -> list[Pixels]:
        """The results."""
        return [read_pixels(path) for path in self.paths]

    @cached_property
    def sources(self) -> list[Pixels]:
        """What they are compared with."""
        return [self.source(one) for one in self.found]

    def measure(self, name: str) -> Cell:
        """One of `MEASURES` over the group, computed once."""
        if name not in self._known:
            self._known[name] = self._measured(name)
        return self._known[name]

    def _measured(self, name: str) -> Cell:
        recorded = {"SSIM": "ssim", "ST-LPIPS": "st_lpips"}
        if name in recorded:
            return mean_score(self.found, recorded[name])
        measures: dict[str, Callable[[], Cell]] = {
            "PSNR, dB": lambda: mean_psnr(self.found),
            "LPIPS": lambda: lpips_or_none(list(zip(self.made, self.sources, strict=True))),
            "CLIPSIM": lambda: optional.clip_i(self.made, self.sources),
            "sharpness": lambda: available(lambda: mean([sharpness(p) for p in self.made])),
            "Frechet": lambda: frechet_cell(self.made, self.sources),
            "FID": lambda: fid_cell(self.made, self.sources),
        }
        if name in measures:
            return measures[name]()
        return iqa(name, self.made, self.sources)

    def of_kind(self, kind: str) -> Group:
        """The part of the group with one kind of content."""
        places = [n for n, one in enumerate(self.found) if one["kind"] == kind]
        found, paths = [self.found[n] for n in places], [self.paths[n] for n in places]
        return Group(self.plan, found, paths, self.source)

    @property
    def kinds(self) -> list[str]:
        """Of content, in the paper's order."""
        there = {str(one["kind"]) for one in self.found}
        return [kind for kind in (*CONTENT, UNSORTED) if kind in there]

    @property
    def bytes(self) -> float:
        """Mean bytes of a picture."""
        return mean(float(one["bytes"]) for one in self.found) or 0.0

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        pixels = self.found[0]["pixels"]
        return self.bytes * 8 / float(pixels)


Groups = Sequence[Group]


def rate_table(groups: Groups, codec: str) -> Table:
    """What travels, and what it takes."""
    return Table(
        "cmc",
        "Bytes, consistency and perception by mode",
        (
            "mode",
            "strength",
            "pictures",
            "text bytes",
            "text as Brotli characters, bytes",
            "asked for the caption, bytes",
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
        tuple(_rate_row(group) for group in groups),
        (
            f"The pixel codec is {codec}, set near 1:{RATIO:,} for each picture or to a QP; its "
            "headers, which could be agreed on once, are not counted. Everything else is.",
            "text bytes: ids as they travel; as Brotli characters: the same text as the paper "
            "counts it, which does not travel; asked for the caption: a sender without a model of "
            "its own sends the picture's tokens to the server first, which is not in bpp.",
            "encode includes the caption, decode the generation.",
        ),
    )


def _rate_row(group: Group) -> tuple[Cell, ...]:
    found = group.found
    numbers = [one["psnr"] for one in found if one["psnr"] is not None]
    size = group.bytes
    return (
        group.plan.name,
        group.plan.drawn if group.plan.mode in STRENGTHS else SKIPPED,
        len(found),
        *(
            mean(float(one[name]) for one in found)
            for name in ("text_bytes", "characters", "asked", "picture_bytes")
        ),
        group.bpp,
        found[0]["pixels"] * 3 / size if size else SKIPPED,
        group.measure("PSNR, dB"),
        interval(numbers),
        group.measure("SSIM"),
        group.measure("ST-LPIPS"),
        group.measure("CLIPSIM"),
        group.measure("Frechet"),
        mean(one["encode_seconds"] for one in found),
        mean(one["decode_seconds"] for one in found),
    )


def measure_table(groups: Groups) -> Table:
    """Every measure of every plan (Table A1 and Figs. 7, A4 to A7 in numbers)."""
    rows = tuple((group.plan.name, *(group.measure(name) for name in MEASURES)) for group in groups)
    return Table(
        "cmc-measures",
        "Consistency with the source, and perception",
        ("mode", *MEASURES),
        rows,
        (
            "sharpness: one less the blur that scikit-image finds; it stands in for measures of a "
            "picture alone where their weights are missing, and is none of them.",
            "Measures of pyiqa bear the scale of its weights, which were not tuned on CMC-Bench's "
            "ratings as the paper's were.",
        ),
    )


def improvement_table(groups: Groups) -> Table | None:
    """What drawing anew adds to the codec's picture at each QP (Table A1); None without any QP."""
    alone = {group.plan.qp: group for group in groups if group.plan.mode == CODEC_ALONE}
    rows: list[tuple[Cell, ...]] = []
    for group in groups:
        qp = group.plan.qp
        if group.plan.mode == "full" and qp is not None and qp in alone:
            pair = alone[qp], group
            for name, one in zip(("codec", "full mode"), pair, strict=True):
                rows.append((f"QP {qp}", name, *(one.measure(m) for m in MEASURES)))
            rows.append((f"QP {qp}", "improves by", *(_gain(*pair, m) for m in MEASURES)))
    title = "The codec's picture, and what the full mode makes of it"
    if not rows:
        return None
    note = "Improvement as a share of the codec's value, so that more is better for every measure."
    return Table("cmc-qp", title, ("quality", "picture", *MEASURES), tuple(rows), (note,))


_LESS_IS_BETTER = ("ST-LPIPS", "LPIPS", "DISTS", "PieAPP", "Frechet", "FID")


def _gain(before: Group, after: Group, name: str) -> Cell:
    first, second = before.measure(name), after.measure(name)
    if first is None or second is None:
        return None
    if isinstance(first, str) or isinstance(second, str) or not first:
        return SKIPPED
    change = (second - first) / abs(first)
    return f"{-change if name in _LESS_IS_BETTER else change:+.1%}"


# ------------------------------------------------------------------------------------------------
# Pairs of models: content and score
# ------------------------------------------------------------------------------------------------

INDICATORS = (("TOPIQ-FR", "TOPIQ-NR", 1.0), ("SSIM", "sharpness", SCALE))
"""FR measure, NR measure and what brings them to a scale from 0 to 5: the paper's, the stand-in."""
BITRATES = {
    "ultra-low: full, image": ("full", "image"),
    "extremely low: pixel, text": ("pixel", "text"),
    "without the image mode": ("full", "pixel", "text"),
}
"""The paper's Table 3, Table 4, and how describing models are ranked (Table 5)."""


def content_table(groups: Groups) -> Table:
    """Consistency and perception by pair of models, mode and kind of content (Tables 3 to 5)."""
    rows: list[tuple[Cell, ...]] = []
    for group in groups:
        for kind in group.kinds:
            part = group.of_kind(kind)
            values = [part.measure(n) for fr, nr, _ in INDICATORS for n in (fr, nr)]
            rows.append((*_pair(group.plan), group.plan.mode, kind, len(part.found), *values))
    names = tuple(name for fr, nr, _ in INDICATORS for name in (fr, nr))
    columns = ("describes", "paints", "mode", "content", "pictures", *names)
    note = f"Content by folder: {', '.join(CONTENT)}; '{UNSORTED}' lies in none of them."
    return Table("cmc-content", "By model and content", columns, tuple(rows), (note,))


def score_table(groups: Groups) -> Table:
    """The overall score of each pair of models at each bitrate."""
    rows: list[tuple[Cell, ...]] = []
    for pair in dict.fromkeys(_pair(group.plan) for group in groups):
        for label, modes in BITRATES.items():
            mine = [group for group in groups if _pair(group.plan) == pair]
            chosen = [group for mode in modes for group in mine if group.plan.mode == mode]
            if len(chosen) == len(modes):
                rows.append((*pair, label, *(_score(chosen, *names) for names in INDICATORS)))
    return Table(
        "cmc-score",
        "Scores of pairs of models",
        ("describes", "paints", "bitrate", "overall score", "SSIM and sharpness"),
        tuple(rows),
        (
            "Of each mode twice the consistency and once the perception, over their number; "
            "content weighs NSI 0.4, SCI 0.3, AIGI 0.3, of those that are there.",
            "overall score: by TOPIQ-FR and TOPIQ-NR. SSIM and sharpness, times 5, is a stand-in "
            "and no score of CMC-Bench.",
        ),
    )


def _pair(plan: Plan) -> tuple[str, str]:
    return plan.i2t, plan.t2i


def _score(groups: Groups, consistency: str, perception: str, scale: float) -> Cell:
    rows: list[list[float]] = []
    for name in (consistency, perception):
        values = [_content(group, name) for group in groups]
        if any(not isinstance(value, (int, float)) for value in values):
            return None
        rows.append([scale * float(value) for value in values if value is not None])
    return overall(*rows)


def _content(group: Group, name: str) -> float | None:
    parts = {kind: group.of_kind(kind).measure(name) for kind in group.kinds}
    numbers = {kind: float(v) for kind, v in parts.items() if isinstance(v, (int, float))}
    if len(numbers) != len(parts):
        return None
    known = {kind: value for kind, value in numbers.items() if kind in CONTENT}
    return content_mean(known) if known else content_mean(numbers, {UNSORTED: 1.0})


# ------------------------------------------------------------------------------------------------
# Plots
# ------------------------------------------------------------------------------------------------


def rate_plots(groups: Groups) -> list[Plot]:
    """Every measure that has numbers against the rate (Fig. 7)."""
    plots = []
    for name in MEASURES:
        series = []
        for mode in dict.fromkeys(group.plan.mode for group in groups):
            points = [
                (group.bpp, value)
                for group in groups
                if group.plan.mode == mode and isinstance(value := group.measure(name), float)
            ]
            if points:
                series.append(Series(mode, *map(list, zip(*sorted(points), strict=True))))
        if series:
            label = _slug(name)
            plots.append(
                Plot(f"cmc-rate-{label}", f"{name} by rate", "bpp", name, tuple(series), "scatter")
            )
    return plots


def sweep_plots(groups: Groups, name: str, value: Callable[[Plan], float | None]) -> list[Plot]:
    """Every measure that has numbers, across one setting (Figs. A4 to A7).

    Args:
        groups: those that were made for the sweep.
        name: of the setting.
        value: of the setting in a plan; None = the plan does not belong to the sweep.
    """
    plots = []
    for measure in MEASURES:
        series = []
        for mode in dict.fromkeys(group.plan.mode for group in groups):
            points = [
                (x, y)
                for group in groups
                if group.plan.mode == mode
                and (x := value(group.plan)) is not None
                and isinstance(y := group.measure(measure), float)
            ]
            if len(points) > 1:
                series.append(Series(mode, *map(list, zip(*sorted(points), strict=True))))
        if series:
            title = f"{measure} by {name}"
            plots.append(
                Plot(f"cmc-{_slug(name)}-{_slug(measure)}", title, name, measure, tuple(series))
            )
    return plots


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
