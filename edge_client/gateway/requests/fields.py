"""The fields of a request, from JSON or a form, each checked as it is read; what is left is told.

It does not know what the fields mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge_client.gateway.refused import RefusedError
from shared_protocol.errors import printable

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Fields:
    """Reads fields by name; numbers and flags may come as text, as forms send them.

    Args:
        values: name to value; null, and the empty text of a form, count as not given.
        prefix: stands before names in messages, such as "unimic.".
        form: whether the values came as a form.
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "", form: bool = False) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}
        self._prefix = prefix
        self._form = form
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> Any:
        """The value as it came; None if it was not given."""
        self._read.add(name)
        return self._values.get(name)

    def text(self, name: str, default: str = "") -> str:
        """A text.

        Raises:
            RefusedError: it is something else; so do all that read a field.
        """
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, value, "a text")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number from `low` to `high`; None if it was not given."""
        value = self._scalar(name)
        if value is None:
            return None
        try:
            found = float(value) if not isinstance(value, bool) else None
        except (TypeError, ValueError, OverflowError):
            found = None
        if found is None or not low <= found <= high:
            raise self.wrong(name, value, f"a number from {low:g} to {high:g}")
        return found

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """A whole number from `low` to `high`."""
        value = self._scalar(name)
        if value is None:
            return default
        found: int | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            found = value
        elif isinstance(value, float) and value.is_integer():
            found = int(value)
        elif isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            found = int(value) if len(value) < 20 else None
        if found is None or not low <= found <= high:
            raise self.wrong(name, value, f"a whole number from {low} to {high}")
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """Yes or no."""
        value = self._scalar(name)
        if value is None:
            return default
        found = value if isinstance(value, bool) else _FLAGS.get(str(value).strip().lower())
        if found is None:
            raise self.wrong(name, value, "true or false")
        return found

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        value = self._scalar(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, value, f"one of {', '.join(choices)}")
        return value

    def inside(self, name: str) -> Fields:
        """The fields of an object, which a form may send as JSON text."""
        value = self.raw(name)
        if isinstance(value, str):
            try:
                value = json.loads(value) if value.strip() else {}
            except ValueError:
                raise self.wrong(name, value, "an object in JSON") from None
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(name, value, "an object")
        return Fields(value, f"{self._prefix}{name}.", self._form)

    def left(self) -> list[str]:
        """Names that nobody has read."""
        return [f"{self._prefix}{name}" for name in self._values if name not in self._read]

    def wrong(self, name: str, value: Any, wanted: str) -> RefusedError:
        """What to raise for a value that cannot be used."""
        return self.refused(name, f"is {shown(value)}: use {wanted}")

    def refused(self, name: str, why: str, code: str = "invalid_value") -> RefusedError:
        """The same in other words, which go on after the field's name."""
        whole = f"{self._prefix}{name}"
        return RefusedError(f"{whole} {why}", whole, code)

    def _scalar(self, name: str) -> Any:
        value = self.raw(name)
        return None if self._form and value == "" else value


def shown(value: Any) -> str:
    """A value from elsewhere, short and safe to show."""
    return printable(repr(value) if isinstance(value, (str, bytes)) else str(value), 60)
