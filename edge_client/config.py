"""Where settings come from: flag, then environment, then config file, then default.

It does not know commands; it reads no file but the one it is told or the user's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared_protocol.compute import Compute
from shared_protocol.errors import ConfigError

DEFAULT_SERVER = "http://127.0.0.1:8400"
ENVIRONMENT = {
    "server": "UNIMIC_SERVER",
    "api_key": "UNIMIC_API_KEY",
    "bundle": "UNIMIC_BUNDLE",
    "timeout": "UNIMIC_TIMEOUT",
    "compute": "UNIMIC_COMPUTE",
    "history_days": "UNIMIC_HISTORY_DAYS",
}
CONFIG_VARIABLE = "UNIMIC_CONFIG"
_BARE = ("tcp", "tls")
_SCHEMES = ("http", "https", *_BARE)


@dataclass(frozen=True)
class Settings:
    """Whom to talk to, and how.

    Args:
        server: address of the cloud server: http, https, tcp or tls, or "exec:COMMAND".
        api_key: sent as a bearer token; None = none.
        bundle: name or path of the bundle that both ends hold.
        timeout: seconds that one interaction may take in all, retries included.
        compute: what computes on this device, by name; see `shared_protocol.compute`.
        history_days: how long a conversation is kept on this device after its last turn.

    Raises:
        ConfigError: a value that cannot be used.
    """

    server: str = DEFAULT_SERVER
    api_key: str | None = field(default=None, repr=False)
    bundle: str = "builtin"
    timeout: float = 120.0
    compute: str = Compute.AUTO.value
    history_days: float = 90.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "server", _checked_server(self.server))
        object.__setattr__(self, "timeout", _checked_timeout(self.timeout))
        object.__setattr__(self, "history_days", _checked_days(self.history_days))
        Compute.named(self.compute)
        if not self.bundle:
            raise ConfigError("the bundle's name is empty", "name one, such as builtin")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError("the API key holds characters that no header may carry", "check it")


def load_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
) -> Settings:
    """Settings by precedence: flag > environment > config file > default.

    Args:
        flags: field name to value; None or missing = not given.
        environ: the process environment.
        file: config file; None = the one that the environment names, or the user's own.

    Raises:
        ConfigError: an unreadable file, an unknown name or a value that cannot be used.
    """
    values = _from_file(file, environ)
    values |= {name: environ[key] for name, key in ENVIRONMENT.items() if environ.get(key)}
    if str(environ.get(ENVIRONMENT["server"], "")).startswith("exec:"):
        raise ConfigError(
            "a program is started for a flag or the config file only, not for UNIMIC_SERVER",
            "give exec:COMMAND with --server",
        )
    known = {item.name for item in fields(Settings)}
    values |= {name: flags[name] for name in known if flags.get(name) is not None}
    return Settings(**values)


def config_path(environ: Mapping[str, str]) -> Path:
    """The user's config file, which need not exist."""
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "unimic" / "config.toml"


def _from_file(file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    path = file or config_path(environ)
    if not path.is_file():
        if file is not None or environ.get(CONFIG_VARIABLE):
            raise ConfigError(f"there is no config file {path}", f"check {CONFIG_VARIABLE}")
        return {}
    import tomllib  # only where a file exists: commands answer faster without it

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "it must be TOML") from error
    known = {item.name: item for item in fields(Settings)}
    for name, value in table.items():
        if name not in known:
            raise ConfigError(f"{path} sets {name!r}", f"known are {', '.join(known)}")
        wanted = (int, float) if name in ("timeout", "history_days") else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ConfigError(f"{path} sets {name} to {value!r}", "check its type")
    return dict(table)


def _checked_server(server: str) -> str:
    example = f"write it like {DEFAULT_SERVER}"
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{server!r} is no server address: {error}", example) from error
    if parts.scheme == "exec":
        return server
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        raise ConfigError(f"{server!r} is no server address", example)
    if parts.scheme in _BARE and port is None:
        raise ConfigError(f"{server!r} names no port", f"write it like {parts.scheme}://host:8401")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            "a server address holds no user, query or fragment", "pass a key with --api-key"
        )
    return server.rstrip("/")


def _checked_timeout(timeout: float | str) -> float:
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise ConfigError(f"the timeout is {timeout}", "use seconds, more than 0 and at most 86400")
    return seconds


def _checked_days(days: float | str) -> float:
    try:
        found = float(days)
    except ValueError:
        found = 0.0
    if not 0 < found <= 36500:
        raise ConfigError(f"history_days is {days}", "use days, more than 0 and at most 36500")
    return found
