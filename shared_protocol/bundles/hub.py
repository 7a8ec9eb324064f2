"""Downloads published files from the hub, when a user asks for it: announced, resumed, verified.

It does not know what a bundle means; the catalogue names the files, and `published` finds them
afterwards. The hub's client library is imported here and nowhere else.

Differs from `hf_hub_download`: because that starts a broken file of gigabytes from the beginning
when it is run again; here what has arrived stays in `.partial/` and is continued.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_protocol.bundles.catalogue import (
    CATALOGUE,
    CONFIG,
    IMAGE_TOKENIZER,
    TEXT_TOKENIZER,
    TOKENIZER_NAMES,
    folder_of,
    models_folder,
)
from shared_protocol.errors import (
    CheckpointError,
    ConfigError,
    NotFoundError,
    TransportError,
    UnimicError,
)
from shared_protocol.files import checked_name

Say = Callable[[str], None]
"""Told one line at a time."""
Choose = Callable[[Sequence[str]], list[str]]
"""Names of the files of a repository to those that are wanted, the best of each kind."""
_PARTIAL = ".partial"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """One file of a repository as the hub describes it.

    Args:
        repository: such as "showlab/show-o".
        commit: the state of the repository that all its files are taken from.
        name: of the file.
        size: in bytes.
        digest: SHA-256, or git's SHA-1 of small files, in hex.
    """

    repository: str
    commit: str
    name: str
    size: int
    digest: str


def fetch_published(
    name: str, *, transformer: bool, say: Say, endpoint: str | None = None
) -> list[Path]:
    """Download what is missing of a published bundle into `models_folder()`.

    Args:
        name: of the bundle.
        transformer: whether to fetch what only a server needs, too.
        say: progress, for people; a bar per file goes to stderr where that is a terminal.
        endpoint: address of the hub; None means HF_ENDPOINT, else huggingface.co.

    Returns:
        Where the files are.

    Raises:
        ConfigError: no such bundle, or no room on the disk.
        NotFoundError: the hub has no such repository or file.
        TransportError: the hub cannot be reached, or the connection broke; run it again to go on.
        CheckpointError: what arrived is not what the hub announced.
    """
    if name not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise ConfigError(f"there is no published bundle {name!r}", f"known are {known}")
    wanted: list[tuple[str, Choose]] = [
        (TEXT_TOKENIZER, _tokenizer),
        (IMAGE_TOKENIZER, _weights),
    ]
    if transformer:
        wanted.append((CATALOGUE[name].transformer, _weights))
    with _translated(endpoint):
        plans = [_plan(repository, choose, endpoint) for repository, choose in wanted]
        total = sum(remote.size for remotes in plans for remote in remotes)
        say(f"{name}: {_megabytes(total)} in {sum(map(len, plans))} files to {models_folder()}")
        return [_fetch(remote, say, endpoint) for remotes in plans for remote in remotes]


def cached_by_the_hub(repository: str, names: Sequence[str]) -> Path | None:
    """The first of these files of a repository that is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _plan(repository: str, choose: Choose, endpoint: str | None) -> list[Remote]:
    """The wanted files of a repository; shards come in the place of their index."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint).model_info(repository, files_metadata=True)
    commit, files = str(info.sha), {file.rfilename: file for file in info.siblings or []}
    names = choose(list(files))
    if not names:
        raise NotFoundError(f"{repository} holds none of the files that are needed", "report it")
    return [_remote(repository, commit, files[name]) for name in names]


def _remote(repository: str, commit: str, file: Any) -> Remote:
    digest = file.lfs.sha256 if file.lfs else file.blob_id
    try:
        checked_name(file.rfilename)
    except ValueError as error:
        raise TransportError(f"the hub names a file oddly: {error}", _AGAIN) from None
    if file.size is None or not digest:
        raise TransportError(f"the hub does not describe {repository}/{file.rfilename}", _AGAIN)
    return Remote(repository, commit, file.rfilename, int(file.size), str(digest))


def _tokenizer(names: Sequence[str]) -> list[str]:
    return [name for name in TOKENIZER_NAMES if name in names]


def _weights(names: Sequence[str]) -> list[str]:
    """The configuration and one set of weights: an index and its shards, or one file."""
    from shared_protocol.bundles.weight_files import INDEX, WEIGHT_NAMES

    best = next((name for name in WEIGHT_NAMES if name in names), None)
    if best is None:
        return []
    stem = best.removesuffix(INDEX).removesuffix(".index")  # such as model.safetensors
    base, _, kind = stem.rpartition(".")
    shards = [
        name
        for name in names
        if name.startswith(f"{base}-") and name.endswith(f".{kind}") and "/" not in name
    ]
    config = [CONFIG] if CONFIG in names else []
    return [*config, best, *(sorted(shards) if best.endswith(INDEX) else [])]


def _fetch(remote: Remote, say: Say, endpoint: str | None) -> Path:
    """Download one file, or see that it is there already."""
    folder = folder_of(remote.repository, models_folder())
    target = folder / remote.name
    title = f"{remote.repository}/{remote.name} ({_megabytes(remote.size)})"
    for place in (target, cached_by_the_hub(remote.repository, [remote.name])):
        if place is not None and _is_there(place, remote):
            say(f"{title}: already there")
            return place
    partial = folder / _PARTIAL / remote.digest
    partial.parent.mkdir(parents=True, exist_ok=True)
    arrived = partial.stat().st_size if partial.is_file() else 0
    if arrived > remote.size:
        partial.unlink()
        arrived = 0
    _check_room(folder, remote.size - arrived)
    say(f"{title}: " + (f"going on after {_megabytes(arrived)}" if arrived else "downloading"))
    _download(remote, partial, arrived, endpoint)
    if _digest(partial, remote) != remote.digest:
        partial.unlink()
        raise CheckpointError(f"{title} arrived damaged and was deleted", "fetch it again")
    partial.replace(target)
    return target


def _download(remote: Remote, partial: Path, arrived: int, endpoint: str | None) -> None:
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(remote.repository, remote.name, revision=remote.commit, endpoint=endpoint)
    token = get_token()
    headers = {"Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with partial.open("ab") as file:
        http_get(
            url,
            file,
            resume_size=arrived,
            headers=headers,
            expected_size=remote.size,
            displayed_filename=remote.name,
        )


def _is_there(path: Path, remote: Remote) -> bool:
    if not path.is_file() or path.stat().st_size != remote.size:
        return False
    # The hub's cache calls files by their digest, and checked it.
    return path.resolve().name == remote.digest or _digest(path, remote) == remote.digest


def _digest(path: Path, remote: Remote) -> str:
    """SHA-256 of a file, or what git calls it, whichever the hub has told."""
    if len(remote.digest) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"{folder} has room for {_megabytes(free)}, {_megabytes(needed)} are needed",
            "make room, or name another folder in UNIMIC_MODELS",
        )


_AGAIN = "run it again; what has arrived is kept"


@contextmanager
def _translated(endpoint: str | None) -> Iterator[None]:
    """The hub's errors become ours here and nowhere else."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        said = str(error).strip().splitlines()[0]
        raise NotFoundError(f"the hub does not give the file: {said}", "check access") from error
    except UnimicError:
        raise
    except Exception as error:
        # The hub client's errors, those of the HTTP library under it, and those of the disk have
        # no base in common.
        said = " ".join(str(error).split())[:300] or type(error).__name__
        where = endpoint or "the hub"
        raise TransportError(f"downloading from {where} failed: {said}", _AGAIN) from error


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
