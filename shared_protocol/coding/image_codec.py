"""Image codes to bytes and back, uniform or by an entropy model, and what both ends know before.

It does not know tasks, messages or how a model computes its frequencies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.bits import pack_bits, unpack_bits
from shared_protocol.coding.range_coder import RangeDecoder, RangeEncoder
from shared_protocol.errors import BadMessageError, InvalidInputError
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes, Flags


@dataclass(frozen=True, eq=False)
class CodingContext:
    """The side information of an image part; equal at sender and receiver, or nothing decodes.

    Args:
        targets: (H, W) bool, True at the M positions whose codes travel, in raster order.
        known: (H, W) bool, True where both ends hold the code already. A position that is neither
            a target nor known is a hole (under the mask, on the way up).
        known_codes: (H, W) int32, the codes where `known`, 0 elsewhere.
        text: (N,) int32 text ids of the same interaction; N may be 0.

    Raises:
        ValueError: shapes that differ, or a position that is a target and known.
    """

    targets: Flags
    known: Flags
    known_codes: Codes
    text: Codes

    def __post_init__(self) -> None:
        shapes = (self.targets.shape, self.known.shape, self.known_codes.shape)
        if self.targets.ndim != 2 or len(set(shapes)) != 1 or self.text.ndim != 1:
            raise ValueError(f"a coding context needs three (H, W) grids and a text row: {shapes}")
        if bool((self.targets & self.known).any()):
            raise ValueError("a position cannot be both known and a target")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in tokens."""
        return self.targets.shape[0], self.targets.shape[1]

    @property
    def count(self) -> int:
        """M, the number of codes that travel."""
        return int(self.targets.sum())


def nothing_known(height: int, width: int, text: Codes | None = None) -> CodingContext:
    """The context of a whole (H, W) image that the receiver has never seen."""
    return CodingContext(
        targets=np.ones((height, width), dtype=bool),
        known=np.zeros((height, width), dtype=bool),
        known_codes=np.zeros((height, width), dtype=np.int32),
        text=np.zeros(0, dtype=np.int32) if text is None else text,
    )


class ImageEntropy(Protocol):
    """The exact entropy models of a bundle."""

    def available(self) -> tuple[Scenario, ...]:
        """The scenarios that this bundle has a model for."""

    def encode(self, scenario: Scenario, codes: Codes, context: CodingContext) -> bytes:
        """Codes (M,) of the targets in raster order, as bytes."""

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        """The codes (M,) again."""

    def bits_by_token(
        self, scenario: Scenario, codes: Codes, context: CodingContext
    ) -> npt.NDArray[np.float64]:
        """(M,) bits that each code takes, in raster order of the targets."""

    def intervals(
        self, scenario: Scenario, codes: Codes, context: CodingContext
    ) -> npt.NDArray[np.int64]:
        """(..., 3): start, frequency and total of every symbol of the codes (M,), in order."""

    def read(self, scenario: Scenario, context: CodingContext, decoder: RangeDecoder) -> Codes:
        """The codes (M,) of the symbols that come next in a stream."""


def code_bits(codebook_size: int) -> int:
    """Bits of one code under uniform coding.

    >>> code_bits(8192)
    13
    """
    return (codebook_size - 1).bit_length()


def encode_codes(  # noqa: PLR0913 - the mirror of decode_codes, plus its choice
    codes: Codes,
    context: CodingContext,
    scenarios: Sequence[Scenario],
    entropy: ImageEntropy,
    codebook_size: int,
    scenario: Scenario | None = None,
    search: bool = True,
) -> tuple[Scenario, bytes]:
    """Code the targets of `context`.

    Args:
        codes: (M,) in raster order of the targets.
        context: what both ends know.
        scenarios: the models that the message allows, preferred first.
        entropy: the bundle's models.
        codebook_size: V.
        scenario: the one to use; None takes the smallest.
        search: try every allowed model; otherwise only the first that is there, and uniform.

    Returns:
        The scenario used and the coded bytes.

    Raises:
        InvalidInputError: `scenario` is not allowed here or the bundle has no model for it.
    """
    ready = [s for s in scenarios if s in entropy.available()]
    if scenario is not None:
        check_scenario(scenario, scenarios, entropy)
        ready = [scenario] if scenario is not Scenario.UNIFORM else []
    elif not search:
        ready = ready[:1]
    coded = [(s, entropy.encode(s, codes, context)) for s in ready]
    if scenario in (None, Scenario.UNIFORM):
        coded.append((Scenario.UNIFORM, pack_bits(codes, code_bits(codebook_size))))
    return min(coded, key=lambda pair: len(pair[1]))


def check_scenario(
    scenario: Scenario, scenarios: Sequence[Scenario], entropy: ImageEntropy
) -> None:
    """Raise `InvalidInputError` unless `scenario` is allowed and has a model, or is uniform."""
    name = scenario.slug
    if scenario is Scenario.UNIFORM:
        return
    if scenario not in scenarios:
        allowed = ", ".join(s.slug for s in (*scenarios, Scenario.UNIFORM))
        raise InvalidInputError(f"the scenario {name} does not fit this message", f"use {allowed}")
    if scenario not in entropy.available():
        raise InvalidInputError(
            f"this bundle has no {name} model", "choose another scenario or bundle"
        )


def decode_codes(
    data: bytes,
    context: CodingContext,
    scenarios: Sequence[Scenario],
    entropy: ImageEntropy,
    codebook_size: int,
    scenario: Scenario,
) -> Codes:
    """The codes (M,) that `encode_codes` coded.

    Raises:
        BadMessageError: the bytes are no such codes, or no model of this message's kind codes them.
    """
    try:
        check_scenario(scenario, scenarios, entropy)
    except InvalidInputError as error:
        raise BadMessageError(error.message, error.remedy) from error
    if scenario is Scenario.UNIFORM:
        codes = unpack_bits(data, code_bits(codebook_size), context.count)
    else:
        codes = np.asarray(entropy.decode(scenario, data, context), dtype=np.int32)
    if codes.shape != (context.count,):
        raise BadMessageError(f"{codes.size} image codes came out, not {context.count}")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        raise BadMessageError(f"an image code is outside 0..{codebook_size - 1}")
    return codes


# ------------------------------------------------------------------------------------------------
# The same inside a stream that holds other symbols before and after the codes
# ------------------------------------------------------------------------------------------------


def write_codes(  # noqa: PLR0913 - the mirror of read_codes, plus its choice
    encoder: RangeEncoder,
    codes: Codes,
    context: CodingContext,
    entropy: ImageEntropy,
    codebook_size: int,
    prices: Mapping[Scenario, float],
    say: Callable[[Scenario], None],
) -> Scenario:
    """Append the targets of `context` under the scenario that takes the fewest bits in all.

    Args:
        encoder: the stream.
        codes: (M,) in raster order of the targets.
        context: what both ends know.
        entropy: the bundle's models.
        codebook_size: V.
        prices: bits that naming each scenario takes, of those to try: uniform coding, and any
            that the bundle has a model for.
        say: appends the choice, before the codes.

    Returns:
        The scenario used.
    """
    models = [scenario for scenario in prices if scenario is not Scenario.UNIFORM]
    tried = {scenario: entropy.intervals(scenario, codes, context) for scenario in models}
    bits: dict[Scenario, float] = {
        scenario: prices[scenario] + _bits_of(tried[scenario]) for scenario in models
    }
    uniform = float(len(codes) * np.log2(codebook_size))
    bits[Scenario.UNIFORM] = prices[Scenario.UNIFORM] + uniform
    best = min(bits, key=lambda scenario: bits[scenario])
    say(best)
    if best is Scenario.UNIFORM:
        for code in codes.tolist():
            encoder.encode(code, 1, codebook_size)
    else:
        for start, frequency, total in tried[best].reshape(-1, 3).tolist():
            encoder.encode(start, frequency, total)
    return best


def read_codes(
    decoder: RangeDecoder,
    context: CodingContext,
    entropy: ImageEntropy,
    codebook_size: int,
    scenario: Scenario,
) -> Codes:
    """The codes (M,) int32 that `write_codes` appended under `scenario`.

    Raises:
        BadMessageError: this bundle has no model for it, or the stream holds no such codes.
    """
    if scenario is Scenario.UNIFORM:
        codes = np.zeros(context.count, dtype=np.int32)
        for index in range(context.count):
            codes[index] = decoder.target(codebook_size)
            decoder.advance(int(codes[index]), 1, codebook_size)
        return codes
    if scenario not in entropy.available():
        raise BadMessageError(f"this bundle has no {scenario.slug} model")
    return np.asarray(entropy.read(scenario, context, decoder), dtype=np.int32)


def _bits_of(intervals: npt.NDArray[np.int64]) -> float:
    return float(np.log2(intervals[..., 2] / intervals[..., 1]).sum())
