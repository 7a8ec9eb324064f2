"""Failures of the system as typed errors: each says what, and what can be done."""

from __future__ import annotations

import errno

import pytest

from shared_protocol.errors import ConfigError, InvalidInputError, as_typed


@pytest.mark.parametrize(
    ("error", "kind", "says", "remedy"),
    [
        (MemoryError(), ConfigError, "not enough memory", "close programs"),
        (OSError(errno.EMFILE, "too many", "a"), ConfigError, "cannot use a: too many", "ulimit"),
        (OSError(errno.ENOSPC, "full", "a"), ConfigError, "cannot use a: full", "make room"),
        (OSError(errno.EFBIG, "large", "a"), ConfigError, "cannot use a: large", "make room"),
        (OSError(errno.EDQUOT, "quota", "a"), ConfigError, "cannot use a: quota", "make room"),
        (OSError(errno.ENAMETOOLONG, "long", "a"), ConfigError, "cannot use a", "shorter name"),
        (OSError(errno.EACCES, "denied", "a"), ConfigError, "a: denied", "check that it exists"),
        (OSError(errno.EIO, "broken"), ConfigError, "the system refuses it: broken", "check"),
        (OSError("only words"), ConfigError, "the system refuses it: only words", "check"),
        ("\ud800".encode, InvalidInputError, "a text or a name cannot be used", "UTF-8"),
        (ImportError("no x", name="x"), ConfigError, "x cannot be used: no x", "install unimic"),
        (ImportError("gone"), ConfigError, "a package cannot be used: gone", "install unimic"),
        (RecursionError(), InvalidInputError, "nested too deeply", "check the input"),
        (RuntimeError("can't start new thread"), ConfigError, "no more threads", "allow this user"),
    ],
)
def test_each_kind_says_what_it_is_and_what_can_be_done(
    error: Exception, kind: type[Exception], says: str, remedy: str
) -> None:
    if callable(error):
        with pytest.raises(UnicodeError) as caught:
            error()
        error = caught.value
    found = as_typed(error)
    assert type(found) is kind
    assert says in str(found)
    assert remedy in found.remedy


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("other"), KeyError("x")])
def test_a_fault_of_the_program_stays_one(error: Exception) -> None:
    assert as_typed(error) is None


def test_a_name_that_steers_a_terminal_is_shown_plain() -> None:
    found = as_typed(OSError(errno.EACCES, "denied", "a\x1b[31m" + "b" * 500))
    assert found is not None
    assert "\x1b" not in str(found)
    assert len(str(found)) < 300
