"""A bundle with entropy models of one's own in place of those that it has, or lacks.

It does not know how they were trained. Both ends get one fingerprint from the same bundle and the
same file; the bundle keeps its name, and an edge that holds another variant fetches the file::

    bundle's manifest ─┬─► manifest with the file in all scenarios ─► fingerprint
    digest of the file ┘
"""

from __future__ import annotations

from pathlib import Path

from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.digests import digest_of
from shared_protocol.bundles.manifest import manifest_from
from shared_protocol.errors import CheckpointError
from shared_protocol.tasks import Scenario

ENTROPY_FILE = "entropy.safetensors"
"""What the manifest calls the file, whatever its name on this machine."""
_ROLES = tuple(f"entropy_{s.slug}" for s in Scenario if s is not Scenario.UNIFORM)


def with_entropy(bundle: Bundle, file: Path) -> Bundle:
    """The bundle with the entropy models of `file` for every scenario.

    Raises:
        CheckpointError: no entropy models there, or models of another alphabet than the bundle's.
    """
    _check_fit(bundle, file)
    content = bundle.manifest.content()
    kept = {role: name for role, name in content["files"].items() if role not in _ROLES}
    names = set(kept.values())
    content["files"] = kept | dict.fromkeys(_ROLES, ENTROPY_FILE)
    digests = {name: digest for name, digest in content["sha256"].items() if name in names}
    content["sha256"] = digests | {ENTROPY_FILE: digest_of(file)}
    paths = {name: bundle.file(name) for name in names} | {ENTROPY_FILE: file}
    return Bundle(bundle.folder, manifest_from(content, str(file)), paths)


def _check_fit(bundle: Bundle, file: Path) -> None:
    from shared_protocol.entropy.checkpoint import load

    config, vocabulary = load(file).config, bundle.vocabulary
    found = config.codebook_size, config.text_size
    if found != (vocabulary.codebook_size, vocabulary.text_size):
        raise CheckpointError(
            f"{file} has models of {found[0]} image codes and {found[1]} text ids, the bundle "
            f"{bundle.name} has {vocabulary.codebook_size} and {vocabulary.text_size}",
            f"make some with 'cloud-server train entropy --bundle {bundle.name} --images FOLDER'",
        )
