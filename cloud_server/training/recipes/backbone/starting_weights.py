"""Starts the unified transformer from exported weights instead of from chance.

Knows the compact files and the network that is trained; no schedule, scenes or losses. An export
holds neither the probe nor what the optimisers remembered: see `schedule.probe_share`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cloud_server.generation.backbone.checkpoint import (
    BackboneCard,
    LoadedBackbone,
    load_builtin_backbone,
)
from cloud_server.training.recipes.backbone.network import TrainedBackbone
from shared_protocol.errors import ConfigError


def start_from(net: TrainedBackbone, card: BackboneCard, path: Path) -> None:
    """Give a network the weights of an export, int8 rounding included.

    Args:
        net: gets them.
        card: what its own export would say about itself.
        path: a compact file, or a folder of such shards.

    Raises:
        CheckpointError: there is no readable export.
        ConfigError: it is one of another shape.
    """
    loaded = load_builtin_backbone(path)
    # Which head points is for those who serve: older exports do not say it.
    if replace(loaded.card, pointing=None) != replace(card, pointing=None):
        raise ConfigError(
            f"the weights at {path} are {loaded.card}, the recipe asks for {card}",
            "start from weights of the recipe's shape, or change [network] in --config",
        )
    net.take_over(plain_state(loaded))


def plain_state(loaded: LoadedBackbone) -> dict[str, Tensor]:
    """The tensors of an export under the names that they are stored by."""
    state = {name: tensor.detach() for name, tensor in loaded.backbone.phi.state_dict().items()}
    if loaded.backbone.stem is not None:
        stem = loaded.backbone.stem.state_dict()
        state |= {f"stem.{name}": tensor.detach() for name, tensor in stem.items()}
    return state
