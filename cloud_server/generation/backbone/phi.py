"""The modules of a Phi that is served: weights under the names of transformers' `PhiForCausalLM`.

They compute nothing by themselves, `phi_forward` does; to import transformers for them would take
longer than all else that a server does before it is ready. Does not know files or ids.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from shared_protocol.errors import ConfigError


@dataclass(frozen=True)
class ShowoConfig:
    """Architecture of the transformer; the defaults are Show-o's (Phi-1.5).

    Differs from Phi-1.5's own configuration: because Show-o forces the LayerNorm on queries and
    keys on, whatever the configuration says; it is not an option here.

    Attributes:
        stem_width: width of the `NeighbourStem`'s table; 0, as in Show-o, means that there is none.
        stem_codes: codebook size; read by the stem only.
        stem_side: grid side in tokens; read by the stem only.
    """

    vocab_size: int = 58498
    hidden_size: int = 2048
    intermediate_size: int = 8192
    layers: int = 24
    heads: int = 32
    max_positions: int = 2048
    partial_rotary_factor: float = 0.5
    rope_theta: float = 10000.0
    layer_norm_eps: float = 1e-5
    stem_width: int = 0
    stem_codes: int = 8192
    stem_side: int = 16

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}",
                "choose a hidden size that the heads divide",
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads

    def to_dict(self) -> dict[str, int | float]:
        """The fields by name, for a checkpoint's metadata."""
        return asdict(self)


class Linear(nn.Linear):
    """Draws no weights where there is no memory for them, which takes torch half its own start."""

    def reset_parameters(self) -> None:
        """See the class."""
        if not self.weight.is_meta:
            super().reset_parameters()


class Embedding(nn.Embedding):
    """The same of a table."""

    def reset_parameters(self) -> None:
        """See the class."""
        if not self.weight.is_meta:
            super().reset_parameters()


class Rotary(nn.Module):
    """The frequencies of rotary embeddings: no weights, and not part of any checkpoint."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        dim = int(config.head_dim * config.partial_rotary_factor)
        with torch.device("cpu"):  # computed wherever the weights are made
            exponents = torch.arange(0, dim, 2, dtype=torch.float) / dim
            self.inv_freq = nn.Buffer(1.0 / (config.rope_theta**exponents), persistent=False)


class Attention(nn.Module):
    """Projections of one layer's attention, with LayerNorm on queries and keys."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.head_dim = config.head_dim
        self.scaling = self.head_dim**-0.5
        self.q_proj, self.k_proj, self.v_proj = (Linear(dim, dim) for _ in range(3))
        self.dense = Linear(dim, dim)
        self.q_layernorm = nn.LayerNorm(self.head_dim, eps=eps)
        self.k_layernorm = nn.LayerNorm(self.head_dim, eps=eps)


class Layer(nn.Module):
    """One layer: attention and MLP read the same LayerNorm, side by side."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        dim, wide = config.hidden_size, config.intermediate_size
        self.self_attn = Attention(config)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=Linear(dim, wide),
                # The same function as gelu_new (tanh form), as one kernel instead of seven.
                activation=nn.GELU(approximate="tanh"),
                fc2=Linear(wide, dim),
            )
        )
        self.input_layernorm = nn.LayerNorm(dim, eps=config.layer_norm_eps)


class Layers(nn.Module):
    """Embeddings, layers and the last LayerNorm."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers: Any = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.rotary_emb = Rotary(config)
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class Phi(nn.Module):
    """All of it, with the head that scores ids.

    Args:
        config: the architecture.
    """

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Layers(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
