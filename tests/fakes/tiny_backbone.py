"""A tiny transformer with shipped weights, for tests of the engine and of sampling."""

from pathlib import Path

import numpy as np
import torch

from cloud_server.generation.backbone.checkpoint import load_builtin_backbone, load_showo_backbone
from cloud_server.generation.backbone.showo import ShowoBackbone
from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.prompting import QuestionFrame
from shared_protocol.vocabulary import Vocabulary

WEIGHTS = Path(__file__).parents[1] / "parity" / "golden" / "showo_tiny"
BUILTIN = Path(__file__).parents[2] / "cloud_server" / "weights" / "builtin"
VOCABULARY = Vocabulary(334, 32)
EOT = 330
SIDE = 4
MAX_TEXT_LEN = 16
FRAME = QuestionFrame((11, 12), (13,))
CODES = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % VOCABULARY.codebook_size


def tiny_backbone() -> ShowoBackbone:
    return load_showo_backbone(WEIGHTS)


def tiny_engine(requests_per_forward: int = 1) -> Engine:
    options = EngineOptions(
        EOT, FRAME, SIDE, MAX_TEXT_LEN, requests_per_forward=requests_per_forward
    )
    return Engine(tiny_backbone(), VOCABULARY, options)


def builtin_engine() -> tuple[Engine, Vocabulary] | None:
    """An engine over the shipped weights, or None where they are not there."""
    if not any(BUILTIN.glob("backbone*.safetensors")):
        return None
    loaded = load_builtin_backbone(BUILTIN)
    options = EngineOptions(
        0, QuestionFrame((5, 6), (7,)), loaded.card.side, loaded.card.max_text_len
    )
    return Engine(loaded.backbone, loaded.card.vocabulary, options), loaded.card.vocabulary


def positions(ids: torch.Tensor) -> torch.Tensor:
    return torch.arange(ids.shape[1]).expand_as(ids)
