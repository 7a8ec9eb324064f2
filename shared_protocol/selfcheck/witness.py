"""constriction's range coder on the same symbols: an independent witness of stream lengths.

It does not know messages, and no stream of it ever travels. Two coders that share no line and are
fed the same tables must need the same number of bytes, up to the whole 32-bit words in which
constriction writes. Why it is the witness and not the production coder is in
`shared_protocol/notes/range_coder.md`. constriction is part of the extras [bench] and [dev].

`python -m shared_protocol.selfcheck.witness` compares lengths and times on fixed sequences.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.range_coder import RangeDecoder
from shared_protocol.entropy.coder import write_stream
from shared_protocol.errors import ConfigError
from shared_protocol.selfcheck.probes import probe
from shared_protocol.tokens import Codes

if TYPE_CHECKING:
    from shared_protocol.entropy.engine import Engine
    from shared_protocol.entropy.scenarios import Layout

T = TypeVar("T")

NATIVE = (16, 16)
"""Rows and columns of the sequences that `main` compares."""
WORD_BYTES = 4
"""constriction writes whole words."""
LUCK_BYTES = 2
"""Our stream is the shortest that names its interval, which may by chance be shorter than the ideal
length: by a byte once in a few hundred streams, by two once in 65,000."""
MISSING = "constriction, the independent coder, is not installed", "install unimic[bench]"
SHARE = 0.001
"""Difference in length that its 24-bit probabilities may make, as a share."""


def is_available() -> bool:
    """Whether constriction is installed."""
    return importlib.util.find_spec("constriction") is not None


def _library() -> Any:
    """constriction; raises `ConfigError` where it is not installed."""
    try:
        import constriction
    except ImportError as error:
        raise ConfigError(*MISSING) from error
    return constriction


def encode(symbols: Iterable[int], tables: Iterable[Sequence[int]]) -> bytes:
    """Symbols through constriction.

    Args:
        symbols: N symbols.
        tables: N rows of integer frequencies, of any length and any sum. constriction rounds them
            to 24 bits; where the sum is a power of two nothing is lost.

    Returns:
        Its stream of whole 32-bit words.
    """
    constriction = _library()
    coder = constriction.stream.queue.RangeEncoder()
    for symbol, table in zip(symbols, tables, strict=True):
        coder.encode(int(symbol), _categorical(table))
    return np.asarray(coder.get_compressed(), dtype="<u4").tobytes()


def decode(data: bytes, tables: Iterable[Sequence[int]]) -> list[int]:
    """The symbols that `encode` coded with the same tables."""
    constriction = _library()
    words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
    coder = constriction.stream.queue.RangeDecoder(words)
    return [int(coder.decode(_categorical(table))) for table in tables]


def stream_bytes(intervals: npt.NDArray[np.int64]) -> int:
    """Bytes of constriction's stream of the same symbols.

    Args:
        intervals: (…, 3) start, frequency and total of each symbol, as `EntropyModels.intervals`
            gives them. What lies before a symbol and what lies after it are coded as one
            alternative each: the length depends on the symbol's own share only.
    """
    rows = intervals.reshape(-1, 3).tolist()
    tables = [[start, size, total - start - size] for start, size, total in rows]
    symbols = [1 if table[0] else 0 for table in tables]
    return len(encode(symbols, [[part for part in table if part] for table in tables]))


def agrees(ours: int, theirs: int) -> bool:
    """Whether two lengths in bytes are those of the same symbols.

    >>> agrees(200, 204), agrees(200, 210)
    (True, False)
    """
    return abs(ours - theirs) <= WORD_BYTES + LUCK_BYTES + SHARE * theirs


def _categorical(table: Sequence[int]) -> Any:
    constriction = _library()
    shares = np.asarray(table, dtype=np.float64)
    if len(shares) == 1:  # nothing to tell apart; it wants two symbols at least
        shares = np.append(shares, 0.0)
    return constriction.stream.model.Categorical(shares / shares.sum(), perfect=False)


@dataclass
class _Totals:
    """Bytes and seconds of both coders on the sequences of one model."""

    symbols: int = 0
    ours: int = 0
    theirs: int = 0
    same: bool = True
    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], T]) -> T:
        """Do the work and add its time."""
        began = time.perf_counter()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
        return result

    def add(self, engine: Engine, plan: Layout, codes: Codes) -> None:
        """Code one sequence with both coders, there and back."""
        (intervals,) = engine.intervals([plan], [codes])
        ((high, low),) = engine.tables([plan], [codes])
        tables = [row for pair in zip(high.tolist(), low.tolist(), strict=True) for row in pair]
        symbols = [part for code in codes.tolist() for part in divmod(code, low.shape[1])]
        ours = self.time("encoding", lambda: write_stream(intervals))
        self.time("decoding", lambda: _follow(ours, intervals))
        theirs = self.time("constriction encoding", lambda: encode(symbols, tables))
        again = self.time("constriction decoding", lambda: decode(theirs, tables))
        self.same = self.same and again == symbols and agrees(len(ours), len(theirs))
        self.symbols += len(symbols)
        self.ours += len(ours)
        self.theirs += len(theirs)

    def __str__(self) -> str:
        times = ", ".join(f"{n} {1e6 * s / self.symbols:.2f}" for n, s in self.seconds.items())
        return (
            f"{self.symbols} symbols: {self.ours} bytes, constriction {self.theirs}; "
            f"microseconds a symbol: {times}"
        )


def _follow(data: bytes, intervals: npt.NDArray[np.int64]) -> None:
    """Read a stream of known symbols to its end; raises `BadMessageError` if it is another's."""
    decoder = RangeDecoder(data)
    for start, size, total in intervals.reshape(-1, 3).tolist():
        decoder.target(total)
        decoder.advance(start, size, total)
    decoder.finish()


def main(argv: Sequence[str] | None = None) -> int:
    """Print lengths and times of both coders; 1 if a length or a symbol differs."""
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.entropy.scenarios import layout

    parser = argparse.ArgumentParser(prog="python -m shared_protocol.selfcheck.witness")
    parser.add_argument("--sequences", type=int, default=20, help="of each model [%(default)s]")
    parser.add_argument("--bundle", default="builtin", help="name or folder of a bundle")
    given = parser.parse_args(argv)
    if not is_available():
        parser.error("; ".join(MISSING))
    models = load_bundle(given.bundle).entropy
    good = True
    for scenario in models.available():
        engine, totals = models.engine(scenario), _Totals()
        c = engine.config
        for number in range(given.sequences):
            codes, context = probe(number, NATIVE, c.codebook_size, c.text_size, c.text_limit)
            totals.add(engine, layout(scenario, context, c), codes)
        sys.stdout.write(f"{scenario.slug:<16} {totals}\n")
        good = good and totals.same
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
