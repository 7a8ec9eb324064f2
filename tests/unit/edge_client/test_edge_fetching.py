"""Fetching a bundle from servers that lie, change their minds or stop in the middle."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from manifests import manifest_content

from edge_client.fetching import fetch_from_server, local_name
from edge_client.transport.http import HttpTransport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import canonical_json
from shared_protocol.errors import CheckpointError, ConfigError, TransportError

WORDS = b"words" * 5000
CONTENT = manifest_content(name="theirs", sha256={"text.json": hashlib.sha256(WORDS).hexdigest()})


class Server:
    """Answers like a cloud server; a test changes what it wants to lie about."""

    def __init__(self, content: dict[str, Any] = CONTENT) -> None:
        self.manifest = canonical_json(content)
        self.fingerprint = hashlib.sha256(self.manifest).hexdigest()
        self.info = {"bundle": content["name"], "fingerprint": self.fingerprint}
        self.files = {"bundle.json": self.manifest, "text.json": WORDS}
        self.listing: dict[str, Any] = {
            "files": [{"name": name, "size": len(data)} for name, data in self.files.items()]
        }
        self.cuts: list[int] = []
        self.ranges: list[str] = []
        self.ignores_ranges = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/info":
            return _streamed(json.dumps(self.info).encode())
        if request.url.path == f"/v1/bundles/{self.fingerprint}":
            return _streamed(json.dumps(self.listing).encode())
        name = request.url.path.rpartition("/")[2]
        data = self.files[name]
        span = request.headers.get("Range", "")
        if name == "text.json":
            self.ranges.append(span)
        start = int(span[6:-1]) if span and not self.ignores_ranges else 0
        body = data[start:]
        if name == "text.json" and self.cuts:
            body = body[: self.cuts.pop(0)]
        return _streamed(body, 206 if start else 200)

    def fetch(
        self,
        on_step: Callable[[int, int], None] | None = None,
        replace: bool = False,
        called: str | None = None,
    ) -> Any:
        transport = httpx.MockTransport(self.answer)
        with HttpTransport("http://test", handler=transport, sleep=lambda seconds: None) as source:
            return fetch_from_server(source, on_step, replace, called)


def _streamed(body: bytes, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=iter([body]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path))
    return tmp_path / "bundles"


def test_a_bundle_is_installed_under_its_name(cache: Path) -> None:
    fetched = Server().fetch()
    assert (fetched.name, fetched.place) == ("theirs", cache / "theirs")
    assert load_bundle("theirs").file("text.json").read_bytes() == WORDS
    assert [path.name for path in cache.iterdir()] == ["theirs"]


def typed_server() -> Server:
    """It says how text is read, and has a list of words."""
    server, words = Server(), b'{"words": ["fox"], "phrases": {}}'
    server.files["world.json"] = words
    server.listing["files"].append({"name": "world.json", "size": len(words)})
    digest = hashlib.sha256(words).hexdigest()
    server.listing["typing"] = {"text": "plain", "world": "world.json", "sha256": digest}
    return server


def test_what_a_server_says_of_typed_text_comes_along() -> None:
    server = typed_server()
    server.fetch()
    bundle = load_bundle("theirs")
    assert bundle.fingerprint.hex() == server.fingerprint
    assert bundle.reads_plain_text
    assert bundle.known_words is not None
    again = typed_server()
    again.files = {}
    assert again.fetch().received == 0
    (bundle.folder / "world.json").write_text("{}")
    assert typed_server().fetch().received > 0
    assert load_bundle("theirs").known_words is not None


@pytest.mark.parametrize(
    ("typing", "error"),
    [
        ({"text": "loud"}, TransportError),
        ([1], TransportError),
        ({"world": "text.json", "sha256": "aa"}, TransportError),
        ({"world": "../x", "sha256": "aa"}, TransportError),
        ({"world": ".hidden", "sha256": "aa"}, TransportError),
        ({"world": "none.json", "sha256": "aa"}, TransportError),
        ({"world": "world.json", "sha256": "aa"}, TransportError),
        ({"world": "world.json", "sha256": "aa" * 32}, CheckpointError),
    ],
)
def test_what_makes_no_sense_of_typed_text_is_refused(
    typing: Any, error: type[Exception], cache: Path
) -> None:
    server = typed_server()
    server.listing["typing"] = typing
    with pytest.raises(error):
        server.fetch()
    assert not (cache / "theirs").exists()


def test_a_bundle_that_is_here_costs_nothing() -> None:
    Server().fetch()
    again = Server()
    again.files = {}
    assert again.fetch().received == 0


def test_a_newer_bundle_gets_a_name_of_its_own_and_the_older_stays(cache: Path) -> None:
    Server().fetch()
    newer = Server({**CONTENT, "max_text_tokens": 31})
    fetched = newer.fetch()
    assert fetched.name == f"theirs-{newer.fingerprint[:8]}"
    assert (fetched.received > 0, fetched.called) == (True, "theirs")
    assert load_bundle("theirs").max_text_tokens == 30
    assert load_bundle(fetched.name).max_text_tokens == 31
    assert newer.fetch().received == 0


def test_a_newer_bundle_takes_the_place_of_the_older_if_the_user_says_so(cache: Path) -> None:
    Server().fetch()
    newer = Server({**CONTENT, "max_text_tokens": 31})
    assert newer.fetch(replace=True).name == "theirs"
    assert load_bundle("theirs").max_text_tokens == 31
    assert [path.name for path in cache.iterdir()] == ["theirs"]


@pytest.mark.parametrize("name", ["show-o", "show-o-512", "builtin"])
@pytest.mark.parametrize("replace", [False, True])
def test_a_server_never_takes_the_name_of_a_published_bundle(
    name: str, replace: bool, cache: Path
) -> None:
    server = Server({**CONTENT, "name": name})
    assert server.fetch(replace=replace).name == f"{name}-{server.fingerprint[:8]}"
    assert [path.name for path in cache.iterdir()] == [f"{name}-{server.fingerprint[:8]}"]


def test_the_user_may_say_what_a_servers_bundle_is_called(cache: Path) -> None:
    server = Server({**CONTENT, "name": "show-o"})
    assert server.fetch(called="show-o").name == "show-o"
    newer = Server({**CONTENT, "name": "show-o", "max_text_tokens": 31})
    with pytest.raises(ConfigError, match="another bundle is called show-o here"):
        newer.fetch(called="show-o")
    assert load_bundle("show-o").fingerprint.hex() == server.fingerprint
    assert newer.fetch(called="show-o", replace=True).name == "show-o"
    for name in ("builtin", "../x", ""):
        with pytest.raises(ConfigError, match="cannot be called"):
            server.fetch(called=name)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_called_like_a_servers_bundle_is_left_alone(kind: str, cache: Path) -> None:
    mine = cache / "theirs"
    elsewhere = cache.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("mine")
    cache.mkdir()
    if kind == "folder":
        mine.mkdir()
        (mine / "thesis.txt").write_text("mine")
    elif kind == "file":
        mine.write_text("mine")
    else:
        mine.symlink_to(elsewhere)
    server = Server()
    assert server.fetch().name == f"theirs-{server.fingerprint[:8]}"
    assert (mine if kind == "file" else mine / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    ["nul", "COM1.x", "a" * 65, "a/b", "..", ".x", "a\0", "a\x1b[31m", "a\u202eb", "x.", "", "a\n"],
)
def test_a_name_that_no_folder_should_have_is_refused(name: str, cache: Path) -> None:
    server = Server()
    server.info["bundle"] = name
    with pytest.raises(TransportError, match="names no bundle"):
        server.fetch()
    assert not cache.exists()


def test_files_that_another_variant_has_here_are_not_fetched_again() -> None:
    Server().fetch()
    newer = Server({**CONTENT, "max_text_tokens": 31})
    fetched = newer.fetch()
    assert fetched.received == len(newer.manifest)
    assert newer.ranges == []
    assert load_bundle(fetched.name).file("text.json").read_bytes() == WORDS


def test_files_that_were_damaged_here_are_fetched_again(cache: Path) -> None:
    Server().fetch()
    (cache / "theirs" / "text.json").write_bytes(WORDS[::-1])
    newer = Server({**CONTENT, "max_text_tokens": 31})
    fetched = newer.fetch()
    assert fetched.received == len(newer.manifest) + len(WORDS)
    assert load_bundle(fetched.name).file("text.json").read_bytes() == WORDS
    assert Server().fetch().name == "theirs"
    assert load_bundle("theirs").file("text.json").read_bytes() == WORDS


def test_another_builtin_bundle_gets_a_name_of_its_own() -> None:
    server = Server({**CONTENT, "name": "builtin"})
    fetched = server.fetch()
    assert fetched.name == local_name("builtin", server.fingerprint) != "builtin"
    assert load_bundle(fetched.name).fingerprint.hex() == server.fingerprint


def test_broken_connections_are_continued_as_long_as_something_arrives() -> None:
    server = Server()
    server.cuts = [5000, 5000, 5000, 5000]
    server.fetch()
    assert server.ranges == ["", *(f"bytes={5000 * n}-" for n in range(1, 5))]


def test_a_server_that_sends_nothing_more_is_given_up() -> None:
    server = Server()
    server.cuts = [5000, 0, 0, 0, 0]
    with pytest.raises(TransportError, match="ended early"):
        server.fetch()
    server.ranges.clear()
    server.cuts = []
    assert server.fetch().received == len(WORDS) - 5000
    assert server.ranges == ["bytes=5000-"]


def test_a_server_without_ranges_starts_again() -> None:
    server = Server()
    server.cuts, server.ignores_ranges = [5000], True
    server.fetch()
    assert load_bundle("theirs").file("text.json").read_bytes() == WORDS


def test_progress_is_told_in_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_client.fetching._MB", 1000)
    server = Server()
    server.cuts = [10_000]
    seen: list[tuple[int, int]] = []
    server.fetch(lambda done, total: seen.append((done, total)))
    rest = len(server.manifest)
    total = (len(WORDS) + rest) // 1000
    assert seen == [(rest // 1000, total), ((10_000 + rest) // 1000, total), (total, total)]


def test_changed_files_are_refused(cache: Path) -> None:
    server = Server()
    server.files["text.json"] = WORDS[::-1]
    with pytest.raises(CheckpointError, match="arrived damaged"):
        server.fetch()
    assert not (cache / "theirs").exists()


def test_a_manifest_that_is_not_the_announced_one_is_refused(cache: Path) -> None:
    server = Server()
    server.files["bundle.json"] = server.manifest.replace(b"30", b"31")
    with pytest.raises(CheckpointError, match="arrived damaged"):
        server.fetch()


def test_a_body_longer_than_announced_is_cut_off() -> None:
    server = Server()
    server.files["text.json"] = WORDS + b"more"
    with pytest.raises(TransportError, match="is over"):
        server.fetch()


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": {"../evil": "0" * 64, **CONTENT["sha256"]}},
        {"sha256": {".hidden": "0" * 64}, "files": {"text_tokenizer": ".hidden"}},
        {"sha256": {}},
        {"sha256": {"bundle.json": "0" * 64}, "files": {"text_tokenizer": "bundle.json"}},
        {"files": {"text_tokenizer": "../text.json"}},
    ],
)
def test_a_manifest_with_names_that_lead_elsewhere_is_refused(
    change: dict[str, Any], cache: Path
) -> None:
    server = Server({**CONTENT, **change})
    with pytest.raises((TransportError, ConfigError)):
        server.fetch()
    assert not (cache / "theirs").exists()
    assert not (cache.parent / "evil").exists()


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"bundle": "../x", "fingerprint": "0" * 64},
        {"bundle": "x", "fingerprint": "../" * 10},
        {"bundle": "", "fingerprint": "0" * 64},
    ],
)
def test_a_server_that_names_no_bundle_is_refused(info: dict[str, str]) -> None:
    server = Server()
    server.info = info
    with pytest.raises(TransportError, match="names no bundle"):
        server.fetch()


@pytest.mark.parametrize(
    "listing",
    [
        {},
        {"files": 3},
        {"files": [{"name": "bundle.json"}]},
        {"files": [{"name": "bundle.json", "size": -1}]},
        {"files": [{"name": "bundle.json", "size": 10**15}]},
        {"files": []},
    ],
)
def test_listings_that_make_no_sense_are_refused(listing: dict[str, Any]) -> None:
    server = Server()
    server.listing = listing
    with pytest.raises(TransportError):
        server.fetch()


def test_a_full_disk_is_noticed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 5})
    monkeypatch.setattr("edge_client.fetching.shutil.disk_usage", lambda folder: usage)
    server = Server()
    with pytest.raises(ConfigError, match="no room"):
        server.fetch()
    assert not server.ranges


def test_a_cache_that_cannot_be_written_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text(json.dumps(1))
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="UNIMIC_CACHE"):
        Server().fetch()
