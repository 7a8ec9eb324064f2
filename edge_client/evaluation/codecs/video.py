"""HEVC and VVC intra pictures as raw streams, by the ffmpeg inside `imageio-ffmpeg`.

It does not know rates or servers. A payload is an Annex B stream of one intra picture that ffmpeg
decodes by itself: 8-bit (HEVC) or 10-bit (VVC) 4:2:0, BT.709, limited range. Its header is what
stands before the slices: parameter sets, access unit delimiter and start codes. HEVC here stands
for the paper's BPG, which is HEVC intra in another container.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import cache

import numpy as np

from edge_client.evaluation.codecs.containers import annex_b_header
from edge_client.evaluation.metrics.extra import extra_module, has_module
from shared_protocol.errors import BadMessageError, ConfigError
from shared_protocol.tokenizers.image import Pixels

TIMEOUT = 300.0
"""Seconds for one picture."""
_QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error")
_TO_YUV = "scale=out_color_matrix=bt709:out_range=tv,format={}"
_TO_RGB = "scale=in_color_matrix=bt709:in_range=tv,format=rgb24"
_SIZE = re.compile(r"Video: .*?\b(\d{2,5})x(\d{2,5})\b")


@dataclass(frozen=True)
class VideoCodec:
    """An intra-only use of a video codec.

    Args:
        name: see `PixelCodec`.
        kind: ffmpeg's name of the raw format.
        settings: quantiser parameters from the coarsest to the finest.
        pixel_format: what is coded.
        arguments: ffmpeg's arguments that choose and set the encoder; "{qp}" is the setting.
        unit_type: type of a NAL unit.
        picture: types of NAL units that hold picture data.
    """

    name: str
    kind: str
    settings: Sequence[float]
    pixel_format: str
    arguments: tuple[str, ...]
    unit_type: Callable[[bytes], int]
    picture: Set[int]

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        height, width = pixels.shape[:2]
        source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "-")
        encoder = tuple(word.format(qp=int(setting)) for word in self.arguments)
        filters = ("-vf", _TO_YUV.format(self.pixel_format), "-frames:v", "1", "-threads", "1")
        found = _run((*source, *filters, *encoder, "-f", self.kind, "-"), pixels.tobytes())
        if not found.stdout:
            raise ConfigError(
                f"ffmpeg did not code a picture with {self.name}: {_reason(found)}",
                "install the version of imageio-ffmpeg in docker/constraints.txt",
            )
        return found.stdout

    def decode(self, payload: bytes) -> Pixels:
        # One run: raw pixels on stdout, and their size on stderr, which is why it logs "info".
        words = ("-f", self.kind, "-i", "-", "-vf", _TO_RGB, "-frames:v", "1")
        found = _run((*words, "-f", "rawvideo", "-"), payload, level="info")
        sizes = _SIZE.findall(found.stderr.decode(errors="replace"))
        if found.returncode or not sizes:
            raise BadMessageError(f"{len(payload)} bytes are no {self.name}: {_reason(found)}")
        width, height = map(int, sizes[-1])
        pixels = np.frombuffer(found.stdout, dtype=np.uint8)
        if pixels.size != height * width * 3:
            raise BadMessageError(f"{len(payload)} bytes of {self.name} hold no whole picture")
        return pixels.reshape(height, width, 3).copy()  # writable, as every decoder's

    def header_bytes(self, payload: bytes) -> int:
        return annex_b_header(payload, self.unit_type, self.picture)


_VVC_PICTURE = frozenset({*range(12), 17, 18})
"""Slices, and adaptation parameter sets, whose filters are fitted to the picture."""


def _hevc_type(unit: bytes) -> int:
    """ITU-T H.265, 7.3.1.2: six bits after the first."""
    return (unit[0] >> 1) & 0x3F


def _vvc_type(unit: bytes) -> int:
    """ITU-T H.266, 7.3.1.2: the upper five bits of the second byte."""
    return unit[1] >> 3


def hevc() -> VideoCodec | None:
    """HEVC intra by x265; None where ffmpeg, its encoder or its decoder is missing."""
    if not (_has("encoders", "libx265") and _has("decoders", "hevc")):
        return None
    settings = "qp={qp}:keyint=1:info=0:log-level=none:pools=none:frame-threads=1"
    arguments = ("-c:v", "libx265", "-preset", "veryslow", "-x265-params", settings)
    quantisers = tuple(range(51, 9, -1))
    return VideoCodec(
        "hevc", "hevc", quantisers, "yuv420p", arguments, _hevc_type, frozenset(range(32))
    )


def vvc() -> VideoCodec | None:
    """VVC intra by VVenC, without its perceptual adaptation, which costs PSNR."""
    if not (_has("encoders", "libvvenc") and _has("decoders", "vvc")):
        return None
    arguments = ("-c:v", "libvvenc", "-preset", "medium", "-qp", "{qp}", "-qpa", "0", "-g", "1")
    quantisers = tuple(range(63, 9, -1))
    return VideoCodec("vvc", "vvc", quantisers, "yuv420p10le", arguments, _vvc_type, _VVC_PICTURE)


@cache
def _has(what: str, name: str) -> bool:
    if not has_module("imageio_ffmpeg"):
        return False
    try:
        listed = _run((f"-{what}",), b"").stdout.decode(errors="replace")
    except (ConfigError, OSError):
        return False
    return any(line.split()[1:2] == [name] for line in listed.splitlines())


def _run(
    words: tuple[str, ...], data: bytes, level: str = "error"
) -> subprocess.CompletedProcess[bytes]:
    library = extra_module("imageio_ffmpeg", "HEVC and VVC")
    command = [library.get_ffmpeg_exe(), *_QUIET[:-1], level, *words]
    try:
        return subprocess.run(
            command, input=data, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"ffmpeg took more than {TIMEOUT:g} s for one picture") from error


def _reason(found: subprocess.CompletedProcess[bytes]) -> str:
    lines = found.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {found.returncode}"
