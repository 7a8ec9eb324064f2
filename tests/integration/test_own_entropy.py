"""Entropy models for Show-o's files, in small: pictures, training, serving, fetching, coding."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from official_files import small_files
from PIL import Image
from serving_fakes import LiveServer, fake_settings

from cloud_server import cli as cloud_cli
from cloud_server.serving.load import load_model
from cloud_server.serving.loaded_model import LoadedModel
from edge_client import cli
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.catalogue import MODELS_VARIABLE
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.with_entropy import ENTROPY_FILE, with_entropy
from shared_protocol.errors import CheckpointError
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.messages import Request, Response
from shared_protocol.selfcheck.recorded_digests import DIGESTS_FILE, check_probabilities
from shared_protocol.tasks import Scenario, Task
from shared_protocol.tokens import ImageTokens

SIDE = 64
COUNT = 6
STEPS = "60"
COLOURS = ("red", "green", "blue")


def write_pictures(folder: Path) -> Path:
    folder.mkdir()
    captions = {}
    for number in range(COUNT):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[:, :, number % 3] = 200
        Image.fromarray(pixels).save(folder / f"{number}.png")
        captions[f"{number}.png"] = f"a {COLOURS[number % 3]} wall"
    (folder.parent / "captions.json").write_text(json.dumps(captions))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle's files, pictures, and what the recipe made of them."""
    place = tmp_path_factory.mktemp("own")
    small_files(place / "files")
    write_pictures(place / "images")
    words = ["--bundle", place / "files", "--images", place / "images", "--out", place / "out"]
    words += ["--captions", place / "captions.json", "--smoke", "--steps", STEPS]
    words += ["--device", "cpu", "--precision", "fp32", "--threads", "1"]
    assert cloud_cli.main(["train", "entropy", *map(str, words)]) == 0
    return place


@pytest.fixture(scope="module")
def model(place: Path) -> LoadedModel:
    entropy = place / "out" / ENTROPY_FILE
    return load_model(fake_settings(bundle=str(place / "files"), entropy=entropy, device="cpu"))


@pytest.fixture(scope="module")
def server(model: LoadedModel) -> Iterator[LiveServer]:
    changes = {field.name: getattr(model, field.name) for field in fields(model)}
    with LiveServer(fake_settings(port=0), **changes) as live:
        yield live


@pytest.fixture(autouse=True)
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device that holds nothing yet; its cache."""
    for name in ("UNIMIC_BUNDLE", "UNIMIC_CONFIG", "UNIMIC_API_KEY", MODELS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def run(capsys: pytest.CaptureFixture[str], server: LiveServer, *words: str) -> dict[str, object]:
    assert cli.main([*words, "--json", "--server", server.url]) == 0
    content: dict[str, object] = json.loads(capsys.readouterr().out)
    return content


def test_the_recipe_leaves_codes_drawings_models_and_digests(place: Path) -> None:
    out = place / "out"
    shapes = {path.stem: np.load(path).shape for path in sorted(out.glob("*/*.npy"))}
    assert shapes == {
        "test_00000": (1, 4, 4),
        "train_00000": (5, 4, 4),
        "train_mirrored_00000": (5, 4, 4),
        "train_t2i_00000": (4, 4, 4),
    }
    rows = (out / "pictures" / "train_00000.jsonl").read_text().splitlines()
    assert {json.loads(row)["text"] for row in rows} <= {f"a {name} wall" for name in COLOURS}
    assert (out / DIGESTS_FILE).is_file()


def test_the_models_give_the_bundle_another_fingerprint_and_keep_all_else(
    place: Path, model: LoadedModel
) -> None:
    plain = load_bundle(str(place / "files"))
    own = with_entropy(plain, place / "out" / ENTROPY_FILE)
    assert own.fingerprint == model.bundle.fingerprint != plain.fingerprint
    assert len(own.entropy.available()) == 4
    assert not plain.entropy.available()
    assert with_entropy(own, place / "out" / ENTROPY_FILE).fingerprint == own.fingerprint
    assert own.path("image_tokenizer") == plain.path("image_tokenizer")


def test_the_server_takes_the_file_by_a_flag(place: Path) -> None:
    file = place / "out" / ENTROPY_FILE
    assert cloud_cli.parse_settings(["--entropy", str(file)]).entropy == file
    settings = fake_settings(bundle=str(place / "files"), entropy=place / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"none\.safetensors: No such file"):
        load_model(settings)


def test_weights_that_compute_otherwise_than_recorded_are_refused(
    place: Path, tmp_path: Path
) -> None:
    for name in (ENTROPY_FILE, DIGESTS_FILE):
        shutil.copy(place / "out" / name, tmp_path / name)
    recorded = json.loads((tmp_path / DIGESTS_FILE).read_text())
    (tmp_path / DIGESTS_FILE).write_text(json.dumps({**recorded, "masked": "0" * 64}))
    own = with_entropy(load_bundle(str(place / "files")), tmp_path / ENTROPY_FILE)
    with pytest.raises(CheckpointError, match="other probabilities than recorded for masked"):
        check_probabilities(own.entropy)


def test_a_device_fetches_the_models_alone_and_both_ends_use_them(
    place: Path,
    model: LoadedModel,
    server: LiveServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = ("--bundle", str(place / "files"))
    photo = str(place / "images" / "0.png")
    assert cli.main(["vqa", photo, "what is it?", "--server", server.url, *bundle]) == 1
    assert "edge-client fetch" in capsys.readouterr().err

    monkeypatch.setenv(MODELS_VARIABLE, str(place / "files"))  # holds all but the models
    size = (place / "out" / ENTROPY_FILE).stat().st_size
    assert run(capsys, server, "fetch", "--as", "show-o")["received"] == len(model.manifest) + size
    bundle = ("--bundle", "show-o")
    assert run(capsys, server, "info", *bundle)["agree"] is True

    few = ("--max-new-tokens", "3", *bundle)
    answer = run(capsys, server, "vqa", photo, "what is it?", *few)
    uplink = answer["uplink"]
    assert uplink["scenario"] in ("generic", "masked")  # type: ignore[index]
    assert uplink["bytes"]["image"] < uplink["uniform"]["bytes"]["image"]  # type: ignore[index]
    drawn = run(capsys, server, "t2i", "a red wall", "-o", "a.png", "--steps", "2", *bundle)
    downlink = drawn["downlink"]
    # Saying which model codes them takes some bits of the same stream.
    assert downlink["bytes"]["image"] <= downlink["uniform"]["bytes"]["image"] + 1  # type: ignore[index]
    assert not answer["warnings"]
    assert not drawn["warnings"]


@pytest.mark.parametrize("scenario", [Scenario.ADAPTED, Scenario.TEXT_CONDITIONED])
def test_any_picture_survives_coding_by_the_models_between_the_ends(
    place: Path, model: LoadedModel, scenario: Scenario
) -> None:
    here = with_entropy(load_bundle(str(place / "files")), place / "out" / ENTROPY_FILE)
    there = model.bundle
    assert isinstance(there, Bundle)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, here.vocabulary.codebook_size, here.grid).astype(np.int32)
    image = ImageTokens(codes, here.vocabulary.codebook_size)
    asked = Request(Task.T2I, here.text_tokenizer.encode("a red wall"))
    request = decode_request(encode_request(asked, here).data, there).value
    reply = encode_response(Response(Task.T2I, image=image), request, there, scenario)
    decoded = decode_response(reply.data, asked, here)
    assert decoded.anatomy.scenario is scenario
    assert decoded.value.image == image


def test_a_finished_run_goes_on_without_doing_anything_twice(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = (place / "out" / ENTROPY_FILE).read_bytes()
    words = ["--bundle", place / "files", "--images", place / "images", "--out", place / "out"]
    words += ["--captions", place / "captions.json", "--smoke", "--steps", STEPS, "--resume"]
    words += ["--device", "cpu", "--precision", "fp32", "--threads", "1"]
    with caplog.at_level("INFO"):
        assert cloud_cli.main(["train", "entropy", *map(str, words)]) == 0
    assert "wrote" not in caplog.text
    assert (place / "out" / ENTROPY_FILE).read_bytes() == before
