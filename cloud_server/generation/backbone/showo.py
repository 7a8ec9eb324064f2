"""Show-o's transformer: a Phi with query/key LayerNorm, masks given by the caller.

Does not know prompts, sampling, or files (see `checkpoint`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cloud_server.generation.backbone.phi import Embedding, Linear, Phi
from cloud_server.generation.backbone.phi import ShowoConfig as ShowoConfig
from cloud_server.generation.backbone.phi_forward import PhiCache, Rows, looks, read
from cloud_server.generation.backbone.protocol import ALL, KeyValueCache

if TYPE_CHECKING:
    from transformers import PhiConfig, PhiForCausalLM


def phi_config(config: ShowoConfig) -> PhiConfig:
    """The transformers configuration of a Show-o transformer."""
    from transformers import PhiConfig

    return PhiConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.max_positions,
        layer_norm_eps=config.layer_norm_eps,
        # The same function as gelu_new (tanh form), as one kernel instead of seven.
        hidden_act="gelu_pytorch_tanh",
        qk_layernorm=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": config.rope_theta,
            "partial_rotary_factor": config.partial_rotary_factor,
        },
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="sdpa",
    )


AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""(row, column) offsets of the neighbours."""
FIRST = 2
"""Position of the first image token, modulo `side`: it follows a task token and soi in a question,
and `max_text_len` (a multiple of `side`), a task token and soi in a picture."""


class NeighbourStem(nn.Module):
    """Codes around an image token, looked up in a table of their own and joined.

    Differs from Show-o: because a network of a few million parameters spends most of its training
    on finding out that the token above stands `side` positions earlier; with this layer it is told.
    Show-o's own weights have none.

    ```
    1 2 3
    4 x 5   ─► 8 rows of (codes + 2, width) ─► concatenated ─► linear ─► added to x's embedding
    6 7 8
    ```

    Args:
        codes: codebook size V; ids V.. are the mask, and "no image token there".
        image_offset: unified id of code 0.
        width: of the table.
        dim: of the embeddings.
        side: grid side in tokens.
        max_positions: number of position ids.
    """

    def __init__(
        self, codes: int, image_offset: int, width: int, dim: int, side: int, max_positions: int
    ) -> None:
        super().__init__()
        self.table = Embedding(codes + 2, width)
        self.join = Linear(len(AROUND) * width, dim, bias=False)
        if not self.table.weight.is_meta:
            nn.init.normal_(self.table.weight, std=0.5)
            nn.init.zeros_(self.join.weight)
        self._absent, self._offset = codes + 1, image_offset
        self._side, self._positions = side, max_positions

    def concerns(self, token_ids: Tensor) -> bool:
        """Whether there is an image token among them; to others the stem adds nothing."""
        return bool((token_ids >= self._offset).any())

    def forward(self, token_ids: Tensor, position_ids: Tensor) -> Tensor:
        """(B, L) ids and positions to (B, L, dim), zero where no image token stands."""
        rows = token_ids - self._offset
        is_image = rows >= 0
        board = self._board(rows, position_ids, is_image)
        column = (position_ids - FIRST) % self._side
        around = [
            self._neighbour(board, position_ids, column, down, right) for down, right in AROUND
        ]
        joined: Tensor = self.join(self.table(torch.stack(around, dim=-1)).flatten(-2))
        return joined * is_image[..., None]

    def _board(self, rows: Tensor, position_ids: Tensor, is_image: Tensor) -> Tensor:
        """(B, positions) table rows by position id, margins of one row and one token included."""
        length = self._positions + 2 * (self._side + 1)
        board = rows.new_full((rows.shape[0], length + 1), self._absent)
        place = torch.where(is_image, position_ids + self._side + 1, length)  # last: thrown away
        board.scatter_(1, place, torch.where(is_image, rows, self._absent))
        return board

    def _neighbour(
        self, board: Tensor, position_ids: Tensor, column: Tensor, down: int, right: int
    ) -> Tensor:
        place = position_ids + (self._side + 1 + down * self._side + right)
        beyond = (column + right < 0) | (column + right >= self._side)
        return board.gather(1, place).masked_fill(beyond, self._absent)


def build_stem(config: ShowoConfig) -> NeighbourStem | None:
    """The untrained stem of a network that has one."""
    if not config.stem_width:
        return None
    return NeighbourStem(
        config.stem_codes,
        config.vocab_size - 1 - config.stem_codes,
        config.stem_width,
        config.hidden_size,
        config.stem_side,
        config.max_positions,
    )


def build_phi(config: ShowoConfig) -> PhiForCausalLM:
    """transformers' own model of that shape, with untrained weights."""
    from transformers import PhiForCausalLM

    return PhiForCausalLM(phi_config(config))


def whole_phi(phi: Phi) -> PhiForCausalLM:
    """transformers' own model over the same weights, for what `phi_forward` does not compute."""
    from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

    with torch.device("meta"):
        whole = build_phi(phi.config)
    whole.load_state_dict(phi.state_dict(), assign=True)
    # Not part of any checkpoint, hence still without memory.
    rotary = PhiRotaryEmbedding(phi_config(phi.config))
    whole.model.rotary_emb = rotary.to(phi.lm_head.weight.device)
    return whole.eval()


class ShowoBackbone:
    """A `Backbone` of Show-o's architecture, in inference mode.

    Args:
        phi: the transformer: a `Phi`, or transformers' own model.
        stem: added to its embeddings, if there is one.
        pointing: layer and head, from 0, that training taught to look from an object's name at
            the object; None if there is no such head.
    """

    def __init__(
        self,
        phi: Phi | PhiForCausalLM,
        stem: NeighbourStem | None = None,
        pointing: tuple[int, int] | None = None,
    ) -> None:
        self.pointing = pointing
        self.phi: Any = phi.eval().requires_grad_(False)
        self.stem = None if stem is None else stem.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return torch.device(self.phi.lm_head.weight.device)

    @property
    def vocab_size(self) -> int:
        return int(self.phi.lm_head.out_features)

    def new_cache(self, rows: int, capacity: int) -> PhiCache:
        return PhiCache(*self.room(rows, capacity))

    def room(self, rows: int, capacity: int) -> tuple[list[Tensor], list[Tensor]]:
        """Memory for the keys of each layer and for the values; what is in it has no meaning."""
        layers, like = self.phi.model.layers, self.phi.lm_head.weight
        head_dim = layers[0].self_attn.head_dim
        shape = (rows, self.width // head_dim, capacity, head_dim)
        keys, values = ([like.new_empty(shape) for _ in layers] for _ in range(2))
        return keys, values

    @property
    def width(self) -> int:
        """Numbers in a hidden state."""
        return int(self.phi.lm_head.in_features)

    def stacked(self, caches: Sequence[KeyValueCache], capacity: int) -> PhiCache:
        sources = [cache for cache in caches if isinstance(cache, PhiCache)]
        stacked = self.new_cache(len(caches), capacity)
        stacked.begin_with(sources)
        return stacked

    @torch.inference_mode()
    def logits(
        self,
        token_ids: Tensor,
        allow: Tensor | None,
        position_ids: Tensor,
        *,
        cache: KeyValueCache | None = None,
        rows: Rows = ALL,
        columns: slice = ALL,
    ) -> Tensor:
        hidden = read(
            self.phi.model,
            self.embed(token_ids, position_ids),
            added(allow, self.phi.lm_head.weight.dtype),
            position_ids,
            cache if isinstance(cache, PhiCache) else None,
            rows,
        )
        return self.scores(hidden, columns)

    def scores(self, hidden: Tensor, columns: slice) -> Tensor:
        """Hidden states (C, R, D) to (C, R, columns) float32."""
        head = self.phi.lm_head
        scores = torch.nn.functional.linear(hidden, head.weight[columns], head.bias[columns])
        return scores.float()

    @torch.inference_mode()
    def looks(
        self, token_ids: Tensor, allow: Tensor | None, position_ids: Tensor, cache: KeyValueCache
    ) -> Tensor:
        assert self.pointing is not None
        assert isinstance(cache, PhiCache)
        return looks(
            self.phi.model,
            self.embed(token_ids, position_ids),
            added(allow, self.phi.lm_head.weight.dtype),
            position_ids,
            cache,
            *self.pointing,
        )

    def embed(self, token_ids: Tensor, position_ids: Tensor) -> Tensor:
        """What the first layer reads: (B, L) ids and positions to (B, L, D)."""
        embedded: Tensor = self.phi.model.embed_tokens(token_ids)
        if self.stem is None or not self.stem.concerns(token_ids):
            return embedded
        around: Tensor = self.stem(token_ids, position_ids)
        return embedded + around


def added(allow: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The mask as attention adds it to its scores: 0 where allowed, else minus infinity."""
    if allow is None:
        return None
    return torch.zeros_like(allow, dtype=dtype).masked_fill_(~allow, -torch.inf)
