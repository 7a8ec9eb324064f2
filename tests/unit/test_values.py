"""Values are frozen, and those that hold arrays are not compared field by field."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("shared_protocol", "cloud_server/http", "cloud_server/links", "cloud_server/serving")
CHANGING = {
    "shared_protocol.cases.CaseRecord",
    "shared_protocol.entropy.exact.Cache",
    "shared_protocol.entropy.exact_torch.Cache",
    "shared_protocol.selfcheck.battery._Chunks",
    "shared_protocol.selfcheck.battery._Tally",
    "shared_protocol.selfcheck.trials.Recorder",
    "shared_protocol.selfcheck.trials.Sizes",
    "shared_protocol.selfcheck.trials.Trials",
    "shared_protocol.selfcheck.witness._Totals",
    "shared_protocol.session.ledger.Ledger",
    "shared_protocol.session.previews.Preview",
    "cloud_server.links.connections._Entry",
    "cloud_server.serving.admission.rate_limits.Use",
    "cloud_server.serving.pictures._Entry",
    "cloud_server.serving.telemetry.metrics.Trace",
}
"""Counts and caches of one owner, which change while they are used."""
ARRAYS = ("NDArray", "ndarray", "Tensor", "AnyIntegers")


def values() -> dict[str, type]:
    found: dict[str, type] = {}
    for path in sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1].startswith("__"):
            continue
        module = import_module(".".join(parts))
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and dataclasses.is_dataclass(kind):
                found[f"{module.__name__}.{name}"] = kind
    return found


VALUES = values()


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_frozen_unless_it_is_meant_to_change(name: str) -> None:
    frozen = VALUES[name].__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert frozen == (name not in CHANGING)


def test_what_is_meant_to_change_exists() -> None:
    assert set(VALUES) >= CHANGING


@pytest.mark.parametrize("name", VALUES)
def test_a_value_with_arrays_says_how_it_is_compared(name: str) -> None:
    """`==` of two arrays is an array: the comparison that a dataclass writes would raise."""
    kind = VALUES[name]
    told = typing.cast("dict[str, str]", kind.__annotations__)
    holds = [field for field, text in told.items() if any(word in str(text) for word in ARRAYS)]
    compared = [f.name for f in dataclasses.fields(kind) if f.name in holds and f.compare]
    if compared and name not in CHANGING:
        assert not kind.__dataclass_params__.eq, compared  # type: ignore[attr-defined]
