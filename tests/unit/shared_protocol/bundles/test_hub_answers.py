"""What a hub may answer that no hub should, and what of it is believed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from fake_hub import FakeHub
from huggingface_hub import file_download

from shared_protocol.bundles import hub as fetching
from shared_protocol.bundles.hub import fetch_published
from shared_protocol.errors import ConfigError, NotFoundError, TransportError

WEIGHTS = bytes(range(256)) * 100
NAME = "pytorch_model.safetensors"
REPOSITORIES = {
    "microsoft/phi-1_5": {"vocab.json": b"{}", "tokenizer.json": b'{"a": 1}'},
    "showlab/magvitv2": {"config.json": b"{}", NAME: WEIGHTS},
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIMIC_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    return tmp_path / "models"


def fetch(endpoint: str | None) -> list[str]:
    lines: list[str] = []
    fetch_published("show-o", transformer=False, say=lines.append, endpoint=endpoint)
    return lines


def described(**changes: Any) -> SimpleNamespace:
    file = {"rfilename": "tokenizer.json", "size": 8, "lfs": None, "blob_id": "a" * 40}
    return SimpleNamespace(**{**file, **changes})


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (described(rfilename="a/../b"), "the hub names a file oddly: 'a/../b' is not a plain"),
        (described(rfilename="n" * 129), "the hub names a file oddly: .* no name of up to 128"),
        (described(size=None), r"the hub does not describe owner/name/tokenizer\.json"),
        (described(blob_id=None), r"the hub does not describe owner/name/tokenizer\.json"),
        (described(blob_id=""), r"the hub does not describe owner/name/tokenizer\.json"),
    ],
)
def test_a_file_that_is_described_oddly_is_refused(
    file: SimpleNamespace, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TransportError, match=said) as caught:
        fetching._remote("owner/name", "c0", file)
    assert caught.value.remedy == "run it again; what has arrived is kept"


def test_large_files_are_known_by_sha256_and_small_ones_by_what_git_calls_them() -> None:
    small = fetching._remote("owner/name", "c0", described())
    assert (small.digest, small.size, small.commit) == ("a" * 40, 8, "c0")
    large = described(lfs=SimpleNamespace(sha256="b" * 64), size=0)
    assert fetching._remote("owner/name", "c0", large).digest == "b" * 64


def test_a_repository_without_weights_gives_none() -> None:
    hub = FakeHub({**REPOSITORIES, "showlab/magvitv2": {"config.json": b"{}", "README.md": b"-"}})
    with hub, pytest.raises(NotFoundError, match=r"showlab/magvitv2 holds none of the files"):
        fetch(hub.url)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([NAME], [NAME]),
        (["config.json", "pytorch_model.bin", NAME], ["config.json", NAME]),
        (
            [
                "model.safetensors.index.json", "model-2.safetensors", "model-1.safetensors",
                "model-1.bin", "model-1.safetensors.old", "deep/model-3.safetensors",
                "other-1.safetensors", "modelx.safetensors",
            ],
            ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"],
        ),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-1.bin", "pytorch_model-1.safetensors"],
            ["pytorch_model.bin.index.json", "pytorch_model-1.bin"],
        ),
        (["model.safetensors", "model-1.safetensors"], ["model.safetensors"]),
        (["README.md"], []),
    ],
)  # fmt: skip
def test_one_set_of_weights_is_chosen(names: list[str], chosen: list[str]) -> None:
    assert fetching._weights(names) == chosen


def test_more_than_was_announced_is_thrown_away(models: Path) -> None:
    digest = fetching.hashlib.sha256(WEIGHTS).hexdigest()
    partial = models / "magvitv2" / ".partial" / digest
    partial.parent.mkdir(parents=True)
    partial.write_bytes(WEIGHTS + b"x")
    with FakeHub(REPOSITORIES) as hub:
        lines = fetch(hub.url)
        assert (NAME, "") in hub.served
    assert (models / "magvitv2" / NAME).read_bytes() == WEIGHTS
    assert any(f"{NAME} (0.0 MB): downloading" in line for line in lines)


def test_all_that_had_arrived_is_used(models: Path) -> None:
    digest = fetching.hashlib.sha256(WEIGHTS).hexdigest()
    partial = models / "magvitv2" / ".partial" / digest
    partial.parent.mkdir(parents=True)
    partial.write_bytes(WEIGHTS[:-1])
    with FakeHub(REPOSITORIES) as hub:
        lines = fetch(hub.url)
        assert (NAME, f"bytes={len(WEIGHTS) - 1}-") in hub.served
    assert (models / "magvitv2" / NAME).read_bytes() == WEIGHTS
    assert any("going on after 0.0 MB" in line for line in lines)


@pytest.mark.parametrize("token", ["secret", None])
def test_a_token_travels_to_the_hub_and_nothing_else_does(
    token: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def get(url: str, file: Any, **options: Any) -> None:
        asked.update(options, url=url)
        file.write(b"123")

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    monkeypatch.setattr(file_download, "http_get", get)
    remote = fetching.Remote("owner/name", "c0ffee", "w.bin", 5, "a" * 40)
    path = tmp_path / "partial"
    path.write_bytes(b"ab")
    fetching._download(remote, path, 2, "http://hub")
    assert path.read_bytes() == b"ab123"
    plain = {"Accept-Encoding": "identity"}
    assert asked == {
        "url": "http://hub/owner/name/resolve/c0ffee/w.bin",
        "resume_size": 2,
        "headers": {**plain, "Authorization": "Bearer secret"} if token else plain,
        "expected_size": 5,
        "displayed_filename": "w.bin",
    }


def test_a_disk_with_just_enough_room_will_do(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(size: int) -> None:
        usage = SimpleNamespace(free=size)
        monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: usage)

    free(2_500_000)
    fetching._check_room(models, 2_500_000)
    with pytest.raises(ConfigError, match=r"has room for 2\.5 MB, 1,234\.5 MB are needed"):
        fetching._check_room(models, 1_234_500_000)
    free(len(WEIGHTS) - 1)
    with FakeHub(REPOSITORIES) as hub, pytest.raises(ConfigError, match="UNIMIC_MODELS"):
        fetch(hub.url)


def test_faults_of_the_client_are_told_in_one_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(error: Exception, endpoint: str | None) -> TransportError:
        with pytest.raises(TransportError) as caught, fetching._translated(endpoint):
            raise error
        assert caught.value.remedy == "run it again; what has arrived is kept"
        return caught.value

    said = broken(ValueError("a\n  b " + "c" * 400), "http://hub").message
    assert said == "downloading from http://hub failed: a b " + "c" * 296
    assert broken(KeyError(), None).message == "downloading from the hub failed: KeyError"
