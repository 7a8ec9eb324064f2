"""Named keys: who is let in, what a file may say, and reading it again."""

import hmac
import logging
from contextlib import suppress
from types import SimpleNamespace

import pytest

from cloud_server.keys import NOBODY, Keyring, read_keys
from shared_protocol.errors import ConfigError, UnauthorizedError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# who may\nann  key-of-ann\nbob key-of-bob  # since May\n\n")
    path.chmod(0o600)
    return path


def test_without_keys_everybody_is_nobody():
    assert Keyring().owner(None) == NOBODY
    assert Keyring().owner("Bearer whatever") == NOBODY


def test_each_key_has_its_name(file):
    ring = Keyring("plain", file)
    assert ring.owner("Bearer key-of-ann") == "ann"
    assert ring.owner("bearer key-of-bob") == "bob"
    assert ring.owner("Bearer plain") == "default"


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer key-of-eve", "Basic key-of-ann", "key-of-ann", "Bearer ä"]
)
def test_anything_else_is_refused(file, given):
    with pytest.raises(UnauthorizedError, match="Bearer KEY"):
        Keyring(None, file).owner(given)


def test_a_line_with_a_key_only_is_the_default(tmp_path):
    (tmp_path / "keys").write_text("only\n")
    assert read_keys(tmp_path / "keys") == {"default": "only"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no key"),
        ("ann secret extra\n", "line 1"),
        ("ann one\nann two\n", "comes twice"),
        ("a/b secret\n", "line 1"),
        ("ann secret\nbob secret\n", "two names have one key"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_without_its_keys(tmp_path, content, said):
    (tmp_path / "keys").write_text(content)
    with pytest.raises(ConfigError, match=said) as caught:
        Keyring(None, tmp_path / "keys")
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the keys"):
        Keyring(None, tmp_path / "nothing")


def test_a_key_without_a_name_cannot_meet_a_file_with_a_default(tmp_path):
    (tmp_path / "keys").write_text("default one\n")
    with pytest.raises(ConfigError, match="default"):
        Keyring("two", tmp_path / "keys")


def test_reading_again_adds_and_takes_away(file):
    ring = Keyring(None, file)
    file.write_text("eve key-of-eve\n")
    assert ring.reload()
    assert ring.owner("Bearer key-of-eve") == "eve"
    with pytest.raises(UnauthorizedError):
        ring.owner("Bearer key-of-ann")


def test_a_broken_file_leaves_the_keys_as_they_were(file, caplog):
    ring = Keyring(None, file)
    file.write_text("one two three four\n")
    with caplog.at_level(logging.ERROR):
        assert not ring.reload()
    assert ring.owner("Bearer key-of-ann") == "ann"
    assert "line 1" in caplog.text
    assert "three" not in caplog.text


def test_a_file_that_others_may_read_is_warned_of(file, caplog):
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Keyring(None, file)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("given", ["key-of-ann", "key-of-bob", "wrong"])
def test_every_key_is_compared_in_constant_time_whichever_is_given(file, given, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("cloud_server.keys.hmac", SimpleNamespace(compare_digest=compare))
    ring = Keyring(None, file)
    with suppress(UnauthorizedError):
        ring.owner(f"Bearer {given}")
    assert len(compared) == len(read_keys(file))
    assert all(len(one) == len(other) == 32 for one, other in compared)
