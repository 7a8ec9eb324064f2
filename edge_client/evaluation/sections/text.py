"""Text as tokens against text as characters (the paper's Table VII), prompt by prompt.

No server is asked. Every coding is decoded again; whatever does not give its text back is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import brotli
import numpy as np

from edge_client.evaluation.context import Context, Section
from edge_client.evaluation.tables.results import Cell, Plot, Series, Table
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.cases import TASKS
from shared_protocol.coding.text_codec import TextCoder, decode_text, encode_text, packed_size
from shared_protocol.errors import ConfigError, InternalError
from shared_protocol.tokens import Codes

TITLE = "Text"
RAW, BROTLI = "UTF-8", "Brotli on UTF-8"
CODERS = {
    RAW: "the characters as they are",
    BROTLI: "quality 11, the smallest of all windows",
    "ids, packed": "BPE ids of equal length and their count",
    "ids, Brotli": "BPE ids as 16-bit words, then Brotli, as in the paper",
    "sent": "the shortest of what the format has, as messages are sent",
}


@dataclass
class Sizes:
    """Bytes of the texts of one group, by coder."""

    texts: int = 0
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CODERS, 0))

    def add(self, sizes: dict[str, int]) -> None:
        """Count one more text."""
        self.texts += 1
        for name, size in sizes.items():
            self.bytes[name] += size


def run(context: Context) -> Section:
    """Code every prompt and question of the data, or every line of a file."""
    groups: dict[str, Sizes] = {}
    texts = _texts(context)
    for group, text in context.track(texts, "text"):
        sizes = text_sizes(text, context.bundle)
        for name in dict.fromkeys((group, "all")):
            groups.setdefault(name, Sizes()).add(sizes)
    ordered = {name: groups[name] for name in sorted(groups, key=lambda name: name == "all")}
    return Section("text", TITLE, _tables(ordered), (_plot(ordered),))


def _texts(context: Context) -> list[tuple[str, str]]:
    """(group, text) of each distinct text."""
    if context.prompts is not None:
        lines = _lines(context.prompts)[: context.limit]
        return [(context.prompts.name, line) for line in lines]
    asked = [(case.task, case.prompt) for task in TASKS for case in context.cases(task)]
    return list(dict.fromkeys(asked))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "name a text file") from error
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise ConfigError(f"{path} holds no text", "write one text a line")
    return found


def text_sizes(text: str, bundle: Bundle) -> dict[str, int]:
    """Bytes of one text by coder, see `CODERS`.

    Raises:
        InternalError: a coding does not give the text back.
    """
    raw = text.encode()
    packed = min((brotli.compress(raw, quality=11, lgwin=w) for w in (10, 16, 22)), key=len)
    tokens = bundle.text_tokenizer.encode(text)
    size = tokens.vocabulary_size
    word = "<u2" if size <= 1 << 16 else "<u4"
    table1 = brotli.compress(tokens.ids.astype(word).tobytes(), quality=11, lgwin=16)
    coder, sent = encode_text(tokens.ids, size, bundle.text_prior)
    _check(brotli.decompress(packed) == raw, text)
    _check(bundle.text_tokenizer.decode(tokens) == text, text)
    _check_ids(decode_text(table1, TextCoder.BROTLI, size), tokens.ids, text)
    _check_ids(decode_text(sent, coder, size, bundle.text_prior), tokens.ids, text)
    sizes = (len(raw), len(packed), packed_size(len(tokens), size), len(table1), len(sent))
    return dict(zip(CODERS, sizes, strict=True))


def _check_ids(decoded: Codes, ids: Codes, text: str) -> None:
    _check(np.array_equal(decoded, ids), text)


def _check(same: bool, text: str) -> None:
    if not same:
        raise InternalError(f"a coding of {text[:60]!r} does not give it back", "report it")


def _tables(groups: dict[str, Sizes]) -> tuple[Table, ...]:
    columns = ("texts", "number", *CODERS)
    shares: list[tuple[Cell, ...]] = []
    means: list[tuple[Cell, ...]] = []
    for name, sizes in groups.items():
        head = (name, sizes.texts)
        means.append((*head, *(sizes.bytes[coder] / sizes.texts for coder in CODERS)))
        shares.append((*head, *(sizes.bytes[coder] / sizes.bytes[RAW] for coder in CODERS)))
    notes = tuple(f"{name}: {what}." for name, what in CODERS.items())
    return (
        Table("text-ratio", "Coded size over raw size", columns, tuple(shares), notes),
        Table("text-bytes", "Mean bytes of a text", columns, tuple(means)),
    )


def _plot(groups: dict[str, Sizes]) -> Plot:
    names = list(groups)
    series: Sequence[Series] = [
        Series(coder, names, [groups[n].bytes[coder] / groups[n].texts for n in names])
        for coder in CODERS
    ]
    return Plot("text", "Bytes of a text", "texts", "mean bytes", tuple(series), "bar")
