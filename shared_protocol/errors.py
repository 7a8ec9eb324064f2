"""The error tree of UniMIC: what went wrong, its wire code, its HTTP status and its remedy.

It does not know how an error is shown or transported; both ends map codes to classes by `CODES`.

```
UnimicError
├── BadMessageError            the bytes are not a message                  bad_message          400
│   ├── BadMagicError          not a UniMIC message at all                  bad_magic            400
│   ├── UnsupportedVersionError  another format version                     unsupported_version  400
│   ├── TruncatedError         ends too early                               truncated            400
│   ├── TrailingBytesError     goes on after its end                        trailing_bytes       400
│   ├── LimitError             a length or count beyond a limit             over_limit           413
│   └── ChecksumError          decoded symbols are not those that were sent checksum             422
├── BundleMismatchError        the ends hold different bundles              bundle_mismatch      409
├── LabelsMismatchError        labels of which this end lacks the names     labels_mismatch      409
├── InvalidInputError          a value that no message may hold             invalid_input        422
│   ├── PromptError            text that the model cannot take              bad_prompt           422
│   ├── MaskError              a mask that the task cannot use              bad_mask             422
│   ├── TokenRangeError        a token id outside its alphabet              token_range          422
│   └── ImageError             a picture that cannot be read                bad_image            422
├── ConfigError                contradictory or missing settings            bad_config           500
│   └── CheckpointError        weights that do not fit                      bad_checkpoint       500
├── ServiceError               the service refused or failed                service_failed       500
│   ├── UnauthorizedError      missing or wrong key                         unauthorized         401
│   ├── NotFoundError          no such resource or task                     not_found            404
│   ├── MediaTypeError         wrong content type                           media_type           415
│   ├── BodyTooLargeError      request body over the limit                  body_too_large       413
│   ├── OverloadedError        the queue is full                            overloaded           503
│   │   └── RateLimitError     a key has used what it may a minute          rate_limited         429
│   ├── DeadlineError          took longer than the time limit              deadline             504
│   ├── WorkCancelledError     the client ended the work                    cancelled            409
│   └── InternalError          a fault of the server                        internal             500
└── TransportError             the service could not be reached             transport            502
    └── ServerTimeoutError     the service did not answer in time           server_timeout       504
```
"""

from __future__ import annotations

import errno

MAX_TEXT = 500
"""Longest text of an error that is believed."""
_LONGEST_NAME = 128
_LONGEST_WAIT = 1e6
"""Seconds; whoever asks for a longer wait is not believed."""


class UnimicError(Exception):
    """Base of all; `str(error)` names the value and the remedy.

    Args:
        message: what is wrong, with the value.
        remedy: what the reader can do about it; may be empty where `message` says it.
        retry_after: seconds after which a retry makes sense, if known.

    Attributes:
        request_id: the name under which the server logged the request; "" where none is known.
    """

    code = "error"
    http_status = 500

    def __init__(self, message: str, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.retry_after = retry_after
        self.request_id = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class BadMessageError(UnimicError):
    code = "bad_message"
    http_status = 400


class BadMagicError(BadMessageError):
    code = "bad_magic"


class UnsupportedVersionError(BadMessageError):
    code = "unsupported_version"


class TruncatedError(BadMessageError):
    code = "truncated"


class TrailingBytesError(BadMessageError):
    code = "trailing_bytes"


class LimitError(BadMessageError):
    code = "over_limit"
    http_status = 413


class ChecksumError(BadMessageError):
    code = "checksum"
    http_status = 422


class BundleMismatchError(UnimicError):
    code = "bundle_mismatch"
    http_status = 409


class LabelsMismatchError(UnimicError):
    code = "labels_mismatch"
    http_status = 409


class InvalidInputError(UnimicError):
    code = "invalid_input"
    http_status = 422


class PromptError(InvalidInputError):
    code = "bad_prompt"


class MaskError(InvalidInputError):
    code = "bad_mask"


class TokenRangeError(InvalidInputError):
    code = "token_range"


class ImageError(InvalidInputError):
    code = "bad_image"


class ConfigError(UnimicError):
    code = "bad_config"


class CheckpointError(ConfigError):
    code = "bad_checkpoint"


class ServiceError(UnimicError):
    code = "service_failed"


class UnauthorizedError(ServiceError):
    code = "unauthorized"
    http_status = 401


class NotFoundError(ServiceError):
    code = "not_found"
    http_status = 404


class MediaTypeError(ServiceError):
    code = "media_type"
    http_status = 415


class BodyTooLargeError(ServiceError):
    code = "body_too_large"
    http_status = 413


class OverloadedError(ServiceError):
    code = "overloaded"
    http_status = 503


class RateLimitError(OverloadedError):
    code = "rate_limited"
    http_status = 429


class DeadlineError(ServiceError):
    code = "deadline"
    http_status = 504


class WorkCancelledError(ServiceError):
    code = "cancelled"
    http_status = 409


class InternalError(ServiceError):
    code = "internal"


class TransportError(UnimicError):
    code = "transport"
    http_status = 502


class ServerTimeoutError(TransportError):
    code = "server_timeout"
    http_status = 504


def _walk(root: type[UnimicError]) -> list[type[UnimicError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _walk(child))]


CODES: dict[str, type[UnimicError]] = {cls.code: cls for cls in _walk(UnimicError)}
"""Wire code to class; every class of the tree has a code of its own."""


def error_to_wire(error: UnimicError) -> dict[str, str | float]:
    """The JSON object that carries `error` over HTTP; what it does not say is left out."""
    body: dict[str, str | float] = {"code": error.code, "message": error.message}
    if error.remedy:
        body["remedy"] = error.remedy
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
    if error.request_id:
        body["request_id"] = error.request_id
    return body


def error_from_wire(body: object) -> UnimicError:
    """The typed error that `error_to_wire` described; unknown codes give a `ServiceError`.

    Its texts are made safe to show on a terminal, whoever wrote them.
    """
    if not isinstance(body, dict):
        return ServiceError("the service answered with an error that is not described")
    cls = CODES.get(str(body.get("code")), ServiceError)
    retry_after = body.get("retry_after")
    told = isinstance(retry_after, (int, float)) and 0 <= retry_after <= _LONGEST_WAIT
    seconds = float(retry_after) if told else None  # type: ignore[arg-type]
    message, remedy = str(body.get("message", "unknown error")), str(body.get("remedy", ""))
    error = cls(printable(message), printable(remedy), seconds)
    error.request_id = printable(str(body.get("request_id", "")), _LONGEST_NAME)
    return error


def as_typed(error: Exception) -> UnimicError | None:
    """What the system, a name or a missing package made fail, as a typed error; None for a fault.

    The last boundary: whoever calls something that may fail in a way of its own says so better.
    """
    if isinstance(error, MemoryError):
        return ConfigError("there is not enough memory for it", "close programs, or allow more")
    if isinstance(error, OSError):
        name = printable(str(error.filename), 200) if error.filename else ""
        what = f"cannot use {name}" if name else "the system refuses it"
        return ConfigError(f"{what}: {error.strerror or error}", _remedy_of(error))
    if isinstance(error, UnicodeError):
        return InvalidInputError(
            f"a text or a name cannot be used: {error}", "use plain names, and UTF-8 in files"
        )
    if isinstance(error, ImportError):
        lacking = error.name or "a package"
        return ConfigError(f"{lacking} cannot be used: {error}", "install unimic again")
    if isinstance(error, RecursionError):
        return InvalidInputError("something is nested too deeply to be read", "check the input")
    if isinstance(error, RuntimeError) and "thread" in str(error):
        return ConfigError("the system starts no more threads", "allow this user more of them")
    return None


def _remedy_of(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return "allow more open files: ulimit -n 256"
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", -1), errno.EFBIG):
        return "make room on that disk, or allow larger files"
    if error.errno == errno.ENAMETOOLONG:
        return "use a shorter name"
    return "check that it exists, and who may use it"


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """`text` from elsewhere, safe to show: one line, no control characters, cut to `limit`.

    >>> printable("red\\x1b[31m alert", 12)
    'red [31m al…'
    """
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= limit else line[: limit - 1] + "…"
