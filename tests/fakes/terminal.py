"""The command line of an edge before a cloud that is a fake, in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edge_fakes import FakeBundle, FakeCloud

from edge_client import cli
from edge_client.transport.base import NoSessionsError


class Terminal:
    """Runs commands against a cloud in a folder of its own."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        grid: tuple[int, int] = (4, 4),
    ) -> None:
        bundle = FakeBundle(grid=grid)
        self.cloud = FakeCloud(bundle)
        self.served = self.cloud
        self.opened: list[tuple[Any, ...]] = []
        self._capsys = capsys
        monkeypatch.setattr("shared_protocol.bundles.find.load_bundle", lambda *given: bundle)
        monkeypatch.setattr("edge_client.transport.http.HttpTransport", self._open)
        monkeypatch.setattr("edge_client.exchange.best.open_link", self._no_sessions)

    def _no_sessions(self, *settings: Any) -> Any:
        raise NoSessionsError("this cloud takes single messages only")

    def _open(self, *settings: Any, wish: Any = None) -> Any:
        self.opened.append(settings)
        return self

    def __enter__(self) -> FakeCloud:
        return self.served

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = cli.main(words)
        said = self._capsys.readouterr()
        return code, said.out, said.err


def leave_home(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Run in `folder`, without the settings of whoever runs the tests."""
    monkeypatch.chdir(folder)
    for name in ("UNIMIC_SERVER", "UNIMIC_API_KEY", "UNIMIC_BUNDLE", "UNIMIC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))


def cloud_of_sessions(monkeypatch: pytest.MonkeyPatch, bundle: FakeBundle) -> FakeCloud:
    """The cloud in memory that every `Session` talks to from now on, by single messages."""
    served = FakeCloud(FakeBundle())

    class Transport:
        def __init__(self, *settings: object, wish: object = None) -> None:
            pass

        def __enter__(self) -> FakeCloud:
            return served

        def __exit__(self, *_: object) -> None:
            pass

    def refuse(*settings: object) -> object:
        raise NoSessionsError("this cloud takes single messages only")

    monkeypatch.setattr("edge_client.session.session.load_bundle", lambda *given: bundle)
    monkeypatch.setattr("edge_client.transport.http.HttpTransport", Transport)
    monkeypatch.setattr("edge_client.exchange.best.open_link", refuse)
    return served
