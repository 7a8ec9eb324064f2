"""A structured log: each line one JSON object, whoever logs it.

It does not know who logs what. A value that says its own fields (`log_fields`) brings them along.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, in ASCII: no text in it can end the line.

    Every line has `time` (UTC), `level`, `logger` and `message`; that of a request its
    `request_id`, `key`, `task`, `status`, `seconds` and more, that of a fault its `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = getattr(record, "request_id", "")
        line |= {"request_id": request_id} if request_id else {}
        for value in record.args if isinstance(record.args, tuple) else ():
            fields = getattr(value, "log_fields", None)
            line |= {} if fields is None else fields()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
