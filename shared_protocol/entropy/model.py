"""The trainable entropy Transformer, in floating point.

It does not know integers, scales or bytes: `checkpoint.quantise` turns its weights into the exact
form that codes. Trained with it, never coded with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared_protocol.entropy.config import KINDS, SLOTS, EntropyConfig

NORM_FLOOR = 1e-6
"""Added to the mean square; far below one integer step of the residual stream."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B sequences of equal length: T text entries (some padding), then N grid entries.

    Args:
        text: (B, T) int64 rows of the text table.
        text_valid: (B, T) bool, False for padding.
        slots: (B, N, SLOTS) int64 rows of the code table.
        places: (B, N, 2) int64 row and column.
        kinds: (B, N) int64.
        prefix: (B,) int64, how many of the N entries are prefix.
        length: (B,) int64, how many are not padding; padding stands at the end.
        codes: (B, N) int64, the code to predict at each entry; ignored in the prefix.
    """

    text: Tensor
    text_valid: Tensor
    slots: Tensor
    places: Tensor
    kinds: Tensor
    prefix: Tensor
    length: Tensor
    codes: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})

    @property
    def is_target(self) -> Tensor:
        """(B, N) bool."""
        steps = torch.arange(self.kinds.shape[1], device=self.kinds.device)
        return (steps >= self.prefix[:, None]) & (steps < self.length[:, None])

    def attention_mask(self) -> Tensor:
        """(B, 1, T+N, T+N) bool: an entry sees the prefix and what came before it."""
        text, grid = self.text.shape[1], self.kinds.shape[1]
        steps = torch.arange(text + grid, device=self.kinds.device)
        in_prefix = steps[None, :] < text + self.prefix[:, None]  # (B, T+N)
        allowed = in_prefix[:, None, :] | (steps[None, :] <= steps[:, None])  # (B, T+N, T+N)
        padding = F.pad(~self.text_valid, (0, grid))
        itself = steps[None, :] == steps[:, None]  # padding must see something, or softmax is NaN
        return ((allowed & ~padding[:, None, :]) | itself).unsqueeze(1)


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm without gain.

    ```
    x ──┬─ norm ─ q,k,v ─ attention ─ out ──(+)──┬─ norm ─ up ─ GELU ─ down ──(+)──
        └───────────────────────────────────┘    └──────────────────────────────┘
    ```

    A gain would only scale the columns of the next matrix, so it is left to that matrix.
    """

    def __init__(self, config: EntropyConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, D / heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        deeper: Tensor = x + self.down(F.gelu(self.up(norm(x))))
        return deeper


class EntropyModel(nn.Module):
    """Entries in, logits of the high and the low part of each code out.

    ```
    slots ─ code table ─ join ─┐
    place ─ row + column ──────(+)─ blocks ─ norm ─┬─ high ──────────────── P(high)
    kind ──────────────────────┘                   └─ low_in + given[high] ─ GELU ─ low_out ─ P(low)
    ```
    """

    def __init__(self, config: EntropyConfig) -> None:
        super().__init__()
        self.config = config
        extra = config.code_rows - config.codebook_size
        self.high_part = nn.Embedding(config.high_size, config.code_width)
        self.low_part = nn.Embedding(config.low_size, config.code_width)
        self.whole_part = nn.Embedding(config.codebook_size, config.code_width)
        self.special_part = nn.Embedding(extra, config.code_width)
        self.join = nn.Linear(SLOTS * config.code_width, config.width, bias=False)
        self.text_table = nn.Embedding(config.text_size, config.text_width)
        self.text_join = nn.Linear(config.text_width, config.width, bias=False)
        self.row = nn.Embedding(config.side, config.width)
        self.column = nn.Embedding(config.side, config.width)
        self.kind = nn.Embedding(KINDS, config.width)
        self.text_place = nn.Embedding(config.text_limit, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.high = nn.Linear(config.width, config.high_size)
        self.low_in = nn.Linear(config.width, config.low_width)
        self.given = nn.Embedding(config.high_size, config.low_width)
        self.low_out = nn.Linear(config.low_width, config.low_size)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.high_part, self.low_part, self.special_part, self.text_table):
            nn.init.normal_(table.weight, std=0.7)
        for table in (self.row, self.column, self.kind, self.text_place, self.given):
            nn.init.normal_(table.weight, std=0.3)
        nn.init.zeros_(self.whole_part.weight)
        nn.init.zeros_(self.high.weight)
        nn.init.zeros_(self.low_out.weight)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)

    def code_table(self) -> Tensor:
        """(code_rows, E): for each code the sum of its parts, then the special rows."""
        high = self.high_part.weight[:, None, :]
        low = self.low_part.weight[None, :, :]
        codes = (high + low).reshape(self.config.codebook_size, -1) + self.whole_part.weight
        return torch.cat([codes, self.special_part.weight])

    def embed(self, batch: Batch) -> Tensor:
        """(B, T+N, D): the residual stream before the first block."""
        rows = F.embedding(batch.slots, self.code_table())  # (B, N, SLOTS, E)
        grid = self.join(rows.flatten(2)) + self.kind(batch.kinds)
        grid = grid + self.row(batch.places[..., 0]) + self.column(batch.places[..., 1])
        place = self.text_place.weight[: batch.text.shape[1]] + self.kind.weight[0]
        text = self.text_join(self.text_table(batch.text)) + place
        return torch.cat([text, grid], dim=1)

    def states(self, batch: Batch) -> Tensor:
        """(B, N, D): the normalised state of every grid entry."""
        x = self.embed(batch)
        mask = batch.attention_mask()
        for block in self.blocks:
            x = block(x, mask)
        return norm(x[:, batch.text.shape[1] :])

    def logits(self, states: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the high part (..., 64) and, given it, of the low part (..., 128)."""
        inner = F.gelu(self.low_in(states) + self.given(high))
        return self.high(states), self.low_out(inner)

    def forward(self, batch: Batch) -> Tensor:
        """Nats of each target code, a vector over all targets of the batch."""
        chosen = batch.is_target
        states, codes = self.states(batch)[chosen], batch.codes[chosen]
        high = codes >> self.config.low_bits
        low = codes & (self.config.low_size - 1)
        high_logits, low_logits = self.logits(states, high)
        nats = F.cross_entropy(high_logits.float(), high, reduction="none")
        return nats + F.cross_entropy(low_logits.float(), low, reduction="none")


def norm(x: Tensor) -> Tensor:
    """Root mean square norm without gain over the last axis."""
    return F.rms_norm(x.float(), x.shape[-1:], eps=NORM_FLOOR)
