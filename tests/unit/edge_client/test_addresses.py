"""Server addresses: what is understood, and what was meant where one is not."""

from __future__ import annotations

import pytest

from edge_client.addresses import checked_server
from edge_client.config import Settings, load_settings
from shared_protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://h:8400/", "http://h:8400"),
        ("HTTPS://h/unimic/", "https://h/unimic"),
        (" http://h ", "http://h"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:///run/a.sock", "unix:/run/a.sock"),
        ("unix:/run/a b?#.sock", "unix:/run/a b?#.sock"),
        ("tcp://h:1/", "tcp://h:1"),
        ("exec:ssh h a/", "exec:ssh h a/"),
    ],
)
def test_an_address_is_kept_in_one_form(given: str, kept: str) -> None:
    assert checked_server(given) == kept


def test_a_relative_socket_file_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("HOME", "/home/me")
    assert checked_server("unix:a.sock") == f"unix:{tmp_path}/a.sock"
    assert checked_server("unix:~/a.sock") == "unix:/home/me/a.sock"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("host:8400", "write http://host:8400, or https://host:8400"),
        ("localhost", "write http://localhost:8400"),
        ("127.0.0.1:8400", "write http://127.0.0.1:8400"),
        ("[::1]", "write http://[::1]:8400"),
        ("example.org/unimic", "write http://example.org/unimic"),
        ("ws://h:8400", "write http://h:8400;"),
        ("wss://h/p", "write https://h/p;"),
        ("grpc://h:50051", "known are http://HOST:PORT, https://HOST"),
        ("/run/a.sock", "write unix:/run/a.sock"),
        ("a.sock", "write unix:a.sock"),
        ("http:h", "write it like http://host:8400"),
        ("http://", "write it like http://host:8400"),
        ("tcp://h", "write it like tcp://host:8401"),
        ("tcp://h:1/v1", "write tcp://h:1"),
        ("unix:", "write it like unix:/run/a.sock"),
        ("", "write it like http://127.0.0.1:8400"),
    ],
)
def test_another_address_is_told_what_was_meant(given: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_server(given)
    assert remedy in caught.value.remedy
    assert given in str(caught.value), "the value is named"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("90s", 90), ("2m", 120), ("1.5 m", 90), ("1H", 3600), (7, 7), ("1e3", 1000)],
)
def test_a_timeout_may_have_a_unit(given: str, seconds: float) -> None:
    assert load_settings({}, {"UNIMIC_TIMEOUT": str(given)}).timeout == seconds
    assert Settings(timeout=given).timeout == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["2 minutes", "soon", "-1", "25h", "0s", "", "1m30s"])
def test_another_timeout_is_told_what_is_accepted(given: str) -> None:
    with pytest.raises(ConfigError, match="90s, 2m or 1h") as caught:
        Settings(timeout=given)  # type: ignore[arg-type]
    assert f"timeout is {given}" in str(caught.value)
