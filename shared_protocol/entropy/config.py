"""The shape of an entropy Transformer, the rows of its tables and the scales of its integers.

It does not know weights, scenarios or bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property

from shared_protocol.errors import CheckpointError
from shared_protocol.tokens import MAX_GRID

ACTIVATION_MAX = 127
"""Largest absolute value of an activation or a weight; -128 is never used."""
RESIDUAL_MAX = 32767
"""Largest absolute value in the residual stream."""
EXACT_LIMIT = 1 << 24
"""Integers below this are exact in float32, and so is every sum whose partial sums stay below."""

SCORE_STEPS = 64
"""Attention scores are multiples of 1/64 nat."""
SCORE_TOP = 4000
"""exp(0) in the attention table; times `MAX_KEYS` it stays below `EXACT_LIMIT`."""
MAX_KEYS = MAX_GRID**2 + 64
"""Entries of the longest sequence: the largest grid and a text."""
ATTENTION_SUM = 1 << 8
"""Attention weights are integers whose sum is about this: they fit 8 bits of mantissa, so that a
GEMM that rounds its operands to bfloat16 or TF32 still has them exactly."""

LOGIT_STEPS = 128
"""Logits are multiples of 1/128 nat."""
LOGIT_TOP = 1 << 24
"""exp(0) in the frequency table; sums of it are taken in float64, exact below 2^53."""
FREQUENCY_SUM = 1 << 21
"""Frequencies sum to about this plus one for each symbol, below the range coder's largest total."""

GELU_HALF = 1023
"""The GELU table has entries for -1023..1023."""

SLOTS = 9
"""Codes that an entry sees: its own or the previous one, then the eight neighbours."""
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""(row, column) offsets of slots 1..8."""

MAX_SIZE, MAX_TEXT_SIZE, MAX_LAYERS = 1 << 13, 1 << 22, 24
"""Of one number of a config, of its text ids, and of its layers, each of which keeps all keys."""

KIND_TEXT = 0
KIND_HOLE = 1
KIND_KNOWN = 2
KIND_TARGET = 3
"""Targets of scenario s have kind KIND_TARGET + s - 1 (s counts from `Scenario.GENERIC` = 1)."""
KINDS = 7


@dataclass(frozen=True)
class EntropyConfig:
    """Sizes; the defaults are the shipped model's.

    Args:
        high_bits: a code's high part; it is coded first, over 2^high_bits symbols.
        low_bits: its low part, coded second, given the high part.
        width: D, of the residual stream.
        layers: number of Transformer blocks.
        heads: attention heads; divides `width`.
        hidden: width inside a feed-forward block.
        code_width: E, of the code table whose rows the input projection reads.
        text_size: number of text ids.
        text_width: of the text table.
        text_limit: how many leading text ids are used.
        low_width: of the layer between the state and the low part's logits.
        side: rows and columns with a position of their own; those beyond share the last one.

    Raises:
        CheckpointError: sizes that contradict each other.
    """

    high_bits: int = 6
    low_bits: int = 7
    width: int = 192
    layers: int = 4
    heads: int = 6
    hidden: int = 768
    code_width: int = 64
    text_size: int = 4096
    text_width: int = 64
    text_limit: int = 64
    low_width: int = 192
    side: int = 32

    def __post_init__(self) -> None:
        for name, size in asdict(self).items():
            most = {"text_size": MAX_TEXT_SIZE, "layers": MAX_LAYERS}.get(name, MAX_SIZE)
            if type(size) is not int or not 1 <= size <= most:
                fault = f"the {name} of an entropy model is {str(size)[:40]}"
                raise CheckpointError(fault, f"use a whole number of 1 to {most:,}")
        if self.width % self.heads:
            raise CheckpointError(f"{self.heads} heads do not divide a width of {self.width}")
        if MAX_GRID**2 + self.text_limit > MAX_KEYS:
            raise CheckpointError(f"texts of {self.text_limit} give over {MAX_KEYS} attention keys")
        if max(self.high_bits, self.low_bits) > 10:
            raise CheckpointError("the two parts of a code have at most 10 bits each")

    @cached_property
    def codebook_size(self) -> int:
        """V.

        >>> EntropyConfig().codebook_size
        8192
        """
        return 1 << (self.high_bits + self.low_bits)

    @cached_property
    def high_size(self) -> int:
        return 1 << self.high_bits

    @cached_property
    def low_size(self) -> int:
        return 1 << self.low_bits

    @cached_property
    def head_width(self) -> int:
        return self.width // self.heads

    @cached_property
    def outside_row(self) -> int:
        """Row of the code table for a neighbour beyond the grid's edge (and "no code before")."""
        return self.codebook_size

    @cached_property
    def future_row(self) -> int:
        """Row for a target that is yet to be coded."""
        return self.codebook_size + 1

    @cached_property
    def hole_row(self) -> int:
        """Row for a position that this stream says nothing about."""
        return self.codebook_size + 2

    @cached_property
    def code_rows(self) -> int:
        return self.codebook_size + 3

    def to_json(self) -> str:
        """The form in which it is stored beside the weights; `from_json` is its mirror."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EntropyConfig:
        """The config that `to_json` wrote.

        Raises:
            CheckpointError: not such a text.
        """
        try:
            values = json.loads(text)
            return cls(**{str(name): value for name, value in values.items()})
        except (TypeError, ValueError, RecursionError, AttributeError) as error:
            raise CheckpointError(
                f"not an entropy model's config: {str(error)[:200]}", "fetch the file again"
            ) from error
