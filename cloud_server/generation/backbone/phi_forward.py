"""One pass through Phi's layers with keys and values kept: the fast path of serving.

Computes what transformers' `PhiModel.forward` computes, less what nobody asked for, from modules of
`phi` or from its own, which have the same names. Does not know ids, prompts, or sampling.

::

    x ─ LayerNorm ─┬─► keys, values of all tokens ──► cache ─┐
                   ├─► queries ──────────────────────────────┴─► attention ─┐
                   └─► MLP ─────────────────────────────────────────────────┼─► + x
                                                                            │
    first layer: a token that is read after several pasts is projected once │
    last layer:  queries and MLP for the wanted positions only ─────────────┘
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cloud_server.generation.backbone.phi import Attention, Layer, Layers
from cloud_server.generation.backbone.protocol import ALL

Rows = slice | Tensor
"""Positions: a slice of them, or (B, R) int64."""


class PhiCache:
    """A `KeyValueCache` in buffers of fixed size, so that reading a token moves no other one.

    Args:
        keys, values: (rows, heads, capacity, head dim) of each layer.
    """

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self._keys, self._values = keys, values
        self._length = 0

    @property
    def rows(self) -> int:
        return self._keys[0].shape[0]

    def __len__(self) -> int:
        return self._length

    def truncate(self, length: int) -> None:
        self._length = min(self._length, length)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put a layer's (C, heads, L, d) after those of the tokens read; all of them so far."""
        start, end = self._length, self._length + keys.shape[2]
        held_keys, held_values = self._keys[layer], self._values[layer]
        assert end <= held_keys.shape[2], f"{end} tokens in a cache for {held_keys.shape[2]}"
        held_keys[:, :, start:end] = keys
        held_values[:, :, start:end] = values
        return held_keys[:, :, :end], held_values[:, :, :end]

    def keys(self, layer: int) -> Tensor:
        """(rows, heads, tokens read, head dim) of one layer."""
        return self._keys[layer][:, :, : self._length]

    def advance(self, count: int) -> None:
        """Count the tokens that every layer has written."""
        self._length += count

    def begin_with(self, sources: Sequence["PhiCache"]) -> None:
        """Copy the tokens of one cache of one row and equal length for each row."""
        self._length = len(sources[0])
        for row, source in enumerate(sources):
            for layer in range(len(self._keys)):
                keys, values = source._keys[layer], source._values[layer]
                self._keys[layer][row, :, : self._length] = keys[0, :, : self._length]
                self._values[layer][row, :, : self._length] = values[0, :, : self._length]


def read(
    model: Layers,
    embedded: Tensor,
    mask: Tensor | None,
    position_ids: Tensor,
    cache: PhiCache | None = None,
    rows: Rows = ALL,
) -> Tensor:
    """Hidden states of the wanted positions, after the last LayerNorm.

    Args:
        model: the layers.
        embedded: (B, L, D).
        mask: (C or 1, 1, L or 1, P + L), added to the attention scores; None: all see all.
        position_ids: (B, L).
        cache: of C = k * B rows, extended by the L tokens.
        rows: wanted positions, a slice or (B, R).

    Returns:
        (C, rows, D).
    """
    count = cache.rows if cache is not None else embedded.shape[0]
    place = _Place.of(model, embedded, position_ids, mask)
    for index, layer in enumerate(model.layers):
        if index + 1 < len(model.layers):
            embedded = _layer(layer, index, embedded, place, cache, ALL, count)
        else:
            embedded = _layer(layer, index, embedded, place, cache, _tiled(rows, embedded), count)
        place = place.repeated(count)
    if cache is not None:
        cache.advance(position_ids.shape[1])
    hidden: Tensor = model.final_layernorm(embedded)
    return hidden


def looks(  # noqa: PLR0913 - one numeric step, all of it named
    model: Layers,
    embedded: Tensor,
    mask: Tensor | None,
    position_ids: Tensor,
    cache: PhiCache,
    layer: int,
    head: int,
) -> Tensor:
    """How one attention head of one layer looks at what was read, for each of the L tokens.

    Args:
        model, embedded, mask, position_ids: as for `read`.
        cache: of B rows; its length stays, though its columns beyond that are overwritten.
        layer, head: which one, from 0.

    Returns:
        (B, L, P + L) float32 weights, each row's sum 1.
    """
    place = _Place.of(model, embedded, position_ids, mask)
    for index, before in enumerate(model.layers[:layer]):
        embedded = _layer(before, index, embedded, place, cache, ALL, len(embedded))
    attention = model.layers[layer].self_attn
    normed = model.layers[layer].input_layernorm(embedded)
    queries, keys = (
        place.turn(norm(_heads(project(normed), attention))).transpose(1, 2)
        for project, norm in (
            (attention.q_proj, attention.q_layernorm),
            (attention.k_proj, attention.k_layernorm),
        )
    )
    past = cache.keys(layer)
    scores = queries[:, head] @ torch.cat([past, keys], dim=2)[:, head].transpose(1, 2)
    scores = scores.float() * attention.scaling
    seen: Tensor = (scores if mask is None else scores + mask[:, 0]).softmax(-1)
    return seen


@dataclass(frozen=True)
class _Place:
    """Where tokens stand, (B, L, 1, r) cosines and sines, and what they may see."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None

    @classmethod
    def of(
        cls, model: Layers, embedded: Tensor, position_ids: Tensor, mask: Tensor | None
    ) -> "_Place":
        angles = position_ids[..., None].float() * model.rotary_emb.inv_freq.to(embedded.device)
        angles = torch.cat([angles, angles], dim=-1)[:, :, None]
        return cls(angles.cos().to(embedded.dtype), angles.sin().to(embedded.dtype), mask)

    def turn(self, vectors: Tensor) -> Tensor:
        """Rotary embedding, in place, of the first r of (B, L, heads, d) vectors' d numbers."""
        turned = vectors[..., : self.cos.shape[-1]]
        first, second = turned.chunk(2, dim=-1)
        turned.copy_(turned * self.cos + torch.cat([-second, first], dim=-1) * self.sin)
        return vectors

    def picked(self, wanted: Rows) -> "_Place":
        mask = self.mask
        if mask is not None and mask.shape[2] > 1:
            mask = _picked(mask.expand(len(self.cos), -1, -1, -1)[:, 0], wanted)[:, None]
        return _Place(_picked(self.cos, wanted), _picked(self.sin, wanted), mask)

    def repeated(self, count: int) -> "_Place":
        return _Place(_repeated(self.cos, count), _repeated(self.sin, count), self.mask)


def _layer(  # noqa: PLR0913 - one numeric step, all of it named
    layer: Layer,
    index: int,
    entering: Tensor,
    place: _Place,
    cache: PhiCache | None,
    wanted: Rows,
    count: int,
) -> Tensor:
    """(B, L, D) to (`count`, wanted, D)."""
    attention = layer.self_attn
    normed = layer.input_layernorm(entering)
    keys = place.turn(attention.k_layernorm(_heads(attention.k_proj(normed), attention)))
    values = _heads(attention.v_proj(normed), attention)
    keys, values = (_repeated(t, count).transpose(1, 2) for t in (keys, values))
    if cache is not None:
        keys, values = cache.write(index, keys, values)
    if not _is_all(wanted):
        entering, normed = _picked(entering, wanted), _picked(normed, wanted)
        place = place.picked(wanted)
    queries = place.turn(attention.q_layernorm(_heads(attention.q_proj(normed), attention)))
    looked = F.scaled_dot_product_attention(
        _repeated(queries, count).transpose(1, 2),
        keys,
        values,
        attn_mask=place.mask,
        scale=attention.scaling,
    )
    attended = attention.dense(looked.transpose(1, 2).flatten(2))  # (C, wanted, D)
    summed: Tensor = attended.add_(_repeated(layer.mlp(normed), count))
    return summed.add_(_repeated(entering, count))


def _heads(vectors: Tensor, attention: Attention) -> Tensor:
    """(B, L, D) to (B, L, heads, d)."""
    heads = vectors.shape[-1] // attention.head_dim
    return vectors.view(*vectors.shape[:-1], heads, attention.head_dim)


def _is_all(rows: Rows) -> bool:
    return isinstance(rows, slice) and rows == ALL


def _picked(tensor: Tensor, rows: Rows) -> Tensor:
    """(B, L, ...) to (B, rows, ...)."""
    if isinstance(rows, slice):
        return tensor[:, rows]
    return tensor[torch.arange(len(rows), device=rows.device)[:, None], rows]


def _repeated(tensor: Tensor, count: int) -> Tensor:
    """The B rows of a tensor, over and over until there are `count`."""
    times = count // tensor.shape[0]
    return tensor if times == 1 else torch.cat([tensor] * times)


def picked(hidden: Tensor, rows: Rows) -> Tensor:
    """(C, L, D) to (C, rows, D), for wanted positions of as many rows or of a part of them."""
    return _picked(hidden, _tiled(rows, hidden))


def _tiled(rows: Rows, embedded: Tensor) -> Rows:
    """Wanted positions for as many rows as there are embeddings."""
    return rows if isinstance(rows, slice) else _repeated(rows, embedded.shape[0])
