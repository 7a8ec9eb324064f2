"""Bundles whose files claim what no file should: sizes, depths, kinds of files.

As a program, it opens everything of the bundles in the folders that it is given, and prints as JSON
what each ended in and how much memory all of them took.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
from peak_memory import peak_mib

BUILTIN = Path(__file__).parents[2] / "shared_protocol" / "weights" / "builtin"
TEXT, PRIOR, MASKS = "text_tokenizer.json", "text_prior.msgpack", "mask_prior.msgpack"
IMAGES, ENTROPY, WORLD = "image_tokenizer.safetensors", "entropy.safetensors", "world.json"


def safe_file(header: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, which may lie about its length."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def with_header(name: str, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The built-in file with another header."""
    data = (BUILTIN / name).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    change(header)
    return safe_file(header, data[end:])


def with_prior(**changes: Any) -> bytes:
    """The built-in text prior with some rows of it changed, those of its first table, too."""
    content = msgpack.unpackb((BUILTIN / PRIOR).read_bytes())
    for name, value in changes.items():
        (content if name in content else content["tables"][0])[name] = value
    packed: bytes = msgpack.packb(content)
    return packed


def with_tokenizer(**changes: Any) -> bytes:
    """The built-in text tokenizer with some of it changed."""
    content = json.loads((BUILTIN / TEXT).read_bytes())
    return json.dumps({**content, **changes}).encode()


def brotli_bomb(size: int = 1 << 30) -> bytes:
    """A small stream of so many zeros."""
    import brotli

    packer = brotli.Compressor(quality=5)
    block, packed = bytes(1 << 24), []
    for _ in range(size >> 24):
        packed.append(packer.process(block))
    return b"".join([*packed, packer.finish()])


def row(*values: int) -> bytes:
    """A row of a text prior."""
    import brotli

    planes = bytearray(8 * len(values))
    for index, value in enumerate(values):
        for byte, part in enumerate(value.to_bytes(8, "little")):
            planes[byte * len(values) + index] = part
    packed: bytes = brotli.compress(bytes(planes))
    return packed


def _config(name: str, **changes: Any) -> bytes:
    def change(header: dict[str, Any]) -> None:
        told = header["__metadata__"]
        told["config"] = json.dumps({**json.loads(told["config"]), **changes})

    return with_header(name, change)


def _raw_config(name: str, text: str) -> bytes:
    return with_header(name, lambda header: header["__metadata__"].update(config=text))


def _first(header: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(value for name, value in header.items() if name[0] != "_")
    return found


def hostile_files() -> dict[str, tuple[str, bytes]]:
    """What is wrong, to the file and its content."""
    half = {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * (1 << 20)}
    model = json.loads((BUILTIN / TEXT).read_bytes())["model"]
    long = {**model["vocab"], "x" * 5_000_000: 5_000}
    many = b"\xdd\xff\xff\xff\xff"
    return {
        "a row of a gigabyte": (PRIOR, with_prior(base=brotli_bomb())),
        "a table's row of a gigabyte": (PRIOR, with_prior(masses=brotli_bomb())),
        "a row that is no Brotli": (PRIOR, with_prior(keys=b"\xff" * 50)),
        "a frequency of 2^64-1": (PRIOR, with_prior(base=row(*[1] * 4095, 2**64 - 1))),
        "a level of 2^64-1": (PRIOR, with_prior(levels=[2**64 - 1])),
        "counts beyond the rows": (PRIOR, with_prior(counts=row(*[2**39] * 3839))),
        "an end beyond the ids": (PRIOR, with_prior(end=2**63)),
        "a prior of another size": (PRIOR, with_prior(base=row(*[1] * 5), tables=[])),
        "tables without end": (PRIOR, with_prior(tables=[{}] * 60_000)),
        "arrays that claim 2^32 items": (PRIOR, b"\x81\xa4base" + many * 500),
        "nested arrays": (PRIOR, b"\x91" * 1_000_000),
        "a prior that is a number": (PRIOR, b"\x07"),
        "mask counts of 2^64-1": (MASKS, msgpack.packb({"ones": [2**64 - 1], "totals": [1]})),
        "a mask prior of arrays": (MASKS, many * 10_000),
        "a mask prior of nothing": (MASKS, b"\xc0"),
        "channels of a billion": (IMAGES, _config(IMAGES, encoder_channels=[10**9] * 3)),
        "blocks of a billion": (IMAGES, _config(IMAGES, encoder_blocks=[10**9] * 3)),
        "bits of a billion": (IMAGES, _config(IMAGES, bits=10**9)),
        "levels without end": (IMAGES, _config(IMAGES, encoder_channels=[1] * 10**5)),
        "a config of text": (IMAGES, _config(IMAGES, bits="thirteen")),
        "a nested config": (IMAGES, _raw_config(IMAGES, "[" * 100_000)),
        "an infinite config": (ENTROPY, _raw_config(ENTROPY, '{"width": 1e999}')),
        "an entropy model as wide as a billion": (ENTROPY, _config(ENTROPY, width=10**9)),
        "an entropy model of many layers": (ENTROPY, _config(ENTROPY, layers=10**12)),
        "a number of 4,000 digits": (ENTROPY, _raw_config(ENTROPY, f'{{"width": {"9" * 4000}}}')),
        "a header of 2^63 bytes": (IMAGES, safe_file({}, length=2**63)),
        "a header of 90 MB": (ENTROPY, safe_file({"x": "y" * 90_000_000})),
        "a nested header": (ENTROPY, struct.pack("<Q", 200_000) + b"[" * 200_000),
        "a shape beyond the file": (
            IMAGES, with_header(IMAGES, lambda h: _first(h).update(shape=[2**40, 2**40]))),
        "a shape of nothing": (
            IMAGES, with_header(IMAGES, lambda h: _first(h).update(shape=[0, 2**60]))),
        "a negative offset": (
            IMAGES, with_header(IMAGES, lambda h: _first(h).update(data_offsets=[-8, 8]))),
        "an unknown type": (IMAGES, with_header(IMAGES, lambda h: _first(h).update(dtype="Q9"))),
        "a header that is a list": (ENTROPY, struct.pack("<Q", 2) + b"[]"),
        "replaces a letter by a megabyte": (TEXT, with_tokenizer(normalizer=half)),
        "an id of five megabytes": (TEXT, with_tokenizer(model={**model, "vocab": long})),
        "another kind of tokenizer": (TEXT, with_tokenizer(model={"type": "WordLevel"})),
        "merges of nothing": (TEXT, with_tokenizer(model={**model, "merges": [["q", "\u0001"]]})),
        "a nested tokenizer": (TEXT, b"[" * 100_000),
        "a tokenizer of 90 MB": (TEXT, b'{"a": "' + b"b" * 90_000_000 + b'"}'),
        "a tokenizer that is no text": (TEXT, b"\xff\xfe\x00"),
        "words that are numbers": (WORLD, b'{"words": [1], "phrases": {}}'),
        "nested words": (WORLD, b'{"words": ' + b"[" * 500_000),
    }  # fmt: skip


def make_bundle(folder: Path, file: str = "", content: bytes = b"") -> Path:
    """The built-in bundle with one file of another content, its digest right."""
    folder.mkdir()
    manifest = json.loads((BUILTIN / "bundle.json").read_bytes())
    for name in (TEXT, PRIOR, MASKS, IMAGES, ENTROPY, WORLD):
        (folder / name).symlink_to(BUILTIN / name)
    if file:
        (folder / file).unlink()
        (folder / file).write_bytes(content)
        digests = manifest["sha256"] if file in manifest["sha256"] else manifest["typing"]
        digest = hashlib.sha256(content).hexdigest()
        digests[file if file in manifest["sha256"] else "sha256"] = digest
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def open_all(folder: Path) -> None:
    """Use every file of a bundle."""
    import numpy as np

    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.compute import Compute
    from shared_protocol.tokens import ImageTokens

    bundle = load_bundle(str(folder), Compute.NUMPY)
    words = bundle.text_tokenizer.encode("a fox on a beach")
    bundle.text_tokenizer.decode(words)
    assert bundle.known_words is not None
    assert bundle.text_prior is not None
    bundle.text_prior.frequencies(words.ids.tolist())
    assert bundle.mask_prior is not None
    bundle.entropy.warm_up()
    tokens = ImageTokens(np.zeros((1, 1), np.int32), bundle.vocabulary.codebook_size)
    bundle.image_tokenizer().detokenize(tokens)


def main(folders: list[Path]) -> None:
    """Open the bundles, and print what came of it."""
    from shared_protocol.errors import UnimicError

    told = {}
    for folder in folders:
        try:
            open_all(folder)
            told[folder.name] = "opened"
        except UnimicError as error:
            told[folder.name] = f"{type(error).__name__}: {error}"
        except BaseException as error:
            told[folder.name] = f"!! {type(error).__name__}: {error}"
        shutil.rmtree(folder)
    peak = peak_mib()
    print(json.dumps({"peak": peak, "told": told, "pid": os.getpid()}))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
