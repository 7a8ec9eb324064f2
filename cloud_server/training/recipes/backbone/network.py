"""The unified transformer while it is trained: factored code tables, a probe, logits where needed.

Knows batches of ids; no scenes, no files. Exports plain Phi weights.

A code's embedding, and its row of the head, is a sum that ends as one table when exported::

    row[code] = free[code] + high[code >> 7] + low[code & 127] + sum of +-bits[k]

so that rare codes share what their bits mean. The probe reads an inner layer's image positions and
says what is there, which part of it, and where that is; it is not exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud_server.generation.backbone.showo import ShowoConfig, build_phi, build_stem
from cloud_server.training.recipes.backbone.batch import Batch, Links
from shared_protocol.vocabulary import Vocabulary

_LOW_BITS = 7
_LINKED_LAYERS, _LINKED_HEADS = (-3, -1), (0, 1)
"""The layers and heads that `Links` teach: one for names that are said, one for naming."""
_PROBE_WEIGHTS = (1.0, 0.6, 0.3, 0.3)
"""Of what the probe tells: thing, part of it, row, column."""


class CodeTable(nn.Module):
    """A (codes, dim) table made of a free part and of parts shared by bits."""

    signs: Tensor
    high_of: Tensor
    low_of: Tensor

    def __init__(self, codes: int, dim: int, std: float) -> None:
        super().__init__()
        bits = (codes - 1).bit_length()
        self.free = nn.Parameter(torch.randn(codes, dim) * std)
        self.high = nn.Parameter(torch.randn(-(-codes >> _LOW_BITS) or 1, dim) * std * 0.5)
        self.low = nn.Parameter(torch.randn(1 << _LOW_BITS, dim) * std * 0.5)
        self.bits = nn.Parameter(torch.randn(bits, dim) * std * 0.3)
        numbers = torch.arange(codes)
        signs = ((numbers[:, None] >> torch.arange(bits)) & 1) * 2.0 - 1.0
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("high_of", numbers >> _LOW_BITS, persistent=False)
        self.register_buffer("low_of", numbers & ((1 << _LOW_BITS) - 1), persistent=False)

    def forward(self) -> Tensor:
        """The whole table (codes, dim)."""
        shared = self.high[self.high_of] + self.low[self.low_of]
        return self.free + shared + self.signs @ self.bits

    @torch.no_grad()
    def take_over(self, table: Tensor) -> None:
        """Become exactly this table (codes, dim): all of it free, nothing shared yet.

        How the rows were shared is not known from their sum. Splitting it anew would change the
        table by rounding, and gain nothing: rows that were trained know what their bits mean.
        """
        for shared in (self.high, self.low, self.bits):
            shared.zero_()
        self.free.copy_(table)


def _rotated(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of the first R of the vectors' (B, L, d) dimensions."""
    turned, rest = vectors[..., : cos.shape[-1]], vectors[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([turned, rest], dim=-1)


class TrainedBackbone(nn.Module):
    """Phi between factored tables.

    Args:
        config: architecture; its vocabulary size must be that of `vocabulary`.
        vocabulary: id layout.
        probe_classes: how many things, parts of things, rows and columns the probe tells apart.
        probe_layer: after how many layers it reads.
    """

    def __init__(
        self,
        config: ShowoConfig,
        vocabulary: Vocabulary,
        probe_classes: Sequence[int],
        probe_layer: int,
    ) -> None:
        super().__init__()
        phi = build_phi(config)
        self.inner = phi.model
        self.inner.embed_tokens = None  # replaced by the tables below
        self.stem = build_stem(config)
        self.vocabulary = vocabulary
        dim = config.hidden_size
        self.words_in = nn.Parameter(torch.randn(vocabulary.image_offset, dim) * 0.02)
        self.codes_in = CodeTable(vocabulary.codebook_size, dim, 0.02)
        self.mask_in = nn.Parameter(torch.randn(1, dim) * 0.02)
        self.words_out = nn.Parameter(torch.randn(vocabulary.image_offset, dim) * 0.02)
        self.words_bias = nn.Parameter(torch.zeros(vocabulary.image_offset))
        self.codes_out = CodeTable(vocabulary.codebook_size, dim, 0.02)
        self.codes_bias = nn.Parameter(torch.zeros(vocabulary.codebook_size))
        self._place_sizes = list(probe_classes[1:])
        self.probe = nn.Linear(dim, probe_classes[0])
        self.probe_norm = nn.LayerNorm(dim)
        self._seen: Tensor | None = None
        self._entering: dict[int, Tensor] = {}
        self.probe_share = 1.0
        """Of the probe's gradient, what goes on into the network; the probe learns in any case."""
        self.link_loss = torch.zeros(())
        for index in _LINKED_LAYERS:
            self.inner.layers[index].register_forward_pre_hook(self._keep_input(index))
        self.inner.layers[probe_layer - 1].register_forward_hook(self._remember)
        self.place_probe = nn.Linear(dim, sum(probe_classes[1:]))
        self._scale_residuals(config)

    def _scale_residuals(self, config: ShowoConfig) -> None:
        """Smaller output projections, so that depth does not raise the variance at the start."""
        for layer in self.inner.layers:
            for module in (layer.self_attn.dense, layer.mlp.fc2):
                nn.init.normal_(module.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def _remember(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._seen = output[0] if isinstance(output, tuple) else output

    def _keep_input(self, index: int) -> Callable[[nn.Module, Any], None]:
        def keep(_module: nn.Module, inputs: Any) -> None:
            self._entering[index] = inputs[0]

        return keep

    @property
    def pointing(self) -> tuple[int, int]:
        """Layer and head, from 0, that are taught to look from a said name at the thing."""
        return len(self.inner.layers) + _LINKED_LAYERS[0], _LINKED_HEADS[0]

    def table_in(self) -> Tensor:
        """(vocabulary, dim) embedding."""
        return torch.cat([self.words_in, self.codes_in(), self.mask_in])

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(loss per target (M,) float32, right (M,) bool, mean probe loss) of a batch.

        All targets of a batch are text, or all are image codes.
        """
        embedded = F.embedding(batch.ids, self.table_in())
        if self.stem is not None:
            embedded = embedded + self.stem(batch.ids, batch.positions)
        hidden = self.inner(
            inputs_embeds=embedded,
            attention_mask=batch.allow,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        wanted = hidden.flatten(0, 1)[batch.rows]  # (M, D)
        offset = self.vocabulary.image_offset
        if len(batch.targets) and bool(batch.targets[0] >= offset):
            logits = F.linear(wanted, self.codes_out(), self.codes_bias)
            targets = batch.targets - offset
        else:
            logits, targets = F.linear(wanted, self.words_out, self.words_bias), batch.targets
        loss = F.cross_entropy(logits.float(), targets, reduction="none")
        return loss, logits.argmax(-1) == targets, self._probe_loss(batch) + self._links_loss(batch)

    def _links_loss(self, batch: Batch) -> Tensor:
        """How little the linked heads look where `Links` says."""
        total = self.words_bias.new_zeros(())
        for index, head, links in zip(
            _LINKED_LAYERS, _LINKED_HEADS, (batch.said, batch.naming), strict=True
        ):
            if len(links.rows):
                total = total + self._link_loss(index, head, links, batch)
        self.link_loss = total.detach()
        return total

    def _link_loss(self, index: int, head: int, links: Links, batch: Batch) -> Tensor:
        layer = self.inner.layers[index]
        attention = layer.self_attn
        entering = layer.input_layernorm(self._entering[index])  # (B, L, D)
        cos, sin = self.inner.rotary_emb(entering, batch.positions)  # (B, L, R)
        rows, length = batch.ids.shape
        split = (rows, length, -1, attention.head_dim)
        queries = attention.q_layernorm(attention.q_proj(entering).view(split)[:, :, head])
        keys = attention.k_layernorm(attention.k_proj(entering).view(split)[:, :, head])
        queries, keys = _rotated(queries, cos, sin), _rotated(keys, cos, sin)
        asking = queries.flatten(0, 1)[links.rows]  # (Q, d)
        of = links.rows // length
        scores = torch.einsum("qd,qld->ql", asking, keys[of]).float() * attention.scaling
        seen = batch.allow[of, 0, links.rows % length]  # (Q, L)
        looks = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        found: Tensor = (looks * links.columns).sum(-1).clamp(min=1e-6)
        return -found.log().mean()

    def _probe_loss(self, batch: Batch) -> Tensor:
        assert self._seen is not None
        if not len(batch.probe_rows):
            return self.words_bias.new_zeros(())
        seen = self._seen.flatten(0, 1)[batch.probe_rows]
        if self.probe_share < 1.0:
            seen = torch.lerp(seen.detach(), seen, self.probe_share)
        seen = self.probe_norm(seen)
        told = [self.probe(seen), *self.place_probe(seen).split(self._place_sizes, dim=-1)]
        losses = [
            weight * F.cross_entropy(logits.float(), target)
            for weight, logits, target in zip(
                _PROBE_WEIGHTS, told, batch.probe_targets.unbind(1), strict=True
            )
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def take_over(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `plain_state` gave; the probe, of which that holds nothing, stays new.

        Raises:
            RuntimeError: tensors are missing, unexpected or misshapen.
        """
        offset = self.vocabulary.image_offset
        rest = dict(state)
        table, head, bias = (
            rest.pop(name)
            for name in ("model.embed_tokens.weight", "lm_head.weight", "lm_head.bias")
        )
        self.words_in.copy_(table[:offset])
        self.codes_in.take_over(table[offset:-1])
        self.mask_in.copy_(table[-1:])
        self.words_out.copy_(head[:offset])
        self.codes_out.take_over(head[offset:-1])
        self.words_bias.copy_(bias[:offset])
        self.codes_bias.copy_(bias[offset:-1])
        self.inner.load_state_dict(_below("model.", rest))
        if self.stem is not None:
            self.stem.load_state_dict(_below("stem.", rest))

    def plain_state(self) -> dict[str, Tensor]:
        """The weights as a Phi's: `model...`, `lm_head...`, float32."""
        state = {
            f"model.{name}": tensor.detach().float()
            for name, tensor in self.inner.state_dict().items()
        }
        if self.stem is not None:
            stem = self.stem.state_dict().items()
            state |= {f"stem.{name}": tensor.detach().float() for name, tensor in stem}
        mask_row = self.mask_in.new_zeros(1, self.mask_in.shape[1])
        head = torch.cat([self.words_out, self.codes_out(), mask_row])
        bias = torch.cat([self.words_bias, self.codes_bias, self.codes_bias.new_zeros(1)])
        state["model.embed_tokens.weight"] = self.table_in().detach().float()
        state["lm_head.weight"] = head.detach().float()
        state["lm_head.bias"] = bias.detach().float()
        return state


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
