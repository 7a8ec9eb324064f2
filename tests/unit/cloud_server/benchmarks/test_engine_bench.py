"""The benchmark: it compares what it times, and fails where tokens differ."""

import pytest
import torch
from tiny_backbone import BUILTIN

from cloud_server.benchmarks import engine_bench as bench


def test_line_of_equal_tokens_holds_both_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not any(BUILTIN.glob("backbone*.safetensors")):
        pytest.skip("no built-in weights in this checkout")
    words = ["--models=builtin", "--policies=standard", "--steps=1", "--answer=2", "--device=cpu"]
    assert bench.main(words) == 0
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if "builtin" in line]
    assert [line[2].strip() for line in lines] == ["t2i 256 px, 1 steps, standard", "vqa, 2 tokens"]
    assert all(float(cell) > 0 for line in lines for cell in line[3:9])
    assert [line[9].strip() for line in lines] == ["all", "all"]


def test_differing_tokens_fail_in_float32_and_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    duel = bench.Duel("t2i", lambda: [1, 2, 3, 4], lambda: [1, 2, 3, 5])
    monkeypatch.setattr(bench, "duels", lambda *_: [duel])
    assert bench.main(["--models", "reduced", "--device", "cpu"]) == 1
    assert "75.0%" in capsys.readouterr().out
    assert bench.main(["--models", "reduced", "--device", "cpu", "--dtype", "bfloat16"]) == 0
    assert bench.main(["--models", "reduced", "--device", "cpu", "--here", "bfloat16"]) == 0
    assert "float32, here bfloat16" in capsys.readouterr().out


def test_rounded_weights_of_the_served_side_are_those_of_the_plain_side() -> None:
    built = bench.build("reduced", "cpu", "float32", "bfloat16")
    plain, served = built.backbone.phi.state_dict(), built.served.phi.state_dict()
    assert all(torch.equal(plain[name].bfloat16(), served[name]) for name in plain)
    assert served["lm_head.weight"].dtype == torch.bfloat16


def test_full_model_says_how_much_memory_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "FULL_BYTES", {"float32": 1 << 60})
    with pytest.raises(SystemExit, match="GiB in float32; try --dtype bfloat16"):
        bench.main(["--models", "full", "--device", "cpu"])
