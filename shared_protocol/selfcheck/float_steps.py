"""The trainable network decoding one token at a time in floating point: what the benchmark beats.

It does not know integers or bytes and codes nothing: its probabilities differ from machine to
machine. Written as one would write it for speed in eager torch, with a cache of keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from shared_protocol.entropy.config import KIND_TARGET, SLOTS
from shared_protocol.entropy.model import Block, EntropyModel, norm


class FloatSteps:
    """A network with its cache, for one image of `capacity` tokens without a prefix."""

    def __init__(self, model: EntropyModel, capacity: int) -> None:
        c = model.config
        shape = (c.layers, 1, c.heads, capacity, c.width // c.heads)
        self._model, self._length = model, 0
        self._keys, self._values = torch.zeros(shape), torch.zeros(shape)
        self._table = model.code_table()

    @torch.inference_mode()
    def step(self, slots: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Read an entry and predict its code, greedily.

        Args:
            slots: (SLOTS,) int64 rows of the code table.
            place: (2,) int64 row and column.

        Returns:
            Probabilities of the high part (64,), and of the low part (128,) given the likeliest
            high part.
        """
        m = self._model
        assert slots.shape == (SLOTS,)
        x = m.join(self._table[slots].flatten()) + m.kind.weight[KIND_TARGET]
        x = (x + m.row.weight[place[0]] + m.column.weight[place[1]])[None, None]  # (1, 1, D)
        for index, block in enumerate(m.blocks):
            assert isinstance(block, Block)
            x = self._block(block, index, x)
        self._length += 1
        state = norm(x)[0, 0]
        high = m.high(state).softmax(-1)
        inner = F.gelu(m.low_in(state) + m.given.weight[high.argmax()])
        return high, m.low_out(inner).softmax(-1)

    def _block(self, block: Block, index: int, x: Tensor) -> Tensor:
        q, k, v = block.qkv(norm(x)).view(1, 1, 3, block.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        at = self._length
        self._keys[index, :, :, at : at + 1] = k
        self._values[index, :, :, at : at + 1] = v
        keys, values = self._keys[index, :, :, : at + 1], self._values[index, :, :, : at + 1]
        mixed = F.scaled_dot_product_attention(q, keys, values)
        x = x + block.out(mixed.transpose(1, 2).flatten(2))
        deeper: Tensor = x + block.down(F.gelu(block.up(norm(x))))
        return deeper
