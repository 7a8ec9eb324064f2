"""`neck`: what a picture costs on its way to a classifier, as tokens and as a codec's bytes.

The device measures what travels: the tokens at several keep ratios, and the picture by VVC (or what
else runs here) brought to the bytes that the tokens took. What a vision model makes of each is
judged at the cloud, which has the models: `cloud-server train neck-report --records OUT/neck`
writes `judged.json` beside the records, and this section shows its tables when it is run again.
No server is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_client.evaluation.baselines import baselines
from edge_client.evaluation.codecs import PixelCodec, match_rate
from edge_client.evaluation.context import Context, Records, Section
from edge_client.evaluation.interactions import load_pixels
from edge_client.evaluation.tables.comparing import mean
from edge_client.evaluation.tables.quality import SKIPPED
from edge_client.evaluation.tables.results import Cell, Table
from edge_client.pictures.outputs import save_picture
from edge_client.rate_control import Budget, within
from shared_protocol.errors import ConfigError
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import Request
from shared_protocol.tasks import Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens, TextTokens

NAME, TITLE = "neck", "Tokens into another vision model"
TOKENS = "tokens"
RATIOS = (1.0, 0.75, 0.5, 0.25, 0.1)
MAX_PICTURES = 100
"""Pictures that are measured; --limit may lower it."""
JUDGED = "judged.json"
PREFERRED, INSTEAD = ("vvc",), ("hevc", "jpeg")


def run(context: Context) -> Section:
    """Measure what is missing and summarise; see the module.

    Raises:
        ConfigError: the data has no pictures, or the judged file is none.
    """
    codecs, notes = _codecs(context)
    records = context.records(NAME)
    paths = context.pictures()[:MAX_PICTURES]
    if not paths:
        raise ConfigError(f"{context.data.folder} holds no pictures", "name other data")
    found = [
        record
        for path in context.track(paths, NAME)
        for record in _picture(context, records, path, codecs)
    ]
    judged = _judged(context.folder(NAME) / JUDGED)
    if not judged:
        notes = [*notes, _how_to_judge(context)]
    return Section(NAME, TITLE, (_bytes_table(found), *judged), notes=tuple(notes))


def _codecs(context: Context) -> tuple[list[PixelCodec], list[str]]:
    """What to compare with, and what had to be left out."""
    codecs, missing = baselines(context, default=PREFERRED)
    if codecs or context.codecs:
        return codecs, [f"The codec {name} is not available here." for name in missing]
    found, _ = baselines(context, default=INSTEAD)
    names = ", ".join(codec.name for codec in found) or "none"
    return found, [f"VVC is not available here; in its place: {names}."]


def _picture(
    context: Context, records: Records, path: Path, codecs: Sequence[PixelCodec]
) -> Iterator[dict[str, Any]]:
    """Every way of sending one picture; those that were measured are not measured again."""
    name = path.relative_to(context.data.folder).as_posix()
    ratios = context.keep_ratios or RATIOS
    wanted = [method_of(ratio) for ratio in ratios] + [codec.name for codec in codecs]
    if any(_id(name, method) not in records for method in wanted):
        pixels = load_pixels(context, path)
        image = context.bundle.image_tokenizer().tokenize(pixels)
        for ratio in ratios:
            if _id(name, method_of(ratio)) not in records:
                records.add(_by_tokens(context, name, image, ratio))
        for codec in codecs:
            if _id(name, codec.name) not in records:
                target = records[_id(name, method_of(ratios[0]))]["picture_bytes"]
                records.add(_by_codec(context, name, pixels, codec, target))
    return (records[_id(name, method)] for method in wanted)


def method_of(ratio: float) -> str:
    """What records and tables call tokens of which a share is kept.

    >>> method_of(1.0), method_of(0.5)
    ('tokens', 'tokens, keep 0.5')
    """
    return TOKENS if ratio == 1.0 else f"{TOKENS}, keep {ratio:g}"


def _id(name: str, method: str) -> str:
    return f"{name}|{method}"


def _by_tokens(context: Context, name: str, image: ImageTokens, ratio: float) -> dict[str, Any]:
    """The picture's part of a request to classify it, and the whole of that."""
    nothing = TextTokens(np.zeros(0, dtype=np.int32), context.bundle.vocabulary.text_size)
    request = Request(Task.CLASSIFY, nothing, image)
    if ratio < 1.0:
        request = within(Budget(keep_ratio=ratio), request, context.bundle)
    encoded = encode_request(request, context.bundle)
    sizes = encoded.anatomy.sizes
    dropped = None if request.dropped is None else np.flatnonzero(request.dropped.flags).tolist()
    return {
        "id": _id(name, method_of(ratio)),
        "picture": name,
        "method": method_of(ratio),
        "picture_bytes": sizes.image + sizes.dropped,
        "message_bytes": len(encoded.data),
        "codes": image.codes.reshape(-1).tolist(),
        "dropped": dropped or [],
    }


def _by_codec(
    context: Context, name: str, pixels: Pixels, codec: PixelCodec, target: int
) -> dict[str, Any]:
    match = match_rate(codec, pixels, target, shrink=True)
    shown = Path("pictures") / codec.name / f"{name.replace('/', '_')}.png"
    place = context.folder(NAME) / shown
    place.parent.mkdir(parents=True, exist_ok=True)
    save_picture(place, match.coded.decode())
    return {
        "id": _id(name, codec.name),
        "picture": name,
        "method": codec.name,
        "picture_bytes": match.coded.picture_bytes,
        "message_bytes": len(match.coded.payload),
        "shown": shown.as_posix(),
        "shrunk": match.shrunk,
    }


def _bytes_table(found: Sequence[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for method in dict.fromkeys(one["method"] for one in found):
        mine = [one for one in found if one["method"] == method]
        sizes = [float(one["picture_bytes"]) for one in mine]
        shrunk = mean(float(o["shrunk"]) for o in mine) if "shrunk" in mine[0] else SKIPPED
        whole = mean(float(one["message_bytes"]) for one in mine)
        rows.append((method, len(mine), mean(sizes), max(sizes), whole, shrunk))
    columns = ("sent as", "pictures", "picture bytes", "most", "whole bytes", "shrunk, share")
    notes = (
        "picture bytes: the tokens with the mask of those left out, or a codec's bytes without "
        "headers; whole bytes: a request to classify, or the codec's payload.",
        "shrunk: coded at a fraction of the size, as the coarsest setting takes more.",
    )
    return Table("neck-bytes", "What a picture costs", columns, tuple(rows), notes)


def _judged(path: Path) -> tuple[Table, ...]:
    """The tables that the cloud wrote beside the records; none where it has not."""
    if not path.is_file():
        return ()
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
        return tuple(
            Table(
                str(each["name"]),
                str(each["title"]),
                tuple(map(str, each["columns"])),
                tuple(tuple(row) for row in each["rows"]),
                tuple(map(str, each["notes"])),
            )
            for each in tables
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} holds no judged tables: {error}", "judge again") from error


def _how_to_judge(context: Context) -> str:
    place = context.folder(NAME)
    return (
        "Accuracy, agreement and complexity are judged where the models are: 'cloud-server train "
        f"neck-report --records {place} --data {context.data.folder}', then run this again."
    )
