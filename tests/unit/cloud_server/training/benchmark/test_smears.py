"""Tokens out of place: the groups, the probabilities and the measurement of the threshold."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbone import CODES, EOT, MAX_TEXT_LEN, VOCABULARY, tiny_backbone

from cloud_server.generation.prompting import codes_to_input_ids, t2i_mask, t2i_sequence
from cloud_server.training.benchmark import report, smears
from cloud_server.training.benchmark.smears import GROUPS, Reader, groups, probabilities, smeared
from cloud_server.training.benchmark.verdicts import Evaluation, Verdict
from cloud_server.training.scenes.world import World
from shared_protocol.bundles.find import load_bundle
from shared_protocol.cases import Case, CaseRecord
from shared_protocol.errors import CheckpointError, ConfigError, InvalidInputError
from shared_protocol.tokens import TextTokens

PROMPT = np.array([5, 6, 7], dtype=np.int64)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(tiny_backbone(), VOCABULARY, EOT, MAX_TEXT_LEN)


def test_a_group_is_two_sublattices_whose_cells_do_not_touch() -> None:
    found = groups(16, 16)
    assert np.bincount(found.reshape(-1)).tolist() == [32] * GROUPS
    for group in range(GROUPS):
        cells = np.argwhere(found == group)
        assert len({(row % 4, column % 4) for row, column in cells.tolist()}) == 2
        apart = np.abs(cells[:, None] - cells[None]).max(-1) + 9 * np.eye(len(cells))
        assert apart.min() == 2


def test_a_probability_is_given_the_prompt_and_all_tokens_of_other_groups(reader: Reader) -> None:
    found = probabilities(reader, CODES.astype(np.int64), PROMPT)
    group = groups(*CODES.shape)
    for cell in ((0, 0), (2, 3), (3, 1)):
        hidden = np.where(group == group[cell], -1, CODES).reshape(1, -1)
        ids = codes_to_input_ids(torch.from_numpy(hidden), VOCABULARY)
        whole = t2i_sequence([PROMPT.tolist()], ids, VOCABULARY, eot_id=EOT, max_text_len=16)
        places = torch.arange(whole.shape[1])[None]
        logits = reader.backbone.logits(whole, t2i_mask(whole, VOCABULARY), places)
        row = logits[0, -1 - CODES.size + cell[0] * 4 + cell[1]]
        codes = row[VOCABULARY.image_offset : VOCABULARY.mask_id].double().softmax(-1)
        assert found[cell] == pytest.approx(float(codes[CODES[cell]]), rel=1e-4)


def test_a_token_that_none_would_expect_is_smeared() -> None:
    shares = np.full((4, 4), 0.5)
    shares[1, 2] = smears.THRESHOLD / 2
    assert np.argwhere(smeared(shares)).tolist() == [[1, 2]]


def test_a_grid_without_whole_groups_is_refused(reader: Reader) -> None:
    with pytest.raises(InvalidInputError, match="4 x 6"):
        probabilities(reader, np.zeros((4, 6), dtype=np.int64), PROMPT)


def test_a_backbone_of_another_vocabulary_is_refused() -> None:
    weights = Path(__file__).parents[4] / "parity" / "golden" / "showo_tiny"
    with pytest.raises(CheckpointError, match="not made for the bundle"):
        smears.load_reader(load_bundle(), weights)


def test_the_measurement_tells_how_many_real_tokens_are_below(
    reader: Reader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, rng = World.load(None), np.random.default_rng(0)
    scenes = [world.sample_scene(rng, "train") for _ in range(3)]
    lines = "".join(json.dumps(scene.to_dict()) + "\n" for scene in scenes)
    (tmp_path / "train_00000.jsonl").write_text(lines)
    np.save(tmp_path / "train_00000.npy", np.zeros((3, 16, 16), dtype=np.uint16))
    monkeypatch.setattr(smears, "load_reader", lambda bundle, path: reader)
    monkeypatch.setattr(smears, "probabilities", lambda *asked: np.full((16, 16), 0.25))
    assert smears.main(["--tokens", str(tmp_path), "--smoke"]) == 0
    printed = capsys.readouterr().out
    assert "512 real tokens of 2 pictures: one in 500 is below 0.25" in printed
    assert "0.0000%, 0.00 a picture; pictures with 4 or more: 0.0%" in printed


def a_verdict(prompt: str, code: int) -> Verdict:
    case = Case("t2i-1", "t2i", prompt)
    return Verdict(case, CaseRecord("t2i-1", "t2i", tokens=[[code] * 16] * 16), "t2i", {})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that are asked about; tokens of code 1 look out of place."""
    bundle, found = load_bundle(), []

    def answer(reader: Reader, codes: np.ndarray, prompt: np.ndarray) -> np.ndarray:
        found.append(bundle.text_tokenizer.decode(TextTokens(prompt, bundle.vocabulary.text_size)))
        return np.where(codes == 1, 0.0, 1.0)

    monkeypatch.setattr(report, "find_backbone", lambda bundle, named: Path("backbone"))
    monkeypatch.setattr(report, "load_reader", lambda bundle, path: None)
    monkeypatch.setattr(report, "probabilities", answer)
    return found


def given(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return parser.parse_args(["--data", "d", "--records", "r", *options])


def test_the_report_counts_them_in_every_drawn_picture(asked: list[str]) -> None:
    found = Evaluation([a_verdict("a fox", 0), a_verdict("a car", 1)], 0)
    mean, many = report.smears_found(given(), load_bundle(), found)
    assert asked == ["a fox", "a car"]
    assert (mean.value, mean.count) == (128, 2)
    assert many.result == "50.0%"


def test_the_report_leaves_them_out_where_nobody_can_or_wants_to_count(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Evaluation([a_verdict("a fox", 0)], 0)
    assert report.smears_found(given("--no-smears"), load_bundle(), found) == []
    assert report.smears_found(given(), load_bundle(), Evaluation([], 0)) == []
    monkeypatch.setattr(report, "find_backbone", lambda bundle, named: None)
    assert report.smears_found(given(), load_bundle(), found) == []
    assert asked == []


def test_the_measurement_needs_training_scenes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training scenes"):
        smears.main(["--tokens", str(tmp_path)])
