"""Show-o's files, in small, from the disk to answers of all four tasks on another machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import httpx
import numpy as np
import pytest
from fake_hub import FakeHub
from official_files import small_files
from PIL import Image
from serving_fakes import LiveServer, fake_settings

from cloud_server.http.bundle_routes import listing
from cloud_server.serving.load import load_model
from cloud_server.serving.loaded_model import LoadedModel
from edge_client import cli
from edge_client.fetching import fetch_from_server
from edge_client.transport.http import HttpTransport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import MANIFEST
from shared_protocol.errors import CheckpointError, NotFoundError, UnauthorizedError

ROOT = Path(__file__).parents[2]
KEY = "key"
SIDE = 64


def changes_of(model: LoadedModel) -> dict[str, object]:
    return {field.name: getattr(model, field.name) for field in fields(model)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_files(tmp_path_factory.mktemp("published") / "files")


@pytest.fixture(scope="module")
def model(files: Path) -> LoadedModel:
    return load_model(fake_settings(bundle=str(files), device="cpu"))


@pytest.fixture(scope="module")
def server(model: LoadedModel) -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0, api_key=KEY), **changes_of(model)) as live:
        yield live


@pytest.fixture(autouse=True)
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LiveServer) -> Path:
    """A device that holds nothing yet; its cache."""
    for name in ("UNIMIC_BUNDLE", "UNIMIC_MODELS", "UNIMIC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("UNIMIC_SERVER", server.url)
    monkeypatch.setenv("UNIMIC_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert cli.main([*words, "--json"]) == 0
    content: dict[str, object] = json.loads(capsys.readouterr().out)
    return content


def test_both_ends_get_one_fingerprint_from_the_same_files(files: Path, model: LoadedModel) -> None:
    assert load_bundle(str(files)).fingerprint == model.bundle.fingerprint


def test_a_device_without_the_bundle_is_told_how_to_get_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["t2i", "a cat", "--bundle", "show-o"]) == 1
    assert "edge-client fetch" in capsys.readouterr().err
    assert cli.main(["t2i", "a cat"]) == 1
    assert "edge-client fetch" in capsys.readouterr().err


def test_a_device_fetches_what_it_lacks_and_then_has_all_four_tasks(
    edge: Path, files: Path, model: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = run(capsys, "fetch", "--as", "show-o")
    assert fetched["bundle"] == "show-o"
    assert fetched["fingerprint"] == model.bundle.fingerprint.hex()
    names = {path.name for path in (edge / "bundles" / "show-o").iterdir()}
    assert names == {"bundle.json", *model.files}
    total = sum(file.path.stat().st_size for file in model.files.values())
    assert fetched["received"] == total + len(model.manifest)
    assert run(capsys, "fetch", "--as", "show-o")["received"] == 0

    bundle = ("--bundle", "show-o")
    assert run(capsys, "info", *bundle)["agree"] is True
    Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8)).save("photo.png")
    few = ("--steps", "2", *bundle)
    made = [
        run(capsys, "t2i", "a red car", "-o", "a.png", *few),
        run(capsys, "inpaint", "photo.png", "a car", "--box", "0,0,32,32", "-o", "b.png", *few),
        run(capsys, "outpaint", "photo.png", "a car", "--right", "2", "-o", "c.png", *few),
    ]
    sizes = []
    for interaction in made:
        with Image.open(str(interaction["output"])) as picture:
            sizes.append(picture.size)
    assert sizes == [(SIDE, SIDE), (SIDE, SIDE), (SIDE + 32, SIDE)]
    answer = run(capsys, "vqa", "photo.png", "what is it?", "--max-new-tokens", "3", *bundle)
    assert isinstance(answer["answer"], str)


def test_a_broken_download_goes_on_where_it_stopped(
    edge: Path, server: LiveServer, model: LoadedModel
) -> None:
    fingerprint = model.bundle.fingerprint.hex()
    name = next(name for name in model.files if name.startswith("image_tokenizer"))
    size = model.files[name].path.stat().st_size
    staging = edge / "bundles" / f".{fingerprint[:32]}"
    staging.mkdir(parents=True)
    half = model.files[name].path.read_bytes()[: size // 2]
    (staging / f"{name}.part").write_bytes(half)
    with HttpTransport(server.url, KEY) as transport:
        fetched = fetch_from_server(transport)
    total = sum(file.path.stat().st_size for file in model.files.values()) + len(model.manifest)
    assert fetched.received == total - len(half)


def test_what_an_earlier_run_left_damaged_is_not_installed(
    edge: Path, server: LiveServer, model: LoadedModel
) -> None:
    fingerprint = model.bundle.fingerprint.hex()
    staging = edge / "bundles" / f".{fingerprint[:32]}"
    staging.mkdir(parents=True)
    (staging / "text_tokenizer.json.part").write_bytes(b"no tokenizer")
    with HttpTransport(server.url, KEY) as transport:
        with pytest.raises(CheckpointError, match="arrived damaged"):
            fetch_from_server(transport, called="show-o")
        assert not (edge / "bundles" / "show-o").exists()
        fetch_from_server(transport, called="show-o")
    load_bundle("show-o").text_tokenizer.encode("a cat")


def test_the_key_guards_the_files(server: LiveServer, model: LoadedModel) -> None:
    with HttpTransport(server.url, "wrong") as transport, pytest.raises(UnauthorizedError):
        transport.bundle(model.bundle.fingerprint.hex())
    path = f"/v1/bundles/{model.bundle.fingerprint.hex()}/bundle.json"
    assert httpx.get(server.url + path).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "nothing.bin",
        "pytorch_model.safetensors",
        "..%2F..%2F..%2Fetc%2Fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..",
        "%00",
        "/etc/passwd",
    ],
)
def test_nothing_but_the_bundles_files_is_given(
    server: LiveServer, model: LoadedModel, path: str
) -> None:
    url = f"{server.url}/v1/bundles/{model.bundle.fingerprint.hex()}/{path}"
    reply = httpx.get(url, headers={"Authorization": f"Bearer {KEY}"})
    assert reply.status_code == 404
    assert reply.json()["code"] == "not_found"


def test_another_bundle_is_not_found(server: LiveServer) -> None:
    transport = HttpTransport(server.url, KEY)
    with transport, pytest.raises(NotFoundError, match="holds the bundle show-o"):
        transport.bundle("0" * 64)


def test_ranges_give_parts_of_a_file(server: LiveServer, model: LoadedModel) -> None:
    name, file = sorted(model.files.items())[0]
    url = f"{server.url}/v1/bundles/{model.bundle.fingerprint.hex()}/{name}"
    headers = {"Authorization": f"Bearer {KEY}", "Range": "bytes=10-19"}
    reply = httpx.get(url, headers=headers)
    assert (reply.status_code, reply.content) == (206, file.path.read_bytes()[10:20])
    assert reply.headers["ETag"] == f'"{file.sha256}"'
    reply = httpx.get(url, headers={**headers, "If-Range": '"another"'})
    assert (reply.status_code, len(reply.content)) == (200, file.path.stat().st_size)


@pytest.mark.parametrize(
    ("module", "transformer"), [("cloud_server.cli", True), ("edge_client.cli", False)]
)
def test_each_end_fetches_from_the_hub_what_it_needs(
    files: Path, tmp_path: Path, module: str, transformer: bool
) -> None:
    published = {
        f"{owner}/{folder}": {
            path.name: path.read_bytes() for path in sorted((files / folder).iterdir())
        }
        for owner, folder in (
            ("showlab", "show-o"),
            ("showlab", "magvitv2"),
            ("microsoft", "phi-1_5"),
        )
    }
    with FakeHub(published) as hub:
        done = subprocess.run(
            [sys.executable, "-m", module, "fetch", "show-o"],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(tmp_path / "hub"),
                "NO_PROXY": "127.0.0.1",
            },
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert "--bundle show-o" in done.stdout
    models = tmp_path / "cache" / "models"
    assert (models / "show-o").exists() == transformer
    for folder in ("magvitv2", "phi-1_5", *(["show-o"] if transformer else [])):
        for path in models.joinpath(folder).glob("*.*"):
            if path.is_file():
                assert path.read_bytes() == (files / folder / path.name).read_bytes()
    # What was fetched is the small model, whose configuration a folder's name cannot tell.
    assert load_bundle("show-o").manifest.sha256 == load_bundle(str(files)).manifest.sha256


def test_the_large_picture_size_is_served_alike(tmp_path: Path) -> None:
    folder = small_files(tmp_path / "large", "show-o-512x512")
    config = folder / "show-o-512x512" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "num_vq_tokens": 1024}))
    model = load_model(fake_settings(bundle=str(folder), device="cpu"))  # and answers both ways
    assert (model.bundle.name, model.bundle.grid) == ("show-o-512", (32, 32))
    assert model.bundle.defaults.steps == 50


def test_the_listing_names_the_manifest_as_bundles_do(model: LoadedModel) -> None:
    files = listing(model).files
    assert files[0].name == MANIFEST
    assert files[0].size == len(model.manifest)
    assert {file.name: file.sha256 for file in files[1:]} == dict(
        model.bundle.manifest.sha256  # type: ignore[attr-defined]
    )


def test_questions_need_a_model_that_reads_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_files(tmp_path / "clip", source="showo_tiny_clip")
    model = load_model(fake_settings(bundle=str(folder), device="cpu"))
    Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8)).save("photo.png")
    with LiveServer(fake_settings(port=0), **changes_of(model)) as live:
        place = ("--server", live.url, "--bundle", str(folder))
        assert cli.main(["vqa", "photo.png", "what?", *place]) == 2
        assert "CLIP features of pixels, and only tokens travel" in capsys.readouterr().err
        assert cli.main(["t2i", "a car", "--steps", "2", "-o", "a.png", *place]) == 0
