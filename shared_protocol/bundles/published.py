"""Bundles of published files: which files they are made of, and where those lie on this machine.

It does not know how the files get here (see `fetching`), nor what is inside them.

A published bundle has no `bundle.json` of its own: its manifest is made from the catalogue below
and the digests of the files, so that both ends get one fingerprint from the same files.

::

    name ─► catalogue ─► files ─► digests ─► manifest ─► fingerprint
                           │
              1. $UNIMIC_MODELS/NAME-OF-REPOSITORY/  (else ~/.cache/unimic/models)
              2. the hub's cache (HF_HOME, HF_HUB_CACHE), as other programs have left it
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared_protocol.bundles.bundle import BUILTIN, Bundle, Defaults, bundle_folder, manifest_from
from shared_protocol.bundles.digests import cache_folder, digest_of
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.vocabulary import Vocabulary

MODELS_VARIABLE = "UNIMIC_MODELS"
CONFIG = "config.json"
TOKENIZER_NAMES = ("tokenizer.json",)
IMAGE_TOKENIZER, TEXT_TOKENIZER = "showlab/magvitv2", "microsoft/phi-1_5"
MASK_PRIOR = "mask_prior.msgpack"
"""Masks are masks: the prior of the built-in bundle serves, whatever the pictures are made of."""
SHOWO = Vocabulary(50295, 8192)
_MAX_TEXT_LEN = 128
_TEXT_FRAME = 2
"""The ids that open and close a prompt take places of its block."""


@dataclass(frozen=True)
class Published:
    """A bundle of published files.

    Args:
        name: of the bundle.
        transformer: repository of what the server needs besides.
        vocabulary: the unified id space.
        side: native grid side in tokens.
        defaults: what the authors ran it with.
    """

    name: str
    transformer: str
    side: int
    defaults: Defaults
    vocabulary: Vocabulary = SHOWO

    def content(self, files: Mapping[str, str]) -> dict[str, Any]:
        """All manifest fields but the digests."""
        return {
            "name": self.name,
            "vocabulary": asdict(self.vocabulary),
            "grid": [self.side, self.side],
            "max_text_tokens": _MAX_TEXT_LEN - _TEXT_FRAME,
            "image_tokenizer": "magvitv2",
            "files": dict(files),
            "defaults": asdict(self.defaults),
        }


CATALOGUE = {
    bundle.name: bundle
    for bundle in (
        Published("show-o", "showlab/show-o", 16, Defaults(16, 1.75, 100)),
        Published("show-o-512", "showlab/show-o-512x512", 32, Defaults(50, 5.0, 100)),
    )
}


def models_folder() -> Path:
    """Where fetched files lie: a folder per repository."""
    named = os.environ.get(MODELS_VARIABLE)
    return Path(named) if named else cache_folder() / "models"


def folder_of(repository: str, models: Path) -> Path:
    """A repository's folder.

    >>> folder_of("showlab/magvitv2", Path("models")).as_posix()
    'models/magvitv2'
    """
    return models / repository.rpartition("/")[2]


def load_published(name: str) -> Bundle:
    """A bundle of the catalogue, from the files on this machine.

    Raises:
        ConfigError: no such name.
        CheckpointError: files are missing.
    """
    if name not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise ConfigError(f"there is no published bundle {name!r}", f"known are {known}")
    return _assembled(CATALOGUE[name], models_folder(), cached_by_the_hub)


def load_published_folder(folder: Path) -> Bundle | None:
    """The published bundle whose files lie in `folder`, a folder per repository; None if there are
    none. What the transformer's `config.json` says goes before the catalogue.

    Raises:
        ConfigError: it holds more than one, or a `config.json` that cannot be used.
        CheckpointError: some files are missing.
    """
    if not folder_of(IMAGE_TOKENIZER, folder).is_dir():
        return None
    every = CATALOGUE.values()
    found = [bundle for bundle in every if folder_of(bundle.transformer, folder).is_dir()]
    found = found or [bundle for bundle in every if bundle.name == folder.resolve().name]
    if len(found) != 1:
        raise ConfigError(
            f"{folder} holds files of {[bundle.name for bundle in found] or 'an unnamed bundle'}",
            f"set {MODELS_VARIABLE}={folder} and name the bundle: {', '.join(CATALOGUE)}",
        )
    return _assembled(_as_configured(found[0], folder), folder, lambda repository, names: None)


def find_transformer(name: str, models: Path | None = None) -> Path | None:
    """The folder with the transformer's weights of a published bundle; None if it is not here.

    Args:
        name: of the bundle.
        models: a folder to look in first.
    """
    from shared_protocol.bundles.tensor_files import WEIGHT_NAMES

    if name not in CATALOGUE:
        return None
    repository = CATALOGUE[name].transformer
    for place in (*([models] if models else []), models_folder()):
        found = _in_folder(folder_of(repository, place), WEIGHT_NAMES)
        if found is not None:
            return found.parent
    found = cached_by_the_hub(repository, WEIGHT_NAMES)
    return None if found is None else found.parent


Finder = Callable[[str, Sequence[str]], Path | None]
"""(repository, file names) to the first of these files that is there."""


def _assembled(published: Published, models: Path, elsewhere: Finder) -> Bundle:
    paths = dict(_shared_files(published, models, elsewhere))
    files = {name.partition(".")[0]: name for name in paths}
    content = {
        **published.content(files),
        "sha256": {name: digest_of(path) for name, path in paths.items()},
    }
    return Bundle(models, manifest_from(content), paths)


def _shared_files(
    published: Published, models: Path, elsewhere: Finder
) -> Iterator[tuple[str, Path]]:
    """Name in the manifest and place of every file that both ends need."""
    from shared_protocol.bundles.tensor_files import INDEX, WEIGHT_NAMES

    weights = [name for name in WEIGHT_NAMES if not name.endswith(INDEX)]
    wanted = {
        "image_tokenizer": (IMAGE_TOKENIZER, weights),
        "text_tokenizer": (TEXT_TOKENIZER, list(TOKENIZER_NAMES)),
    }
    missing = []
    for role, (repository, names) in wanted.items():
        place = folder_of(repository, models)
        path = _in_folder(place, names) or elsewhere(repository, names)
        if path is None:
            missing.append(f"{repository} ({', '.join(names[:2])}; looked in {place})")
        else:
            yield f"{role}{path.suffix}", path
    if missing:
        raise CheckpointError(
            f"files of the bundle {published.name} are not on this machine: {'; '.join(missing)}",
            f"run 'edge-client fetch', which takes them from your server, or 'edge-client fetch "
            f"{published.name}'; on a server, 'cloud-server fetch {published.name}'",
        )
    yield MASK_PRIOR, bundle_folder(BUILTIN) / MASK_PRIOR


def _in_folder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def cached_by_the_hub(repository: str, names: Sequence[str]) -> Path | None:
    """The first of these files of a repository that is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _as_configured(published: Published, folder: Path) -> Published:
    path = folder_of(published.transformer, folder) / CONFIG
    if not path.is_file():
        return published
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        side = round(int(content["num_vq_tokens"]) ** 0.5)
        vocabulary = Vocabulary(int(content["llm_vocab_size"]), int(content["codebook_size"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a Show-o configuration: {error!r}") from error
    return Published(published.name, published.transformer, side, published.defaults, vocabulary)
