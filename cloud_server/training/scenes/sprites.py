"""Fetches the sprite pictures from a published npm package, pinned by checksum.

Does not know which sprites a world uses, nor how they are drawn: hexcodes in, picture files out.
Everything lands under one cache folder and is fetched once; a cached file is never fetched again.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_REGISTRY = "https://registry.npmjs.org"
DOWNLOAD_SECONDS = 300


class SpriteSourceError(RuntimeError):
    """A package could not be fetched, or what came is not what was pinned."""


@dataclass(frozen=True)
class NpmPackage:
    """One published package, pinned to the exact bytes of its tarball.

    Attributes:
        name: full npm name, scope included.
        version: exact version.
        sha512: hex digest of the tarball (npm's `integrity`, in hex).
    """

    name: str
    version: str
    sha512: str

    @property
    def basename(self) -> str:
        """The package name without its scope: `fluent-emoji-3d`."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """The folder that extracted members go to, relative to the cache."""
        return f"{self.basename}-{self.version}"

    @property
    def spec(self) -> str:
        """What `npm pack` takes: `name@version`."""
        return f"{self.name}@{self.version}"

    def url(self, registry: str) -> str:
        """The tarball's address at `registry`."""
        return f"{registry.rstrip('/')}/{self.name}/-/{self.folder}.tgz"


SPRITES = NpmPackage(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "5a5ab69554ad4e7afc043a48274a449d328ee0bb83c71a931214ef46d0f50cb4"
    "45d267bba207914232a87a10c75ee549d9069e720979c1106feb4954006de1ee",
)


def default_cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """`$UNIMIC_CACHE`, else `$XDG_CACHE_HOME/unimic`, else `~/.cache/unimic`."""
    if named := environment.get("UNIMIC_CACHE"):
        return Path(named).expanduser()
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "unimic"


def ensure_sprites(cache_dir: Path, hexcodes: Iterable[str]) -> dict[str, Path]:
    """The picture file of each hexcode, fetched and unpacked if it is not in the cache yet.

    Args:
        cache_dir: the folder that downloads live in.
        hexcodes: lower-case Unicode code points joined by `-`, as in `1f98a`.

    Returns:
        hexcode -> path of a 256x256 RGBA WebP file.

    Raises:
        SpriteSourceError: the package cannot be had, fails its checksum, or lacks a hexcode.
    """
    paths = {code: cache_dir / SPRITES.folder / f"{code}.webp" for code in hexcodes}
    missing = {f"package/assets/{path.name}": path for path in paths.values() if not path.exists()}
    if missing:
        extract_members(fetch_tarball(SPRITES, cache_dir), missing)
    return paths


def fetch_tarball(package: NpmPackage, cache_dir: Path) -> Path:
    """The verified tarball of `package`, from the cache or else from the registry.

    Raises:
        SpriteSourceError: it cannot be downloaded, or its SHA-512 is not the pinned one.
    """
    target = cache_dir / f"{package.folder}.tgz"
    if not target.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        data = _npm_pack(package) if shutil.which("npm") else _http_get(package)
        _verify(package, data)
        write_atomically(target, data)
    else:
        _verify(package, target.read_bytes())
    return target


def extract_members(tarball: Path, members: Mapping[str, Path]) -> None:
    """Writes the named tar members to the given paths.

    Raises:
        SpriteSourceError: a member is not in the tarball.
    """
    left = dict(members)
    with tarfile.open(tarball, "r:gz") as archive:
        for member in archive:
            path = left.pop(member.name, None)
            if path is None:
                continue
            data = archive.extractfile(member)
            assert data is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data.read())
    if left:
        raise SpriteSourceError(f"{tarball.name} has no {sorted(left)}: correct the hexcodes")


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` so that a reader sees the whole file or none."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with io.FileIO(handle, "wb", closefd=True) as file:
        file.write(data)
    Path(temporary).replace(path)


def _verify(package: NpmPackage, data: bytes) -> None:
    found = hashlib.sha512(data).hexdigest()
    if found != package.sha512:
        raise SpriteSourceError(
            f"{package.spec}: SHA-512 is {found[:16]}…, pinned is {package.sha512[:16]}…; "
            "remove the file from the cache and fetch again"
        )


def _npm_pack(package: NpmPackage) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, package.spec]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=DOWNLOAD_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            raise SpriteSourceError(f"npm pack {package.spec} failed: {error}") from error
        return next(Path(folder).glob("*.tgz")).read_bytes()


def _http_get(package: NpmPackage) -> bytes:
    import httpx

    settings = {name.upper(): value for name, value in os.environ.items()}
    url = package.url(settings.get("NPM_CONFIG_REGISTRY") or DEFAULT_REGISTRY)
    try:
        response = httpx.get(url, follow_redirects=True, timeout=DOWNLOAD_SECONDS)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise SpriteSourceError(f"cannot fetch {url}: {error}") from error
    return response.content
