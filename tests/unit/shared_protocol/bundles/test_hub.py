"""Downloads of published files, from a hub on this machine."""

from pathlib import Path

import pytest
from fake_hub import FakeHub
from huggingface_hub import file_download

from shared_protocol.bundles import hub as fetching
from shared_protocol.bundles.hub import fetch_published
from shared_protocol.errors import CheckpointError, ConfigError, NotFoundError, TransportError

WEIGHTS = bytes(range(256)) * 100
TRANSFORMER = {"README.md": b"-", "config.json": b"{}", "pytorch_model.bin": WEIGHTS[::-1]}
REPOSITORIES = {
    "microsoft/phi-1_5": {"tokenizer.json": b'{"a": 1}', "pytorch_model.bin": b"not wanted"},
    "showlab/magvitv2": {"config.json": b"{}", "pytorch_model.safetensors": WEIGHTS},
    "showlab/show-o": {**TRANSFORMER, "pytorch_model.safetensors": WEIGHTS[1:]},
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIMIC_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    return tmp_path / "models"


def fetch(hub: FakeHub, *, transformer: bool = False, name: str = "show-o") -> list[str]:
    lines: list[str] = []
    fetch_published(name, transformer=transformer, say=lines.append, endpoint=hub.url)
    return lines


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


EDGE_FILES = {
    "magvitv2/config.json": b"{}",
    "magvitv2/pytorch_model.safetensors": WEIGHTS,
    "phi-1_5/tokenizer.json": b'{"a": 1}',
}


def test_an_edge_fetches_the_tokenizers_and_nothing_else(models: Path) -> None:
    with FakeHub(REPOSITORIES) as hub:
        lines = fetch(hub)
    assert files_in(models) == EDGE_FILES
    assert "show-o: 0.0 MB in 3 files" in lines[0]


def test_a_server_fetches_the_transformer_too_safetensors_first(models: Path) -> None:
    with FakeHub(REPOSITORIES) as hub:
        fetch(hub, transformer=True)
    assert files_in(models) == {
        **EDGE_FILES,
        "show-o/config.json": b"{}",
        "show-o/pytorch_model.safetensors": WEIGHTS[1:],
    }


def test_shards_come_with_their_index(models: Path) -> None:
    shards = {
        "pytorch_model.safetensors.index.json": b"{}",
        "pytorch_model-00001-of-00002.safetensors": b"1",
        "pytorch_model-00002-of-00002.safetensors": b"2",
        "pytorch_model-00001-of-00002.bin": b"no",
    }
    with FakeHub({**REPOSITORIES, "showlab/show-o": shards}) as hub:
        fetch(hub, transformer=True)
    assert set(files_in(models / "show-o")) == {n for n in shards if not n.endswith(".bin")}


def test_a_second_run_downloads_nothing(models: Path) -> None:
    with FakeHub(REPOSITORIES) as hub:
        fetch(hub)
        first = len(hub.served)
        lines = fetch(hub)
        assert len(hub.served) == first == 3
    assert sum("already there" in line for line in lines) == 3


def test_a_changed_file_is_fetched_again(models: Path) -> None:
    with FakeHub(REPOSITORIES) as hub:
        fetch(hub)
        changed = models / "magvitv2" / "pytorch_model.safetensors"
        changed.write_bytes(WEIGHTS[::-1])
        fetch(hub)
    assert changed.read_bytes() == WEIGHTS


def test_a_broken_connection_is_continued(models: Path) -> None:
    name = "pytorch_model.safetensors"
    with FakeHub(REPOSITORIES, breaks={name: [1000, 2000]}) as hub:
        fetch(hub)
        assert [file for file, _ in hub.served].count(name) == 3
    assert files_in(models) == EDGE_FILES


def test_another_run_goes_on_where_the_first_was_stopped(models: Path) -> None:
    name = "pytorch_model.safetensors"
    with FakeHub(REPOSITORIES) as hub:
        fetch(hub)
        digest = fetching.hashlib.sha256(WEIGHTS).hexdigest()
        (models / "magvitv2" / name).unlink()
        partial = models / "magvitv2" / ".partial" / digest
        partial.write_bytes(WEIGHTS[:1234])
        hub.served.clear()
        lines = fetch(hub)
        assert hub.served == [(name, "bytes=1234-")]
    assert any("going on after" in line for line in lines)
    assert files_in(models) == EDGE_FILES


def test_what_arrives_damaged_is_refused_and_deleted(models: Path) -> None:
    lying = FakeHub(REPOSITORIES, lies=("pytorch_model.safetensors",))
    with lying as hub, pytest.raises(CheckpointError, match="arrived damaged"):
        fetch(hub)
    assert not (models / "magvitv2" / "pytorch_model.safetensors").exists()
    assert not list((models / "magvitv2" / ".partial").iterdir())


def test_small_files_are_checked_as_git_does(models: Path) -> None:
    lying = FakeHub(REPOSITORIES, lies=("tokenizer.json",))
    with lying as hub, pytest.raises(CheckpointError, match=r"tokenizer\.json.*damaged"):
        fetch(hub)


def test_what_the_hubs_own_cache_holds_is_not_fetched(models: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--microsoft--phi-1_5"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "tokenizer.json").write_bytes(b'{"a": 1}')
    with FakeHub(REPOSITORIES) as hub:
        fetch(hub)
    assert "phi-1_5/tokenizer.json" not in files_in(models)


def test_faults_are_typed_errors_with_a_remedy() -> None:
    with FakeHub({}) as hub:
        with pytest.raises(NotFoundError, match="does not give the file"):
            fetch(hub)
        with pytest.raises(ConfigError, match=r"no published bundle 'other'.*show-o-512"):
            fetch(hub, name="other")
        gone = hub
    with pytest.raises(TransportError, match="run it again"):
        fetch(gone)
    other = FakeHub({**REPOSITORIES, "microsoft/phi-1_5": {"vocab.json": b"{}"}})
    with other as hub, pytest.raises(NotFoundError, match="phi-1_5 holds none"):
        fetch(hub)


def test_a_full_disk_is_noticed_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = type("Usage", (), {"free": 5})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: usage)
    with FakeHub(REPOSITORIES) as hub:
        with pytest.raises(ConfigError, match="UNIMIC_MODELS"):
            fetch(hub)
        assert not hub.served
