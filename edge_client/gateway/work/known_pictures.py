"""Pictures that went through the gateway: their tokens, who has them, and those it made.

It does not know requests. A picture is known by its bytes, or by its pixels where a program saved
it anew; so a second question about it sends words only, and a picture that was made here keeps the
very tokens that it was made of.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from edge_client.gateway.work.session_pool import Seat
from edge_client.pictures.geometry import Geometry
from edge_client.pictures.sources import open_content
from edge_client.session.picture import Picture
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.tokens import ImageTokens

MOST_KNOWN = 512
MOST_ROUNDS = 128
MOST_BYTES = 256 * 2**20
"""Of pictures that were made and can be asked for again."""
_STRIP = 512


@dataclass
class Known:
    """A picture whose tokens are known.

    Args:
        tokens: it.
        geometry: of the picture to its tokens.
        warnings: what was told when it was opened.
        seat: the session that has it; None = nobody any more.
    """

    tokens: ImageTokens
    geometry: Geometry
    warnings: tuple[str, ...] = ()
    seat: Seat | None = None


@dataclass(frozen=True)
class Round:
    """A picture that was made here.

    Args:
        name: under which it can be asked for.
        data: its file.
        kind: "png", "jpeg" or "webp".
        told: what the list of rounds says of it.
    """

    name: str
    data: bytes = field(repr=False)
    kind: str
    told: dict[str, Any]


class KnownPictures:
    """Keeps them, the last used ones; safe to use from several threads.

    Args:
        bundle: whose tokens they are.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._rounds: OrderedDict[str, Round] = OrderedDict()
        self._of_digest: dict[str, str] = {}
        self._talks: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def seat_of(self, data: bytes, fit: str = "crop") -> Seat | None:
        """The session that has a picture already."""
        with self._lock:
            found = self._known.get(_key(_digest(data), fit))
        return None if found is None else found.seat

    def open(self, seat: Seat, data: bytes, fit: str = "crop") -> Picture:
        """A picture in a session, with the tokens that are known of it.

        Raises:
            ImageError: not a readable picture.
        """
        source = open_content(data, "the picture", self._bundle)
        keys = [_key(_digest(data), fit)]
        if source.photo is not None and not source.photo.reduced:
            keys.append(_key(_pixel_digest(source.photo.image), fit))
        known = self._find(keys)
        if known is None:
            picture = seat.session.take(source, fit)
            assert picture.source.geometry is not None, "an opened picture has one"
            known = Known(picture.tokens, picture.source.geometry, picture.warnings)
        else:
            source = replace(source, tokens=known.tokens, geometry=known.geometry)
            picture = Picture(seat.session, known.tokens, source, source.name, known.warnings)
        self._put(keys, replace(known, seat=seat))
        return picture

    def seen(self, seat: Seat, picture: Picture, data: bytes) -> None:
        """Note a picture that was made, by the file that leaves the gateway."""
        photo = open_content(data, picture.name, self._bundle)
        assert picture.source.geometry is not None, "what a model made has one"
        geometry = stretched(picture.source.geometry, photo.size)
        known = Known(picture.tokens, geometry, (), seat)
        keys = [_key(_digest(data), "crop")]
        assert photo.photo is not None, "what was saved is a picture"
        keys.append(_key(_pixel_digest(photo.photo.image), "crop"))
        self._put(keys, known)

    # Rounds --------------------------------------------------------------------------------------

    def keep(self, data: bytes, kind: str, told: dict[str, Any], before: bytes | None) -> Round:
        """Keep a picture that was made, so that it can be asked for by name."""
        name = f"img_{secrets.token_hex(16)}"
        source = None if before is None else self._of_digest.get(_digest(before))
        about = {"id": name, "created_at": int(time.time()), "before": source, **told}
        made = Round(name, data, kind, about)
        with self._lock:
            self._rounds[name] = made
            self._of_digest[_digest(data)] = name
            while self._too_many():
                _, gone = self._rounds.popitem(last=False)
                self._of_digest.pop(_digest(gone.data), None)
        return made

    def round(self, name: str) -> Round | None:
        """A picture that was made; None for one that is not kept."""
        with self._lock:
            return self._rounds.get(name)

    def rounds(self) -> list[Round]:
        """All that are kept, the oldest first."""
        with self._lock:
            return list(self._rounds.values())

    # Talks ---------------------------------------------------------------------------------------

    def remember_talk(self, key: str, picture: bytes) -> None:
        """Note which picture a chat was about, by what was said in it."""
        with self._lock:
            self._talks[key] = picture
            self._talks.move_to_end(key)
            while len(self._talks) > MOST_ROUNDS or (
                len(self._talks) > 1 and sum(map(len, self._talks.values())) > MOST_BYTES
            ):
                self._talks.popitem(last=False)

    def picture_of_talk(self, key: str) -> bytes | None:
        """The picture that a chat was about."""
        with self._lock:
            return self._talks.get(key)

    # ---------------------------------------------------------------------------------------------

    def _too_many(self) -> bool:
        size = sum(len(each.data) for each in self._rounds.values())
        return len(self._rounds) > MOST_ROUNDS or (size > MOST_BYTES and len(self._rounds) > 1)

    def _find(self, keys: list[str]) -> Known | None:
        with self._lock:
            return next((self._known[key] for key in keys if key in self._known), None)

    def _put(self, keys: list[str], known: Known) -> None:
        with self._lock:
            for key in keys:
                self._known[key] = known
                self._known.move_to_end(key)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)


def stretched(geometry: Geometry, size: tuple[int, int]) -> Geometry:
    """The geometry of the same picture after it was resized, to another shape even."""
    if size == geometry.source:
        return geometry
    if geometry.seen.area >= 0.999 * geometry.source[0] * geometry.source[1]:
        return Geometry(size, geometry.target, geometry.fit.STRETCH)
    return geometry.of_size(size)


def _key(digest: str, fit: str) -> str:
    return f"{fit} {digest}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _pixel_digest(image: Image.Image) -> str:
    """Of size and colours; an opaque picture has the same with and without an alpha channel."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    found = hashlib.sha256(f"{image.mode} {image.size}".encode())
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(image.height, top + _STRIP)))
        found.update(np.asarray(strip).tobytes())
    return found.hexdigest()
