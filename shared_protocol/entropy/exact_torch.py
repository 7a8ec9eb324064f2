"""Exact integer inference in eager torch: what `exact` computes in numpy, for GPUs and comparison.

It does not know bytes, scenarios or training. Every tensor holds integers; the rules of `exact`
that keep results equal hold here, too. The product of two matrices may be carried by float32,
float64, int64 or int8.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared_protocol.entropy.config import (
    ACTIVATION_MAX,
    ATTENTION_SUM,
    FREQUENCY_SUM,
    GELU_HALF,
    RESIDUAL_MAX,
    EntropyConfig,
)
from shared_protocol.entropy.exact import MASKED_SCORE, QUERIES, Whole
from shared_protocol.entropy.weights import ExactWeights
from shared_protocol.errors import ConfigError

Gemm = Literal["float32", "float64", "int64", "int8"]
"""What carries the integers of a matrix product; all give the same integers."""
GEMMS: tuple[Gemm, ...] = ("float32", "float64", "int64", "int8")


@dataclass
class Cache:
    """Keys and values of the entries so far, each (L, B, heads, capacity, D / heads)."""

    keys: Tensor
    values: Tensor
    length: int = 0

    def as_int8(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """See `exact.KeyCache.as_int8`."""
        both = (each.to(torch.int8).cpu().numpy() for each in (self.keys, self.values))
        keys, values = both
        return keys, values


class TorchModel:
    """The integer Transformer in torch; satisfies `exact.IntegerModel`.

    Args:
        weights: certified integer weights.
        device: where to compute; results do not depend on it.
        gemm: the carrier of matrix products; results do not depend on it either.
    """

    def __init__(
        self, weights: ExactWeights, device: torch.device | str = "cpu", gemm: Gemm = "float32"
    ) -> None:
        self._config = weights.config
        self.device = torch.device(device)
        self._carrier = torch.float64 if gemm == "float64" else torch.float32
        self._multiply = _MULTIPLY[gemm]
        self._attend = _MULTIPLY["int64" if gemm == "int8" else gemm]
        self._w = {
            name: self._load(torch.from_numpy(array.copy()))
            for name, array in weights.arrays.items()
        }

    @property
    def config(self) -> EntropyConfig:
        """Sizes."""
        return self._config

    def computing(self) -> Any:
        """See `exact.IntegerModel.computing`."""
        return exact_arithmetic()

    def _load(self, array: Tensor) -> Tensor:
        carried = array if array.dtype.is_floating_point else array.to(torch.float32)
        return carried.to(self.device)

    def _here(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    # Entries -------------------------------------------------------------------------------------

    def embed(self, text: Whole, slots: Whole, places: Whole, kinds: Whole) -> Tensor:
        """See `exact.IntegerModel.embed`."""
        here = map(self._here, (text, slots, places, kinds))
        ids, rows, where, what = here
        return torch.cat([self._embed_text(ids), self._embed_grid(rows, where, what)], dim=1)

    def _embed_grid(self, slots: Tensor, places: Tensor, kinds: Tensor) -> Tensor:
        w, places = self._w, places.clamp_max(self._config.side - 1)
        joined = w["code_table"][slots].flatten(-2)  # (B, N, SLOTS * E)
        place = w["row"][places[..., 0]] + w["column"][places[..., 1]] + w["kind"][kinds]
        return clamp(self._linear(joined, "join", RESIDUAL_MAX) + place, RESIDUAL_MAX)

    def _embed_text(self, ids: Tensor) -> Tensor:
        w = self._w
        place = w["text_place"][: ids.shape[1]] + w["kind"][0]
        return clamp(
            self._linear(w["text_table"][ids], "text_join", RESIDUAL_MAX) + place, RESIDUAL_MAX
        )

    # Blocks --------------------------------------------------------------------------------------

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """See `exact.IntegerModel.new_cache`."""
        c = self._config
        shape = (c.layers, batch, c.heads, capacity, c.head_width)
        keys = torch.zeros(shape, dtype=self._carrier, device=self.device)
        return Cache(keys, torch.zeros_like(keys))

    def run(self, x: Tensor, allowed: npt.NDArray[np.bool_], cache: Cache, common: int) -> Tensor:
        """See `exact.ExactModel.run`."""
        flags = self._here(allowed)
        for layer in range(self._config.layers):
            qkv = self._linear(self._norm(x, 2 * layer), "qkv", ACTIVATION_MAX, layer)
            mixed = self._attention(qkv, flags, cache, common, layer)
            x = clamp(self._linear(mixed, "out", RESIDUAL_MAX, layer).add_(x), RESIDUAL_MAX)
            inner = self._linear(self._norm(x, 2 * layer + 1), "up", GELU_HALF, layer)
            inner = lookup(self._w["gelu"][layer], inner.add_(GELU_HALF))
            x = clamp(self._linear(inner, "down", RESIDUAL_MAX, layer).add_(x), RESIDUAL_MAX)
        cache.length += x.shape[1]
        return self._norm(x, 2 * self._config.layers)

    def _attention(
        self, qkv: Tensor, allowed: Tensor, cache: Cache, common: int, layer: int
    ) -> Tensor:
        batch, count, _ = qkv.shape
        start, end = cache.length, cache.length + count
        split = qkv.view(batch, count, 3, self._config.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)  # each (B, heads, N, D / heads)
        cache.keys[layer, :, :, start:end] = k
        cache.values[layer, :, :, start:end] = v
        keys, values = cache.keys[layer], cache.values[layer]
        chunks = []
        for i in range(0, count, QUERIES):
            j = min(i + QUERIES, count)
            seen = min(max(common, start + j), end)  # no entry of the chunk sees a later key
            rows = allowed[:, i:j, :seen]
            chunks.append(
                self._mix(q[:, :, i:j], keys[..., :seen, :], values[..., :seen, :], rows, layer)
            )
        return torch.cat(chunks, dim=2).transpose(1, 2).reshape(batch, count, -1)  # (B, N, D)

    def _mix(self, q: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, layer: int) -> Tensor:
        sums = self._attend(q, keys).to(torch.float32)  # (B, heads, N, K)
        scores = sums.mul_(self._w["score.scale"][layer][:, None, None]).round_()
        weights = attention_weights(scores, allowed.unsqueeze(1), self._w["score_exp"])
        mixed = self._attend(weights, values.transpose(-1, -2)).to(torch.float32)
        return clamp(mixed.mul_(self._w["mix.scale"][layer]).round_(), ACTIVATION_MAX)

    # Heads ---------------------------------------------------------------------------------------

    def high_frequencies(self, states: Tensor) -> Whole:
        """See `exact.IntegerModel.high_frequencies`."""
        return _numpy(frequencies(self._steps(states, "high"), self._w["logit_exp"]))

    def low_frequencies(self, states: Tensor, high: Whole) -> Whole:
        """See `exact.IntegerModel.low_frequencies`."""
        given = self._w["given"][self._here(high)]
        inner = self._linear(states, "low_in", GELU_HALF, extra=given)
        hidden = lookup(self._w["low_gelu"], inner + GELU_HALF)
        return _numpy(frequencies(self._steps(hidden, "low_out"), self._w["logit_exp"]))

    # Arithmetic ----------------------------------------------------------------------------------

    def _steps(self, x: Tensor, name: str) -> Tensor:
        sums = self._multiply(x, self._w[f"{name}.weight"]).to(torch.float32)
        return sums.add_(self._w[f"{name}.bias"]).mul_(self._w[f"{name}.scale"]).round_()

    def _linear(
        self,
        x: Tensor,
        name: str,
        limit: int,
        layer: int | None = None,
        extra: Tensor | None = None,
    ) -> Tensor:
        """Matrix product, bias, ONE float32 multiplication, round half to even, clamp."""
        weight, scale = self._w[f"{name}.weight"], self._w[f"{name}.scale"]
        bias = self._w.get(f"{name}.bias")
        if layer is not None:
            weight, scale = weight[layer], scale[layer]
            bias = None if bias is None else bias[layer]
        sums = self._multiply(x, weight).to(torch.float32)
        for term in (bias, extra):
            sums = sums if term is None else sums.add_(term)
        return clamp(sums.mul_(scale).round_(), limit)

    def _norm(self, x: Tensor, index: int) -> Tensor:
        squares = x.double().square().sum(-1, keepdim=True)  # exact: below 2^30 * D
        root = squares.clamp_min(1.0).sqrt()
        factor = (self._w["norms"][index].expand_as(root) / root).to(torch.float32)
        return clamp((x * factor).round_(), ACTIVATION_MAX)


def _numpy(x: Tensor) -> Whole:
    found: Whole = x.cpu().numpy()
    return found


def clamp(x: Tensor, limit: int) -> Tensor:
    """Cut to [-limit, limit], in place."""
    return x.clamp_(-limit, limit)


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """table[index] for an index tensor of integers carried in floats.

    `index_select` with 32-bit indices is three times as fast on CPUs as indexing.
    """
    return table.index_select(0, index.to(torch.int32).reshape(-1)).view(index.shape)


def attention_weights(scores: Tensor, allowed: Tensor, table: Tensor) -> Tensor:
    """Integer softmax: (..., N, K) scores in table steps -> integers with a sum of about 2^8."""
    scores = scores.masked_fill(~allowed, MASKED_SCORE)
    below = (scores.amax(-1, keepdim=True) - scores).clamp_max_(len(table) - 1)
    shares = lookup(table, below).mul_(allowed)
    total = shares.sum(-1, keepdim=True).clamp_min(1.0)  # exact: below 2^24
    factor = torch.full_like(total, float(ATTENTION_SUM)) / total
    return shares.mul_(factor).round_()


def frequencies(logits: Tensor, table: Tensor) -> Tensor:
    """Integer logits (..., V) in table steps -> int64 frequencies, each at least 1."""
    below = logits.amax(-1, keepdim=True) - logits
    shares = lookup(table, below.clamp_max(len(table) - 1)).double()
    total = shares.sum(-1, keepdim=True)  # exact: below 2^31
    factor = torch.full_like(total, float(FREQUENCY_SUM)) / total
    return shares.mul_(factor).round_().to(torch.int64).add_(1)


def _float32(x: Tensor, weight: Tensor) -> Tensor:
    return x.to(torch.float32) @ weight.to(torch.float32).transpose(-1, -2)


def _float64(x: Tensor, weight: Tensor) -> Tensor:
    return x.double() @ weight.double().transpose(-1, -2)


def _int64(x: Tensor, weight: Tensor) -> Tensor:
    return x.to(torch.int64) @ weight.to(torch.int64).transpose(-1, -2)


def _int8(x: Tensor, weight: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).to(torch.int8)
    product = torch._int_mm(rows, weight.to(torch.int8).t())
    return product.view(*x.shape[:-1], weight.shape[0])


_MULTIPLY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "float32": _float32,
    "float64": _float64,
    "int64": _int64,
    "int8": _int8,
}


# Surroundings ------------------------------------------------------------------------------------

_guard = threading.Lock()
_users = 0
_saved: str | None = None


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Reduced-precision matrix products are off inside; restored when the last user leaves.

    Raises:
        ConfigError: autocast is on, which would replace the carriers by shorter floats.
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise ConfigError("entropy coding runs under autocast", "leave the autocast block first")
    _enter()
    try:
        with torch.inference_mode():
            yield
    finally:
        _leave()


def _enter() -> None:
    global _users, _saved
    with _guard:
        if _users == 0:
            _saved = _precision()
            if _saved is not None:
                torch.set_float32_matmul_precision("highest")
        _users += 1


def _leave() -> None:
    global _users
    with _guard:
        _users -= 1
        if _users == 0 and _saved is not None:
            torch.set_float32_matmul_precision(_saved)


def _precision() -> str | None:
    """The setting to come back to; None where torch's newer settings are in use.

    Those are left alone: every operand here has at most 8 significant bits, which even bfloat16
    keeps, so reduced precision would not change a result. Switching it off is a second lock.
    """
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
