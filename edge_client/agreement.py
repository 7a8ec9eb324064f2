"""Whether this end and a server would understand each other, and what to do if not.

It does not know how a server is asked, nor how its answer is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_protocol.bitstream import VERSION
from shared_protocol.codec import CodecBundle
from shared_protocol.entropy.context import nothing_known
from shared_protocol.errors import CheckpointError

_INSTALL = "install the same release on both ends, or name the server's bundle with --bundle"


@dataclass(frozen=True)
class Point:
    """One thing that both ends must hold alike.

    Args:
        name: what it is.
        ours, theirs: its value on this end and on the server.
        remedy: what to do if they differ.
    """

    name: str
    ours: str
    theirs: str
    remedy: str

    @property
    def agrees(self) -> bool:
        """Whether both ends hold the same."""
        return self.ours == self.theirs


def compare(bundle: CodecBundle, info: Mapping[str, Any]) -> list[Point]:
    """What this end holds beside what a server says of itself (`GET /v1/info`)."""
    entropy = info.get("entropy")
    theirs = entropy.get("digest") if isinstance(entropy, Mapping) else None
    digest = self_check_digest(bundle) if theirs else "not checked"
    return [
        Point("format version", str(VERSION), _said(info.get("protocol")), _INSTALL),
        Point(
            "bundle fingerprint", bundle.fingerprint.hex(), _said(info.get("fingerprint")), _INSTALL
        ),
        Point(
            "entropy self-check",
            digest,
            _said(theirs or "not checked"),
            "one end computes wrongly; results stay right with uniform coding, only larger: "
            "install again, then report both machines",
        ),
    ]


def _said(value: object) -> str:
    text = "not said" if value is None else str(value)
    return "".join(char if char.isprintable() else " " for char in text)[:64]


def self_check_digest(bundle: CodecBundle) -> str:
    """Code a fixed picture with every entropy model; equal on every machine that works.

    A server publishes the same digest, computed the same way.

    Raises:
        CheckpointError: a model does not decode on this machine what it encoded.
    """
    models = bundle.entropy
    height, width = bundle.grid
    size = bundle.vocabulary.codebook_size
    codes = (np.arange(height * width, dtype=np.int64) * 2654435761 % size).astype(np.int32)
    context = nothing_known(height, width, text=np.arange(4, dtype=np.int32))
    digest = hashlib.sha256()
    for scenario in models.available():
        data = models.encode(scenario, codes, context)
        if not np.array_equal(models.decode(scenario, data, context), codes):
            raise CheckpointError(
                f"the {scenario.name.lower()} model decodes on this machine what it did not encode",
                "install again; if that does not help, report the machine",
            )
        digest.update(data)
    return digest.hexdigest()
