"""VQ-Kmeans: the bundle's own image tokens with its codebook clustered to fewer entries.

It stands for the codec of Mao et al. (DCC 2024) that the paper compares with: that one clusters the
codebook of a VQGAN and codes indices of equal length; here the codebook is the bundle's, whose
entries are the corners of a cube (lookup-free quantisation), and nothing is trained again. Every
cluster is drawn as the corner next to its mean. A payload is the picture's size, entries and packed
indices; a side that is no multiple of a token's is continued by its last pixels, and cut again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

import numpy as np

from edge_client.evaluation.metrics.extra import extra_module
from shared_protocol.coding.bits import pack_bits, unpack_bits
from shared_protocol.errors import BadMessageError, UnimicError
from shared_protocol.tokenizers.image import ImageTokenizer, Pixels, codes_of, values_of
from shared_protocol.tokens import Codes, ImageTokens

ENTRIES = (256, 2048)
"""Of the paper's section VI-A, from the coarsest."""
SEED = 20250927
ROUNDS = 12
_HEADER = struct.Struct("<HHH")


class VqKmeans:
    """A pixel codec; its settings are the numbers of codebook entries.

    Args:
        tokenizer: of both ends.
    """

    name = "vq-kmeans"

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def settings(self) -> Sequence[float]:
        return tuple(entries for entries in ENTRIES if entries < self._tokenizer.codebook_size)

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        entries = int(setting)
        stride = self._tokenizer.stride
        short = [-side % stride for side in pixels.shape[:2]]
        whole = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
        codes = self._tokenizer.tokenize(whole).codes
        of_code, _ = clusters(self._tokenizer.codebook_size, entries)
        indices = of_code[codes.ravel()].astype(np.int32)
        bits = (entries - 1).bit_length()
        return _HEADER.pack(*pixels.shape[:2], entries) + pack_bits(indices, bits)

    def decode(self, payload: bytes) -> Pixels:
        try:
            height, width, entries = _HEADER.unpack_from(payload)
            grid = [-(-side // self._tokenizer.stride) for side in (height, width)]
            if entries not in self.settings or not height * width:
                raise BadMessageError(f"{len(payload)} bytes are no {self.name}")
            bits = (entries - 1).bit_length()
            indices = unpack_bits(payload[_HEADER.size :], bits, grid[0] * grid[1])
        except (struct.error, ValueError, UnimicError) as error:
            raise BadMessageError(f"{len(payload)} bytes are no {self.name}: {error}") from error
        _, code_of = clusters(self._tokenizer.codebook_size, entries)
        codes: Codes = code_of[indices].reshape(grid)
        pixels = self._tokenizer.detokenize(ImageTokens(codes, self._tokenizer.codebook_size))
        return np.ascontiguousarray(pixels[:height, :width])

    def header_bytes(self, payload: bytes) -> int:
        """Size and entries, which both ends may know beforehand."""
        return min(_HEADER.size, len(payload))


@cache
def clusters(codebook_size: int, entries: int) -> tuple[Codes, Codes]:
    """k-means over the corners of the codebook's cube, the same on every machine of one scipy.

    Returns:
        (V,) the cluster of each code, and (entries,) the code that each cluster is drawn as.

    Raises:
        ConfigError: scipy is not installed.
    """
    kmeans = extra_module("scipy.cluster.vq", "VQ-Kmeans")
    bits = (codebook_size - 1).bit_length()
    corners = values_of(np.arange(codebook_size, dtype=np.int32)[None], bits)[:, 0].T
    start = np.random.default_rng(SEED).choice(codebook_size, entries, replace=False)
    centres, of_code = kmeans.kmeans2(corners, corners[start], iter=ROUNDS, minit="matrix")
    nearest = codes_of(np.ascontiguousarray(centres.T[:, None], dtype=np.float32))[0]
    return of_code.astype(np.int32), np.minimum(nearest, codebook_size - 1).astype(np.int32)
