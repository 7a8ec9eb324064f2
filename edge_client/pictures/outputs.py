"""Where results go, and how they are written: whole files, and never over what nobody named.

What can be asked before anything is sent is asked without opening pictures, so that it costs no
time.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edge_client.terminal.output import OutputError
from shared_protocol.bundles.digests import cache_folder
from shared_protocol.errors import ImageError, printable
from shared_protocol.files import replaced, write_atomically

if TYPE_CHECKING:
    from PIL import Image

    from edge_client.pictures.geometry import Geometry
    from edge_client.pictures.sources import Source
    from shared_protocol.tokenizers.image import Pixels

WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffix to format of the pictures that can be saved."""
FORMATS = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg", "webp": ".webp"}
"""What `--format` takes, and the suffix that it means."""
STDOUT = Path("-")
Write = Callable[[IO[bytes]], object]
_LONGEST_NAME = 240


@dataclass(frozen=True)
class Destination:
    """Where a result is to go, decided before anything is sent.

    Args:
        path: the file; "-" is standard output.
        kind: format, see `WRITABLE`.
        named: whether the user named it.
        before: (device, inode, time of change) of the file that is there; None for none.
        force: overwrite whatever is there by then.
    """

    path: Path
    kind: str
    named: bool = False
    before: tuple[int, int, int] | None = None
    force: bool = False

    @property
    def is_stdout(self) -> bool:
        """Whether the result goes to standard output."""
        return self.path == STDOUT


@dataclass(frozen=True)
class Saved:
    """What was written.

    Args:
        path: the picture.
        tokens: the `.umic` file beside it; None for none.
        warnings: where something went elsewhere than it was to.
        notes: what was done to the picture's mode.
    """

    path: Path
    tokens: Path | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_output(path: Path) -> None:
    """Raise `ImageError` unless a picture could be saved at `path`."""
    if path.suffix.lower() not in WRITABLE:
        raise ImageError(f"cannot save a picture as {path.name!r}", "end it in .png, .jpg or .webp")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise `ImageError` unless a file could be written at `path`."""
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise ImageError(
            f"the name {path.name[:40]}… has over {_LONGEST_NAME} bytes", "name a shorter one"
        )
    if "\0" in str(path):
        raise ImageError("the name of the result has a NUL in it", "name another one")
    try:
        found = path.stat().st_mode if path.exists() else None
    except OSError as error:
        told = f"cannot write {printable(str(path), 200)}: {error.strerror}"
        raise ImageError(told, "name another file") from error
    if found is not None and stat.S_ISDIR(found):
        raise ImageError(f"{path} is a folder", "name a file in it")
    if found is not None and not stat.S_ISREG(found):
        raise ImageError(f"{path} is no regular file", "use '-o -' to write to standard output")
    _check_writable(path.resolve().parent, path.parent)


def _check_writable(folder: Path, told: Path) -> None:
    """Make a file there and remove it: permissions alone do not tell."""
    try:
        handle, name = tempfile.mkstemp(prefix=".unimic-", dir=folder)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise ImageError(
            f"cannot write into {told}: {error.strerror}", "name an existing, writable folder"
        ) from error


def destination(
    path: Path | None,
    default: Path,
    inputs: Iterable[Path | None] = (),
    force: bool = False,
    kind: str | None = None,
) -> Destination:
    """Where a result goes: as told, or the first free name after `default`.

    Args:
        path: what the user named; None = nothing.
        default: used then, with a number if that name is taken.
        inputs: files that are read.
        force: overwrite them, too.
        kind: one of `FORMATS`; None = by the suffix, PNG for standard output.

    Raises:
        ImageError: a picture could not be saved there, or should not.
    """
    suffix = FORMATS[kind] if kind else ""
    if path == STDOUT:
        return Destination(STDOUT, WRITABLE[suffix or ".png"], named=True)
    target = path or free_name(default.with_suffix(suffix or default.suffix), ".umic")
    if path is not None and suffix and WRITABLE.get(path.suffix.lower()) != WRITABLE[suffix]:
        raise ImageError(
            f"{path.name!r} and --format {kind} do not go together", "leave one of them out"
        )
    check_output(target)
    return _claimed(target, inputs, path is not None, force)


def file_destination(
    path: Path | None, default: Path, inputs: Iterable[Path | None] = (), force: bool = False
) -> Destination:
    """The same for a file that is no picture."""
    if path == STDOUT:
        return Destination(STDOUT, "", named=True)
    target = path or free_name(default)
    check_folder(target)
    return _claimed(target, inputs, path is not None, force)


def _claimed(target: Path, inputs: Iterable[Path | None], named: bool, force: bool) -> Destination:
    known = tuple(each for each in inputs if each is not None and each != STDOUT)
    if not force and any(_same(target, each) for each in known):
        raise ImageError(
            f"{target} is what is read, and would be overwritten",
            "name another file with -o, or add --force",
        )
    kind = WRITABLE.get(target.suffix.lower(), "")
    return Destination(target, kind, named, _stamp(target), force)


def free_name(path: Path, beside: str = "") -> Path:
    """`path`, or `path` with the first number that makes it new in its folder.

    Args:
        path: with its suffix.
        beside: suffix of a second file of the same stem, which is to be new as well.
    """
    room = _LONGEST_NAME - 20 - len(path.suffix)
    path = path.with_name(os.fsencode(path.stem)[:room].decode(errors="ignore") + path.suffix)
    found, number = path, 1
    while found.exists() or (beside and found.with_suffix(beside).exists()):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def save_source(
    target: Destination,
    source: Source,
    tokens: bool = True,
    size: tuple[int, int] | None = None,
    beside: bool = True,
    made: Mapping[str, str] | None = None,
) -> Saved:
    """Write a picture in full size and, with `tokens`, its tokens in it and beside it.

    Args:
        target: where to.
        source: the picture.
        tokens: whether they are kept, as far as they are known.
        size: (width, height) to resample the result to; its tokens are not kept then.
        beside: whether they are kept in a file beside it, too.
        made: how it was made, in words: text chunks of a PNG, metadata of the tokens' file.

    Raises:
        OutputError: it cannot be written; it says where the picture is kept instead.
    """
    from edge_client.pictures.carried_tokens import beside as umic_of
    from edge_client.pictures.carried_tokens import chunk_of, write_beside
    from edge_client.pictures.sources import full_image

    image, profile, notes = full_image(source)
    if size is not None and size != image.size:
        from PIL import Image

        image = image.resize(size, Image.Resampling.LANCZOS)
    kept = source.tokens if tokens and size is None else None
    about = {**_about(source.geometry), **_short(made or {})}
    chunk = None
    if kept is not None and target.kind == "PNG":
        chunk = chunk_of(kept, image, source.bundle, about)
    ours = kept is not None and _is_of(umic_of(target.path), target.path)
    path, told, more = _write(target, image, profile, chunk, made or {})
    if kept is None or target.is_stdout or not beside:
        return Saved(path, None, tuple(told), (*notes, *more))
    file = umic_of(path)
    if file.exists() and not (target.force or (ours and path == target.path)):
        told.append(f"{file} is left alone, since it is of another picture: tokens are not kept")
        return Saved(path, None, tuple(told), (*notes, *more))
    try:
        write_atomically(file, write_beside(path, kept, source.bundle, about))
    except OSError as error:  # the picture is there, and its tokens are in it if it is a PNG
        told.append(f"cannot write {file}: {error.strerror}: tokens are not kept beside {path}")
        return Saved(path, None, tuple(told), (*notes, *more))
    return Saved(path, file, tuple(told), (*notes, *more))


def save_picture(path: Path, pixels: Pixels, chunk: bytes | None = None) -> None:
    """Write (H, W, 3) uint8 in the format of the suffix, without any metadata.

    Args:
        path: ends in one of the suffixes of `WRITABLE`; a file there is replaced.
        pixels: what is written.
        chunk: what a PNG is to carry behind its pixels, see `carried_tokens`.

    Raises:
        ImageError: no picture can be saved there.
        OutputError: the file cannot be written.
    """
    from PIL import Image

    check_output(path)
    target = Destination(path, WRITABLE[path.suffix.lower()], True, force=True)
    _write(target, Image.fromarray(pixels), None, chunk, {})


def _write(
    target: Destination,
    image: Image.Image,
    profile: bytes | None,
    chunk: bytes | None,
    made: Mapping[str, str],
) -> tuple[Path, list[str], list[str]]:
    """The file that was written, warnings, and notes on its mode."""
    from edge_client.pictures.files.encoding import options_of, writable

    shown, notes = writable(image, target.kind)
    options = options_of(target.kind, shown, profile, chunk, made)
    path, told = _written(target, lambda file: shown.save(file, target.kind, **options))
    return path, told, notes


def save_bytes(target: Destination, data: bytes) -> tuple[Path, list[str]]:
    """Write a file that is no picture; returns its path, and warnings.

    Raises:
        OutputError: it cannot be written; it says where the content is kept instead.
    """
    return _written(target, lambda file: file.write(data))


def _written(target: Destination, write: Write) -> tuple[Path, list[str]]:
    """Have a result written; where that fails it is kept elsewhere, since it was paid for."""
    try:
        return _to_stdout(target, write) if target.is_stdout else _placed(target, write)
    except (OSError, ValueError, AttributeError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        told = "standard output" if target.is_stdout else str(target.path)
        kept = _rescued(target, write)
        remedy = f"the result is kept in {kept}" if kept else "make room, or name another file"
        raise OutputError(f"cannot write {told}: {reason}", remedy) from error


def _to_stdout(target: Destination, write: Write) -> tuple[Path, list[str]]:
    whole = io.BytesIO()  # some formats seek, which no pipe can
    write(whole)
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    sys.stdout.buffer.write(whole.getbuffer())
    sys.stdout.buffer.flush()
    return target.path, []


def _rescued(target: Destination, write: Write) -> Path | None:
    """Where a result is now that could not be written where it was to go; None for nowhere."""
    suffix = target.path.suffix or f".{target.kind.lower() or 'umic'}"
    name = Path(f"{'stdout' if target.is_stdout else target.path.stem}{suffix}")
    for folder in (cache_folder() / "unsaved", Path(os.environ.get("TMPDIR") or "/tmp")):
        with suppress(OSError, ValueError, ImageError):
            folder.mkdir(parents=True, exist_ok=True)
            path = free_name(folder / name)
            with replaced(path, new=True) as file:
                write(file)
            return path
    return None


def _placed(target: Destination, write: Write) -> tuple[Path, list[str]]:
    """Have a file written where it is to go, or beside what another program made meanwhile."""
    path, new = target.path, target.before is None and not target.force
    if not target.force and _stamp(path) != target.before:
        path, new = free_name(path, ".umic"), True
    while True:
        try:
            with replaced(path, new) as file:
                write(file)
            break
        except FileExistsError:
            path = free_name(path, ".umic")
    if path == target.path or not target.named:
        return path, []
    told = f"{target.path} was made or changed by another program meanwhile and is left alone"
    return path, [f"{told}: the result is {path} (--force overwrites)"]


def _about(geometry: Geometry | None) -> dict[str, Any]:
    """Where the tokens lie in the picture, unless they are all of it at its own size."""
    if geometry is None or (geometry.source == geometry.target and geometry.region is None):
        return {}
    return geometry.metadata()


def _short(made: Mapping[str, str]) -> dict[str, Any]:
    """What a `.umic` file says of how it was made; the seed is a number there."""
    told: dict[str, Any] = {key: value for key, value in made.items() if key != "Software"}
    return {**told, "seed": int(made["seed"])} if "seed" in made else told


def _is_of(file: Path, picture: Path) -> bool:
    """Whether a `.umic` file was written beside this very picture, and may go with it."""
    from edge_client.pictures.carried_tokens import DIGEST_KEY, file_digest
    from shared_protocol.errors import BadMessageError
    from shared_protocol.message.picture_file import MAX_FILE, inspect_picture

    try:
        if file.stat().st_size > MAX_FILE:
            return False
        return inspect_picture(file.read_bytes())[1].get(DIGEST_KEY) == file_digest(picture)
    except (BadMessageError, OSError):
        return False


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells whether a file is still the one that it was."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
