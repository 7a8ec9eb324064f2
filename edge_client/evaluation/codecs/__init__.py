"""Pixel codecs to compare with: one interface, what of it runs here, and rates that match.

It does not know servers, tasks or tokens.
"""

from edge_client.evaluation.codecs.base import Coded, PixelCodec, Scaled, encode
from edge_client.evaluation.codecs.matching import Match, match_rate
from edge_client.evaluation.codecs.registry import NAMES, available, find_codec, find_codecs

__all__ = [
    "NAMES",
    "Coded",
    "Match",
    "PixelCodec",
    "Scaled",
    "available",
    "encode",
    "find_codec",
    "find_codecs",
    "match_rate",
]
