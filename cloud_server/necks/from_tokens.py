"""A neck with its encoder, ready: token grids in, probabilities or features out.

It does not know files, and of image tokenizers only how codes become the values of their bits.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from cloud_server.necks.classifier import Float32Array, Int64Array
from cloud_server.necks.clip_encoder import ClipEncoder
from cloud_server.necks.encoders import Encoder, probabilities
from shared_protocol.errors import InvalidInputError, TokenRangeError
from shared_protocol.tokenizers.lfq import codes_to_z


class TokenEncoder:
    """What both kinds of answer share.

    Args:
        neck: in evaluation mode.
        encoder: that it leads into.
        fingerprint: SHA-256 of the file, 64 hex digits.
        bits: of a code.
        device: where both compute.
    """

    def __init__(
        self, neck: nn.Module, encoder: Encoder, fingerprint: str, bits: int, device: str = "cpu"
    ) -> None:
        self._neck, self._encoder = neck.to(device), encoder
        encoder.network().to(device)
        self._fingerprint, self._bits, self._device = fingerprint, bits, device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the neck file, hex."""
        return self._fingerprint

    def encoded(self, tokens: Int64Array) -> Tensor:
        """C'(T(y)): (batch, n) ids in raster order of a square grid to the encoder's features.

        Raises:
            InvalidInputError: not a batch of square grids.
            TokenRangeError: an id outside the tokenizer's codes.
        """
        side = math.isqrt(tokens.shape[1]) if tokens.ndim == 2 else 0
        if not side or side * side != tokens.shape[1]:
            raise InvalidInputError(
                f"tokens of shape {tokens.shape}", "give (batch, 256): a square grid in a row each"
            )
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < 1 << self._bits:
            raise TokenRangeError(
                f"ids from {tokens.min()} to {tokens.max()}",
                f"this neck reads 0 to {(1 << self._bits) - 1}",
            )
        grids = torch.from_numpy(tokens.astype(np.int64).reshape(-1, side, side)).to(self._device)
        return self._encoder.partial(self._neck(codes_to_z(grids, self._bits)))


class TokenClassifier(TokenEncoder):
    """A `Classifier`; see there."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What it tells apart."""
        return self._encoder.labels

    @torch.inference_mode()
    def classify(self, tokens: Int64Array) -> Float32Array:
        """(batch, 256) ids to (batch, labels) float32; rows sum to 1.

        Raises:
            InvalidInputError: not a batch of square grids.
            TokenRangeError: an id outside the tokenizer's codes.
        """
        found = probabilities(self._encoder, self.encoded(tokens))
        result: Float32Array = found.cpu().numpy()
        return result


class TokenFeatures(TokenEncoder):
    """A `FeatureNeck` over CLIP; see there."""

    @torch.inference_mode()
    def features(self, tokens: Int64Array) -> Tensor:
        """(batch, 256) ids to (batch, n, d) float32 of the layer that language models read."""
        return self.encoded(tokens)[:, 1:]


class LabelledFeatures(TokenFeatures, TokenClassifier):
    """Both, for a CLIP with labels."""


def from_tokens(
    neck: nn.Module, encoder: Encoder, fingerprint: str, bits: int, device: str = "cpu"
) -> TokenClassifier | TokenFeatures:
    """What a neck into `encoder` can do: classify, give features, or both."""
    kind: type[TokenClassifier] | type[TokenFeatures] = TokenClassifier
    if isinstance(encoder, ClipEncoder):
        kind = LabelledFeatures if encoder.labels else TokenFeatures
    return kind(neck, encoder, fingerprint, bits, device)
