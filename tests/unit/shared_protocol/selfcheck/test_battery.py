import json

import pytest
from entropy_streams import BUILTIN, GOLDEN

from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.errors import CheckpointError
from shared_protocol.selfcheck import recorded_digests as selfcheck
from shared_protocol.selfcheck.battery import Check
from shared_protocol.tasks import Scenario


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
    from shared_protocol.bundles.find import load_bundle

    selfcheck.check_digests(load_bundle().entropy, BUILTIN)


def test_the_command_prints_one_line(models: EntropyModels, capsys) -> None:
    named = [f"{scenario.name}={path}" for scenario, path in models.paths.items()]
    assert selfcheck.main(named) == 0
    assert capsys.readouterr().out.strip() == selfcheck.selfcheck_digest(models)


def test_the_command_records_digests(models: EntropyModels, tmp_path, capsys) -> None:
    named = [f"{scenario.name}={path}" for scenario, path in models.paths.items()]
    assert selfcheck.main([*named, "--record", str(tmp_path)]) == 0
    line = capsys.readouterr().out.strip()
    assert selfcheck.check_digests(models, tmp_path) == line


@pytest.mark.slow
def test_the_command_prints_the_battery_and_fails_with_it(
    models: EntropyModels, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"masked={models.paths[Scenario.MASKED]}", "--battery", "--sequences", "3"]
    assert selfcheck.main(words) == 0
    printed = capsys.readouterr().out
    assert "compiled decoder" in printed
    assert "BLAS for Haswell" in printed
    assert "DIFFER" not in printed
    planted = Check("planted", 1, 10, 1)
    monkeypatch.setattr(selfcheck, "battery", lambda *given, **named: [planted])
    assert selfcheck.main(words) == 1
    assert "1 DIFFER" in capsys.readouterr().out
