"""What a picture is to be: prompt, number, size, format, seeds and options.

It does not know whether it is drawn anew or edited.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from edge_client.gateway.requests.fields import Fields, shown
from shared_protocol.messages import MAX_GUIDANCE, MAX_MENDS, MAX_STEPS

MOST_PICTURES = 10
MOST_PARTIALS = 3
MOST_SIDE, LEAST_SIDE, SIDE_STEP = 4096, 64, 16
MOST_PIXELS = 24_500_000
SEEDS = 2**32
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
"""`output_format` to Pillow's name of it."""
_QUALITIES = ("auto", "low", "medium", "high", "standard", "hd", "xhigh", "max")
_MENDS = {"low": 0, "high": MAX_MENDS, "hd": MAX_MENDS, "xhigh": MAX_MENDS, "max": MAX_MENDS}
"""How often a picture is mended at most, for qualities that are not left to the server."""
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_OWN = ("steps", "guidance", "mend", "negative_prompt", "seed")
"""Options of `unimic` that are also taken beside it, where other servers have them."""


@dataclass(frozen=True)
class PictureWish:
    """A picture that is to be made.

    Args:
        prompt: what it shows.
        count: how many, with seeds `seed`, `seed` + 1, …
        seed: of the first.
        size: (width, height) in pixels that comes back; None = as it is made.
        kind: "png", "jpeg" or "webp".
        compression: 0..100 of a jpeg or webp; None = least loss.
        by_url: whether an address comes back in place of the picture.
        stream: whether events come back.
        partials: most intermediate pictures.
        quality: as it was asked for.
        negative: what it is not to show.
        steps, guidance, mend: see `Options`.
        params: what its fields are called in the request.
        warnings: what was asked and has no effect.
    """

    prompt: str
    count: int = 1
    seed: int = 0
    size: tuple[int, int] | None = None
    kind: str = "png"
    compression: int | None = None
    by_url: bool = False
    stream: bool = False
    partials: int = 0
    quality: str = "auto"
    negative: str = ""
    steps: int | None = None
    guidance: float | None = None
    mend: int | None = None
    params: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def read_wish(
    fields: Fields, prompt: str, own: Fields, params: tuple[tuple[str, str], ...] = ()
) -> PictureWish:
    """The wish that a request, or a tool in one, states.

    Args:
        fields: of OpenAI's API; those of `_OWN` are taken from here as well.
        prompt: what the picture shows.
        own: those of `unimic`.
        params: what the prompt, the picture and the mask are called.

    Raises:
        RefusedError: a value that cannot be used, or that would change the picture and cannot be
            honoured.
    """
    told: list[str] = []
    options = _options(fields, own)
    quality = fields.choice("quality", _QUALITIES, "auto")
    mend = options["mend"] if options["mend"] is not None else _MENDS.get(quality)
    kind = _format(fields)
    stream = fields.flag("stream")
    partials = fields.whole("partial_images", 0, MOST_PARTIALS, 0) or 0
    if partials and not stream:
        told.append("partial_images has no effect without stream")
        partials = 0
    compression = fields.whole("output_compression", 0, 100)
    if compression is not None and kind == "png":
        if compression < 100:
            told.append("output_compression has no effect on a png, which loses nothing")
        compression = None
    count = fields.whole("n", 1, MOST_PICTURES, 1) or 1
    seed = options["seed"]
    if seed is not None and seed + count > SEEDS:
        raise fields.refused("seed", f"is {seed}: the last of {count} would be over {SEEDS - 1}")
    told += _told_of_looks(fields)
    return PictureWish(
        prompt=prompt,
        count=count,
        seed=secrets.randbelow(SEEDS - MOST_PICTURES) if seed is None else seed,
        size=_size(fields),
        kind=kind,
        compression=compression,
        by_url=fields.choice("response_format", ("b64_json", "url"), "b64_json") == "url",
        stream=stream,
        partials=partials,
        quality=quality,
        negative=_negative(fields, own),
        steps=options["steps"],
        guidance=_guidance(fields, own),
        mend=mend,
        params=params,
        warnings=tuple(told),
    )


def _options(fields: Fields, own: Fields) -> dict[str, int | None]:
    limits = {"seed": (0, SEEDS - 1), "steps": (1, MAX_STEPS), "mend": (0, MAX_MENDS)}
    found = {}
    for name, (low, high) in limits.items():
        beside, inside = fields.whole(name, low, high), own.whole(name, low, high)
        found[name] = beside if inside is None else inside
    return found


def _guidance(fields: Fields, own: Fields) -> float | None:
    beside, inside = (each.number("guidance", 0, MAX_GUIDANCE) for each in (fields, own))
    return beside if inside is None else inside


def _negative(fields: Fields, own: Fields) -> str:
    beside = fields.text("negative_prompt")
    return own.text("negative_prompt") or beside


def _format(fields: Fields) -> str:
    kind = fields.text("output_format", "png") or "png"
    kind = "jpeg" if kind == "jpg" else kind
    if kind not in FORMATS:
        raise fields.wrong("output_format", kind, f"one of {', '.join(FORMATS)}")
    return kind


def _size(fields: Fields) -> tuple[int, int] | None:
    text = fields.text("size", "auto").strip().lower()
    if text in ("", "auto"):
        return None
    found = _SIZE.fullmatch(text)
    if found is None:
        raise fields.refused("size", f"is {shown(text)}: write auto, or WIDTHxHEIGHT in pixels")
    width, height = int(found[1]), int(found[2])
    whole = width % SIDE_STEP == 0 and height % SIDE_STEP == 0
    fits = all(LEAST_SIDE <= side <= MOST_SIDE for side in (width, height))
    if not whole or not fits or width * height > MOST_PIXELS:
        raise fields.refused(
            "size",
            f"is {text}: use multiples of {SIDE_STEP} from {LEAST_SIDE} to {MOST_SIDE}, such as "
            "1024x1024",
        )
    return width, height


def _told_of_looks(fields: Fields) -> list[str]:
    """Refuse looks that cannot be had, and tell of those that are had anyway."""
    told = []
    if fields.choice("background", ("auto", "opaque", "transparent"), "auto") == "transparent":
        raise fields.refused(
            "background", "transparent cannot be had: pictures are opaque; use auto or opaque"
        )
    style = fields.choice("style", ("vivid", "natural"), "vivid")
    if style == "natural":
        raise fields.refused("style", "natural cannot be had: say it in the prompt")
    if "style" in fields:
        told.append("style has no effect: say it in the prompt")
    if fields.raw("moderation") is not None:
        told.append("moderation has no effect: nothing is moderated on this device")
    if fields.text("input_fidelity", "high") == "low":
        told.append("input_fidelity low has no effect: what is not masked stays exactly as it is")
    return told


def unknown_warnings(*read: Fields) -> tuple[str, ...]:
    """Warnings of the fields that nobody has read; those of `unimic` are refused.

    Raises:
        RefusedError: an option of `unimic` that does not exist.
    """
    told = []
    for fields in read:
        for name in fields.left():
            if name.startswith("unimic."):
                raise fields.refused(
                    name.removeprefix("unimic."), "is no option; /openapi.json has them"
                )
            told.append(f"{shown(name)} has no effect here".replace("'", ""))
    return tuple(told)
