"""Tables of integers that stand for exp and GELU, made once when weights are exported.

They do not know weights or devices, and nothing calls them at run time: implementations of exp and
erf differ in the last place from device to device, so the integers travel with the weights.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shared_protocol.entropy.config import ACTIVATION_MAX, GELU_HALF

IntTable = npt.NDArray[np.int32]


def exp_table(top: int, steps: int) -> IntTable:
    """round(top * exp(-i / steps)) for i = 0, 1, ... up to and including the first 0.

    >>> exp_table(4, 1).tolist()
    [4, 1, 1, 0]
    """
    values = [top]
    while values[-1] > 0:
        values.append(round(top * math.exp(-len(values) / steps)))
    return np.array(values, dtype=np.int32)


def gelu_table(step_in: float, step_out: float) -> npt.NDArray[np.int8]:
    """GELU from an index in [-GELU_HALF, GELU_HALF] to an activation in [-127, 127].

    Args:
        step_in: value of one index step.
        step_out: value of one step of the result.
    """
    values = [_gelu(index * step_in) / step_out for index in range(-GELU_HALF, GELU_HALF + 1)]
    return np.clip(np.rint(values), -ACTIVATION_MAX, ACTIVATION_MAX).astype(np.int8)


def _gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def check_exp_table(table: IntTable, top: int) -> bool:
    """Whether `table` starts at `top`, never rises, and ends in its only 0."""
    if table.ndim != 1 or not len(table):
        return False
    falls = bool((np.diff(table.astype(np.int64)) <= 0).all())
    ends = int(table[-1]) == 0 and int((table == 0).sum()) == 1
    return int(table[0]) == top and falls and ends
