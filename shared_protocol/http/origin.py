"""Where a request comes from, as its headers say: its name, and its place in a trace.

Places are those of W3C Trace Context, level 1: `traceparent` is 00-TRACE-SPAN-FLAGS in hexadecimal
digits. It does not know who makes traces, nor where they are collected.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared_protocol.http.contract import REQUEST_ID, TRACEPARENT, TRACESTATE, is_request_id

_PLACE = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[\x20-\x7e]{1,512}")
_VERSION, _SAMPLED = "00", "01"


@dataclass(frozen=True)
class Origin:
    """Where a request comes from; what is unknown is "".

    Args:
        request_id: what it is called there.
        traceparent: its place in a trace.
        tracestate: what makers of traces pass on with it.
    """

    request_id: str = ""
    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Origin:
        """What headers say, without what cannot be used; names of fields in any case.

        >>> Origin.of({"x-request-id": "a-1", "traceparent": "00-0-0-00"})
        Origin(request_id='a-1', traceparent='', tracestate='')
        """
        found = {name.lower(): value.strip() for name, value in headers.items()}
        name, place = found.get(REQUEST_ID.lower(), ""), found.get(TRACEPARENT, "")
        state = found.get(TRACESTATE, "")
        known = is_place(place)
        return cls(
            name if is_request_id(name) else "",
            place if known else "",
            state if known and _STATE.fullmatch(state) else "",
        )

    @property
    def headers(self) -> dict[str, str]:
        """The fields that say it."""
        said = {
            REQUEST_ID: self.request_id,
            TRACEPARENT: self.traceparent,
            TRACESTATE: self.tracestate,
        }
        return {name: value for name, value in said.items() if value}

    @property
    def trace_id(self) -> str:
        """Which trace it belongs to, 32 hex digits; "" = none."""
        return self.traceparent[3:35]

    def begun(self) -> Origin:
        """The same with a span of its own: in the trace that there is, else in a new one."""
        trace = self.trace_id or secrets.token_hex(16)
        flags = self.traceparent[53:55] or _SAMPLED
        place = f"{_VERSION}-{trace}-{secrets.token_hex(8)}-{flags}"
        return replace(self, traceparent=place)


UNKNOWN = Origin()


def is_place(text: str) -> bool:
    """Whether a text is a `traceparent` of this version or a later one.

    >>> is_place("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    True
    """
    found = _PLACE.fullmatch(text)
    if found is None or (found[1] == _VERSION and found[5]):
        return False
    return set(found[2]) != {"0"} and set(found[3]) != {"0"}
