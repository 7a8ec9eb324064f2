"""Finds a bundle by its name or folder, and opens it.

It does not know what is inside a bundle. A name means "builtin", a bundle in the user's cache, or
published files; a folder holds a `bundle.json`, or published files in a folder per repository.
"""

from __future__ import annotations

import os
from pathlib import Path

from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.catalogue import CATALOGUE
from shared_protocol.bundles.digests import cache_folder
from shared_protocol.bundles.manifest import BUILTIN, BUILTIN_FOLDER, MANIFEST, read_manifest
from shared_protocol.bundles.published import load_published, load_published_folder
from shared_protocol.compute import Compute


def bundle_folder(name_or_path: str) -> Path:
    """Where a bundle lives: the packaged one, a named one in the user's cache, or a folder."""
    if name_or_path == BUILTIN:
        return BUILTIN_FOLDER
    if os.sep in name_or_path or Path(name_or_path).is_dir():
        return Path(name_or_path)
    return cache_folder() / "bundles" / name_or_path


def load_bundle(name_or_path: str = BUILTIN, compute: Compute = Compute.AUTO) -> Bundle:
    """Open a bundle by name or folder; cheap, as weights are read on first use.

    Args:
        name_or_path: see `bundle_folder`.
        compute: what computes its tokenizers and entropy models.

    Raises:
        ConfigError: there is no such bundle or its manifest is broken.
        CheckpointError: files of a published bundle are missing.
    """
    bundle = _opened(name_or_path)
    bundle.compute = compute
    return bundle


def _opened(name_or_path: str) -> Bundle:
    folder = bundle_folder(name_or_path)
    if not (folder / MANIFEST).is_file():
        if name_or_path in CATALOGUE and not Path(name_or_path).is_dir():
            return load_published(name_or_path)
        found = load_published_folder(folder)
        if found is not None:
            return found
    return Bundle(folder, read_manifest(folder))
