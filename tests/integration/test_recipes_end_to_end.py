"""Every recipe in turn, tiny, on stand-in sprites; then its bundle is served, asked and judged."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from cloud_server.necks.classifier import Classifier
from cloud_server.necks.load import load_neck
from cloud_server.training.benchmark.entropy_report import STREAMS
from cloud_server.training.command import train
from cloud_server.training.recipes.everything import plan
from cloud_server.training.scenes.world import World
from edge_client.evaluation import run_cases
from shared_protocol.bundles.find import load_bundle
from shared_protocol.cases import Records

pytestmark = pytest.mark.slow

COUNTS = {"t2i": 4, "inpaint": 4, "outpaint": 3, "vqa": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `cloud-server train all --smoke` leaves behind."""
    out = tmp_path_factory.mktemp("made")
    assert train(["all", "--smoke", "--out", str(out), "--threads", "2"]) == 0
    return out


@pytest.fixture(scope="module")
def asked(made: Path) -> Path:
    """The cases of the tiny world, asked over HTTP of a server that holds the tiny bundle."""
    cases = made / "cases"
    train(["cases", "--smoke", "--out", str(cases), "--cache", str(made / "cache")])
    words = ["--data", cases, "--out", made / "records", "--bundle", made / "bundle"]
    assert run_cases.main([*map(str, words), "--steps", "2"]) == 0
    return made


def test_the_recipes_make_a_whole_bundle(made: Path) -> None:
    bundle = load_bundle(str(made / "bundle"))
    assert bundle.name == "own"
    assert bundle.text_tokenizer.size == bundle.vocabulary.text_size
    assert len(bundle.entropy.available()) == 4
    assert bundle.text_prior is not None
    assert bundle.mask_prior is not None
    assert list((made / "bundle" / "backbone").glob("*.safetensors"))
    neck = load_neck(
        made / "neck" / "neck.safetensors",
        tokenizer_fingerprint=bundle.tokenizer_fingerprint.hex(),
    )
    assert isinstance(neck, Classifier)
    assert neck.labels == World.load().names


def test_the_bundle_is_served_and_answers_every_case(asked: Path) -> None:
    records = list(Records(asked / "records" / "records.jsonl"))
    assert len(records) == sum(COUNTS.values())
    assert [record["error"] for record in records if record["error"]] == []
    kept = [r["known_unchanged"] for r in records if r["task"] in ("inpaint", "outpaint")]
    assert kept == [True] * 7
    assert not any(record["warnings"] for record in records)


def test_the_report_counts_every_case(asked: Path) -> None:
    words = ["--data", asked / "cases", "--records", asked / "records"]
    words += ["--judge", asked / "judge.safetensors", "--bundle", asked / "bundle"]
    words += ["--cache", asked / "cache", "--tokens", asked / "tokens", "--smoke"]
    assert train(["report", *map(str, words)]) == 0
    report = json.loads((asked / "records" / "report.json").read_text())
    counts = {(row["ability"], row["measure"]): row["count"] for row in report["rows"]}
    assert report["about"]["cases without a result"] == 0
    assert counts["text to image", "all named objects present"] == COUNTS["t2i"]
    assert counts["inpainting", "known tokens identical"] == COUNTS["inpaint"]
    assert counts["outpainting", "known tokens identical"] == COUNTS["outpaint"]
    assert counts["questions on held-out scenes", "exact match, all"] == COUNTS["vqa"]
    assert counts["entropy, text-to-image results", next(iter(STREAMS))] == COUNTS["t2i"] * 256
    assert (asked / "records" / "report.md").read_text().startswith("# What the built-in")


def test_finished_recipes_are_not_run_again(made: Path) -> None:
    before = (made / "bundle" / "bundle.json").stat().st_mtime_ns
    assert train(["all", "--smoke", "--resume", "--out", str(made)]) == 0
    assert (made / "bundle" / "bundle.json").stat().st_mtime_ns == before


def test_a_full_run_hands_photographs_and_the_machine_on() -> None:
    given = Namespace(
        out=Path("out"), photos=Path("photos"), easy_vqa=True, device="cuda", precision="bf16",
        threads=None, resume=False, smoke=False,
    )  # fmt: skip
    steps = {step.name: step.arguments for step in plan(given, Path("cache"))}
    assert steps["image-tokenizer"][steps["image-tokenizer"].index("--photos") + 1] == "photos"
    assert "--photo-tokens" in steps["entropy"]
    assert "--easy-vqa" in steps["backbone"]
    trained = ("image-tokenizer", "backbone", "entropy", "judge", "judge encoder", "neck")
    assert all("cuda" in steps[name] for name in trained)
    assert not any("--smoke" in arguments for arguments in steps.values())
    assert list(steps)[-2:] == ["bundle", "neck"]
