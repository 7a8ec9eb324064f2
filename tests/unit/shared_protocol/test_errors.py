from __future__ import annotations

import pytest

from shared_protocol import errors
from shared_protocol.errors import (
    CODES,
    ServiceError,
    UnimicError,
    error_from_wire,
    error_to_wire,
    printable,
)


def _tree(root: type[UnimicError]) -> list[type[UnimicError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


def test_every_error_has_a_code_of_its_own() -> None:
    classes = [cls for cls in _tree(UnimicError) if cls.__module__ == errors.__name__]
    assert len({cls.code for cls in classes}) == len(classes)
    assert set(CODES.values()) == set(classes)


@pytest.mark.parametrize("cls", CODES.values(), ids=CODES.keys())
def test_every_error_survives_the_wire(cls: type[UnimicError]) -> None:
    sent = cls("steps is 0", "use 1..100", retry_after=1.5)
    received = error_from_wire(error_to_wire(sent))
    assert type(received) is cls
    assert (received.message, received.remedy, received.retry_after) == (
        "steps is 0",
        "use 1..100",
        1.5,
    )


@pytest.mark.parametrize("cls", CODES.values(), ids=CODES.keys())
def test_every_error_has_an_http_status_that_is_an_error(cls: type[UnimicError]) -> None:
    assert 400 <= cls.http_status < 600


@pytest.mark.parametrize("cls", CODES.values(), ids=CODES.keys())
def test_the_docstring_lists_every_error_with_its_code_and_status(cls: type[UnimicError]) -> None:
    if cls is UnimicError:
        return
    line = next(li for li in (errors.__doc__ or "").splitlines() if f" {cls.__name__} " in li)
    assert line.split()[-2:] == [cls.code, str(cls.http_status)]


@pytest.mark.parametrize("body", [None, [], "no", {}, {"code": "new"}, {"retry_after": "soon"}])
def test_an_unknown_body_becomes_a_service_error(body: object) -> None:
    assert type(error_from_wire(body)) is ServiceError


def test_text_from_the_wire_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2Jb\r\nc") == "a [2Jb  c"
    assert printable("x" * 600).endswith("…")
    error = error_from_wire({"code": "overloaded", "message": "a\x1b[2Jb", "remedy": "c\nd"})
    assert str(error) == "a [2Jb (c d)"


def test_an_error_shows_its_remedy() -> None:
    assert str(UnimicError("steps is 0", "use 1..100")) == "steps is 0 (use 1..100)"
    assert str(UnimicError("steps is 0")) == "steps is 0"


def test_what_an_error_does_not_say_is_left_out_on_the_wire() -> None:
    error = UnimicError("steps is 0")
    assert error.request_id == ""
    assert error_to_wire(error) == {"code": "error", "message": "steps is 0"}
    error = UnimicError("steps is 0", "use 1..100", 0.0)
    error.request_id = "a-1"
    wire = error_to_wire(error)
    assert wire["retry_after"] == 0.0
    assert error_from_wire(wire).request_id == "a-1"
    assert error_from_wire({}).message == "unknown error"
    assert error_from_wire([]).message == "the service answered with an error that is not described"


@pytest.mark.parametrize(
    ("said", "believed"), [(0, 0.0), (1e6, 1e6), (1e6 + 1, None), (-0.1, None), ("1", None)]
)
def test_a_wait_of_up_to_a_million_seconds_is_believed(said: object, believed: object) -> None:
    assert error_from_wire({"retry_after": said}).retry_after == believed


def test_texts_from_the_wire_are_cut_just_beyond_their_limit() -> None:
    for limit, name in ((500, "message"), (500, "remedy"), (128, "request_id")):
        for length in (limit, limit + 1):
            found = str(getattr(error_from_wire({name: "x" * length}), name))
            assert found == ("x" * limit if length == limit else "x" * (limit - 1) + "…")
