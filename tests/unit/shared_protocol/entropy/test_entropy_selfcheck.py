import json

import pytest
from entropy_streams import BUILTIN, GOLDEN

from shared_protocol.entropy import selfcheck
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.errors import CheckpointError


def test_this_machine_has_the_recorded_digests(models: EntropyModels) -> None:
    recorded = json.loads((GOLDEN / "golden.json").read_text())["digests"]
    assert selfcheck.selfcheck_digests(models) == recorded


def test_digests_are_written_and_checked(models: EntropyModels, tmp_path) -> None:
    path = selfcheck.write_digests(models, tmp_path)
    assert selfcheck.check_digests(models, tmp_path) == selfcheck.selfcheck_digest(models)
    path.write_text(json.dumps({"generic": "0" * 64}))
    with pytest.raises(CheckpointError, match="generic"):
        selfcheck.check_digests(models, tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError):
        selfcheck.check_digests(models, tmp_path)


def test_shipped_weights_compute_here_what_was_recorded() -> None:
    from shared_protocol.bundles import load_bundle

    selfcheck.check_digests(load_bundle().entropy, BUILTIN)


def test_the_command_prints_one_line(models: EntropyModels, capsys) -> None:
    named = [f"{scenario.name}={path}" for scenario, path in models.paths.items()]
    assert selfcheck.main(named) == 0
    assert capsys.readouterr().out.strip() == selfcheck.selfcheck_digest(models)
