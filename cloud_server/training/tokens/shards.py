"""Folders of shards: codes of pictures, a row about each, and what made them.

It does not know what the pictures show. Finished shards are kept, so that an interrupted run goes
on, and readers may start while shards are still being written::

    OUT/NAME.npy      uint16 [N, H, W] codes; its presence means that the shard is complete
    OUT/NAME.jsonl    N JSON values, one a line, same order (written first)
    OUT/meta.json     what made them
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_server.training.scenes.sprites import write_atomically
from shared_protocol.errors import ConfigError, InvalidInputError

META = "meta.json"
MOST_CODES = 1 << 16


def check_meta(out: Path, meta: Mapping[str, Any]) -> None:
    """Write meta.json, or compare with the one that is there.

    Raises:
        ConfigError: the folder holds shards that were made otherwise.
    """
    path = out / META
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != meta:
        raise ConfigError(f"{out} holds shards made otherwise ({path})", "name an empty folder")
    write_atomically(path, json.dumps(meta, indent=1).encode())


def write_shard(path: Path, codes: npt.NDArray[np.integer[Any]], rows: Sequence[object]) -> Path:
    """Keep codes and what there is to say about each; if the codes are there, both are.

    Args:
        path: of the codes, ending in .npy.
        codes: integers [N, H, W] below 65,536.
        rows: N values that JSON can hold.

    Returns:
        `path`.

    Raises:
        InvalidInputError: there are more or fewer rows than pictures, or codes beyond 16 bits.
    """
    if len(codes) != len(rows):
        raise InvalidInputError(
            f"{path.name}: {len(codes)} pictures but {len(rows)} rows", "give each picture a row"
        )
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < MOST_CODES:
        raise InvalidInputError(
            f"{path.name}: codes from {codes.min()} to {codes.max()}",
            f"a shard holds those from 0 to {MOST_CODES - 1}",
        )
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(path.with_suffix(".jsonl"), lines.encode())
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, codes.astype(np.uint16))
    return partial.replace(path)
