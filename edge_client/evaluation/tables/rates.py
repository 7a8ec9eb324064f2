"""Tables and plots of what interactions cost: bytes by part, bits per pixel, bytes on the wire.

It does not know tasks, and nothing of quality. All bytes are those of messages that were sent,
received and decoded; HTTP's are counted on its connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_client.evaluation.interactions import HTTP, Talk
from edge_client.evaluation.tables.results import Cell, Plot, Series, Table
from edge_client.report import PARTS

COLUMNS = ("", "part", "bytes", "bpp", "uniform, bytes", "uniform, bpp", "saved")
_WAYS = ("up", "down")


def rate_table(name: str, title: str, talks: Sequence[Talk], pixels: int) -> Table:
    """Mean bytes and bits per pixel by direction and part, beside the same under uniform coding.

    Args:
        talks: at least one, of one task.
        pixels: of the source picture (or of the picture that t2i makes).
    """
    rows = [row for way in _WAYS for row in _way_rows(way, talks, pixels)]
    up, down = (_mean(talks, way, "total") for way in _WAYS)
    both = up + down
    text, container = (
        sum(_mean(talks, way, part) for way in _WAYS) for part in ("text", "container")
    )
    uniform = sum(_mean(talks, f"{way}_uniform", "total") for way in _WAYS)
    rows += [
        _row("both", "all", both, pixels, uniform),
        _row("both", "all but text", both - text, pixels),
        _row("both", "all but container", both - container, pixels),
        _row("both", "all but text and container", both - text - container, pixels),
    ]
    rows += _http_rows(talks, pixels)
    notes = (
        f"Means over {len(talks)} interactions; bpp are bits per pixel of {pixels:,} pixels.",
        "HTTP: all that was written to and read from the connection, headers, chunk framing and "
        "progress included, TLS and TCP/IP not.",
    )
    return Table(name, title, COLUMNS, tuple(rows), notes)


def _way_rows(way: str, talks: Sequence[Talk], pixels: int) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for part, label in {**PARTS, "total": "all"}.items():
        size, uniform = _mean(talks, way, part), _mean(talks, f"{way}_uniform", part)
        if size or uniform:
            rows.append(_row(way, label, size, pixels, uniform))
    return rows


def _http_rows(talks: Sequence[Talk], pixels: int) -> list[tuple[Cell, ...]]:
    counted = [talk.bytes[HTTP] for talk in talks if HTTP in talk.bytes]
    if not counted:
        return []
    return [
        _row(way, "HTTP", float(np.mean([one[key] for one in counted])), pixels)
        for way, key in zip(_WAYS, ("sent", "received"), strict=True)
    ]


def _row(
    way: str, part: str, size: float, pixels: int, uniform: float | None = None
) -> tuple[Cell, ...]:
    bpp = size * 8 / pixels
    if uniform is None:
        return way, part, size, bpp, "–", "–", "–"
    saved = f"{1 - size / uniform:.1%}" if uniform else "–"
    return way, part, size, bpp, uniform, uniform * 8 / pixels, saved


def _mean(talks: Sequence[Talk], way: str, part: str) -> float:
    """Mean bytes; `way` is "up", "down", or either with "_uniform" behind it."""
    key = way if way.endswith("_uniform") else f"{way}_parts"
    return float(np.mean([talk.bytes[key].get(part, 0) for talk in talks]))


def scenario_note(talks: Sequence[Talk]) -> str:
    """Which entropy models the messages used, and how often."""
    counts: dict[str, int] = {}
    for talk in talks:
        used: Mapping[str, Any] = talk.bytes["scenarios"]
        for way in _WAYS:
            if used.get(way):
                name = f"{way} {used[way]}"
                counts[name] = counts.get(name, 0) + 1
    listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"Entropy models in use: {listed or 'none'}."


def parts_plot(name: str, title: str, talks: Sequence[Talk]) -> Plot:
    """Mean bytes by part, stacked, for each direction."""
    series = [
        Series(label, _WAYS, [_mean(talks, way, part) for way in _WAYS])
        for part, label in PARTS.items()
    ]
    drawn = tuple(one for one in series if any(one.y))
    return Plot(f"{name}-bytes", f"{title}: bytes by part", "direction", "bytes", drawn, "stack")
