"""Pictures inside of requests: bytes of a form, base64, data URLs, addresses of our own, others.

It does not open pictures, and reaches the network only where that is allowed (see `fetching`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.requests.fields import shown

IMAGES_PATH = "/v1/images"
OWN_PICTURE = re.compile(rf"{IMAGES_PATH}/(img_[0-9a-f]{{32}})/content")
"""The part of an address that names a picture which this gateway made."""
_SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class PictureReader:
    """Brings what a request calls a picture to bytes.

    Args:
        made: from the name of a picture that was made here to its bytes; None = forgotten.
        fetch: gets what is at an address; None = that is not allowed.
    """

    made: Callable[[str], bytes | None]
    fetch: Callable[[str], bytes] | None = None

    def read(self, value: Any, param: str) -> bytes:
        """The bytes of a picture.

        Args:
            value: bytes, base64, a data URL, an address, or an object that holds one of them.
            param: the field, for messages.

        Raises:
            RefusedError: it is none of them, or an address that is not fetched.
        """
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            return self._read_object(value, param)
        if not isinstance(value, str) or not value.strip():
            raise _no_picture(param, f"{param} is no picture")
        text = value.strip()
        if text.startswith("data:"):
            return _of_data_url(text, param)
        own = OWN_PICTURE.search(text)
        if own is not None:
            return self.of_id(own[1], param)
        if text.lower().startswith(_SCHEMES):
            return self._fetched(text, param)
        if text.startswith(("img_", "ig_")):
            return self.of_id(text, param)
        return _of_base64(text, param)

    def of_id(self, name: str, param: str) -> bytes:
        """A picture that was made here."""
        found = self.made(name)
        if found is None:
            raise RefusedError(
                f"{param} names {shown(name)}, which is not kept any more: send the picture itself",
                param,
                "image_not_found",
            )
        return found

    def _read_object(self, value: dict[str, Any], param: str) -> bytes:
        for key in ("image_url", "url", "b64_json", "result", "data"):
            if value.get(key) is not None:
                return self.read(value[key], f"{param}.{key}")
        if value.get("file_id") is not None:
            return self.of_id(str(value["file_id"]), f"{param}.file_id")
        raise _no_picture(param, f"{param} is an object without image_url, b64_json or file_id")

    def _fetched(self, address: str, param: str) -> bytes:
        if self.fetch is None:
            raise RefusedError(
                f"{param} is the address {shown(address)}, and addresses are not fetched: send a "
                "data URL, or start the gateway with --allow-fetch",
                param,
                "fetch_not_allowed",
            )
        return self.fetch(address)


def _of_data_url(text: str, param: str) -> bytes:
    head, comma, content = text.partition(",")
    if not comma:
        raise _no_picture(param, f"{param} is a data URL without content")
    if head.lower().endswith(";base64"):
        return _of_base64(content, param)
    return unquote_to_bytes(content)


def _of_base64(text: str, param: str) -> bytes:
    packed = "".join(text.split()).translate({ord("-"): "+", ord("_"): "/"})
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _no_picture(param, f"{param} is no base64, data URL or file") from None


def _no_picture(param: str, why: str) -> RefusedError:
    return RefusedError(f"{why}: send a PNG, JPEG or WebP", param, "invalid_image_file")
