"""Who describes pictures and who makes them in cross-modality compression: server or commands.

It does not know modes or rates. A command is words, run without a shell:

| kind | names in its template | what it does |
| --- | --- | --- |
| picture to text | {in}, and {out} or its output; {words} | writes a caption |
| text to picture | {text} {image} {strength} {seed} {out} | writes a PNG; {image} may be "" |

What a command takes is the user's machine's; the server's caption costs a picture's tokens up.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from edge_client.client import EdgeBundle
from edge_client.evaluation.codecs.external import TIMEOUT, run_template, template
from edge_client.evaluation.exchanges import exchange
from edge_client.transport.base import Transport
from shared_protocol.errors import ConfigError, InternalError, InvalidInputError
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask

QUESTION = "describe the picture"
WORDLESS = "a picture"
"""The caption of a picture that there are no words for, as text to image needs some."""
SERVER, FILE = "server", "captions"


@dataclass(frozen=True)
class Caption:
    """A description, and what it cost the sender to get it.

    Args:
        text: in words.
        up, down: bytes that the sender exchanged with the server for it; 0 for its own models.
    """

    text: str
    up: int = 0
    down: int = 0


class Captioner(Protocol):
    """Pictures to text."""

    def describe(self, pixels: Pixels, name: str, words: int) -> Caption:
        """What (H, W, 3) uint8 shows.

        Args:
            pixels: the picture.
            name: of its file.
            words: that are wanted at most; 0 = as many as it likes. It may give more.
        """


class Painter(Protocol):
    """Text, and maybe a picture to start from, to a picture."""

    def paint(
        self, text: str, base: Pixels | None, strength: float, size: tuple[int, int]
    ) -> Pixels:
        """(H, W, 3) uint8.

        Args:
            text: what to show; "" for whatever the picture shows.
            base: of `size`; None = nothing to start from.
            strength: share of the picture that is made anew.
            size: height and width.
        """


class Server:
    """Both, by the token server: answers to "describe the picture", and repainted tokens.

    Diffusion models, which the paper uses, start from a noisy picture; here a share of the tokens
    of what arrived is chosen at random and repainted. With strength 0 none is, and the picture is
    what its tokens show; without a picture it is text to image.

    Args:
        bundle: of both ends.
        transport: to the server.
        options: of every generation.
    """

    def __init__(self, bundle: EdgeBundle, transport: Transport, options: Options) -> None:
        self._bundle, self._transport, self._options = bundle, transport, options
        self._tokenizer = bundle.image_tokenizer()

    def describe(self, pixels: Pixels, name: str, words: int) -> Caption:
        question = self._bundle.text_tokenizer.encode(QUESTION)
        request = Request(
            Task.VQA, question, self._tokenizer.tokenize(pixels), options=self._options
        )
        done = exchange(self._bundle, self._transport, request)
        answer = done.response.text
        sizes = done.uplink.sizes.total, done.downlink.sizes.total
        if answer is None or len(answer) == 0:
            return Caption(WORDLESS, *sizes)
        return Caption(self._bundle.text_tokenizer.decode(answer).strip() or WORDLESS, *sizes)

    def paint(
        self, text: str, base: Pixels | None, strength: float, size: tuple[int, int]
    ) -> Pixels:
        words = self._words(text)
        if base is None:
            request = Request(Task.T2I, words, options=self._options)
        else:
            tokens = self._tokenizer.tokenize(base)
            if strength <= 0:
                return self._tokenizer.detokenize(tokens)
            mask = remasked(tokens, strength, self._options.seed)
            request = Request(Task.INPAINT, words, tokens, mask, options=self._options)
        image = exchange(self._bundle, self._transport, request).response.image
        if image is None:
            raise InternalError("a generation answered without a picture")
        return self._tokenizer.detokenize(image)

    def _words(self, text: str) -> TextTokens:
        if not text:
            return TextTokens(np.zeros(0, dtype=np.int32), self._bundle.vocabulary.text_size)
        return self._bundle.text_tokenizer.encode(text)


class CaptionCommand:
    """Pictures to text by a command.

    Args:
        command: its template.
        timeout: seconds for one picture.

    Raises:
        ConfigError: the template lacks {in}.
    """

    def __init__(self, command: str, timeout: float = TIMEOUT) -> None:
        self._words = template(command, ("in",))
        self._writes = any("{out}" in word for word in self._words)
        self._timeout = timeout

    def describe(self, pixels: Pixels, name: str, words: int) -> Caption:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / (Path(name).stem + ".png"), Path(folder) / "caption.txt"
            Image.fromarray(pixels).save(source)
            values = {"in": source, "out": target, "words": words or ""}
            if self._writes:
                failure = run_template(self._words, values, self._timeout)
                said = target.read_text(encoding="utf-8") if target.is_file() else ""
            else:
                failure, said = self._output(values)
        text = " ".join(said.split())
        if failure or not text:
            reason = failure or "it wrote nothing"
            raise ConfigError(f"{self._words[0]} described no picture: {reason}", "try it by hand")
        return Caption(text)

    def _output(self, values: Mapping[str, object]) -> tuple[str | None, str]:
        filled = list(self._words)
        for name, value in values.items():
            filled = [word.replace("{" + name + "}", str(value)) for word in filled]
        try:
            done = subprocess.run(filled, capture_output=True, timeout=self._timeout, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error), ""
        failed = f"it ended with {done.returncode}" if done.returncode else None
        return failed, done.stdout.decode(errors="replace")


class PaintCommand:
    """Text to pictures by a command.

    Args:
        command: its template.
        seed: of every picture.
        timeout: seconds for one picture.

    Raises:
        ConfigError: the template lacks {text} or {out}.
    """

    def __init__(self, command: str, seed: int = 0, timeout: float = TIMEOUT) -> None:
        self._words = template(command, ("text", "out"))
        self._seed, self._timeout = seed, timeout

    def paint(
        self, text: str, base: Pixels | None, strength: float, size: tuple[int, int]
    ) -> Pixels:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "start.png", Path(folder) / "made.png"
            if base is not None:
                Image.fromarray(base).save(source)
            values = {
                "image": source if base is not None else "",
                "strength": f"{strength:g}",
                "seed": self._seed,
                "out": target,
                "text": text,  # last, as it may hold braces of its own
            }
            failure = run_template(self._words, values, self._timeout)
            try:
                if failure:
                    raise OSError(failure)
                with Image.open(target) as image:
                    resized = image.convert("RGB").resize((size[1], size[0]))
                    return np.array(resized, dtype=np.uint8)
            except (OSError, SyntaxError, ValueError) as error:
                raise ConfigError(
                    f"{self._words[0]} made no picture: {error}", "try its command by hand"
                ) from error


class CaptionFile:
    """Captions that were written before.

    Args:
        path: a JSON object, or lines of name, tab and caption; names with or without folder.

    Raises:
        ConfigError: it cannot be read, or holds no caption.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = read_captions(path)
        try:
            pairs = json.loads(text) if path.suffix == ".json" else _lines(text)
            self._captions = {str(name): str(said).strip() for name, said in pairs.items()}
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"cannot read {path}: {error}", "write name<TAB>caption") from error
        if not self._captions:
            raise ConfigError(f"{path} holds no caption", "write name<TAB>caption, one a line")

    def describe(self, pixels: Pixels, name: str, words: int) -> Caption:
        for known in (name, Path(name).name, Path(name).stem):
            if self._captions.get(known):
                return Caption(self._captions[known])
        raise ConfigError(f"{self._path} has no caption of {name}", "add one")


def read_captions(path: Path) -> str:
    """The text of a file of captions.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "write name<TAB>caption") from error


def _lines(text: str) -> dict[str, str]:
    pairs = (line.partition("\t") for line in text.splitlines() if line.strip())
    found = {name.strip(): said for name, tab, said in pairs if tab}
    if not found and text.strip():
        raise ValueError("no line has a tab")
    return found


def cut(text: str, words: int) -> str:
    """The first so many words; all of them for 0.

    >>> cut("a fox  on a beach", 3), cut("a fox", 0)
    ('a fox on', 'a fox')
    """
    return " ".join(text.split()[: words or None])


def remasked(tokens: ImageTokens, strength: float, seed: int) -> TokenMask:
    """A share of the positions of `tokens`, at least one, chosen at random by `seed`.

    >>> grid = ImageTokens(np.zeros((4, 4), dtype=np.int32), 8)
    >>> remasked(grid, 0.5, 1).count
    8
    """
    if not 0 < strength <= 1:
        raise InvalidInputError(f"a strength of {strength:g}", "give one from 0 to 1")
    count = max(1, round(strength * tokens.codes.size))
    chosen = np.random.default_rng(seed).permutation(tokens.codes.size)[:count]
    flags = np.zeros(tokens.codes.size, dtype=bool)
    flags[chosen] = True
    return TokenMask(flags.reshape(tokens.shape))
