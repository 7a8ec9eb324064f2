"""Draws the plots of an evaluation as PNG files, where matplotlib is installed.

It does not know where the numbers come from.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_client.evaluation.tables.results import Plot, Series

SIZE = (7.0, 4.5)
DPI = 120
_MARKERS = "osv^D<>pX"


def draw(plots: Sequence[Plot], folder: Path) -> list[str]:
    """Draw every plot as FOLDER/NAME.png; returns what could not be drawn and why."""
    if not plots:
        return []
    if importlib.util.find_spec("matplotlib") is None:
        return ['no plots: matplotlib is missing, install it with pip install "unimic[bench]"']
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        axes = figure.subplots()
        _fill(axes, plot)
        axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
        axes.grid(alpha=0.3)
        if len(plot.series) > 1:
            axes.legend(fontsize="small")
        figure.savefig(folder / f"{plot.name}.png")
    return []


def _fill(axes: Any, plot: Plot) -> None:
    if plot.kind in ("bar", "stack"):
        _bars(axes, plot)
        return
    for index, series in enumerate(plot.series):
        marker = _MARKERS[index % len(_MARKERS)]
        line = "-" if plot.kind == "line" else ""
        axes.plot(series.x, series.y, marker=marker, linestyle=line, label=series.label)
        if series.low is not None and series.high is not None:
            axes.fill_between(series.x, series.low, series.high, alpha=0.15)


def _bars(axes: Any, plot: Plot) -> None:
    places = list(dict.fromkeys(str(x) for series in plot.series for x in series.x))
    width = 0.8 if plot.kind == "stack" else 0.8 / max(1, len(plot.series))
    bottom = [0.0] * len(places)
    for index, series in enumerate(plot.series):
        heights = _heights(series, places)
        if plot.kind == "stack":
            axes.bar(range(len(places)), heights, width, bottom=bottom, label=series.label)
            bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
        else:
            left = [place - 0.4 + (index + 0.5) * width for place in range(len(places))]
            axes.bar(left, heights, width, label=series.label)
    axes.set_xticks(range(len(places)), places, rotation=20 if len(places) > 4 else 0)


def _heights(series: Series, places: Sequence[str]) -> list[float]:
    known = {str(x): y for x, y in zip(series.x, series.y, strict=True)}
    return [known.get(place, 0.0) for place in places]
