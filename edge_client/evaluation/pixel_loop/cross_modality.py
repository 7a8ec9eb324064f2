"""The four modes of CMC-Bench (cross-modality compression) on a token server.

It does not know scores or tables. A sender turns a picture into a few bytes; a receiver makes a
picture of them by letting the server generate a share of the tokens, the mode's strength.

| mode | text | picture | strength |
| --- | --- | --- | ---: |
| text | caption | none | 1.0 |
| pixel | caption | the mean of each 64x64 block, 3 bytes | 0.8 |
| image | none | a pixel codec near 1:1,000 | 0.5 |
| full | caption | the same | 0.5 |

The caption is the server's own answer to "describe the picture". Diffusion models, which the paper
uses, start from a noisy picture; here the receiver tokenises what arrived, masks a share of the
tokens chosen at random and has them repainted ("inpaint"). With strength 1 nothing is left to
start from, which is "t2i".
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from edge_client.client import EdgeBundle
from edge_client.evaluation.codecs import PixelCodec, find_codec, match_rate
from edge_client.evaluation.codecs.base import resized
from edge_client.evaluation.exchanges import exchange
from edge_client.evaluation.pixel_loop.message import pack_answer, unpack_answer
from edge_client.transport.base import Transport
from shared_protocol.errors import BadMessageError, ImageError, InternalError
from shared_protocol.message.picture_file import read_picture, write_picture
from shared_protocol.messages import Options, Request, Response
from shared_protocol.tasks import Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask

BLOCK = 64
QUESTION = "describe the picture"
WORDLESS = "a picture"
"""The caption of a picture that the server has no words for, as text to image needs some."""
RATIO = 1000
"""Compression against 24 bits a pixel that the pixel codec is set to."""
STRENGTHS = {"text": 1.0, "pixel": 0.8, "image": 0.5, "full": 0.5}
CODEC_ALONE = "codec alone"
TOKENS = "tokens"
MODES = (*STRENGTHS, CODEC_ALONE, TOKENS)
"""The four, and the same codec and the tokens themselves without generation, to compare with."""


@dataclass(frozen=True)
class Representation:
    """What travels.

    Args:
        mode: one of `MODES`.
        text: coded caption; empty without one.
        picture: coded picture; empty without one.
        codec: name of what coded the picture, where that is a pixel codec; agreed beforehand.
        header_bytes: of the picture, what could be agreed beforehand, too.
        seconds: that making it took.
    """

    mode: str
    text: bytes
    picture: bytes
    codec: str = ""
    header_bytes: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """Bytes without what could be agreed beforehand."""
        return len(self.text) + len(self.picture) - self.header_bytes


class CrossModality:
    """Sender and receiver.

    Args:
        bundle: of both, and of the server.
        transport: to the server.
        codec: for the modes with a coded picture.
        options: of every generation.
    """

    def __init__(
        self, bundle: EdgeBundle, transport: Transport, codec: PixelCodec, options: Options
    ) -> None:
        self._bundle = bundle
        self._transport = transport
        self._codec = codec
        self._options = options
        self._tokenizer = bundle.image_tokenizer()

    def compress(self, pixels: Pixels, mode: str) -> Representation:
        """The bytes that stand for (H, W, 3) uint8 in a mode.

        Raises:
            ImageError: the mode takes blocks, and the sides are no multiples of them.
            UnimicError: the server did not describe the picture.
        """
        start = time.perf_counter()
        text = b""
        if mode in ("text", "pixel", "full"):
            text = pack_answer(self._caption(pixels), self._bundle)
        picture, codec, header = self._coded(pixels, mode)
        return Representation(mode, text, picture, codec, header, time.perf_counter() - start)

    def _coded(self, pixels: Pixels, mode: str) -> tuple[bytes, str, int]:
        """Bytes of the picture, name of the codec and bytes of its header."""
        if mode == "text":
            return b"", "", 0
        if mode == "pixel":
            return block_means(pixels).tobytes(), "", 0
        if mode == TOKENS:
            return write_picture(self._tokenizer.tokenize(pixels), self._bundle), "", 0
        coded = match_rate(self._codec, pixels, pixels.size / RATIO, shrink=True).coded
        return coded.payload, coded.codec.name, coded.header_bytes

    def _caption(self, pixels: Pixels) -> TextTokens:
        question = self._bundle.text_tokenizer.encode(QUESTION)
        request = Request(
            Task.VQA, question, self._tokenizer.tokenize(pixels), options=self._options
        )
        answer = self._answer(request).text
        if answer is None or len(answer) == 0:
            return self._bundle.text_tokenizer.encode(WORDLESS)
        return TextTokens(answer.ids[: self._bundle.max_text_tokens], answer.vocabulary_size)

    def restore(self, sent: Representation, height: int, width: int) -> Pixels:
        """The picture that a receiver makes of the bytes.

        Args:
            sent: what arrived.
            height, width: of the picture in pixels, agreed beforehand.

        Raises:
            UnimicError: the bytes are broken, or the server did not generate.
        """
        text = unpack_answer(sent.text, self._bundle) if sent.text else self._no_text()
        base = self._base(sent, height, width)
        if sent.mode == TOKENS:
            return self._tokenizer.detokenize(read_picture(sent.picture, self._bundle).image)
        if sent.mode == CODEC_ALONE:
            assert base is not None, "this mode sends a picture"
            return base
        if base is None:
            request = Request(Task.T2I, text, options=self._options)
        else:
            tokens = self._tokenizer.tokenize(base)
            mask = remasked(tokens, STRENGTHS[sent.mode], self._options.seed)
            request = Request(Task.INPAINT, text, tokens, mask, options=self._options)
        image = self._answer(request).image
        if image is None:
            raise InternalError("a generation answered without a picture")
        return self._tokenizer.detokenize(image)

    def _base(self, sent: Representation, height: int, width: int) -> Pixels | None:
        """What the receiver starts from, at full size."""
        if sent.codec:
            return find_codec(sent.codec).decode(sent.picture)
        if sent.mode == "pixel":
            return resized(_blocks_of(sent.picture, height, width), height, width)
        return None

    def _no_text(self) -> TextTokens:
        return TextTokens(np.zeros(0, dtype=np.int32), self._bundle.vocabulary.text_size)

    def _answer(self, request: Request) -> Response:
        return exchange(self._bundle, self._transport, request).response


def block_means(pixels: Pixels) -> Pixels:
    """(H, W, 3) uint8 -> (H/64, W/64, 3) uint8, rounded means of the blocks.

    Raises:
        ImageError: the sides are no multiples of 64.
    """
    height, width = pixels.shape[:2]
    if height % BLOCK or width % BLOCK:
        raise ImageError(
            f"a {height}x{width} picture has no whole {BLOCK}x{BLOCK} blocks",
            "give sides that are multiples of it",
        )
    blocks = pixels.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    means: Pixels = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return means


def _blocks_of(data: bytes, height: int, width: int) -> Pixels:
    shape = height // BLOCK, width // BLOCK, 3
    if len(data) != int(np.prod(shape)):
        raise BadMessageError(f"{len(data)} bytes are no means of {shape[0]}x{shape[1]} blocks")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def remasked(tokens: ImageTokens, strength: float, seed: int) -> TokenMask:
    """A share of the positions of `tokens`, chosen at random by `seed`.

    >>> grid = ImageTokens(np.zeros((4, 4), dtype=np.int32), 8)
    >>> remasked(grid, 0.5, 1).count
    8
    """
    count = max(1, round(strength * tokens.codes.size))
    chosen = np.random.default_rng(seed).permutation(tokens.codes.size)[:count]
    flags = np.zeros(tokens.codes.size, dtype=bool)
    flags[chosen] = True
    return TokenMask(flags.reshape(tokens.shape))
