"""`edge-client ui`: a browser that is opened, or not, and who may come in."""

from __future__ import annotations

import webbrowser
from argparse import Namespace

import pytest

from edge_client.arguments import parse
from edge_client.config import Settings
from edge_client.gateway import command
from edge_client.gateway.settings import GatewaySettings
from shared_protocol.errors import ConfigError

URL = "http://127.0.0.1:8401"


class Graphical(webbrowser.BackgroundBrowser):
    opened: list[str]

    def __init__(self) -> None:
        super().__init__("firefox")
        self.opened = []

    def open(self, url: str, *_: object) -> bool:
        self.opened.append(url)
        return True


def test_the_page_is_opened_in_a_browser_with_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Graphical()
    monkeypatch.setattr(webbrowser, "get", lambda: found)
    assert command.open_page(URL)
    assert found.opened == [URL]


def test_no_browser_is_opened_inside_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("false"))
    assert not command.open_page(URL)


def test_a_device_without_a_browser_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def get() -> None:
        raise webbrowser.Error("none")

    monkeypatch.setattr(webbrowser, "get", get)
    assert not command.open_page(URL)


@pytest.mark.parametrize(
    ("words", "opens"), [(["ui"], True), (["ui", "--no-open"], False), (["gateway"], False)]
)
def test_only_ui_opens_the_page_and_only_if_it_may(
    monkeypatch: pytest.MonkeyPatch, words: list[str], opens: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(command, "open_page", opened.append)

    class Now:
        def __init__(self, target: object, args: tuple[str], daemon: bool) -> None:
            self.start = lambda: target(*args)  # type: ignore[operator]

    monkeypatch.setattr(command.threading, "Thread", Now)
    given: Namespace = parse(words)
    said: list[str] = []
    monkeypatch.setattr(
        "edge_client.gateway.host.serve", lambda wanted, edge, announce: announce(URL)
    )
    command.gateway(given, Settings(), said.append)
    assert bool(opened) == opens
    assert (f"the page is {URL}/" in said) == (words[0] == "ui")


def test_without_a_key_others_are_let_in_only_where_that_is_said() -> None:
    with pytest.raises(ConfigError, match="--no-key"):
        GatewaySettings(host="0.0.0.0")
    assert GatewaySettings(host="0.0.0.0", no_key=True).key is None
    with pytest.raises(ConfigError, match="do not go together"):
        GatewaySettings(key="a", no_key=True)


def test_no_key_means_none_even_if_the_environment_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMIC_GATEWAY_KEY", "secret")
    assert GatewaySettings().key == "secret"
    assert GatewaySettings(no_key=True).key is None
