"""SHA-256 of files; a large file that has not changed is not read again.

It does not know what the files are for.

Digests of large files are kept in `$UNIMIC_CACHE/digests.json` under path, size and time of last
change. Whoever can write that file can write the weights, too: it saves time, it guards nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from shared_protocol.errors import CheckpointError
from shared_protocol.files import open_regular, read_regular, write_atomically

CACHE_VARIABLE = "UNIMIC_CACHE"
LARGE_BYTES = 8 * 2**20
WEIGHT_SUFFIXES = (".safetensors", ".bin")
_NAME = "digests.json"
_MAX_BYTES = 1 << 20


def cache_folder() -> Path:
    """`$UNIMIC_CACHE`, else `~/.cache/unimic`; need not exist."""
    return Path(os.environ.get(CACHE_VARIABLE) or os.path.expanduser("~/.cache/unimic"))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        real = path.resolve()
        with open_regular(real) as file:
            found = os.fstat(file.fileno())
            if found.st_size < LARGE_BYTES:
                return hashlib.sha256(file.read(LARGE_BYTES)).hexdigest()
            stamp = f"{found.st_size} {found.st_mtime_ns}"
            known = _known().get(str(real), "")
            if known.startswith(f"{stamp} "):
                return known.rpartition(" ")[2]
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL in a name
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot read {path}: {reason}", "install again") from error
    _remember(str(real), f"{stamp} {digest}")
    return digest


def digest_of_weights(path: Path) -> str:
    """SHA-256 of a model: of the digests of its weight files, by name.

    Args:
        path: the file, or the folder whose `.safetensors` and `.bin` files hold the weights.

    Raises:
        CheckpointError: a file cannot be read, or there are no weights.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    weights = [file for file in files if file.suffix in WEIGHT_SUFFIXES]
    if not weights:
        raise CheckpointError(
            f"no weights at {path}", f"files end in {' or '.join(WEIGHT_SUFFIXES)}"
        )
    return hashlib.sha256("".join(map(digest_of, weights)).encode()).hexdigest()


def _known() -> dict[str, str]:
    """Path to "size time digest"; empty if there is nothing usable."""
    try:
        content = json.loads(read_regular(cache_folder() / _NAME, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in content.items()} if isinstance(content, dict) else {}


def _remember(path: str, entry: str) -> None:
    """Add an entry; a cache that cannot be written costs time only."""
    folder = cache_folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**_known(), path: entry}, indent=1, sort_keys=True)
        write_atomically(folder / _NAME, text)
