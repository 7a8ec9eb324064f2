"""`info` and `fetch`: whether both ends agree, and getting what is missing here.

It does not print, and leaves talking to the server to `transport`.
"""

from __future__ import annotations

import platform
from argparse import Namespace

from edge_client.commands.outcome import Outcome, exposed_key
from edge_client.config import Settings
from edge_client.report import table
from shared_protocol.compute import Compute
from shared_protocol.messages import OnStep


def info(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Show what the server serves beside what is here, point by point."""
    from edge_client.compatibility import compare
    from edge_client.transport.http import HttpTransport
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.errors import printable
    from shared_protocol.selfcheck.recorded_digests import check_probabilities

    with HttpTransport(settings.server, settings.api_key, settings.timeout) as transport:
        info = transport.info()
    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    check_probabilities(bundle.entropy)
    points = compare(bundle, info)
    agree = all(point.agrees for point in points)
    facts = [[name, printable(_flat(value), 100)] for name, value in info.items()]
    rows = [
        [point.name, point.ours[:16], point.theirs[:16], "yes" if point.agrees else "NO"]
        for point in points
    ]
    here = {
        "compute": settings.compute,
        "image tokenizer": bundle.image_tokenizer().computed_by,
        "entropy decoder": bundle.entropy.decoded_by,
        "processor": platform.machine(),
    }
    text = "\n\n".join(
        [
            table([settings.server, ""], facts, left=2),
            table(["this device", ""], [[name, value] for name, value in here.items()], left=2),
            table(["both ends", "here", "server", "agree"], rows, left=4),
        ]
    )
    data = {
        "server": settings.server,
        "info": info,
        "device": here,
        "agree": agree,
        "points": [
            {"name": p.name, "ours": p.ours, "theirs": p.theirs, "agree": p.agrees} for p in points
        ],
    }
    differing = [f"the {p.name} differs: {p.remedy}" for p in points if not p.agrees]
    return Outcome(text, data, warnings=tuple(differing), failed=not agree)


def fetch(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Get the server's bundle from the server, or a published one from the hub."""
    from edge_client.fetching import fetch_from_server
    from edge_client.transport.http import HttpTransport
    from shared_protocol.bundles.find import load_bundle

    lines: list[str] = []
    if given.name is None:
        with HttpTransport(settings.server, settings.api_key, settings.timeout) as transport:
            fetched = fetch_from_server(transport, on_step, given.force, given.called)
        name, received = fetched.name, fetched.received
        lines.append(f"{received:,} bytes received from {settings.server}")
        if (theirs := fetched.called) != name:
            told = "" if given.called else ", a name that is taken here: --as NAME gives it another"
            lines.append(f"the server calls it {theirs}{told}")
    else:
        from shared_protocol.bundles.hub import fetch_published

        name, received = given.name, None
        fetch_published(name, transformer=False, say=lines.append)
    bundle = load_bundle(name)
    warnings = exposed_key(settings) if given.name is None else []
    data = {
        "bundle": name,
        "fingerprint": bundle.fingerprint.hex(),
        "folder": str(bundle.folder),
        "received": received,
        "warnings": warnings,
    }
    use = f"use it with --bundle {name}, or UNIMIC_BUNDLE={name}"
    return Outcome(f"{name} is here; {use}", data, "\n".join(lines), tuple(warnings))


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
