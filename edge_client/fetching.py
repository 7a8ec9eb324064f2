"""Gets a bundle that this device lacks: from the server that it talks to, or from the hub.

Nothing is fetched unless a user asks: a bundle may be hundreds of megabytes, and a device may pay
for each. It does not know what is inside the files.

::

    /v1/info ─► fingerprint ─► listing ─► bundle.json (its SHA-256 is the fingerprint)
                                             └─► digests ─► files ─► verified ─► installed
                                   └─► how text is typed, which the fingerprint does not cover

Files that another variant of the same bundle has here already are not fetched again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_client.transport.base import Sink
from shared_protocol.bundles.catalogue import CATALOGUE
from shared_protocol.bundles.digests import cache_folder, digest_of
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import (
    BUILTIN,
    MANIFEST,
    MAX_MANIFEST,
    TYPING,
    Manifest,
    canonical_json,
    manifest_from,
    read_manifest,
)
from shared_protocol.errors import CheckpointError, ConfigError, TransportError
from shared_protocol.files import checked_name, read_regular, write_atomically
from shared_protocol.messages import OnStep

MAX_BYTES = 8 * 2**30
"""No bundle is larger; whoever announces more is refused."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_PLACE = "bundles"
_MB = 1_000_000
_MOST_FILES = 256


class Source(Protocol):
    """A server that gives away its bundle; `HttpTransport` is one."""

    def info(self) -> dict[str, Any]:
        """What the service says about itself."""

    def bundle(self, fingerprint: str) -> dict[str, Any]:
        """The listing of a bundle's files."""

    def download(self, fingerprint: str, file: str, sink: Sink, size: int) -> None:
        """Fill `sink` up to `size` bytes with a file of that bundle."""


@dataclass(frozen=True)
class Fetched:
    """A bundle that is on this device now.

    Args:
        name: what `--bundle` calls it.
        fingerprint: of its content, 64 hex digits.
        place: its folder.
        received: bytes that came over the network for it.
        called: what the server calls it.
    """

    name: str
    fingerprint: str
    place: Path
    received: int
    called: str


class PartialFile:
    """A file that grows as it arrives, and goes on from what an earlier run left.

    Args:
        path: where it is.
        limit: bytes that it will have; a longer one starts over.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.received = 0
        if path.is_file() and path.stat().st_size > limit:
            path.unlink()
        self.size = path.stat().st_size if path.is_file() else 0

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        with self.path.open("ab") as file:
            file.write(chunk)
        self.size += len(chunk)
        self.received += len(chunk)

    def restart(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self.size = 0


def fetch_from_server(
    source: Source,
    on_step: OnStep | None = None,
    replace: bool = False,
    called: str | None = None,
) -> Fetched:
    """Install the bundle that a server holds; does nothing where it is here already.

    The server says what its bundle is called. Where something of that name is here, or may be, the
    name gets a part of the fingerprint: nothing that is here is replaced or hidden.

    Args:
        source: the server.
        on_step: called with (megabytes that are there, all megabytes).
        replace: let it take the place of another bundle of its name that was fetched before.
        called: what the user wants it to be called here; None leaves that to the rule above.

    Raises:
        TransportError: the server cannot be reached, or its answers make no sense.
        CheckpointError: what arrived is not what the fingerprint promises.
        ConfigError: it cannot be written, or `called` is the name of another bundle.
    """
    if called is not None and (called == BUILTIN or not _is_name(called)):
        raise ConfigError(f"a bundle cannot be called {called[:64]!r}", "name another with --as")
    info = source.info()
    name, fingerprint = str(info.get("bundle")), str(info.get("fingerprint"))
    if not _is_name(name) or not _FINGERPRINT.fullmatch(fingerprint):
        raise TransportError(f"the server names no bundle but {name[:64]!r}", "update the server")
    for known in (called,) if called else (name, f"{name}-{fingerprint[:8]}"):
        place = _installed(known, fingerprint)
        if place is not None:
            return Fetched(known, fingerprint, place, 0, name)
    try:
        known = called or local_name(name, fingerprint, replace)
        if called and not (replace or _is_free(cache_folder() / _PLACE / called, fingerprint)):
            raise ConfigError(f"another bundle is called {called} here", "--force replaces it")
        return _install(source, known, fingerprint, on_step or (lambda done, total: None))
    except OSError as error:
        fault = f"cannot write into {cache_folder()}: {error.strerror or error}"
        raise ConfigError(fault, "name another folder in UNIMIC_CACHE") from error


def local_name(name: str, fingerprint: str, replace: bool = False) -> str:
    """What a server's bundle is called here.

    Ours and the published ones keep their names, whatever a server calls its own, and so do the
    bundles that are here, unless the user lets one be replaced.
    """
    places = cache_folder() / _PLACE
    if name not in (BUILTIN, *CATALOGUE) and (replace or _is_free(places / name, fingerprint)):
        return name
    longer = f"{name}-{fingerprint[:8]}"
    number, found = 1, longer
    while not replace and not _is_free(places / found, fingerprint):
        number += 1
        found = f"{longer}-{number}"
    return found


def _is_free(place: Path, fingerprint: str) -> bool:
    """Whether nothing is there, or this very bundle, which must be damaged."""
    try:
        return not _is_taken(place) or read_manifest(place).fingerprint.hex() == fingerprint
    except ConfigError:
        return False


def _is_taken(place: Path) -> bool:
    return place.exists() or place.is_symlink()


def _is_name(name: str) -> bool:
    """Whether a bundle's name can be a folder's, on every system."""
    try:
        return bool(_NAME.fullmatch(checked_name(name)))
    except ValueError:
        return False


def _installed(name: str, fingerprint: str) -> Path | None:
    """Where the bundle is, if one of that name and content is here, whole."""
    try:
        bundle = load_bundle(name)
        if bundle.fingerprint.hex() != fingerprint:
            return None
        world = bundle.manifest.typing.world
        for file in (*bundle.manifest.sha256, *([world] if world else [])):
            bundle.file(file)
    except ConfigError:
        return None
    return bundle.folder


def _install(source: Source, name: str, fingerprint: str, on_step: OnStep) -> Fetched:
    listing = source.bundle(fingerprint)
    sizes = _sizes(listing)
    staging = cache_folder() / _PLACE / f".{fingerprint[:32]}"
    staging.mkdir(parents=True, exist_ok=True)
    total = sum(sizes.values())
    done = received = 0

    def get(file: str, digest: str) -> Path:
        nonlocal done, received
        if file not in sizes:
            raise TransportError(f"the server's listing lacks {file}", "update the server")
        path = staging / file
        received += _get(
            source,
            fingerprint,
            path,
            (sizes[file], digest),
            lambda here: on_step((done + here) // _MB, total // _MB),
        )
        done += sizes[file]
        return path

    _check_room(staging, sizes.get(MANIFEST, 0))
    manifest = _manifest(get(MANIFEST, fingerprint))
    _take_over(manifest, staging)
    _check_room(staging, total)
    complete = _with_typing(manifest, listing.get(TYPING))
    for file, digest in manifest.sha256.items():
        get(file, digest)
    if complete.typing.world and complete.typing.sha256:
        get(complete.typing.world, complete.typing.sha256)
    write_atomically(staging / MANIFEST, canonical_json(complete.content()))
    place = cache_folder() / _PLACE / name
    _take_place(staging, place)
    return Fetched(name, fingerprint, place, received, manifest.name)


def _take_place(staging: Path, place: Path) -> None:
    """Put a whole bundle where one may be that the user lets go of, which is gone at the end."""
    if not _is_taken(place):
        staging.rename(place)
        return
    before = staging.with_name(f"{staging.name}.before")
    place.rename(before)
    try:
        staging.rename(place)
    except OSError:
        before.rename(place)
        raise
    if before.is_dir() and not before.is_symlink():
        shutil.rmtree(before, ignore_errors=True)
    else:
        before.unlink(missing_ok=True)


def _with_typing(manifest: Manifest, typing: Any) -> Manifest:
    """The manifest with what a server says of typed text, which may be nothing."""
    try:
        complete = manifest_from({**manifest.content(), TYPING: typing or {}})
    except ConfigError as error:
        raise TransportError("the server's listing makes no sense", "update the server") from error
    if complete.typing.world and complete.typing.world.startswith("."):
        raise TransportError(f"the listing names {complete.typing.world}", "do not trust it")
    return complete


def _check_room(staging: Path, total: int) -> None:
    """See that the rest of `total` bytes fits the disk."""
    present = sum(file.stat().st_size for file in staging.iterdir())
    if shutil.disk_usage(staging).free < total - present:
        raise ConfigError(
            f"{staging.parent} has no room for {total / _MB:,.1f} MB",
            "make room, or name another folder in UNIMIC_CACHE",
        )


def _take_over(manifest: Manifest, staging: Path) -> None:
    """Copy into `staging` what the bundle of the same name on this device has of the wanted."""
    if not _NAME.fullmatch(manifest.name):
        return
    try:
        held = load_bundle(manifest.name)
    except ConfigError:
        return
    named = {digest: name for name, digest in held.manifest.sha256.items()}
    for file, digest in manifest.sha256.items():
        if digest in named and not (staging / file).exists():
            with suppress(CheckpointError):  # damaged here: it is fetched
                shutil.copyfile(held.file(named[digest]), staging / file)


def _get(
    source: Source,
    fingerprint: str,
    path: Path,
    wanted: tuple[int, str],
    on_size: Callable[[int], None],
) -> int:
    """Download one file unless it is there, verify it, and return the bytes received."""
    size, digest = wanted
    if path.is_file() and digest_of(path) == digest:
        return 0
    partial = _Watched(path.with_name(f"{path.name}.part"), size, on_size)
    if partial.size < size or not partial.path.is_file():
        source.download(fingerprint, path.name, partial, size)
    if partial.size == 0:
        partial.path.touch()
    if digest_of(partial.path) != digest:
        partial.path.unlink()
        raise CheckpointError(
            f"{path.name} arrived damaged and was deleted", "run 'edge-client fetch' again"
        )
    partial.path.replace(path)
    return partial.received


class _Watched(PartialFile):
    """Tells its size as it grows."""

    def __init__(self, path: Path, limit: int, on_size: Callable[[int], None]) -> None:
        super().__init__(path, limit)
        self._on_size = on_size

    def write(self, chunk: bytes) -> None:
        super().write(chunk)
        self._on_size(self.size)


def _sizes(listing: Mapping[str, Any]) -> dict[str, int]:
    """File name to size, as far as a server can be believed."""
    try:
        sizes = {str(file["name"]): int(file["size"]) for file in listing["files"][:_MOST_FILES]}
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise TransportError("the server's listing makes no sense", "update the server") from error
    if sizes.get(MANIFEST, 0) > MAX_MANIFEST:
        raise TransportError(f"the server's {MANIFEST} is over {MAX_MANIFEST:,} bytes", "ask it")
    if min(sizes.values(), default=0) < 0 or sum(sizes.values()) > MAX_BYTES:
        raise TransportError(
            f"the server announces a bundle of {sum(sizes.values()):,} bytes",
            f"at most {MAX_BYTES:,} are believed",
        )
    return sizes


def _manifest(path: Path) -> Manifest:
    """The manifest, whose digest was the fingerprint; its names are plain file names."""
    try:
        content = json.loads(read_regular(path, MAX_MANIFEST))
    except (OSError, ValueError, RecursionError) as error:
        fault = f"the server's bundle.json cannot be read: {str(error)[:200]}"
        raise TransportError(fault, "update the server, or do not trust it") from error
    manifest = manifest_from(content, "the server's bundle.json")
    names = {*manifest.sha256, *manifest.files.values()}
    if hashlib.sha256(manifest.canonical).hexdigest() != digest_of(path) or names != {
        *manifest.sha256
    }:
        raise TransportError("the server's bundle.json is not canonical", "update the server")
    strange = [name for name in names if Path(name).name != name or name.startswith(".")]
    if strange or MANIFEST in names:
        raise TransportError(f"the server's bundle.json names {strange}", "do not trust it")
    return manifest
