"""The trainable network behind exported integer weights, so that training can go on from them.

It does not know how the integers were trained: what the export keeps decides every output, and
what it loses (the rounding of each weight to 8 bits, and scales that cancel) is chosen here::

    kept    weights by row, row scales, biases, activation steps of the norms, GELU tables
    chosen  step of the residual stream, of the code and text tables, of queries against keys, and
            of values against their mix: each can be moved to the next matrix without changing
            a thing

The float network computes what the integers compute but for the rounding of activations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from shared_protocol.entropy.config import (
    ACTIVATION_MAX,
    ATTENTION_SUM,
    GELU_HALF,
    LOGIT_STEPS,
    SCORE_STEPS,
)
from shared_protocol.entropy.model import EntropyModel
from shared_protocol.entropy.weights import ExactWeights

Floats = npt.NDArray[np.float64]

POSITION_SIZE, CODE_SIZE, TEXT_SIZE = 0.3, 1.0, 0.7
"""Root mean squares that training begins with, of the position, code and text tables."""
SEARCH_ROUNDS, SEARCH_POINTS = 8, 65


def float_again(weights: ExactWeights) -> EntropyModel:
    """The float network of `weights`; its integer form is nearly `weights` again.

    Args:
        weights: as exported.
    """
    model = EntropyModel(weights.config)
    state = {**_tables(weights), **_head(weights)}
    for layer in range(weights.config.layers):
        state |= _block(weights, layer)
    given = {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in state.items()}
    model.load_state_dict(given)
    return model


def residual_unit(weights: ExactWeights) -> float:
    """The value that `float_again` gives to one step of the residual stream."""
    rows = np.concatenate([weights["row"], weights["column"]])
    return POSITION_SIZE / _size(rows)


def _tables(weights: ExactWeights) -> dict[str, Floats]:
    config, unit = weights.config, residual_unit(weights)
    state = {
        f"{name}.weight": weights[name].astype(np.float64) * unit
        for name in ("row", "column", "kind", "text_place")
    }
    for table, matrix, size in (
        ("code_table", "join", CODE_SIZE),
        ("text_table", "text_join", TEXT_SIZE),
    ):
        step = size / _size(weights[table])
        state[table] = weights[table].astype(np.float64) * step
        state[f"{matrix}.weight"] = _rows(weights, matrix, unit / step)
    state["text_table.weight"] = state.pop("text_table")
    return state | _parts(state.pop("code_table"), config.high_size, config.low_size)


def _parts(table: Floats, high: int, low: int) -> dict[str, Floats]:
    """The code table as the sum of what codes share by their parts, and of what is their own."""
    codes = table[: high * low].reshape(high, low, -1)
    high_part = codes.mean(1)
    low_part = (codes - high_part[:, None]).mean(0)
    own = codes - high_part[:, None] - low_part[None]
    return {
        "high_part.weight": high_part,
        "low_part.weight": low_part,
        "whole_part.weight": own.reshape(high * low, -1),
        "special_part.weight": table[high * low :],
    }


def _block(weights: ExactWeights, layer: int) -> dict[str, Floats]:
    config, unit = weights.config, residual_unit(weights)
    norms = _norm_steps(weights)
    inner, gelu = gelu_steps(weights["gelu"][layer])
    scores = weights["score.scale"][layer].astype(np.float64)
    step = np.sqrt(scores * config.head_width**0.5 / SCORE_STEPS)  # queries and keys share it
    queries = np.repeat(step, config.head_width)
    values = np.full(config.width, float(weights["mix.scale"][layer]) * ATTENTION_SUM)
    qkv = _rows(weights, "qkv", 1 / norms[2 * layer], layer)
    qkv *= np.concatenate([queries, queries, values])[:, None]
    out = _rows(weights, "out", unit, layer)
    mix = math.sqrt(_size(out) / _size(qkv[-config.width :]))  # values and mix become alike
    qkv[-config.width :] *= mix
    name = f"blocks.{layer}"
    return {
        f"{name}.qkv.weight": qkv,
        f"{name}.out.weight": out / mix,
        f"{name}.up.weight": _rows(weights, "up", inner / norms[2 * layer + 1], layer),
        f"{name}.up.bias": _bias(weights, "up", inner, layer),
        f"{name}.down.weight": _rows(weights, "down", unit / gelu, layer),
    }


def _head(weights: ExactWeights) -> dict[str, Floats]:
    step = _norm_steps(weights)[-1]
    inner, gelu = gelu_steps(weights["low_gelu"])
    unit = weights["low_in.scale"].astype(np.float64) * inner
    return {
        "high.weight": _rows(weights, "high", 1 / LOGIT_STEPS / step),
        "high.bias": _bias(weights, "high", 1 / LOGIT_STEPS),
        "low_in.weight": _rows(weights, "low_in", inner / step),
        "low_in.bias": _bias(weights, "low_in", inner),
        "given.weight": weights["given"] * unit,
        "low_out.weight": _rows(weights, "low_out", 1 / LOGIT_STEPS / gelu),
        "low_out.bias": _bias(weights, "low_out", 1 / LOGIT_STEPS),
    }


def _norm_steps(weights: ExactWeights) -> Floats:
    """(2 L + 1,) the value of one step behind each norm."""
    steps: Floats = weights.config.width**0.5 / weights["norms"]
    return steps


def _rows(weights: ExactWeights, name: str, out_over_in: float, layer: int | None = None) -> Floats:
    """A matrix whose row scale is row step x step in / step out."""
    whole, scale = weights[f"{name}.weight"], weights[f"{name}.scale"]
    if layer is not None:
        whole, scale = whole[layer], scale[layer]
    matrix: Floats = whole.astype(np.float64) * scale.astype(np.float64)[:, None] * out_over_in
    return matrix


def _bias(weights: ExactWeights, name: str, step_out: float, layer: int | None = None) -> Floats:
    bias, scale = weights[f"{name}.bias"], weights[f"{name}.scale"]
    if layer is not None:
        bias, scale = bias[layer], scale[layer]
    found: Floats = bias.astype(np.float64) * scale.astype(np.float64) * step_out
    return found


def gelu_steps(table: npt.NDArray[Any]) -> tuple[float, float]:
    """The steps (in, out) that `tables.gelu_table` made `table` of, by least squares.

    Args:
        table: (2 GELU_HALF + 1,) int8; entries at the clamp say nothing.
    """
    kept = np.abs(table.astype(int)) < ACTIVATION_MAX
    index = np.arange(-GELU_HALF, GELU_HALF + 1)[kept]
    said = table[kept].astype(np.float64)
    low, high = math.log(1e-5), math.log(1.0)
    for _ in range(SEARCH_ROUNDS):
        points = np.linspace(low, high, SEARCH_POINTS)
        errors = [_misfit(math.exp(point), index, said)[0] for point in points]
        best, width = points[int(np.argmin(errors))], points[1] - points[0]
        low, high = best - 2 * width, best + 2 * width
    inner = math.exp(best)
    return inner, _misfit(inner, index, said)[1]


def _misfit(inner: float, index: npt.NDArray[Any], said: Floats) -> tuple[float, float]:
    """Squared error of the best step out for a step in, and that step."""
    values = torch.nn.functional.gelu(torch.from_numpy(index * inner)).numpy()
    steps = float(values @ said) / max(float(values @ values), 1e-30)
    return float(((steps * values - said) ** 2).sum()), 1 / max(steps, 1e-30)


def _size(table: npt.NDArray[Any]) -> float:
    """Root mean square; 1 for a table of zeros."""
    return float(np.sqrt(np.square(table.astype(np.float64)).mean())) or 1.0
