"""Logits of the transformer against the official implementation."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from cloud_server.generation.backbone.checkpoint import load_showo_backbone
from cloud_server.generation.backbone.showo import ShowoBackbone
from cloud_server.generation.prompting import causal_mask, mmu_mask, t2i_mask
from shared_protocol.vocabulary import Vocabulary

LOGIT_TOLERANCE = 2e-4  # float32 kernels of attention differ by up to 1.4e-5


@pytest.fixture(scope="module")
def backbone(golden: Path) -> ShowoBackbone:
    return load_showo_backbone(golden / "showo_tiny")


@pytest.fixture(scope="module")
def vectors(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "showo_forward.safetensors")


def _positions(ids: torch.Tensor) -> torch.Tensor:
    return torch.arange(ids.shape[1]).expand_as(ids)


@pytest.mark.parametrize(("name", "make"), [("t2i_cfg", t2i_mask), ("mmu", mmu_mask)])
def test_logits_equal_the_reference(
    backbone: ShowoBackbone,
    vectors: dict[str, torch.Tensor],
    vocabulary: Vocabulary,
    name: str,
    make: Any,
) -> None:
    ids = vectors[f"{name}.ids"]
    logits = backbone.logits(ids, make(ids, vocabulary), _positions(ids))
    torch.testing.assert_close(logits, vectors[f"{name}.logits"], atol=LOGIT_TOLERANCE, rtol=1e-4)


def test_causal_logits_equal_the_reference(
    backbone: ShowoBackbone, vectors: dict[str, torch.Tensor]
) -> None:
    ids = vectors["lm.ids"]
    allow = causal_mask(ids.shape[1])[None, None]
    logits = backbone.logits(ids, allow, _positions(ids))
    torch.testing.assert_close(logits, vectors["lm.logits"], atol=LOGIT_TOLERANCE, rtol=1e-4)


def test_losses_equal_the_reference(
    backbone: ShowoBackbone, vectors: dict[str, torch.Tensor], sizes: dict[str, Any]
) -> None:
    ids, labels = vectors["loss.ids"], vectors["loss.labels"]
    logits = backbone.logits(ids, vectors["loss.allow"], _positions(ids))
    start = sizes["max_seq_length"] + 1
    losses = [
        F.cross_entropy(logits[:2, start:].flatten(0, 1), labels[:2, start:].flatten()),
        F.cross_entropy(logits[2:3, :-1].flatten(0, 1), labels[2:3, 1:].flatten()),
        F.cross_entropy(logits[3:, :-1].flatten(0, 1), labels[3:, 1:].flatten()),
    ]
    torch.testing.assert_close(
        torch.stack(losses), vectors["loss.values"], atol=LOGIT_TOLERANCE, rtol=1e-4
    )


def test_rows_and_columns_select_from_the_full_logits(
    backbone: ShowoBackbone, vectors: dict[str, torch.Tensor], vocabulary: Vocabulary
) -> None:
    ids = vectors["t2i_cfg.ids"]
    part = backbone.logits(
        ids, t2i_mask(ids, vocabulary), _positions(ids), rows=slice(-3, None), columns=slice(5, 9)
    )
    expected = vectors["t2i_cfg.logits"][:, -3:, 5:9]
    torch.testing.assert_close(part, expected, atol=LOGIT_TOLERANCE, rtol=1e-4)
