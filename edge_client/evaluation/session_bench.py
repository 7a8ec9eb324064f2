"""Bytes of conversations, counted by a proxy: `python -m edge_client.evaluation.session_bench`.

It starts a server of its own and holds the eight turns of `conversations` about a scene and, where
scikit-image is installed, about its photograph of a cat: as bare frames, over WebSocket, and as
single messages. Every number that the program tells is compared with what the proxy counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from edge_client.client import Interaction
from edge_client.evaluation.conversations import EIGHT_TURNS, hold
from edge_client.evaluation.counting_proxy import CountingProxy
from edge_client.evaluation.data import SAMPLES
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Exchange, SingleMessages, Wishes
from edge_client.pictures.images import load_picture
from edge_client.report import table
from edge_client.session.cost import Cost, TurnCost
from edge_client.spawn import spawned_server
from edge_client.transport.schemes import open_transport
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import InternalError
from shared_protocol.tokens import ImageTokens

BARE, WEBSOCKET = "bare frames", "WebSocket"
LIMITS = {
    ("scene", BARE): (75, 65, 86, 76),
    ("scene", WEBSOCKET): (75, 65, 125, 85),
    ("photograph", BARE): (310, 95, 330, 105),
    ("photograph", WEBSOCKET): (310, 95, 370, 115),
}
"""What was set out to be reached: payload up and down, wire up and down, of all eight turns."""
OPENING = {BARE: (100, 60), WEBSOCKET: (200, 140)}
SECOND = {BARE: 10, WEBSOCKET: 14}
"""A second question about a picture, bytes up."""
PROGRESS = 16
"""Bytes of progress a picture."""


@dataclass(frozen=True)
class Row:
    """One conversation.

    Args:
        what, way: its picture, and what carried it.
        turns: what the program told.
        same: whether its pictures and answers are those of single messages.
    """

    what: str
    way: str
    turns: tuple[TurnCost, ...]
    same: bool

    @property
    def total(self) -> TurnCost:
        """The sum."""
        return Cost(self.turns, self.way).total


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0 if every number is within what was set out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", action="store_true", help="print every turn")
    given = parser.parse_args(words)
    bundle = load_bundle()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with spawned_server(log, flags=("--tcp", "0")) as server:
            web, bare = (urlsplit(url).port or 0 for url in server.urls)
            for what, tokens in sources(bundle).items():
                rows += measured(bundle, what, tokens, web, bare)
    say = sys.stdout.write
    say(_table(rows) + "\n\n")
    if given.turns:
        for row in rows:
            say(f"{row.what}, {row.way}\n{Cost(row.turns, row.way)}\n\n")
    missed = [line for row in rows for line in judged(row)]
    say("\n".join(missed or ["every number is within what was set out to be reached"]) + "\n")
    return 1 if missed else 0


def sources(bundle: Bundle) -> dict[str, ImageTokens]:
    """The pictures, by what they are."""
    height, width = (side * bundle.stride for side in bundle.grid)
    tokenizer = bundle.image_tokenizer()
    scene = load_picture(SAMPLES.parent / "scene1.webp", height, width).pixels
    found = {"scene": tokenizer.tokenize(scene)}
    cat = _cat()
    if cat is not None:
        found["photograph"] = tokenizer.tokenize(load_picture(cat, height, width).pixels)
    return found


def _cat() -> Path | None:
    try:
        from skimage import data
    except ModuleNotFoundError:
        return None
    from PIL import Image

    path = Path(tempfile.gettempdir()) / "unimic-chelsea.png"
    Image.fromarray(np.asarray(data.chelsea())).save(path)
    return path


def measured(bundle: Bundle, what: str, source: ImageTokens, web: int, bare: int) -> list[Row]:
    """The eight turns over each kind of link; progress is asked for as one terminal would."""
    wishes = Wishes(lambda done, total: None, 4)

    def over(scheme: str) -> Callable[[int], Exchange]:
        return lambda port: BestExchange(
            bundle, f"{scheme}://127.0.0.1:{port}", wishes=wishes, timeout=600.0
        )

    posts = _posts(bundle, what, source, web)
    rows = [Row(what, "single messages", tuple(TurnCost.of(done) for done in posts), True)]
    for way, scheme, port in ((BARE, "tcp", bare), (WEBSOCKET, "http", web)):
        done = _counted(bundle, source, port, over(scheme))
        same = [_result(one) for one in done] == [_result(one) for one in posts]
        rows.append(Row(what, way, tuple(TurnCost.of(one) for one in done), same))
    return rows


def _posts(bundle: Bundle, what: str, source: ImageTokens, port: int) -> list[Interaction]:
    with (
        CountingProxy(port) as proxy,
        open_transport(f"http://127.0.0.1:{proxy.port}", None, 600.0) as transport,
    ):
        posts = SingleMessages(bundle, transport, lambda done, total: None)
        return hold(bundle, posts, source, EIGHT_TURNS, after=_Auditor(proxy))


def _counted(
    bundle: Bundle, source: ImageTokens, port: int, make: Callable[[int], Exchange]
) -> list[Interaction]:
    with CountingProxy(port) as proxy:
        exchange = make(proxy.port)
        done = hold(bundle, exchange, source, EIGHT_TURNS, after=_Auditor(proxy))
        exchange.close()  # type: ignore[attr-defined]
    return done


class _Auditor:
    """Compares what every turn tells with what a proxy has counted since the turn before."""

    def __init__(self, proxy: CountingProxy) -> None:
        self._proxy = proxy
        self._seen = (0, 0)

    def __call__(self, done: Interaction) -> None:
        now = self._proxy.counted
        moved = now[0] - self._seen[0], now[1] - self._seen[1]
        self._seen = now
        if moved != (done.wire.sent, done.wire.received):
            told = done.wire.sent, done.wire.received
            raise InternalError(f"{told} bytes were told, the proxy counted {moved}")


def _result(done: Interaction) -> object:
    image = done.response.image
    return done.answer if image is None else image.codes.tobytes()


def judged(row: Row) -> list[str]:
    """What of a row is beyond what was set out, in words."""
    limits = LIMITS.get((row.what, row.way))
    if limits is None:
        return []
    total, opening, second = row.total, OPENING[row.way], row.turns[1]
    most = max(turn.progress for turn in row.turns)
    found = {
        "payload up": (total.payload_up, limits[0]),
        "payload down": (total.payload_down, limits[1]),
        "wire up": (total.wire_up, limits[2]),
        "wire down": (total.wire_down, limits[3]),
        "opening up": (total.opening_up, opening[0]),
        "opening down": (total.opening_down, opening[1]),
        "second question up": (second.wire_up, SECOND[row.way]),
        "progress a picture": (most, PROGRESS),
    }
    lines = [
        f"{row.what}, {row.way}: {name} {value} bytes, set out were {limit}"
        for name, (value, limit) in found.items()
        if value > limit
    ]
    return lines if row.same else [*lines, f"{row.what}, {row.way}: other results than by POST"]


def _table(rows: Sequence[Row]) -> str:
    heading = ["eight turns about a", "by", "payload up", "down", "wire up", "down"]
    heading += ["opening", "2nd question up", "progress", "same results"]
    cells = []
    for row in rows:
        total = row.total
        sizes = (total.payload_up, total.payload_down, total.wire_up, total.wire_down)
        opening = f"{total.opening_up} / {total.opening_down}" if total.opening_up else ""
        second, progress = str(row.turns[1].wire_up), str(total.progress or "")
        same = "yes" if row.same else "NO"
        cells.append([row.what, row.way, *map(str, sizes), opening, second, progress, same])
    return table(heading, cells, left=2)


if __name__ == "__main__":
    sys.exit(main())
