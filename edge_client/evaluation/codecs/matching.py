"""Finds the setting of a codec whose size is nearest to a number of bytes.

It does not know where the number comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_client.evaluation.codecs.base import Coded, PixelCodec, Scaled, encode
from shared_protocol.errors import InvalidInputError
from shared_protocol.tokenizers.image import Pixels

FACTORS = (2, 4, 8, 16)
LEAST_SIDE = 16
"""Smaller pictures are refused by some encoders."""


@dataclass(frozen=True)
class Match:
    """The nearest that a codec comes to a rate.

    Args:
        coded: the picture at that setting.
        target: bytes that were aimed at.
        reached: False if even the coarsest setting takes more; `coded` is that one then.
        least_bytes: picture bytes of the coarsest setting at full size.
    """

    coded: Coded
    target: float
    reached: bool
    least_bytes: int

    @property
    def shrunk(self) -> bool:
        """Whether the picture was coded at a smaller size."""
        return isinstance(self.coded.codec, Scaled)


def match_rate(codec: PixelCodec, pixels: Pixels, target: float, shrink: bool = False) -> Match:
    """Code `pixels` so that the picture bytes (headers left out) are nearest to `target`.

    The paper chooses one quantiser for a whole test set so that rates are comparable; here each
    picture gets its own, which is never further from the target.

    Args:
        codec: of any kind.
        pixels: (H, W, 3) uint8.
        target: bytes, positive.
        shrink: where the coarsest setting takes more than the target, also try smaller sizes,
            unless the codec has a smaller size already.

    Raises:
        InvalidInputError: the target is not positive.
    """
    if not target > 0:
        raise InvalidInputError(f"a target of {target} bytes", "give a positive one")
    found = _nearest(codec, pixels, target)
    if found.reached or not shrink or isinstance(codec, Scaled):
        return found
    tried = [found]
    for factor in FACTORS:
        height, width = pixels.shape[:2]
        if height % factor or width % factor or min(height, width) < factor * LEAST_SIDE:
            continue
        tried.append(_nearest(Scaled(codec, factor), pixels, target))
        if tried[-1].reached:
            break
    best = tried[-1] if tried[-1].reached else min(tried, key=_picture_bytes)
    return replace(best, least_bytes=found.least_bytes)


def fixed_rate(codec: PixelCodec, pixels: Pixels, setting: float) -> Match:
    """Code `pixels` at a setting, whatever it takes, as the paper's section VI-A does.

    A setting that the codec has not gives way to its nearest: VVC ends at 63, the paper has 69.
    """
    nearest = min(codec.settings, key=lambda known: abs(known - setting))
    coded = encode(codec, pixels, nearest)
    return Match(coded, float(coded.picture_bytes), True, coded.picture_bytes)


def _picture_bytes(match: Match) -> int:
    return match.coded.picture_bytes


def _nearest(codec: PixelCodec, pixels: Pixels, target: float) -> Match:
    """Halve the range of settings; sizes grow with the setting but for small dents."""
    settings: Sequence[float] = codec.settings
    made: dict[int, Coded] = {}

    def size(index: int) -> int:
        if index not in made:
            made[index] = encode(codec, pixels, settings[index])
        return made[index].picture_bytes

    low, high = 0, len(settings) - 1
    least = size(low)
    if least > target:
        return Match(made[low], target, False, least)
    while high - low > 1:
        middle = (low + high) // 2
        if size(middle) > target:
            high = middle
        else:
            low = middle
    size(high)
    nearest = min(made.values(), key=lambda coded: abs(coded.picture_bytes - target))
    return Match(nearest, target, True, least)
