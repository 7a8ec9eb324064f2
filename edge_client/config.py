"""Where settings come from: flag, then environment, then config file, then default.

It does not know commands; it reads no file but the one it is told or the user's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edge_client.addresses import DEFAULT_SERVER, checked_server
from shared_protocol.compute import Compute
from shared_protocol.errors import ConfigError, printable
from shared_protocol.files import open_regular, read_regular

ENVIRONMENT = {
    "server": "UNIMIC_SERVER",
    "api_key": "UNIMIC_API_KEY",
    "bundle": "UNIMIC_BUNDLE",
    "timeout": "UNIMIC_TIMEOUT",
    "compute": "UNIMIC_COMPUTE",
    "history_days": "UNIMIC_HISTORY_DAYS",
    "ca_file": "UNIMIC_CA_FILE",
}
CONFIG_VARIABLE = "UNIMIC_CONFIG"
CA_VARIABLES = (ENVIRONMENT["ca_file"], "SSL_CERT_FILE")
"""What names the certificate authorities to trust, the first that is set before the others."""
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+|\d+e\d+)\s*([smh]?)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 86400
_MAX_BYTES, _MAX_CA_BYTES = 1 << 16, 16 << 20
_LONGEST_VALUE = 4096
"""Of a setting; no address or key is longer."""
_NUMBERS = ("timeout", "history_days")


@dataclass(frozen=True)
class Settings:
    """Whom to talk to, and how.

    Args:
        server: address of the cloud server: http, https, tcp or tls, "unix:FILE", or
            "exec:COMMAND".
        api_key: sent as a bearer token; None = none.
        bundle: name or path of the bundle that both ends hold.
        timeout: seconds that one interaction may take in all, retries included.
        compute: what computes on this device, by name; see `shared_protocol.compute`.
        history_days: how long a conversation is kept on this device after its last turn.
        ca_file: PEM file of the only certificate authorities to trust; None = the usual ones.

    Raises:
        ConfigError: a value that cannot be used.
    """

    server: str = DEFAULT_SERVER
    api_key: str | None = field(default=None, repr=False)
    bundle: str = "builtin"
    timeout: float = 120.0
    compute: str = Compute.AUTO.value
    history_days: float = 90.0
    ca_file: str | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str) and (len(value) > _LONGEST_VALUE or "\0" in value):
                fault = f"{item.name} has {len(value):,} characters, or a NUL"
                raise ConfigError(fault, f"use up to {_LONGEST_VALUE:,}, and no NUL")
        object.__setattr__(self, "server", checked_server(self.server))
        object.__setattr__(self, "timeout", _checked_timeout(self.timeout))
        object.__setattr__(self, "history_days", _checked_days(self.history_days))
        object.__setattr__(self, "ca_file", _checked_file(self.ca_file))
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


def export_ca_file(settings: Settings) -> None:
    """Name the CA file in this process's environment, where every library looks, the hub's, too."""
    if settings.ca_file is not None:
        os.environ.update(dict.fromkeys(CA_VARIABLES, settings.ca_file))


def config_path(environ: Mapping[str, str]) -> Path:
    """The user's config file, which need not exist."""
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "unimic" / "config.toml"


def _from_file(file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    path = file or config_path(environ)
    try:
        data = read_regular(path, _MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        if file is not None or environ.get(CONFIG_VARIABLE):
            fault = f"there is no config file {path}"
            raise ConfigError(fault, f"check {CONFIG_VARIABLE}") from error
        return {}
    except OSError as error:
        told = f"cannot read {printable(str(path), 200)}: {error.strerror or error}"
        raise ConfigError(told, f"name another file in {CONFIG_VARIABLE}, or mend it") from error
    import tomllib  # only where a file exists: commands answer faster without it

    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "it must be TOML, in UTF-8") from error
    known = {item.name: item for item in fields(Settings)}
    for name, value in table.items():
        if name not in known:
            raise ConfigError(f"{path} sets {name!r}", f"known are {', '.join(known)}")
        wanted = (int, float) if name in _NUMBERS else str
        words = name == "timeout" and isinstance(value, str)
        if not (words or isinstance(value, wanted)) or isinstance(value, bool):
            raise ConfigError(f"{path} sets {name} to {value!r}", "check its type")
    return dict(table)


def seconds_of(text: float | str) -> float | None:
    """Seconds that a duration means; None for what is none.

    >>> seconds_of("2m"), seconds_of("90 s"), seconds_of(1.5), seconds_of("soon")
    (120.0, 90.0, 1.5, None)
    """
    found = _DURATION.fullmatch(str(text).strip().lower())
    return None if found is None else float(found[1]) * _UNITS[found[2] or "s"]


def _checked_timeout(timeout: float | str) -> float:
    seconds = seconds_of(timeout)
    if seconds is None or not 0 < seconds <= _LONGEST:
        raise ConfigError(
            f"the timeout is {timeout}",
            "use seconds, such as 90, or 90s, 2m or 1h; more than 0 and at most 24h",
        )
    return seconds


def _checked_file(name: str | None) -> str | None:
    if not name:
        return None
    path = Path(os.path.expanduser(name))
    try:
        open_regular(path, _MAX_CA_BYTES).close()
    except OSError as error:
        told = f"cannot read the CA file {printable(str(path), 200)}: {error.strerror or error}"
        if isinstance(error, FileNotFoundError):
            told = f"there is no CA file {path}"
        raise ConfigError(
            told, "name a PEM file with --ca-file, ca_file in the config file, or UNIMIC_CA_FILE"
        ) from error
    return str(path)


def _checked_days(days: float | str) -> float:
    try:
        found = float(days)
    except ValueError:
        found = 0.0
    if not 0 < found <= 36500:
        raise ConfigError(f"history_days is {days}", "use days, more than 0 and at most 36500")
    return found
