"""A machine that computes other probabilities than recorded is found before anything is coded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloud_server.serving.load import check_entropy
from edge_client import cli
from edge_client.transport import http as transport
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import bundle_folder, load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import CheckpointError
from shared_protocol.selfcheck.recorded_digests import DIGESTS_FILE


class SilentTransport:
    """A server that says nothing of itself."""

    def __init__(self, *given: Any, **named: Any) -> None: ...

    def __enter__(self) -> SilentTransport:
        return self

    def __exit__(self, *given: Any) -> None: ...

    def info(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def other_machine(tmp_path: Path) -> Bundle:
    """The built-in bundle with the digests of a machine that computes otherwise."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in bundle_folder(BUILTIN).iterdir():
        (folder / path.name).symlink_to(path)
    recorded = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
    (folder / DIGESTS_FILE).unlink()
    (folder / DIGESTS_FILE).write_text(json.dumps({**recorded, "masked": "0" * 64}))
    return load_bundle(str(folder))


def test_a_server_does_not_start_on_it(other_machine: Bundle) -> None:
    with pytest.raises(CheckpointError, match="other probabilities than recorded for masked"):
        check_entropy(other_machine)


def test_info_reports_it(
    other_machine: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transport, "HttpTransport", SilentTransport)
    status = cli.main(["info", "--bundle", str(other_machine.folder)])
    assert status != 0
    assert "other probabilities than recorded for masked" in capsys.readouterr().err
