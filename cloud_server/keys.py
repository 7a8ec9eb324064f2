"""Who may use the server: named keys, compared in constant time, reloaded while it runs.

It does not know what the keys open, nor how they arrive. No key is ever logged.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from shared_protocol.errors import ConfigError, UnauthorizedError

logger = logging.getLogger(__name__)

DEFAULT_NAME = "default"
NOBODY = ""
"""The owner of everything where no key is asked for."""
_KEY = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OTHERS_MAY_READ = 0o044


class Keyring:
    """The keys that clients may present.

    Args:
        key: one without a name of its own; None = none.
        file: names and keys, one of each a line; None = none. Read now and at `reload`.

    Attributes:
        asks: whether a key is asked for.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, key: str | None = None, file: Path | None = None) -> None:
        self._key = key
        self._file = file
        self._names: dict[bytes, str] = {}
        self.asks = False
        self._load()

    def owner(self, authorization: str | None) -> str:
        """The name of the key in an Authorization header; `NOBODY` where none is asked for.

        Raises:
            UnauthorizedError: it holds none of the keys.
        """
        if not self.asks:
            return NOBODY
        scheme, _, given = (authorization or "").partition(" ")
        digest = _digest(given.strip())
        found = None
        for known, name in self._names.items():  # all of them: time tells nothing about the keys
            if hmac.compare_digest(known, digest):
                found = name
        if scheme.lower() != "bearer" or found is None:
            fault = "the key is wrong" if given else "no key was given"
            raise UnauthorizedError(fault, "send 'Authorization: Bearer KEY'")
        return found

    def reload(self) -> bool:
        """Read the file again; a file that cannot be used leaves the keys as they are."""
        try:
            self._load()
        except ConfigError as error:
            logger.error("the keys stay as they were: %s", error)
            return False
        logger.info("%d keys", len(self._names))
        return True

    def _load(self) -> None:
        named = {} if self._file is None else read_keys(self._file)
        if self._file is not None and not named:
            raise ConfigError(f"{self._file} holds no key", "write 'NAME KEY' on each line")
        if self._key is not None:
            if DEFAULT_NAME in named:
                raise ConfigError(
                    f"{self._file} names a key {DEFAULT_NAME!r}, and --api-key is given, too",
                    "give one of them another name, or leave out --api-key",
                )
            named = {DEFAULT_NAME: self._key, **named}
        digests = {_digest(key): name for name, key in named.items()}
        if len(digests) < len(named):
            raise ConfigError("two names have one key", "give each name a key of its own")
        self._names = digests
        self.asks = bool(digests)


def read_keys(file: Path) -> Mapping[str, str]:
    """Name to key; "#" begins a comment, and a line with a key only names it "default".

    Raises:
        ConfigError: the file cannot be read, or a line is none of this; no key is in the message.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        if file.stat().st_mode & _OTHERS_MAY_READ:
            logger.warning("others may read the keys in %s; chmod 600 it", file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read the keys in {file}: {reason}", "check it") from error
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name = words[0] if len(words) > 1 else DEFAULT_NAME
        usable = len(words) <= 2 and _NAME.fullmatch(name) and _KEY.fullmatch(words[-1])
        if not usable or name in keys:
            fault = f"the name {name!r} comes twice" if usable else "it is not 'NAME KEY'"
            raise ConfigError(f"line {number} of {file} cannot be used: {fault}", "correct it")
        keys[name] = words[-1]
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
