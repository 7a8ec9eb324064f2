"""Files of the device: `.umic`, the chunk that a PNG carries, conversations, names of labels."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import msgpack
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from toy_bundle import GOLDEN, LABELS, image

from edge_client.exchange.label_names import LabelNames
from edge_client.pictures.carried_tokens import CHUNK, chunk_of, find_chunk, tokens_with
from edge_client.session.history import StoredSession, StoredTurn, load, save
from shared_protocol.errors import BadMessageError, BundleMismatchError, UnimicError
from shared_protocol.labels import Ranking
from shared_protocol.message import picture_file
from shared_protocol.message.picture_file import (
    Coding,
    inspect_picture,
    read_picture,
    write_picture,
)
from targets.target import MESSAGE, TYPED, Read, Target, changed
from targets.toys import BUNDLE, SESSION

ERRORS = (*MESSAGE, BundleMismatchError)


def read_umic(data: bytes) -> None:
    """A file that is accepted is written again, and says the same; checksums are not believed."""
    with changed(picture_file, "_checksum", lambda *_: int.from_bytes(data[-4:], "big")):
        stored = read_picture(data, BUNDLE)
    anatomy, metadata = inspect_picture(data)
    assert (anatomy.grid, metadata) == (stored.image.shape, stored.metadata)
    assert anatomy.total == len(data)
    coding = Coding.SMALLEST if anatomy.entropy else Coding.DURABLE
    back = read_picture(write_picture(stored.image, BUNDLE, coding, metadata), BUNDLE)
    assert (back.image, back.metadata) == (stored.image, stored.metadata)


def _umics() -> Iterator[bytes]:
    for path in sorted((GOLDEN / "files").glob("*.hex")):
        yield bytes.fromhex(path.read_text())
    told = {"prompt": "a fox", "seed": 7, "boxes": [1, 2, 3], "notes": ["a", "b"]}
    for coding in Coding:
        yield write_picture(image(), BUNDLE, coding, told)
        yield write_picture(image(3, 2), BUNDLE, coding)


def prepare_carried(folder: Path) -> Read:
    """A PNG's bytes; what they carry is compared with a picture of one grey."""
    path, shown = folder / "carried.png", _grey()

    def read(data: bytes) -> None:
        chunk = find_chunk(BytesIO(data))
        path.write_bytes(data)
        stored = tokens_with(path, shown, BUNDLE)
        if stored is not None:
            assert chunk is not None
            assert chunk in data
            stored.image.codes.sum()

    return read


def _grey() -> Image.Image:
    return Image.new("RGB", (16, 16), (90, 90, 90))


def _carried() -> Iterator[bytes]:
    for carried in (True, False):
        about, file = PngInfo(), BytesIO()
        if carried:
            chunk = chunk_of(image(1, 1), _grey(), BUNDLE, {"prompt": "x"})
            about.add(CHUNK, chunk, after_idat=True)
        _grey().save(file, "PNG", pnginfo=about)
        yield file.getvalue()


def prepare_history(folder: Path) -> Read:
    """The file of a conversation; what is accepted is written and read again."""
    path = folder / "one.umichist"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        stored = load("one", folder)
        str(stored.summary)
        save(stored, folder)
        again = load("one", folder)
        assert (again.session, len(again.turns)) == (stored.session, len(stored.turns))

    return read


def _histories() -> Iterator[bytes]:
    from edge_client.session.history import _dump

    turn = StoredTurn("t2i", "a fox", None, 0, None, {"sent": 3.0})
    asked = StoredTurn("vqa", "what?", 0, None, "a fox", {})
    stored = StoredSession(
        "one",
        SESSION,
        "http://host",
        bytes(32),
        1.7e9,
        2,
        (("a", image(2, 2)), ("b", image(3, 1))),
        (turn, asked),
    )
    yield _dump(stored)
    yield _dump(StoredSession("one", SESSION, "http://host", bytes(32), 0.0))


def prepare_label_names(folder: Path) -> Read:
    """What is kept of the names of labels: whatever stands there, a reply is learnt all right."""
    path = folder / "one.labels"
    said = Ranking(LABELS, (7,), (50,), ("fox",))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        names = LabelNames(path)
        before = names.held
        names.learn(said)
        again = LabelNames(path)
        assert again.held == LABELS
        assert again.named(said) == names.named(said)
        if before is None:
            raise BadMessageError("no names are kept there")

    return read


def _label_names() -> Iterator[bytes]:
    content = {"version": 1, "fingerprint": LABELS.fingerprint, "count": LABELS.count}
    for names in ({3: "hat", 7: "cat"}, {0: "x" * 200}, {999: "\u65e5"}):
        packed: bytes = msgpack.packb({**content, "names": names})
        yield packed


TARGETS = (
    Target(
        "umic", lambda folder: read_umic, _umics, ("shared_protocol.message.picture_file",), ERRORS
    ),
    Target(
        "carried",
        prepare_carried,
        _carried,
        ("edge_client.pictures.carried_tokens",),
        (UnimicError,),
        1000,
        words=(CHUNK, b"IDAT", b"IEND", b"UMIC"),
    ),
    Target(
        "label_names",
        prepare_label_names,
        _label_names,
        ("edge_client.exchange.label_names",),
        MESSAGE,
        400,
    ),
    Target("history", prepare_history, _histories, ("edge_client.session.history",), TYPED, 1000),
)
