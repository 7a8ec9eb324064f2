"""Settings come from flag, environment, file and default, in that order."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client.addresses import DEFAULT_SERVER
from edge_client.config import Settings, config_path, load_settings
from shared_protocol.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def written(environ: dict[str, str], text: str) -> None:
    path = config_path(environ)
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_without_anything_the_defaults_hold(home: dict[str, str]) -> None:
    assert load_settings({}, home) == Settings(DEFAULT_SERVER, None, "builtin", 120.0)


def test_flag_beats_environment_beats_file_beats_default(home: dict[str, str]) -> None:
    written(home, 'server = "http://file:1"\nbundle = "file"\ntimeout = 5')
    environ = {**home, "UNIMIC_SERVER": "http://env:2", "UNIMIC_BUNDLE": "env"}
    settings = load_settings({"server": "http://flag:3", "bundle": None}, environ)
    assert settings == Settings("http://flag:3", None, "env", 5.0)


def test_an_empty_variable_counts_as_not_set(home: dict[str, str]) -> None:
    assert load_settings({}, {**home, "UNIMIC_API_KEY": ""}).api_key is None


def test_the_key_never_shows_in_a_printed_setting() -> None:
    assert "secret" not in repr(Settings(api_key="secret"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("server = ", "must be TOML"),
        ('sever = "x"', "sets 'sever'.*known are server"),
        ("server = 3", "sets server to 3"),
        ("timeout = true", "sets timeout to True"),
    ],
)
def test_a_faulty_file_is_named(home: dict[str, str], text: str, complaint: str) -> None:
    written(home, text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_settings({}, home)
    assert "config.toml" in str(caught.value)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no config file"):
        load_settings({}, {"UNIMIC_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    "server",
    ["", "localhost:8400", "ftp://h", "http://", "http://h:x", "http://h:99999", "http://u:p@h"],
)
def test_an_unusable_server_address_is_refused(server: str) -> None:
    with pytest.raises(ConfigError):
        Settings(server=server)


@pytest.mark.parametrize("timeout", [0, -1, "soon", float("nan"), float("inf")])
def test_an_unusable_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        Settings(timeout=timeout)


def test_a_key_with_a_line_break_is_refused() -> None:
    with pytest.raises(ConfigError, match="no header may carry"):
        Settings(api_key="a\r\nX-Evil: 1")
