"""Who may use the server: named keys, compared in constant time, reloaded while it runs.

It does not know what the keys open, nor how they arrive. No key is ever logged.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from shared_protocol.errors import ConfigError, UnauthorizedError

logger = logging.getLogger(__name__)

DEFAULT_NAME = "default"
NOBODY = ""
"""The owner of everything where no key is asked for."""
_KEY = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LIMIT = re.compile(r"([a-z_-]+)=(\d{1,15})")
_OTHERS_MAY_READ = 0o044


@dataclass(frozen=True)
class KeyLimits:
    """What may be asked with a key in a minute; None = as for every key, 0 = as much as comes.

    Args:
        requests: how often a task is asked.
        tokens: token-steps, see `serving.admission.price`.
    """

    requests: int | None = None
    tokens: int | None = None


_AS_ALL = KeyLimits()
_LIMIT_NAMES = tuple(each.name for each in fields(KeyLimits))


@dataclass(frozen=True)
class NamedKey:
    """One line of a file of keys."""

    key: str
    limits: KeyLimits = _AS_ALL

    def __repr__(self) -> str:
        return f"NamedKey({self.limits})"


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
        self._limits: dict[str, KeyLimits] = {}
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

    def limits(self, name: str) -> KeyLimits:
        """What the file says of a key's limits."""
        return self._limits.get(name, _AS_ALL)

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
        named = {} if self._file is None else read_named_keys(self._file)
        if self._file is not None and not named:
            raise ConfigError(f"{self._file} holds no key", "write 'NAME KEY' on each line")
        if self._key is not None:
            if DEFAULT_NAME in named:
                raise ConfigError(
                    f"{self._file} names a key {DEFAULT_NAME!r}, and --api-key is given, too",
                    "give one of them another name, or leave out --api-key",
                )
            named = {DEFAULT_NAME: NamedKey(self._key), **named}
        digests = {_digest(each.key): name for name, each in named.items()}
        if len(digests) < len(named):
            raise ConfigError("two names have one key", "give each name a key of its own")
        self._names = digests
        self._limits = {name: each.limits for name, each in named.items()}
        self.asks = bool(digests)


def read_keys(file: Path) -> Mapping[str, str]:
    """Name to key; see `read_named_keys`."""
    return {name: each.key for name, each in read_named_keys(file).items()}


def read_named_keys(file: Path) -> dict[str, NamedKey]:
    """Name to key and limits; "#" begins a comment, a line with a key only names it "default".

    Behind a name and its key may stand `requests=N` and `tokens=N`, see `KeyLimits`.

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
    keys: dict[str, NamedKey] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            name, found = _line(words)
            if name in keys:
                raise ValueError(f"the name {name!r} comes twice")
        except ValueError as error:
            fault = f"line {number} of {file} cannot be used: {error}"
            raise ConfigError(fault, "correct it") from None
        keys[name] = found
    return keys


def _line(words: Sequence[str]) -> tuple[str, NamedKey]:
    """Name and key of a line; `ValueError` says what is wrong with it, without the key."""
    if len(words) == 1:
        words = (DEFAULT_NAME, *words)
    name, key, *limits = words
    if not _NAME.fullmatch(name) or not _KEY.fullmatch(key):
        raise ValueError("it is not 'NAME KEY'")
    if _LIMIT.fullmatch(key) and key.partition("=")[0] in _LIMIT_NAMES:
        raise ValueError("a limit stands where the key should: write 'NAME KEY' before limits")
    return name, NamedKey(key, _limits(limits))


def _limits(words: Sequence[str]) -> KeyLimits:
    found: dict[str, int] = {}
    for word in words:
        said = _LIMIT.fullmatch(word)
        if said is None or said[1] not in _LIMIT_NAMES or said[1] in found:
            known = " and ".join(f"{name}=N" for name in _LIMIT_NAMES)
            raise ValueError(f"behind 'NAME KEY' only {known} may stand, each once")
        found[said[1]] = int(said[2])
    return KeyLimits(**found)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
