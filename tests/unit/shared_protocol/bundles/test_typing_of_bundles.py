"""What a manifest says of typed text: checked, carried along, and outside of the fingerprint."""

import json
from pathlib import Path
from typing import Any

import pytest
from manifests import manifest_content

from cloud_server.training.recipes.bundle import seal
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.catalogue import CATALOGUE
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import (
    AS_TYPED,
    PLAIN,
    TYPING,
    Typing,
    manifest_from,
    read_manifest,
    write_manifest,
)
from shared_protocol.errors import CheckpointError, ConfigError

WORLD = {"text": PLAIN, "world": "world.json"}


def bundle(folder: Path, **changes: Any) -> Bundle:
    (folder / "text.json").write_text("{}")
    (folder / "world.json").write_text('{"words": ["fox"], "phrases": {}}')
    write_manifest(folder, manifest_content(**changes))
    return load_bundle(str(folder))


def test_bundles_that_say_nothing_read_text_as_it_is_typed(tmp_path: Path) -> None:
    plain = bundle(tmp_path)
    assert plain.manifest.typing == Typing(AS_TYPED, None, None)
    assert not plain.reads_plain_text
    assert plain.known_words is None
    assert TYPING not in plain.manifest.content()


def test_what_is_said_changes_no_fingerprint(tmp_path: Path) -> None:
    before = bundle(tmp_path).fingerprint
    said = bundle(tmp_path, typing=WORLD)
    assert said.fingerprint == before
    assert said.reads_plain_text
    assert said.known_words is not None
    assert said.known_words.unknown("a fox and a dragon") == ("dragon",)
    assert manifest_from(said.manifest.content()) == said.manifest


def test_the_builtin_bundle_reads_plain_text_and_its_fingerprint_does_not_say_so() -> None:
    builtin = load_bundle()
    assert builtin.reads_plain_text
    content = {k: v for k, v in builtin.manifest.content().items() if k != TYPING}
    assert manifest_from(content).fingerprint == builtin.fingerprint


@pytest.mark.parametrize("name", CATALOGUE)
def test_published_bundles_never_do(name: str) -> None:
    content = CATALOGUE[name].content({})
    assert manifest_from({**content, "sha256": {}}).typing == Typing()


def test_a_changed_list_of_words_is_refused(tmp_path: Path) -> None:
    said = bundle(tmp_path, typing=WORLD)
    (tmp_path / "world.json").write_text('{"words": [], "phrases": {}}')
    with pytest.raises(CheckpointError, match="changed or damaged"):
        _ = said.known_words


@pytest.mark.parametrize(
    "typing",
    [
        {"text": "loud"},
        {"world": "world.json"},
        {"sha256": "aa"},
        {"world": "../world.json", "sha256": "aa"},
        {"world": "text.json", "sha256": "aa"},
        {"world": "bundle.json", "sha256": "aa"},
        {"more": "1"},
        {"world": 3, "sha256": "aa"},
        "plain",
        3,
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, typing: Any) -> None:
    content = bundle(tmp_path).manifest.content()
    with pytest.raises(ConfigError, match="is not a bundle manifest"):
        manifest_from({**content, TYPING: typing})


def test_a_bundle_is_sealed_with_its_words_or_without(tmp_path: Path) -> None:
    bundle(tmp_path)
    seal(tmp_path, manifest_content(typing=WORLD))
    assert read_manifest(tmp_path).typing.world == "world.json"
    (tmp_path / "world.json").unlink()
    seal(tmp_path, manifest_content(typing=WORLD))
    assert json.loads((tmp_path / "bundle.json").read_text())[TYPING] == {"text": PLAIN}
