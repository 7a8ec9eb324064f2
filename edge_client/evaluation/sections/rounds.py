"""`rounds`: many edits of one picture, by tokens and by pixels, as in Fig. 1 of the paper.

Every round repaints a part of one quarter. Tokens outside the edits travel as they are; pixels
are coded twice and tokenised once in each round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edge_client.evaluation.baselines import baselines
from edge_client.evaluation.codecs import PixelCodec
from edge_client.evaluation.context import Cell, Context, Plot, Records, Section, Series, Table
from edge_client.evaluation.pixel_loop.client import PixelClient
from edge_client.evaluation.pixel_loop.editing import PixelEdits, Subject, TokenEdits
from edge_client.evaluation.pixel_loop.gateway import PixelGateway
from edge_client.evaluation.tables.comparing import flat_name, mean, mean_psnr, mean_score
from edge_client.pictures.images import load_picture

NAME = "rounds"
ROUNDS = 8
MAX_PICTURES = 4
TOKENS = "tokens"
MULTIPLES = (1, 10)
"""Pixels get so many times the bytes that the tokens of the same picture took."""
GENERIC_PROMPT = "a photograph"

Found = Sequence[Mapping[str, Any]]


def run(
    context: Context,
    names: Sequence[str] = (),
    rounds: int = ROUNDS,
    multiples: Sequence[int] = MULTIPLES,
) -> Section:
    """Measure what is missing and summarise.

    Args:
        context: see `Context`.
        names: codecs to compare with, by name; empty = those of the context, or all.
        rounds: edits of each picture.
        multiples: of the tokens' bytes that the codecs are given.

    Raises:
        InternalError: a token outside the edits changed.
        UnimicError: the server or the data cannot be used.
    """
    codecs, missing = baselines(context, names)
    found = _measure(context, codecs, rounds, multiples)
    methods = list(dict.fromkeys(one["method"] for one in found))
    return Section(
        NAME,
        "Rounds of edits of one picture",
        (_table(found, methods, rounds),) if found else (),
        _plots(found, methods, rounds) if found else (),
        notes=tuple(f"The codec {name} is not available here." for name in missing),
    )


def _measure(
    context: Context, codecs: Sequence[PixelCodec], rounds: int, multiples: Sequence[int]
) -> list[dict[str, Any]]:
    records, found = context.records(NAME), []
    folder = context.folder(NAME) / "pictures"
    gateway = PixelGateway(context.bundle, context.transport)
    with (
        context.transport() as transport,
        gateway,
        PixelClient(gateway.url, context.bundle, context.timeout) as client,
    ):
        for subject in context.track(_subjects(context), NAME):
            tokens = TokenEdits(subject, context.bundle, transport, folder)
            found += _edited(tokens.edit, subject, TOKENS, records, rounds)
            for codec in codecs:
                for multiple in multiples:
                    method = f"{codec.name} x{multiple}"
                    pixels = PixelEdits(
                        subject, context.bundle, client, folder, codec, method, multiple
                    )
                    found += _edited(pixels.edit, subject, method, records, rounds)
    return found


def _edited(
    edit: Callable[[int, Records], dict[str, Any]],
    subject: Subject,
    method: str,
    records: Records,
    rounds: int,
) -> list[dict[str, Any]]:
    """The records of all rounds of one picture by one method; those that are there are kept."""
    found = []
    for number in range(1, rounds + 1):
        key = subject.key(method, number)
        if key not in records:
            records.add(
                {
                    "id": key,
                    "picture": subject.name,
                    "method": method,
                    "round": number,
                    **edit(number, records),
                }
            )
        found.append(records[key])
    return found


def _subjects(context: Context) -> list[Subject]:
    height, width = context.picture_size
    prompts = {
        context.picture(case): case.prompt
        for case in context.data.cases
        if case.task == "inpaint" and case.image
    }
    return [
        Subject(
            flat_name(path, context.data.folder),
            load_picture(path, height, width).pixels,
            prompts.get(path, GENERIC_PROMPT),
            context.options(),
        )
        for path in context.pictures()[:MAX_PICTURES]
    ]


def _table(found: Found, methods: Sequence[str], rounds: int) -> Table:
    rows = [_row(found, method, number) for method in methods for number in _shown(rounds)]
    return Table(
        "rounds",
        "What each round leaves of the part that no round edits",
        (
            "method",
            "round",
            "pictures",
            "picture bytes up",
            "picture bytes down",
            "PSNR against the source, dB",
            "ST-LPIPS against the source",
            "PSNR against round 1, dB",
            "ST-LPIPS against round 1",
            "tokens unchanged, share",
        ),
        tuple(rows),
        (
            "Scored is what lies outside all edits and a margin around them; tokens unchanged: "
            "those of the shown picture that are still the source's.",
            f"A codec x10 gets ten times the bytes that the same picture's tokens took on their "
            f"way up, both ways; at most {MAX_PICTURES} pictures.",
            "Every exchange in tokens was checked: outside its edits no token changed. A "
            "detokeniser that looks beyond the margin may still move pixels there by traces.",
        ),
    )


def _shown(rounds: int) -> list[int]:
    """Rounds that get a row: powers of two and the last.

    >>> _shown(6)
    [1, 2, 4, 6]
    """
    return sorted({number for number in (1, 2, 4, 8, 16, rounds) if number <= rounds})


def _row(found: Found, method: str, number: int) -> tuple[Cell, ...]:
    mine = _of(found, method, number)
    later = [one["against_first"] for one in mine] if number > 1 else []
    return (
        method,
        number,
        len(mine),
        mean(float(one["up_picture"]) for one in mine),
        mean(float(one["down_picture"]) for one in mine),
        mean_psnr(one["against_source"] for one in mine),
        mean_score((one["against_source"] for one in mine), "st_lpips"),
        mean_psnr(later),
        mean_score(later, "st_lpips"),
        mean(one["tokens_kept"] for one in mine),
    )


def _of(found: Found, method: str, number: int) -> list[Mapping[str, Any]]:
    return [one for one in found if one["method"] == method and one["round"] == number]


def _plots(found: Found, methods: Sequence[str], rounds: int) -> tuple[Plot, ...]:
    def psnr(mine: Iterable[Mapping[str, Any]]) -> Cell:
        return mean_psnr(one["against_source"] for one in mine)

    def perceptual(mine: Iterable[Mapping[str, Any]]) -> Cell:
        return mean_score((one["against_source"] for one in mine), "st_lpips")

    return (
        _plot("rounds-psnr", "PSNR, dB", psnr, found, methods, rounds),
        _plot("rounds-st-lpips", "ST-LPIPS", perceptual, found, methods, rounds),
    )


def _plot(
    name: str,
    label: str,
    score: Callable[[Iterable[Mapping[str, Any]]], Cell],
    found: Found,
    methods: Sequence[str],
    rounds: int,
) -> Plot:
    series = []
    for method in methods:
        points = [(n, score(_of(found, method, n))) for n in range(1, rounds + 1)]
        known = [(n, value) for n, value in points if isinstance(value, float)]
        if known:
            series.append(Series(method, [n for n, _ in known], [value for _, value in known]))
    title = f"{label.partition(',')[0]} of the untouched part against the source"
    return Plot(name, title, "round", label, tuple(series))
