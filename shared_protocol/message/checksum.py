"""What a message's checksum covers, and the digest that binds a response to its request.

It does not know how symbols are coded; BITSTREAM.md is the specification.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import ChecksumError
from shared_protocol.message.bitstream import Frame, pack_parameters
from shared_protocol.message.parameters import result_parameters
from shared_protocol.messages import Request
from shared_protocol.tasks import Direction, Part
from shared_protocol.tokens import KnownTokens

Symbols = Mapping[Part, npt.NDArray[Any]]
"""What the parts of a message say: text ids (N,), mask and dropped flags (H, W), and the image
codes (M,) of the positions that travel, in raster order."""

_WORD = "<u4"


@dataclass(frozen=True, eq=False)
class Binding:
    """What a message is about, besides what it says itself; equal at both ends or the check fails.

    Args:
        fingerprint: 32 bytes that name the bundle.
        request: digest of the request that a response answers; nothing for an uplink.
        known: tokens that both ends had before the message.
    """

    fingerprint: bytes
    request: bytes = b""
    known: bytes = b""

    @classmethod
    def of_request(cls, fingerprint: bytes, known: KnownTokens | None) -> Binding:
        """The binding of an uplink."""
        said = b"" if known is None else canonical(known.flags) + canonical(known.codes)
        return cls(fingerprint, known=said)

    @classmethod
    def of_response(cls, fingerprint: bytes, request: Request) -> Binding:
        """The binding of a downlink."""
        return cls(fingerprint, request=request_digest(request))


def checksum(frame: Frame, symbols: Symbols, binding: Binding) -> int:
    """CRC-32 over the binding, the header, the parameters and everything that the parts say."""
    said = b"".join(canonical(symbols[part]) for part in sorted(symbols))
    before = binding.fingerprint + binding.request + frame.head
    return zlib.crc32(before + pack_parameters(frame.parameters) + said + binding.known)


def verify(frame: Frame, symbols: Symbols, binding: Binding) -> None:
    """Check a decoded message.

    Raises:
        ChecksumError: `symbols` are not those that were sent, or the ends do not mean the same.
    """
    if checksum(frame, symbols, binding) == frame.checksum:
        return
    causes = ["the message was damaged", "the ends differ in their bundle"]
    if frame.direction is Direction.DOWNLINK:
        causes.append("it answers another request")
    if binding.known:
        causes.append("they differ in the tokens that they had before")
    raise ChecksumError("the decoded symbols are not those that were sent", ", or ".join(causes))


def canonical(values: npt.NDArray[Any]) -> bytes:
    """The shape as 32-bit words, then ids or codes as 32-bit words, flags as bits; zeros to a byte.

    >>> canonical(np.array([7, 256])).hex()
    '020000000700000000010000'
    """
    shape = np.array(values.shape, dtype=_WORD).tobytes()
    if values.dtype == np.bool_:
        return shape + np.packbits(values).tobytes()
    return shape + values.astype(_WORD).tobytes()


def request_digest(request: Request) -> bytes:
    """SHA-256 of all that decides the result of `request`; both ends compute the same.

    How the request or its reply is coded is no part of it, so that a retry with another coder is
    the same request. Tokens that do not travel count as code 0.
    """
    digest = hashlib.sha256(bytes([request.task]))
    digest.update(pack_parameters(result_parameters(request)))
    digest.update(canonical(request.text.ids))
    if request.image is not None:
        left_out = request.left_out
        codes = request.image.codes
        digest.update(canonical(codes if left_out is None else np.where(left_out, 0, codes)))
    for flags in (request.mask, request.dropped):
        digest.update(canonical(np.zeros((0, 0), dtype=bool) if flags is None else flags.flags))
    return digest.digest()
