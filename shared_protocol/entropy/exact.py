"""Exact integer inference in numpy: the same frequencies on every processor, in any batch.

It does not know bytes, scenarios or training. Every array holds integers, carried in float32 so
that a matrix product is one BLAS call; see `shared_protocol/notes/exactness.md` for why nothing
here can depend on the order of a sum. The rules that keep it so:

* every float multiplication is followed by a rounding, never by an addition;
* division and square root are IEEE operations; there is no `exp`, `erf` or `tanh`;
* sums run over integers that a certificate keeps below 2^24 (float32) or 2^53 (float64).

`exact_torch` says the same in torch, for GPUs and as a second opinion.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared_protocol.entropy.config import (
    ACTIVATION_MAX,
    ATTENTION_SUM,
    FREQUENCY_SUM,
    GELU_HALF,
    RESIDUAL_MAX,
    EntropyConfig,
)
from shared_protocol.entropy.weights import ExactWeights

Whole = npt.NDArray[np.int64]
Carried = npt.NDArray[np.float32]
"""Integers in float32."""

QUERIES = 64
"""Attention rows computed at once: few enough for the caches, and to skip keys nobody sees yet."""

MASKED_SCORE = -(2.0**23)
"""Below every score, so that a masked key is never the maximum of a row that has an allowed one."""

_PLACES = threading.BoundedSemaphore(16)
"""OpenBLAS crashes when some hundred threads multiply at once; more than this gain nothing."""


class KeyCache(Protocol):
    """Keys and values of the entries so far."""

    length: int

    def as_int8(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """Keys and values, each (L, B, heads, capacity, D / heads) int8 in numpy."""


class IntegerModel(Protocol):
    """The integer Transformer, whatever computes it; states are opaque but can be sliced."""

    @property
    def config(self) -> EntropyConfig:
        """Sizes."""

    def computing(self) -> Any:
        """A context in which nothing outside can lower the precision."""

    def embed(self, text: Whole, slots: Whole, places: Whole, kinds: Whole) -> Any:
        """(B, T), (B, N, SLOTS), (B, N, 2), (B, N) -> (B, T + N, D) residual integers."""

    def new_cache(self, batch: int, capacity: int) -> Any:
        """An empty cache for `batch` sequences of up to `capacity` entries."""

    def run(self, x: Any, allowed: npt.NDArray[np.bool_], cache: Any, common: int) -> Any:
        """Append N entries to the cache and give their states, (B, N, D)."""

    def high_frequencies(self, states: Any) -> Whole:
        """(..., D) states -> (..., 64) frequencies of the high part."""

    def low_frequencies(self, states: Any, high: Whole) -> Whole:
        """(..., D) states and (...) high parts -> (..., 128) frequencies of the low part."""


@dataclass
class Cache:
    """Keys and values of the entries so far, each (L, B, heads, capacity, D / heads) float32."""

    keys: Carried
    values: Carried
    length: int = 0

    def as_int8(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """See `KeyCache.as_int8`."""
        return self.keys.astype(np.int8), self.values.astype(np.int8)


class ExactModel:
    """The integer Transformer in numpy.

    Args:
        weights: certified integer weights.
    """

    def __init__(self, weights: ExactWeights) -> None:
        self._config = weights.config
        self._w = {name: _carried(name, array) for name, array in weights.arrays.items()}

    @property
    def config(self) -> EntropyConfig:
        """Sizes."""
        return self._config

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A place among those that compute: OpenBLAS has buffers for so many threads only.

        Precision needs no guard: numpy's float32 products are float32 products.
        """
        with _PLACES:
            yield

    # Entries -------------------------------------------------------------------------------------

    def embed(self, text: Whole, slots: Whole, places: Whole, kinds: Whole) -> Carried:
        """See `IntegerModel.embed`."""
        if not text.shape[1]:
            return self._embed_grid(slots, places, kinds)
        w = self._w
        place = w["text_place"][: text.shape[1]] + w["kind"][0]
        words = self._linear(w["text_table"][text], "text_join", RESIDUAL_MAX)
        words = _clamp(words + place, RESIDUAL_MAX)
        return np.concatenate([words, self._embed_grid(slots, places, kinds)], axis=1)

    def _embed_grid(self, slots: Whole, places: Whole, kinds: Whole) -> Carried:
        w, places = self._w, np.minimum(places, self._config.side - 1)
        inputs = slots.shape[2] * self._config.code_width  # SLOTS * E
        joined = w["code_table"][slots].reshape(*slots.shape[:2], inputs)
        place = w["row"][places[..., 0]] + w["column"][places[..., 1]] + w["kind"][kinds]
        x = self._linear(joined.astype(np.float32), "join", RESIDUAL_MAX)
        return _clamp(np.add(x, place, out=x), RESIDUAL_MAX)

    # Blocks --------------------------------------------------------------------------------------

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """See `IntegerModel.new_cache`."""
        c = self._config
        shape = (c.layers, batch, c.heads, capacity, c.head_width)
        return Cache(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def run(self, x: Carried, allowed: npt.NDArray[np.bool_], cache: Cache, common: int) -> Carried:
        """Append N entries to the cache and give their states.

        Args:
            x: (B, N, D) residual integers.
            allowed: (B, N, K) bool, K = cache.length + N: which keys each entry sees.
            cache: extended in place.
            common: how many leading keys an entry may see besides those up to itself.

        Returns:
            (B, N, D) normalised states, integers in [-127, 127].
        """
        for layer in range(self._config.layers):
            qkv = self._linear(self._norm(x, 2 * layer), "qkv", ACTIVATION_MAX, layer)
            mixed = self._attention(qkv, allowed, cache, common, layer)
            added = self._linear(mixed, "out", RESIDUAL_MAX, layer)
            x = _clamp(np.add(added, x, out=added), RESIDUAL_MAX)
            inner = self._linear(self._norm(x, 2 * layer + 1), "up", GELU_HALF, layer)
            inner = _lookup(self._w["gelu"][layer], np.add(inner, GELU_HALF, out=inner))
            added = self._linear(inner, "down", RESIDUAL_MAX, layer)
            x = _clamp(np.add(added, x, out=added), RESIDUAL_MAX)
        cache.length += x.shape[1]
        return self._norm(x, 2 * self._config.layers)

    def _attention(
        self, qkv: Carried, allowed: npt.NDArray[np.bool_], cache: Cache, common: int, layer: int
    ) -> Carried:
        batch, count, _ = qkv.shape
        start, end = cache.length, cache.length + count
        split = qkv.reshape(batch, count, 3, self._config.heads, -1).transpose(2, 0, 3, 1, 4)
        queries = np.ascontiguousarray(split[0])  # (B, heads, N, D / heads)
        keys, values = cache.keys[layer], cache.values[layer]
        keys[:, :, start:end] = split[1]
        values[:, :, start:end] = split[2]
        mixed = np.empty(
            (batch, count, *queries.shape[1::2]), dtype=np.float32
        )  # (B, N, heads, D / heads)
        for i in range(0, count, QUERIES):
            j = min(i + QUERIES, count)
            seen = min(max(common, start + j), end)  # no entry of the chunk sees a later key
            mixed[:, i:j] = self._mix(
                queries[:, :, i:j],
                keys[:, :, :seen],
                values[:, :, :seen],
                allowed[:, i:j, :seen],
                layer,
            ).transpose(0, 2, 1, 3)
        return mixed.reshape(batch, count, self._config.width)

    def _mix(
        self,
        queries: Carried,
        keys: Carried,
        values: Carried,
        allowed: npt.NDArray[np.bool_],
        layer: int,
    ) -> Carried:
        scores = queries @ keys.swapaxes(-1, -2)  # (B, heads, N, K)
        scores *= self._w["score.scale"][layer][:, None, None]
        np.rint(scores, out=scores)
        weights = attention_weights(scores, allowed[:, None], self._w["score_exp"])
        mixed = weights @ values
        mixed *= self._w["mix.scale"][layer]
        return _clamp(np.rint(mixed, out=mixed), ACTIVATION_MAX)

    # Heads ---------------------------------------------------------------------------------------

    def high_frequencies(self, states: Carried) -> Whole:
        """See `IntegerModel.high_frequencies`."""
        return frequencies(self._steps(states, "high"), self._w["logit_exp"])

    def low_frequencies(self, states: Carried, high: Whole) -> Whole:
        """See `IntegerModel.low_frequencies`."""
        inner = self._linear(states, "low_in", GELU_HALF, extra=self._w["given"][high])
        hidden = _lookup(self._w["low_gelu"], np.add(inner, GELU_HALF, out=inner))
        return frequencies(self._steps(hidden, "low_out"), self._w["logit_exp"])

    # Arithmetic ----------------------------------------------------------------------------------

    def _steps(self, x: Carried, name: str) -> Carried:
        sums = _product(x, self._w[f"{name}.weight"])
        sums += self._w[f"{name}.bias"]
        sums *= self._w[f"{name}.scale"]
        return np.rint(sums, out=sums)

    def _linear(
        self,
        x: Carried,
        name: str,
        limit: int,
        layer: int | None = None,
        extra: Carried | None = None,
    ) -> Carried:
        """Matrix product, bias, ONE float32 multiplication, round half to even, clamp."""
        weight, scale = self._w[f"{name}.weight"], self._w[f"{name}.scale"]
        bias = self._w.get(f"{name}.bias")
        if layer is not None:
            weight, scale = weight[layer], scale[layer]
            bias = None if bias is None else bias[layer]
        sums = _product(x, weight)
        for term in (bias, extra):
            if term is not None:
                sums += term
        sums *= scale
        return _clamp(np.rint(sums, out=sums), limit)

    def _norm(self, x: Carried, index: int) -> Carried:
        wide = x.astype(np.float64)
        squares = np.einsum("...d,...d->...", wide, wide)  # exact: below 2^30 * D
        root = np.sqrt(np.maximum(squares, 1.0))
        factor = (self._w["norms"][index] / root).astype(np.float32)
        normed = x * factor[..., None]
        return _clamp(np.rint(normed, out=normed), ACTIVATION_MAX)


def _carried(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers as float32, for products and sums; the tables of rows stay small until looked up."""
    if array.dtype.kind == "f" or name in _ROWS:
        return array
    return array.astype(np.float32)


_ROWS = ("code_table", "text_table")
"""Tables of which a step reads a few rows; the largest arrays of all."""


def _product(x: Carried, weight: Carried) -> Carried:
    """(..., K) @ (R, K) -> (..., R), as one matrix product."""
    flat = x.reshape(-1, x.shape[-1])
    product: Carried = flat @ weight.T
    return product.reshape(*x.shape[:-1], len(weight))


def _clamp(x: Carried, limit: int) -> Carried:
    """Cut to [-limit, limit], in place."""
    np.minimum(x, np.float32(limit), out=x)
    return np.maximum(x, np.float32(-limit), out=x)


def _lookup(table: Carried, index: Carried) -> Carried:
    """table[index] for an index array of integers carried in floats."""
    found: Carried = table[index.astype(np.intp)]
    return found


def attention_weights(scores: Carried, allowed: npt.NDArray[np.bool_], table: Carried) -> Carried:
    """Integer softmax: (..., N, K) scores in table steps -> integers with a sum of about 2^8."""
    scores = np.where(allowed, scores, np.float32(MASKED_SCORE))
    below = np.subtract(scores.max(-1, keepdims=True), scores, out=scores)
    shares = _lookup(table, np.minimum(below, np.float32(len(table) - 1), out=below))
    shares *= allowed
    total = np.maximum(shares.sum(-1, keepdims=True, dtype=np.float32), np.float32(1))
    shares *= np.float32(ATTENTION_SUM) / total  # the sum is exact: below 2^24
    return np.rint(shares, out=shares)


def frequencies(logits: Carried, table: Carried) -> Whole:
    """Integer logits (..., V) in table steps -> int64 frequencies, each at least 1."""
    below = logits.max(-1, keepdims=True) - logits
    shares = _lookup(table, np.minimum(below, np.float32(len(table) - 1))).astype(np.float64)
    total = shares.sum(-1, keepdims=True)  # exact: below 2^31
    shares *= float(FREQUENCY_SUM) / total
    return np.rint(shares).astype(np.int64) + 1
