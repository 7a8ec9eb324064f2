"""Bundles of published files: where the files lie on this machine, and the manifest they make.

It does not know how the files get here (see `hub`), nor what is inside them.

A published bundle has no `bundle.json` of its own: its manifest is made from the catalogue and the
digests of the files, so that both ends get one fingerprint from the same files.

::

    name ─► catalogue ─► files ─► digests ─► manifest ─► fingerprint
                           │
              1. $UNIMIC_MODELS/NAME-OF-REPOSITORY/  (else ~/.cache/unimic/models)
              2. the hub's cache (HF_HOME, HF_HUB_CACHE), as other programs have left it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.catalogue import (
    CATALOGUE,
    CONFIG,
    IMAGE_TOKENIZER,
    MODELS_VARIABLE,
    TEXT_TOKENIZER,
    TOKENIZER_NAMES,
    Published,
    folder_of,
    models_folder,
)
from shared_protocol.bundles.digests import digest_of
from shared_protocol.bundles.hub import cached_by_the_hub
from shared_protocol.bundles.manifest import BUILTIN_FOLDER, MAX_MANIFEST, manifest_from
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.files import read_regular
from shared_protocol.vocabulary import Vocabulary

MASK_PRIOR = "mask_prior.msgpack"
"""Masks are masks: the prior of the built-in bundle serves, whatever the pictures are made of."""


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
    from shared_protocol.bundles.weight_files import WEIGHT_NAMES

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
    from shared_protocol.bundles.weight_files import INDEX, WEIGHT_NAMES

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
    yield MASK_PRIOR, BUILTIN_FOLDER / MASK_PRIOR


def _in_folder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _as_configured(published: Published, folder: Path) -> Published:
    path = folder_of(published.transformer, folder) / CONFIG
    if not path.is_file():
        return published
    try:
        content = json.loads(read_regular(path, MAX_MANIFEST))
        side = round(int(content["num_vq_tokens"]) ** 0.5)
        vocabulary = Vocabulary(int(content["llm_vocab_size"]), int(content["codebook_size"]))
    except (OSError, ValueError, OverflowError, RecursionError, LookupError, TypeError) as error:
        told = f"{path} is not a Show-o configuration: {str(error)[:200]}"
        raise ConfigError(told, "fetch it again") from error
    return replace(published, side=side, vocabulary=vocabulary)
