"""What people write: configuration files, keys, addresses, shapes and prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cloud_server.keys import Keyring, read_keys
from edge_client.addresses import checked_server
from edge_client.config import load_settings, seconds_of
from edge_client.pictures.mask_files import draw_shapes, parse_shape
from shared_protocol.errors import ConfigError, MaskError, printable
from shared_protocol.words.known import KnownWords
from shared_protocol.words.plain import MOST_CHARACTERS, plain_prompt, plain_question
from targets.target import TYPED, Read, Target, refused


def prepare_config(folder: Path) -> Read:
    """The device's config file."""
    path = folder / "config.toml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        settings = load_settings({}, {}, path)
        assert checked_server(settings.server) == settings.server
        assert 0 < settings.timeout <= 86_400

    return read


def prepare_keys(folder: Path) -> Read:
    """The server's file of keys."""
    path = folder / "keys"
    path.touch(mode=0o600)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        keys = read_keys(path)
        ring = Keyring(None, path)
        for name, key in keys.items():
            assert ring.owner(f"Bearer {key}") == name

    return read


def read_words(data: bytes) -> None:
    """The first byte says what is typed."""
    text = data[1:].decode("utf-8", "replace")
    known = KnownWords(("fox", "beach"), {"owl": "an owl"})
    if len(text) <= MOST_CHARACTERS:
        known.with_articles(plain_prompt(text))
        known.unknown(text)
        plain_question(text)
    shown = printable(text)
    assert shown.isprintable()
    ways: tuple[Callable[[], object], ...] = (
        lambda: checked_server(checked_server(text)),
        lambda: seconds_of(text),
        lambda: draw_shapes([parse_shape("box", text)], "photo", (100, 80)),
        lambda: draw_shapes([parse_shape("ellipse", text)], "photo", (100, 80)),
        lambda: draw_shapes([parse_shape("polygon", text)], "photo", (100, 80)),
    )
    error = refused(ways[(data or b"\0")[0] % len(ways)], (ConfigError, MaskError))
    if error is not None:
        raise error


TYPED_WORDS = (
    b"\0http://host:8400/",
    b"\0unix:///run/a.sock",
    b"\0exec:ssh host",
    b"\0tcp://[::1]:90",
    b"\x012m",
    b"\x0110,20,64,64",
    b"\x0210,20,64,64",
    b"\x0310,20,64,64",
    b"\x0410,20 30,40 50,20",
    "\0Two “Foxes” & an owl — on the beach…".encode(),
    b"\0Is there a fox, or isn't there?",
)
CONFIG = b"""server = "https://host"
timeout = "2m"
bundle = "builtin"
api_key = "abc"
compute = "numpy"
history_days = 9.5
"""
TARGETS = (
    Target(
        "config",
        prepare_config,
        lambda: [CONFIG, b"timeout = 5\n", b"[server]\n"],
        ("edge_client.config", "edge_client.addresses"),
        (ConfigError,),
        600,
        words=(b"nan", b"inf", b"1e309", b"'''", b"exec:", b"unix:", b"[[", b"= {"),
    ),
    Target(
        "keys",
        prepare_keys,
        lambda: [b"ann secret\nbob other # his\n", b"onlykey\n"],
        ("cloud_server.keys",),
        (ConfigError,),
        300,
    ),
    Target(
        "typed",
        lambda folder: read_words,
        lambda: TYPED_WORDS,
        (
            "edge_client.addresses",
            "edge_client.pictures.mask_files",
            "shared_protocol.words.plain",
            "shared_protocol.words.known",
        ),
        TYPED,
        400,
    ),
)
