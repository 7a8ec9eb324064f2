"""Which pixel codecs a run compares with, and the paper's fixed settings for them.

It codes nothing. A run's codecs are those of `codecs.NAMES`, the bundle's VQ-Kmeans and the user's
own programs.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_client.evaluation.codecs import NAMES, PixelCodec, add_codec, find_codecs
from edge_client.evaluation.codecs.external import ExternalCodec
from edge_client.evaluation.codecs.vq_kmeans import VqKmeans
from edge_client.evaluation.context import Context

PAPER = "paper"
"""Instead of a setting: those of the paper's section VI-A."""
VI_A: dict[str, dict[str, tuple[float | str, float | str]]] = {
    "hevc": {"t2i": (51, 51), "inpaint": (50, 51), "outpaint": (47, 46), "vqa": (51, 51)},
    "vvc": {"t2i": (52, 52), "inpaint": (52, 69), "outpaint": (47, 45), "vqa": (49, 49)},
    "vq-kmeans": {
        "t2i": (2048, 2048),
        "inpaint": (2048, 256),
        "outpaint": (256, 2048),
        "vqa": (2048, 2048),
    },
    "ms-illm": {
        "t2i": ("msillm_quality_1", "msillm_quality_1"),
        "inpaint": ("msillm_quality_1", "msillm_vlov1_1"),
        "outpaint": ("msillm_quality_1", "msillm_quality_1"),
        "vqa": ("msillm_quality_1", "msillm_quality_1"),
    },
    "diffeic": {
        "t2i": ("1_2_4", "1_2_4"),
        "inpaint": ("1_2_8", "1_2_16"),
        "outpaint": ("1_2_8", "1_2_8"),
        "vqa": ("1_2_4", "1_2_4"),
    },
}
"""Codec -> task -> settings up and down; VVC has no 69, its coarsest, 63, stands for it."""
QUANTISED = ("hevc", "vvc")
"""Codecs whose settings are quantiser parameters."""


def baselines(
    context: Context, names: Sequence[str] = (), default: Sequence[str] = NAMES
) -> tuple[list[PixelCodec], list[str]]:
    """The codecs to compare with that run here, and the names of those that do not.

    Args:
        context: has the user's programs and, unless `names` do, the names.
        names: of codecs.
        default: where nobody named any; the bundle's VQ-Kmeans belongs to the default of all.

    Raises:
        ConfigError: a name that no codec has.
    """
    tokens = VqKmeans(context.bundle.image_tokenizer())
    add_codec(tokens)
    for program in context.external:
        add_codec(program)
    of_tokens = [tokens.name] if tokens.settings and default == NAMES else []
    chosen = list(names or context.codecs or [*default, *of_tokens])
    own = [program.name for program in context.external if program.name not in chosen]
    return find_codecs([*chosen, *own])


def fixed_settings(codec: PixelCodec, task: str, qp: int | str) -> tuple[float, float] | None:
    """The settings up and down that a codec is run at for one `qp`; None where it has none.

    Args:
        codec: with or without quantiser parameters.
        task: by slug.
        qp: a quantiser parameter, or `PAPER`.
    """
    if isinstance(qp, int):
        return (float(qp), float(qp)) if codec.name in QUANTISED else None
    ways = VI_A.get(codec.name, {}).get(task)
    if ways is None:
        return None
    up, down = (_setting(codec, way) for way in ways)
    return None if up is None or down is None else (up, down)


def _setting(codec: PixelCodec, rate: float | str) -> float | None:
    if not isinstance(rate, str):
        return float(rate)
    return codec.place(rate) if isinstance(codec, ExternalCodec) else None


def fixed_name(codec: PixelCodec, qp: int | str) -> str:
    """What records and tables call a codec at fixed settings.

    >>> from edge_client.evaluation.codecs import find_codec
    >>> fixed_name(find_codec("jpeg"), "paper")
    'jpeg, section VI-A'
    """
    return f"{codec.name}, section VI-A" if qp == PAPER else f"{codec.name} at QP {qp}"
