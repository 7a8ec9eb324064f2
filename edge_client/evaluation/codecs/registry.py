"""Which codecs there are, and which of them run on this machine.

It does not know what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from edge_client.evaluation.codecs import stills, video
from edge_client.evaluation.codecs.base import PixelCodec, Scaled
from shared_protocol.errors import ConfigError

_MAKERS: dict[str, Callable[[], PixelCodec | None]] = {
    "jpeg": stills.jpeg,
    "webp": stills.webp,
    "avif": stills.avif,
    "jxl": stills.jxl,
    "heic": stills.heic,
    "hevc": video.hevc,
    "vvc": video.vvc,
}
NAMES = tuple(_MAKERS)
"""Every codec that needs no bundle and no command, simplest first."""
ALIASES = {"bpg": "hevc"}
"""BPG is HEVC intra in a container of its own, which is not counted here."""
BPG_NOTE = (
    "hevc stands for the paper's BPG: the same intra coding by x265, but as a raw stream without "
    "BPG's container, 8-bit 4:2:0 in BT.709 and limited range where bpgenc has BT.601 full range."
)
_added: dict[str, PixelCodec] = {}


@cache
def _made(name: str) -> PixelCodec | None:
    return _MAKERS[name]()


def add_codec(codec: PixelCodec) -> None:
    """Let `find_codec` find a codec that only this process knows.

    Raises:
        ConfigError: the name is taken by a codec that is always there, or cannot be told from one.
    """
    if codec.name in _MAKERS or codec.name in ALIASES or "/" in codec.name or "," in codec.name:
        raise ConfigError(f"a codec cannot be called {codec.name!r}", "choose another name")
    _added[codec.name] = codec


def _known() -> list[str]:
    return [*_MAKERS, *ALIASES, *_added]


def _codec(base: str) -> PixelCodec | None:
    name = ALIASES.get(base, base)
    codec = _added[name] if name in _added else _made(name)
    return codec if codec is None or codec.settings else None


def available(name: str) -> bool:
    """Whether the codec `name` runs on this machine."""
    return name in _known() and _codec(name) is not None


def find_codec(name: str) -> PixelCodec:
    """A codec by its name, such as "vvc", or "vvc/4" at a quarter of the size.

    Raises:
        ConfigError: there is none of this name, or it does not run here.
    """
    base, _, factor = name.partition("/")
    if base not in _known() or (factor and not (factor.isdecimal() and 2 <= int(factor) <= 255)):
        raise ConfigError(f"there is no codec {name!r}", f"known are {', '.join(_known())}")
    codec = _codec(base)
    if codec is None:
        raise ConfigError(
            f"the codec {base} is not available here",
            "install it: pip install -c docker/constraints.txt '.[bench]'",
        )
    return Scaled(codec, int(factor)) if factor else codec


def find_codecs(names: Sequence[str] = NAMES) -> tuple[list[PixelCodec], list[str]]:
    """The codecs of these names that run here, and the names of those that do not.

    Raises:
        ConfigError: a name that no codec has.
    """
    unknown = [name for name in names if name.partition("/")[0] not in _known()]
    if unknown:
        raise ConfigError(f"there is no codec {unknown[0]!r}", f"known are {', '.join(_known())}")
    here = [name for name in names if available(name.partition("/")[0])]
    return [find_codec(name) for name in here], [name for name in names if name not in here]
