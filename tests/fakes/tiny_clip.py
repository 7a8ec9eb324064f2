"""A CLIP with random weights that takes no time: four layers, 4x4 patches."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

CLIP_SIDE, CLIP_WIDTH = 56, 16


def save_tiny_clip(folder: Path, width: int = CLIP_WIDTH) -> Path:
    """Write the model, without a tokenizer; returns the folder."""
    torch.manual_seed(8)
    shared = {"num_attention_heads": 2, "num_hidden_layers": 4, "intermediate_size": 32}
    vision = {"hidden_size": width, "image_size": CLIP_SIDE, "patch_size": 14, **shared}
    text = {"hidden_size": 16, "vocab_size": 99, "max_position_embeddings": 8, **shared}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).eval().save_pretrained(folder)
    return folder
