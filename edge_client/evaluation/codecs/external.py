"""A codec that is a program of the user's: one command codes a picture, another decodes it.

It stands for codecs that no package brings, such as MS-ILLM or DiffEIC. Commands are words, run
without a shell; {in} and {out} are file names, {rate} is one of the codec's rates, which may be
words ("msillm_quality_1"). Pictures are PNG files, RGB. Nothing of a payload counts as header.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shared_protocol.errors import BadMessageError, ConfigError
from shared_protocol.tokenizers.image import Pixels

TIMEOUT = 900.0
"""Seconds for one picture."""


class ExternalCodec:
    """A pixel codec; its settings are the places of its rates.

    Args:
        name: lower case, for tables.
        encoder: command with {in}, a PNG, {out}, the payload, and {rate}.
        decoder: command with {in}, the payload, and {out}, a PNG; {rate} is not known there.
        rates: what stands for {rate}, from the coarsest to the finest.

    Raises:
        ConfigError: a template lacks a name, or has one that there is not.
    """

    def __init__(self, name: str, encoder: str, decoder: str, rates: Sequence[str]) -> None:
        self._name = name
        self._rates = tuple(rates)
        self._encoder = template(
            encoder, ("in", "out", "rate") if len(rates) > 1 else ("in", "out")
        )
        self._decoder = template(decoder, ("in", "out"))
        if not name or not rates or not all(rates):
            raise ConfigError("an external codec needs a name and a rate", "see --external")

    @property
    def name(self) -> str:
        return self._name

    @property
    def settings(self) -> Sequence[float]:
        return tuple(range(len(self._rates)))

    def place(self, rate: str) -> float | None:
        """The setting that a rate has, if it is one of this codec's."""
        return float(self._rates.index(rate)) if rate in self._rates else None

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, coded = Path(folder) / "in.png", Path(folder) / "out.bin"
            Image.fromarray(pixels).save(source)
            rate = self._rates[int(setting)]
            failure = run_template(self._encoder, {"in": source, "out": coded, "rate": rate})
            if failure or not coded.is_file():
                raise ConfigError(
                    f"{self._name} coded no picture: {failure or 'it wrote no {out}'}",
                    "try its command by hand",
                )
            return coded.read_bytes()

    def decode(self, payload: bytes) -> Pixels:
        with tempfile.TemporaryDirectory() as folder:
            coded, target = Path(folder) / "in.bin", Path(folder) / "out.png"
            coded.write_bytes(payload)
            failure = run_template(self._decoder, {"in": coded, "out": target, "rate": ""})
            try:
                if failure:
                    raise OSError(failure)
                with Image.open(target) as image:
                    return np.array(image.convert("RGB"), dtype=np.uint8)
            except (OSError, SyntaxError, ValueError) as error:
                raise BadMessageError(
                    f"{len(payload)} bytes are no {self._name}: {error}"
                ) from error

    def header_bytes(self, payload: bytes) -> int:
        return 0


def template(command: str, needed: Sequence[str]) -> list[str]:
    """The words of a command.

    Raises:
        ConfigError: it is no command, or lacks one of the names that are needed.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{command!r} is no command: {error}", "close its quotes") from error
    lacking = [name for name in needed if not any("{" + name + "}" in word for word in words)]
    if lacking or not words:
        listed = ", ".join("{" + name + "}" for name in lacking)
        raise ConfigError(f"the command {command!r} lacks {listed or 'a program'}", "write it in")
    return words


def run_template(
    words: Sequence[str], values: Mapping[str, object], timeout: float = TIMEOUT
) -> str | None:
    """Run a command; None where it ended well, else why it did not."""
    filled = list(words)
    for name, value in values.items():
        filled = [word.replace("{" + name + "}", str(value)) for word in filled]
    try:
        done = subprocess.run(filled, capture_output=True, timeout=timeout, check=False)
    except OSError as error:
        return f"{filled[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{filled[0]} took more than {timeout:g} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{filled[0]} ended with {done.returncode}"
