"""Codes a fixed picture with every model of a bundle and decodes it again: does this machine work?

It does not know the other end; two machines compare the digest that each computes.
"""

from __future__ import annotations

import hashlib

import numpy as np

from shared_protocol.entropy.context import nothing_known
from shared_protocol.errors import CheckpointError
from shared_protocol.parts import CodecBundle

_SPREAD = 2654435761
"""Multiplies positions into codes all over the codebook."""


def round_trip_digest(bundle: CodecBundle) -> str:
    """SHA-256 of the streams; equal on every machine that holds the same bundle and works.

    Raises:
        CheckpointError: a model does not decode on this machine what it encoded.
    """
    models = bundle.entropy
    height, width = bundle.grid
    size = bundle.vocabulary.codebook_size
    codes = (np.arange(height * width, dtype=np.int64) * _SPREAD % size).astype(np.int32)
    context = nothing_known(height, width, text=np.arange(4, dtype=np.int32))
    digest = hashlib.sha256()
    for scenario in models.available():
        data = models.encode(scenario, codes, context)
        if not np.array_equal(models.decode(scenario, data, context), codes):
            raise CheckpointError(
                f"the {scenario.name.lower()} model decodes on this machine what it did not encode",
                "install the bundle again; if that does not help, report the machine",
            )
        digest.update(data)
    return digest.hexdigest()
