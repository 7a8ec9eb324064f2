"""Pixel codecs to compare with: one interface, what of it runs here, and rates that match.

It does not know servers, tasks or tokens.
"""

from edge_client.evaluation.codecs.base import Coded, PixelCodec, Scaled, encode
from edge_client.evaluation.codecs.matching import Match, fixed_rate, match_rate
from edge_client.evaluation.codecs.registry import (
    BPG_NOTE,
    NAMES,
    add_codec,
    available,
    find_codec,
    find_codecs,
)

__all__ = [
    "BPG_NOTE",
    "NAMES",
    "Coded",
    "Match",
    "PixelCodec",
    "Scaled",
    "add_codec",
    "available",
    "encode",
    "find_codec",
    "find_codecs",
    "fixed_rate",
    "match_rate",
]
