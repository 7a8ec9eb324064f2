"""Imports packages of the extra `bench` where they are used, with an error that names the extra.

It does not know what they compute.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from shared_protocol.errors import ConfigError

EXTRA = "bench"


def extra_module(name: str, purpose: str) -> Any:
    """The module `name`.

    Args:
        name: dotted name.
        purpose: what it is needed for, for the error.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{purpose} needs {error.name}, which is not installed",
            f"install it: pip install -c docker/constraints.txt '.[{EXTRA}]'",
        ) from error


def has_module(name: str) -> bool:
    """Whether the top-level module `name` is installed.

    >>> has_module("json"), has_module("no_such_module")
    (True, False)
    """
    return find_spec(name) is not None
