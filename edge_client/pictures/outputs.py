"""Whether a result could be saved where it is to go: asked before anything is sent.

It does not open pictures, so that asking costs no time.
"""

from __future__ import annotations

import os
from pathlib import Path

from shared_protocol.errors import ImageError

WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffix to format of the pictures that can be saved."""


def check_output(path: Path) -> None:
    """Raise `ImageError` unless a picture could be saved at `path`."""
    if path.suffix.lower() not in WRITABLE:
        raise ImageError(f"cannot save a picture as {path.name!r}", "end it in .png, .jpg or .webp")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise `ImageError` unless a file could be written at `path`."""
    if path.is_dir():
        raise ImageError(f"{path} is a folder", "name a file in it")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ImageError(f"cannot write into {path.parent}", "name an existing, writable folder")
