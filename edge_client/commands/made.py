"""How a result was made, in words that its file carries, and the way back from them.

It does not run commands, and never writes keys, servers or folders.
"""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_protocol.errors import ImageError, InvalidInputError, printable

if TYPE_CHECKING:
    from edge_client.commands.tasks import Item

KEYS = ("Software", "prompt", "negative", "seed", "bundle", "command", "inputs", "bytes")
"""Text chunks of a PNG, and metadata of a `.umic` file, in this order."""
_VALUES = (
    "mask_threshold",
    "mask_drawn_on",
    "margin",
    "edge",
    "fit",
    "keep_ratio",
    "target_bytes",
    "drop_order",
    "left",
    "right",
    "up",
    "down",
    "to",
    "steps",
    "guidance",
    "mend",
    "size",
    "format",
)
"""Options that change a result, by the name of their value."""
_SWITCHES = ("invert_mask", "around", "native")
_REPEATED = ("box", "ellipse", "polygon")
_DEFAULTS = {"mask_threshold": 128, "mask_drawn_on": "auto", "drop_order": "even", "left": "0",
             "right": "0", "up": "0", "down": "0"}  # fmt: skip
_MAX_TEXT = 16_384


def made(
    given: Namespace, item: Item, fingerprint: bytes, report: Mapping[str, Any]
) -> dict[str, str]:
    """What the result's file says: prompt, seed, bundle, command and bytes.

    Files are named without their folders; their digests tell whether another is the same.
    """
    from edge_client.arguments import version

    sizes = [report[way]["bytes"]["total"] for way in ("uplink", "downlink")]
    told = {
        "Software": f"UniMIC {version()}",
        "prompt": given.prompt[:_MAX_TEXT],
        "negative": given.negative[:_MAX_TEXT],
        "seed": str(item.seed),
        "bundle": fingerprint.hex(),
        "bytes": f"{sizes[0]} up, {sizes[1]} down",
    }
    files = [path for path in (item.image, *item.masks) if path is not None]
    if Path("-") not in files:
        told["command"] = shlex.join(_words(given, item))
        told["inputs"] = json.dumps({path.name: _digest(path) for path in files})
    return {key: told[key] for key in KEYS if key in told and told[key] != ""}


def _words(given: Namespace, item: Item) -> list[str]:
    words = ["edge-client", given.command, "--seed", str(item.seed)]
    for name in _VALUES:
        value = getattr(given, name, None)
        if value is not None and value != _DEFAULTS.get(name):
            words.append(f"--{name.replace('_', '-')}={value}")
    words += [f"--negative={given.negative}"] if given.negative else []
    words += [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(given, name, False)]
    for name in _REPEATED:
        words += [f"--{name}={value}" for value in getattr(given, name, [])]
    words += [f"--mask={path.name}" for path in item.masks]
    names = [item.image.name] if item.image is not None else []
    return [*words, "--", *names, given.prompt]


def told_by(path: Path) -> dict[str, str]:
    """What a result's file, or the `.umic` file beside it, says of how it was made.

    Raises:
        ImageError: it says nothing.
    """
    from edge_client.pictures.carried_tokens import beside

    found = _text_of(path)
    if "command" not in found and beside(path) != path and beside(path).is_file():
        found = _text_of(beside(path))
    if "command" not in found:
        raise ImageError(
            f"{path.name} does not say how it was made",
            "only results that were written without --no-metadata, of files and not of standard "
            "input, can be made again",
        )
    return {key: printable(found[key], _MAX_TEXT) for key in KEYS if key in found}


def _text_of(path: Path) -> dict[str, str]:
    from edge_client.pictures.opening import open_photo
    from shared_protocol.errors import BadMessageError
    from shared_protocol.message.picture_file import MAGIC, MAX_FILE, inspect_picture

    if not path.is_file():
        raise ImageError(f"there is no file {path}", "check the path")
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if data.startswith(MAGIC):
        try:
            return {str(key): str(value) for key, value in inspect_picture(data)[1].items()}
        except BadMessageError as error:
            raise ImageError(f"{path.name} is damaged: {error.message}") from error
    image = open_photo(path).image
    return {str(key): value for key, value in image.info.items() if isinstance(value, str)}


def parsed(told: Mapping[str, str]) -> Namespace:
    """The command that a file tells, as `arguments.parse` gives it.

    Raises:
        InvalidInputError: it is none that makes a picture.
    """
    from edge_client.arguments import parse
    from shared_protocol.errors import ConfigError

    try:
        words = shlex.split(told["command"])
        if words[:1] != ["edge-client"] or words[1:2] not in (["t2i"], ["inpaint"], ["outpaint"]):
            raise ConfigError(f"the file tells the command {printable(told['command'], 80)}")
        return parse(words[1:])
    except (ConfigError, ValueError, SystemExit) as error:
        raise InvalidInputError(
            f"what the file says of how it was made cannot be followed: {error}",
            "it was written by another version, or by another program",
        ) from error


def find_inputs(
    given: Namespace,
    told: Mapping[str, str],
    folders: Iterable[Path],
    named: Mapping[str, Path | None],
) -> None:
    """Set the picture and the masks of a told command to files with the same content.

    Args:
        given: of `parsed`; changed.
        told: of `told_by`.
        folders: where to look.
        named: "image" and "mask" to files that the user names instead.

    Raises:
        ImageError: a file is missing, or is another one.
    """
    try:
        digests = json.loads(told.get("inputs", "{}"))
        assert isinstance(digests, dict)
    except (ValueError, AssertionError):
        digests = {}
    places = list(folders)
    if getattr(given, "image", None) is not None:
        given.image = _found(given.image.name, digests, places, named.get("image"), "--image")
    if getattr(given, "mask", None):
        given.mask = [
            _found(path.name, digests, places, named.get("mask"), "--mask") for path in given.mask
        ]


def _found(
    name: str, digests: Mapping[str, str], folders: list[Path], named: Path | None, flag: str
) -> Path:
    wanted = str(digests.get(name, ""))
    candidates = [named] if named is not None else [folder / name for folder in folders]
    there = [path for path in candidates if path.is_file()]
    for path in there:
        if _digest(path) == wanted:
            return path
    if there:
        raise ImageError(
            f"{there[0]} is not the {printable(name, 80)} that the result was made from",
            f"name that with {flag}",
        )
    raise ImageError(
        f"the result was made from {printable(name, 80)}, which is not here", f"name it with {flag}"
    )


def _digest(path: Path) -> str:
    from edge_client.pictures.carried_tokens import file_digest

    return file_digest(path)
