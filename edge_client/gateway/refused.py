"""What an application asked and cannot have, with the field that is to blame.

It does not know how that is sent; see `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping


class RefusedError(Exception):
    """What an application asked cannot be done.

    Args:
        message: what is wrong, with the value and the remedy.
        param: the field that is to blame; None = no single one.
        code: which kind of failure, stable.
        status: of HTTP.
        headers: of the reply.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str = "invalid_value",
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status
        self.headers = dict(headers or {})
