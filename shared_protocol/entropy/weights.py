"""The integer weights of an entropy model as one frozen value, with the proof that they fit.

It does not know training, files or devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.entropy.config import (
    ACTIVATION_MAX,
    ATTENTION_SUM,
    EXACT_LIMIT,
    GELU_HALF,
    KINDS,
    LOGIT_TOP,
    MAX_KEYS,
    RESIDUAL_MAX,
    SCORE_TOP,
    SLOTS,
    EntropyConfig,
)
from shared_protocol.entropy.tables import check_exp_table
from shared_protocol.errors import CheckpointError

Array = npt.NDArray[Any]

INDEX_LIMIT = 1 << 23
"""Bound of scores and logits in table steps, so that their differences are exact in float32."""


@dataclass(frozen=True)
class ExactWeights:
    """Everything that decides a probability.

    Args:
        config: sizes.
        arrays: name to array, as listed by `expected_arrays`.

    Raises:
        CheckpointError: an array is missing, misshapen, or breaks a bound of `certificates`.
    """

    config: EntropyConfig
    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        expected = expected_arrays(self.config)
        if set(expected) != set(self.arrays):
            wrong = sorted(set(expected) ^ set(self.arrays))
            raise CheckpointError(f"entropy weights lack or add {wrong[:4]}", "export them again")
        for name, (shape, dtype) in expected.items():
            array = self.arrays[name]
            fits = all(want in (-1, have) for want, have in zip(shape, array.shape, strict=False))
            if array.dtype != dtype or len(shape) != array.ndim or not fits:
                raise CheckpointError(f"{name} is {array.dtype}{array.shape}, not {dtype}{shape}")
        for bound in certificates(self):
            bound.check()

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]


@dataclass(frozen=True)
class Certificate:
    """One proven bound: the largest absolute value that any input can produce, and its limit."""

    name: str
    largest: float
    limit: float

    def check(self) -> None:
        """Raise `CheckpointError` unless the largest value stays below the limit."""
        if not self.largest < self.limit:
            raise CheckpointError(
                f"{self.name} can reach {self.largest:.0f}, its limit is {self.limit:.0f}",
                "export again with smaller weights or a coarser scale",
            )


def expected_arrays(config: EntropyConfig) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Name to (shape, dtype); -1 stands for any length. Per-layer arrays are stacked on axis 0."""
    d, layers, hidden = config.width, config.layers, config.hidden
    table = 2 * GELU_HALF + 1
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "code_table": ((config.code_rows, config.code_width), np.int8),
        "text_table": ((config.text_size, config.text_width), np.int8),
        "row": ((config.side, d), np.int16),
        "column": ((config.side, d), np.int16),
        "kind": ((KINDS, d), np.int16),
        "text_place": ((config.text_limit, d), np.int16),
        "qkv.weight": ((layers, 3 * d, d), np.int8),
        "out.weight": ((layers, d, d), np.int8),
        "up.weight": ((layers, hidden, d), np.int8),
        "down.weight": ((layers, d, hidden), np.int8),
        "join.weight": ((d, SLOTS * config.code_width), np.int8),
        "text_join.weight": ((d, config.text_width), np.int8),
        "high.weight": ((config.high_size, d), np.int8),
        "low_in.weight": ((config.low_width, d), np.int8),
        "low_out.weight": ((config.low_size, config.low_width), np.int8),
        "up.bias": ((layers, hidden), np.int32),
        "high.bias": ((config.high_size,), np.int32),
        "low_in.bias": ((config.low_width,), np.int32),
        "low_out.bias": ((config.low_size,), np.int32),
        "given": ((config.high_size, config.low_width), np.int32),
        "score.scale": ((layers, config.heads), np.float32),
        "mix.scale": ((layers,), np.float32),
        "norms": ((2 * layers + 1,), np.float64),
        "gelu": ((layers, table), np.int8),
        "low_gelu": ((table,), np.int8),
        "score_exp": ((-1,), np.int32),
        "logit_exp": ((-1,), np.int32),
    }
    for name, (shape, _) in list(shapes.items()):
        if name.endswith(".weight"):
            shapes[name.replace(".weight", ".scale")] = (shape[:-1], np.float32)
    return {name: (shape, np.dtype(kind)) for name, (shape, kind) in shapes.items()}


def certificates(weights: ExactWeights) -> list[Certificate]:
    """Every bound on which exactness rests, computed from the weights themselves.

    For a matrix the bound is max over rows of sum |w| * 127 + |b|: no order of summation, no tile
    and no thread count can bring a partial sum beyond it, whatever the input.
    """
    config = weights.config
    found = [
        _range(name, array) for name, array in weights.arrays.items() if array.dtype == np.int8
    ]
    found += [
        Certificate(name, float(np.abs(weights[name].astype(np.int64)).max()), RESIDUAL_MAX + 1)
        for name in ("row", "column", "kind", "text_place")
    ]
    accumulators = {name: _matrix_bound(weights, name) for name in _MATRICES}
    found += [
        Certificate(f"{name} sum", float(bound.max()), EXACT_LIMIT)
        for name, bound in accumulators.items()
    ]
    score = config.head_width * ACTIVATION_MAX**2
    mixed = (ATTENTION_SUM + MAX_KEYS / 2) * ACTIVATION_MAX
    found += [
        Certificate("attention score sum", score, EXACT_LIMIT),
        Certificate("attention weight sum", SCORE_TOP * MAX_KEYS, EXACT_LIMIT),
        Certificate("attention value sum", mixed, EXACT_LIMIT),
        Certificate("score step", score * _largest(weights["score.scale"]), INDEX_LIMIT),
    ]
    for name in ("high", "low_out"):
        steps = accumulators[name] * np.abs(weights[f"{name}.scale"])
        found.append(Certificate(f"{name} logit step", _largest(steps), INDEX_LIMIT))
    return found + _finite(weights) + _tables(weights)


_MATRICES = ("qkv", "out", "up", "down", "join", "text_join", "high", "low_in", "low_out")


def _matrix_bound(weights: ExactWeights, name: str) -> Array:
    # As int16, which int8 fits: a large file would take eight times its size as int64.
    rows = np.abs(weights[f"{name}.weight"].astype(np.int16)).sum(-1, dtype=np.int64)
    rows = rows * ACTIVATION_MAX
    if f"{name}.bias" in weights.arrays:
        rows = rows + np.abs(weights[f"{name}.bias"].astype(np.int64))
    if name == "low_in":
        rows = rows + np.abs(weights["given"].astype(np.int64)).max(0)
    return np.asarray(rows, dtype=np.float64)


def _range(name: str, array: Array) -> Certificate:
    largest = max(int(array.max(initial=0)), -int(array.min(initial=0)))
    return Certificate(f"{name} entry", float(largest), 128)


def _largest(array: Array) -> float:
    largest = float(np.abs(array.astype(np.float64)).max())
    return largest if np.isfinite(largest) else float("inf")


def _finite(weights: ExactWeights) -> list[Certificate]:
    """Multipliers are finite, and no product of theirs with a sum leaves float32's range."""
    names = [name for name, array in weights.arrays.items() if array.dtype.kind == "f"]
    return [Certificate(f"{name} value", _largest(weights[name]), 1e12) for name in names]


def _tables(weights: ExactWeights) -> list[Certificate]:
    good = check_exp_table(weights["score_exp"], SCORE_TOP)
    good_logits = check_exp_table(weights["logit_exp"], LOGIT_TOP)
    return [
        Certificate("attention table faults", float(not good), 1),
        Certificate("frequency table faults", float(not good_logits), 1),
    ]
