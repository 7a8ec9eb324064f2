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
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

NATIVE = (16, 16)
"""Rows and columns of the sequences that `main` compares."""
WORD_BYTES = 4
"""constriction writes whole words."""
SHARE = 0.001
"""Difference in length that its 24-bit probabilities may make, as a share."""


def is_available() -> bool:
    """Whether constriction is installed."""
    return importlib.util.find_spec("constriction") is not None


def encode(symbols: Iterable[int], tables: Iterable[Sequence[int]]) -> bytes:
    """Symbols through constriction.

    Args:
        symbols: N symbols.
        tables: N rows of integer frequencies, of any length and any sum. constriction rounds them
            to 24 bits; where the sum is a power of two nothing is lost.

    Returns:
        Its stream of whole 32-bit words.
    """
    import constriction

    coder = constriction.stream.queue.RangeEncoder()
    for symbol, table in zip(symbols, tables, strict=True):
        coder.encode(int(symbol), _categorical(table))
    return np.asarray(coder.get_compressed(), dtype="<u4").tobytes()


def decode(data: bytes, tables: Iterable[Sequence[int]]) -> list[int]:
    """The symbols that `encode` coded with the same tables."""
    import constriction

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
    return abs(ours - theirs) <= WORD_BYTES + SHARE * theirs


def _categorical(table: Sequence[int]) -> Any:
    import constriction

    shares = np.asarray(table, dtype=np.float64)
    if len(shares) == 1:  # nothing to tell apart; it wants two symbols at least
        shares = np.append(shares, 0.0)
    return constriction.stream.model.Categorical(shares / shares.sum(), perfect=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Print lengths and times of both coders; 1 if a length or a symbol differs."""
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.coding.range_coder import RangeDecoder
    from shared_protocol.entropy.coder import write_stream
    from shared_protocol.entropy.scenarios import layout
    from shared_protocol.selfcheck.probes import probe

    parser = argparse.ArgumentParser(prog="python -m shared_protocol.selfcheck.witness")
    parser.add_argument("--sequences", type=int, default=20, help="of each model [%(default)s]")
    parser.add_argument("--bundle", default="builtin", help="name or folder of a bundle")
    given = parser.parse_args(argv)
    models = load_bundle(given.bundle).entropy
    good = True
    for scenario in models.available():
        engine = models.engine(scenario)
        coded = witness = symbols = 0
        spent = {"our encoder": 0.0, "our decoder": 0.0, "its encoder": 0.0, "its decoder": 0.0}
        for number in range(given.sequences):
            c = engine.config
            codes, context = probe(number, NATIVE, c.codebook_size, c.text_size, c.text_limit)
            plan = layout(scenario, context, engine.config)
            (intervals,) = engine.intervals([plan], [codes])
            ((high, low),) = engine.tables([plan], [codes])
            tables = [row for pair in zip(high.tolist(), low.tolist(), strict=True) for row in pair]
            drawn = [part for code in codes.tolist() for part in divmod(code, low.shape[1])]
            began = time.perf_counter()
            ours = write_stream(intervals)
            spent["our encoder"] += time.perf_counter() - began
            began = time.perf_counter()
            decoder = RangeDecoder(ours)
            for start, size, total in intervals.reshape(-1, 3).tolist():
                decoder.target(total)
                decoder.advance(start, size, total)
            decoder.finish()
            spent["our decoder"] += time.perf_counter() - began
            began = time.perf_counter()
            theirs = encode(drawn, tables)
            spent["its encoder"] += time.perf_counter() - began
            began = time.perf_counter()
            again = decode(theirs, tables)
            spent["its decoder"] += time.perf_counter() - began
            good = good and again == drawn and agrees(len(ours), len(theirs))
            coded, witness = coded + len(ours), witness + len(theirs)
            symbols += len(drawn)
        times = ", ".join(f"{name} {1e6 * t / symbols:.2f}" for name, t in spent.items())
        sys.stdout.write(
            f"{scenario.slug:<16} {symbols} symbols: {coded} bytes, constriction {witness}; "
            f"microseconds a symbol: {times}\n"
        )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
