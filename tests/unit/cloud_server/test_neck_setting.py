"""`--neck` and the variable of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_server.cli import parse_settings
from cloud_server.settings import NECK_VARIABLE


@pytest.mark.parametrize(
    ("words", "variable", "neck"),
    [
        ([], None, None),
        ([], "", None),
        ([], "a.safetensors", Path("a.safetensors")),
        (["--neck", "b.safetensors"], None, Path("b.safetensors")),
        (["--neck", "b.safetensors"], "a.safetensors", Path("b.safetensors")),
    ],
)
def test_the_neck_is_named_by_the_flag_else_by_the_variable(
    words: list[str], variable: str | None, neck: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NECK_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(NECK_VARIABLE, variable)
    assert parse_settings(words).neck == neck
