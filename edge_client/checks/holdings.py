"""Checks of the bundle: whether it is here, whole, computes what all compute, and is the server's.

They do not know how a server is reached.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_client.checks.finding import Finding, Subject, fail, failed, ok, warn
from edge_client.config import Settings
from shared_protocol.compute import Compute
from shared_protocol.errors import UnimicError


def bundle(subject: Subject) -> Iterator[Finding]:
    """The bundle and its files."""
    from shared_protocol.bundles.find import load_bundle

    settings = subject.settings or Settings()
    try:
        found = load_bundle(settings.bundle, Compute.named(settings.compute))
    except UnimicError as error:
        yield failed("bundle", error)
        return
    yield ok("bundle", f"{found.name}, fingerprint {found.fingerprint.hex()[:16]}, {found.folder}")
    try:
        for file in found.manifest.sha256:
            found.file(file)
    except UnimicError as error:
        yield failed("bundle files", error)
        return
    subject.bundle = found
    yield ok("bundle files", f"{len(found.manifest.sha256)} files with the digests of the manifest")


def computation(subject: Subject) -> Iterator[Finding]:
    """What computes here, and whether it gives the integers that every machine gives."""
    from shared_protocol.entropy.native import find_kernel
    from shared_protocol.selfcheck.recorded_digests import check_probabilities

    kernel = find_kernel()
    if kernel.module is None:
        remedy = "install again where a C compiler is; all works without, and takes longer"
        yield warn("C decoder", kernel.words, remedy)
    else:
        yield ok("C decoder", kernel.words)
    if subject.bundle is None:
        return
    try:
        tokenizer = subject.bundle.image_tokenizer().computed_by
        decoder = subject.bundle.entropy.decoded_by
        yield ok("computation", f"image tokenizer by {tokenizer}, entropy decoder by {decoder}")
        check_probabilities(subject.bundle.entropy)
    except UnimicError as error:
        yield failed("computation", error)
        return
    yield ok("exactness", "this machine computes the recorded probabilities")


def agreement(subject: Subject) -> Iterator[Finding]:
    """Whether both ends hold the same."""
    if subject.bundle is None or subject.info is None:
        return
    from edge_client.compatibility import compare

    for point in compare(subject.bundle, subject.info):
        check = f"both ends: {point.name}"
        if point.agrees:
            yield ok(check, point.ours[:16])
        else:
            told = f"{point.ours[:16]} here, {point.theirs[:16]} at the server"
            yield fail(check, told, point.remedy)
