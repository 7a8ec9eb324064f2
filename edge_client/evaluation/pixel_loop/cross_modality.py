"""The four modes of CMC-Bench (cross-modality compression).

It does not know scores or tables. A sender turns a picture into a few bytes; a receiver makes a
picture of them, drawing a share of it anew, the mode's strength.

| mode | text | picture | strength |
| --- | --- | --- | ---: |
| text | caption | none | 1.0 |
| pixel | caption | the mean of each 64x64 block, in 10 bits | 0.8 |
| image | none | a pixel codec near 1:1,000, or at a QP | 0.5 |
| full | caption | the same | 0.5 |

Ten bits a block are 1:9,830, as much as a caption of the paper's 0.0024 bpp takes: with it the mode
comes to the paper's 1:5,000.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import brotli
import numpy as np

from edge_client.client import EdgeBundle
from edge_client.evaluation.codecs import PixelCodec, find_codec, fixed_rate, match_rate
from edge_client.evaluation.codecs.base import resized
from edge_client.evaluation.pixel_loop.cmc_models import SERVER, Captioner, Painter, cut, remasked
from edge_client.evaluation.pixel_loop.message import pack_answer, unpack_answer
from shared_protocol.coding.bits import pack_bits, unpack_bits
from shared_protocol.errors import BadMessageError, ImageError
from shared_protocol.message.picture_file import read_picture, write_picture
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import TextTokens

__all__ = ["MODES", "RATIO", "STRENGTHS", "CrossModality", "Plan", "block_means", "remasked"]

BLOCK = 64
LEVELS = (3, 4, 3)
"""Bits of red, green and blue of a block."""
RATIO = 1000
"""Compression against 24 bits a pixel that the pixel codec is set to."""
STRENGTHS = {"text": 1.0, "pixel": 0.8, "image": 0.5, "full": 0.5}
CODEC_ALONE = "codec alone"
TOKENS = "tokens"
MODES = (*STRENGTHS, CODEC_ALONE, TOKENS)
"""The four, and the same codec and the tokens themselves without generation, to compare with."""
SAID = ("text", "pixel", "full")
"""Modes with a caption."""
CODED = ("image", "full", CODEC_ALONE)
"""Modes with a picture by the codec."""


@dataclass(frozen=True)
class Plan:
    """What one compression is made with.

    Args:
        mode: one of `MODES`.
        i2t, t2i: who describes and who paints, by name.
        words: that a caption is cut to; 0 = not at all.
        strength: share that is drawn anew; None = the mode's.
        qp: of the codec; None = near `RATIO`.
    """

    mode: str
    i2t: str = SERVER
    t2i: str = SERVER
    words: int = 0
    strength: float | None = None
    qp: int | None = None

    @property
    def drawn(self) -> float:
        """The share that is drawn anew; of a picture that does not travel, all of it."""
        own = STRENGTHS.get(self.mode, 0.0)
        return own if self.strength is None or self.mode == "text" else self.strength

    @property
    def name(self) -> str:
        """The mode, and what differs from its usual settings.

        >>> Plan("full", words=5, strength=0.2).name
        'full, 5 words, strength 0.2'
        """
        changes = [
            f"by {self.i2t}" if self.i2t != SERVER and self.mode in SAID else "",
            f"to {self.t2i}" if self.t2i != SERVER and self.mode in STRENGTHS else "",
            f"{self.words} words" if self.words and self.mode in SAID else "",
            f"strength {self.strength:g}" if self._strengthened else "",
            f"QP {self.qp}" if self.qp is not None and self.mode in CODED else "",
        ]
        return ", ".join([self.mode, *filter(None, changes)])

    @property
    def _strengthened(self) -> bool:
        return self.strength is not None and self.mode in STRENGTHS and self.mode != "text"


@dataclass(frozen=True)
class Representation:
    """What travels.

    Args:
        plan: how it was made.
        text: coded caption; empty without one.
        picture: coded picture; empty without one.
        codec: name of what coded the picture, where that is a pixel codec; agreed beforehand.
        header_bytes: of the picture, what could be agreed beforehand, too.
        seconds: that making it took.
        characters: bytes of the caption's characters after Brotli, which do not travel.
        asked: bytes that the sender exchanged to get the caption, both ways.
    """

    plan: Plan
    text: bytes
    picture: bytes
    codec: str = ""
    header_bytes: int = 0
    seconds: float = 0.0
    characters: int = 0
    asked: int = 0

    @property
    def total(self) -> int:
        """Bytes without what could be agreed beforehand."""
        return len(self.text) + len(self.picture) - self.header_bytes


class CrossModality:
    """Sender and receiver.

    Args:
        bundle: of both.
        codec: for the modes with a coded picture.
        captioners, painters: by name.
    """

    def __init__(
        self,
        bundle: EdgeBundle,
        codec: PixelCodec,
        captioners: dict[str, Captioner],
        painters: dict[str, Painter],
    ) -> None:
        self._bundle = bundle
        self._codec = codec
        self._captioners = captioners
        self._painters = painters
        self._tokenizer = bundle.image_tokenizer()

    def compress(self, pixels: Pixels, plan: Plan, name: str = "") -> Representation:
        """The bytes that stand for (H, W, 3) uint8 in a mode.

        Args:
            pixels: the picture.
            plan: mode and settings.
            name: of the picture's file.

        Raises:
            ImageError: the mode takes blocks, and the sides are no multiples of them.
            UnimicError: nobody described the picture.
        """
        start = time.perf_counter()
        picture, codec, header = self._coded(pixels, plan)
        made = Representation(plan, b"", picture, codec, header)
        if plan.mode in SAID:
            caption = self._captioners[plan.i2t].describe(pixels, name, plan.words)
            ids = self._ids(cut(caption.text, plan.words))
            words = self._bundle.text_tokenizer.decode(ids)
            made = replace(
                made,
                text=pack_answer(ids, self._bundle),
                characters=len(brotli.compress(words.encode(), quality=11)),
                asked=caption.up + caption.down,
            )
        return replace(made, seconds=time.perf_counter() - start)

    def _coded(self, pixels: Pixels, plan: Plan) -> tuple[bytes, str, int]:
        """Bytes of the picture, name of the codec and bytes of its header."""
        if plan.mode == "text":
            return b"", "", 0
        if plan.mode == "pixel":
            return pack_blocks(block_means(pixels)), "", 0
        if plan.mode == TOKENS:
            return write_picture(self._tokenizer.tokenize(pixels), self._bundle), "", 0
        if plan.qp is not None:
            coded = fixed_rate(self._codec, pixels, plan.qp).coded
        else:
            coded = match_rate(self._codec, pixels, pixels.size / RATIO, shrink=True).coded
        return coded.payload, coded.codec.name, coded.header_bytes

    def _ids(self, text: str) -> TextTokens:
        """As many ids as a message may have; what is longer is cut."""
        tokens = self._bundle.text_tokenizer.encode(text)
        return TextTokens(tokens.ids[: self._bundle.max_text_tokens], tokens.vocabulary_size)

    def restore(self, sent: Representation, height: int, width: int) -> Pixels:
        """The picture that a receiver makes of the bytes.

        Args:
            sent: what arrived.
            height, width: of the picture in pixels, agreed beforehand.

        Raises:
            UnimicError: the bytes are broken, or nothing was generated.
        """
        plan = sent.plan
        if plan.mode == TOKENS:
            return self._tokenizer.detokenize(read_picture(sent.picture, self._bundle).image)
        base = self._base(sent, height, width)
        if plan.mode == CODEC_ALONE:
            assert base is not None, "this mode sends a picture"
            return base
        text = ""
        if sent.text:
            text = self._bundle.text_tokenizer.decode(unpack_answer(sent.text, self._bundle))
        return self._painters[plan.t2i].paint(text, base, plan.drawn, (height, width))

    def _base(self, sent: Representation, height: int, width: int) -> Pixels | None:
        """What the receiver starts from, at full size."""
        if sent.codec:
            return find_codec(sent.codec).decode(sent.picture)
        if sent.plan.mode == "pixel":
            return resized(unpack_blocks(sent.picture, height, width), height, width)
        return None


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


def pack_blocks(means: Pixels) -> bytes:
    """(h, w, 3) uint8 in `LEVELS` bits a colour, 10 a block.

    >>> len(pack_blocks(np.zeros((4, 4, 3), dtype=np.uint8)))
    20
    """
    steps = [(1 << bits) - 1 for bits in LEVELS]
    levels = np.rint(means.astype(np.float64) / 255.0 * steps).astype(np.int64)
    red, green, blue = np.moveaxis(levels, -1, 0)
    packed = ((red << LEVELS[1]) + green << LEVELS[2]) + blue
    return pack_bits(packed.ravel(), sum(LEVELS))


def unpack_blocks(data: bytes, height: int, width: int) -> Pixels:
    """The (h, w, 3) colours again, each at most half a level away.

    Raises:
        BadMessageError: they are not those of a picture of this size.
    """
    shape = height // BLOCK, width // BLOCK
    count = shape[0] * shape[1]
    if len(data) != (count * sum(LEVELS) + 7) // 8:
        raise BadMessageError(f"{len(data)} bytes are no means of {shape[0]}x{shape[1]} blocks")
    packed = unpack_bits(data, sum(LEVELS), count).reshape(shape)
    red = packed >> LEVELS[1] + LEVELS[2]
    green = packed >> LEVELS[2] & (1 << LEVELS[1]) - 1
    blue = packed & (1 << LEVELS[2]) - 1
    steps = [(1 << bits) - 1 for bits in LEVELS]
    levels = np.stack([red, green, blue], axis=-1)
    return np.rint(levels * 255.0 / steps).astype(np.uint8)
