"""The rows of the built-in bundle's report: what was measured, on how many, how sure.

Knows verdicts, records, pictures and the bundle's tokenizer and entropy models; prints nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cloud_server.training.benchmark.entropy_report import STREAMS, measure, static_costs
from cloud_server.training.benchmark.smears import MANY
from cloud_server.training.benchmark.verdicts import Evaluation, Verdict
from cloud_server.training.benchmark.wholeness import MOST_OFF
from cloud_server.training.recipes.entropy.sequences import Picture, Sampler
from cloud_server.training.recipes.image_tokenizer.scores import psnr, reconstruct
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import World
from shared_protocol.cases import TASKS
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.compact import CompactTokenizer

Z95 = 1.959964
CODES = 8192
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
DRAWN = ("t2i", "inpaint", "outpaint")
"""Tasks whose answer is a picture."""
MIN_WORST = 20
"""Kinds of questions with fewer cases are not called the worst."""


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Args:
        ability: group of rows.
        measure: what is counted.
        result: in words, with its unit.
        count: cases behind it.
        value: the number itself, for machines.
        low, high: 95 % interval, if there is one.
        detail: part of a row above; listed apart.
    """

    ability: str
    measure: str
    result: str
    count: int
    value: float
    low: float | None = None
    high: float | None = None
    detail: bool = False


def wilson(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share.

    >>> [round(end, 3) for end in wilson(45, 50)]
    [0.786, 0.957]
    """
    share, spread = right / count, Z95**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def share_row(ability: str, measure_: str, hits: Iterable[bool], detail: bool = False) -> list[Row]:
    """A share in percent with its Wilson interval; nothing if there are no cases."""
    found = list(hits)
    if not found:
        return []
    share, (low, high) = sum(found) / len(found), wilson(sum(found), len(found))
    return [Row(ability, measure_, f"{share:.1%}", len(found), share, low, high, detail)]


def mean_row(ability: str, measure_: str, values: Sequence[float], unit: str) -> list[Row]:
    """A mean with the 95 % interval of the mean; nothing if there are no values.

    >>> mean_row("text to image", "tokens", [1.0, 3.0], "tokens")[0].result
    '2.0 tokens'
    """
    if not values:
        return []
    mean = statistics.fmean(values)
    half = Z95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    text = f"{mean:.1f} {unit}"
    return [Row(ability, measure_, text, len(values), mean, mean - half, mean + half)]


def vqa_rows(ability: str, verdicts: Sequence[Verdict], by_wording: bool) -> list[Row]:
    """Exact match: all, the worst kind, each kind, and the two wordings apart."""
    rows = share_row(ability, "exact match, all", _checked(verdicts, "answer"))
    kinds = sorted({verdict.case.kind for verdict in verdicts})
    each = {
        kind: share_row(
            ability, kind, _checked(_where(verdicts, "kind", kind), "answer"), detail=True
        )[0]
        for kind in kinds
    }
    large = [row for row in each.values() if row.count >= MIN_WORST]
    if large:
        worst = min(large, key=lambda row: row.value)
        rows += share_row(
            ability,
            f"worst kind: {worst.measure}",
            _checked(_where(verdicts, "kind", worst.measure), "answer"),
        )
    if by_wording:
        for wording in ("trained", "held out"):
            some = _where(verdicts, "wording", wording)
            rows += share_row(ability, f"{wording} wordings", _checked(some, "answer"))
            for kind in kinds:
                hits = _checked(_where(some, "kind", kind), "answer")
                rows += share_row(ability, f"{kind}, {wording} wordings", hits, detail=True)
    return [*rows, *each.values()]


def t2i_rows(verdicts: Sequence[Verdict]) -> list[Row]:
    """Objects there, each once; relations, places and backgrounds where the objects are there."""
    name = "text to image"
    there = [verdict for verdict in verdicts if verdict.checks["present"]]
    rows = share_row(name, "all named objects present", _checked(verdicts, "present"))
    for number in ("1", "2"):
        some = _where(verdicts, "kind", number)
        rows += share_row(name, f"present, {number} object(s) asked for", _checked(some, "present"))
    for wording in ("trained", "held out"):
        some = _where(verdicts, "wording", wording)
        rows += share_row(name, f"present, {wording} wordings", _checked(some, "present"))
    once = "exactly the named objects, each once"
    rows += share_row(name, once, _checked(verdicts, "once"))
    for number in ("1", "2"):
        some = _where(verdicts, "kind", number)
        rows += share_row(name, f"{once}, {number} object(s) asked for", _checked(some, "once"))
    rows += share_row(name, "relation right, of those present", _checked(there, "relation"))
    rows += share_row(name, "asked place right, of those present", _checked(there, "zone"))
    rows += share_row(name, "background right, of those present", _checked(there, "background"))
    both = (v.checks["background"] and v.checks.get("relation", True) for v in there)
    return rows + share_row(name, "relation and background right, of those present", both)


def edit_rows(name: str, checks: dict[str, str], verdicts: Sequence[Verdict]) -> list[Row]:
    """Known tokens identical, and what is new as asked for: all, and by what the prompt tells.

    Args:
        name: of the group of rows.
        checks: check -> what it says, in words.
        verdicts: on one task.
    """
    rows = share_row(name, "known tokens identical", _checked(verdicts, "identical"))
    for check, words in checks.items():
        rows += share_row(name, words, _checked(verdicts, check))
        rows += _edit_details(name, check, words, verdicts)
    return rows


def _edit_details(name: str, check: str, words: str, verdicts: Sequence[Verdict]) -> list[Row]:
    rows = []
    for about in sorted({verdict.case.truth["about"] for verdict in verdicts}):
        some = [verdict for verdict in verdicts if verdict.case.truth["about"] == about]
        told = f"{words}; prompt tells of: {about}"
        rows += share_row(name, told, _checked(some, check), detail=True)
    for wording in ("trained", "held out"):
        some = _where(verdicts, "wording", wording)
        rows += share_row(name, f"{words}; {wording} wordings", _checked(some, check), detail=True)
    return rows


def message_rows(evaluation: Evaluation) -> list[Row]:
    """Mean bytes of whole messages, with their header, by task and direction."""
    rows = []
    for task in DRAWN:
        sizes = [v.record.bytes for v in evaluation.of(task) if v.record.bytes]
        for way in ("up", "down"):
            values = [float(size[way]) for size in sizes if way in size]
            rows += mean_row(f"bytes {task}", f"mean, whole message {way}", values, "B")
    return rows


def smear_rows(counts: Sequence[int]) -> list[Row]:
    """How often tokens look out of place; `counts` holds one number a picture, see `smears`."""
    name = "text to image"
    rows = mean_row(name, "tokens that look out of place, a picture", counts, "tokens")
    many = (count >= MANY for count in counts)
    return rows + share_row(name, f"pictures with {MANY} or more such tokens", many)


def wholeness_rows(offs: Sequence[float]) -> list[Row]:
    """How many objects are drawn whole; `offs` holds `wholeness.share_off` of each."""
    name = f"objects drawn whole: at most {MOST_OFF:.0%} of their area off"
    return share_row("text to image", name, (off <= MOST_OFF for off in offs))


def speed_rows(evaluation: Evaluation) -> list[Row]:
    """Medians of the wall clock of real requests, and of the server's model."""
    rows = []
    for task in TASKS:
        spent = [v.record.seconds for v in evaluation.of(task) if v.record.seconds]
        for key, words in (("total", "median, whole request"), ("model", "median, model")):
            values = [seconds[key] for seconds in spent if key in seconds]
            if values:
                median = statistics.median(values)
                rows.append(Row(f"speed {task}", words, f"{median:.2f} s", len(values), median))
    return rows


def scene_pictures(world: World, renderer: Renderer, count: int, seed: int) -> np.ndarray:
    """Held-out scenes, uint8 [N, H, W, 3]."""
    rng = np.random.default_rng((seed, 100))
    return np.stack([renderer.render(world.sample_scene(rng, "test")) for _ in range(count)])


def centre_crops(folder: Path, side: int = 256) -> np.ndarray:
    """The middle of every photograph of a folder at its own scale, uint8 [N, side, side, 3]."""
    crops = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        crops.append(np.asarray(picture.crop((left, top, left + side, top + side))))
    return np.stack(crops)


def psnr_row(name: str, pictures: np.ndarray, outputs: np.ndarray) -> Row:
    """Mean over pictures of the PSNR, with a 95 % interval of the mean."""
    values = [psnr(a, b) for a, b in zip(pictures, outputs, strict=True)]
    return mean_row("tokenizer", f"PSNR, {name}", values, "dB")[0]


def tokenizer_rows(
    tokenizer: CompactTokenizer, sources: dict[str, np.ndarray], shards: Sequence[Path]
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """PSNR by source, the share of codes in use, and the codes [N, h, w] of each source."""
    rows, codes = [], {}
    used = np.zeros(CODES, dtype=bool)
    for name, pictures in sources.items():
        codes[name], outputs = reconstruct(tokenizer, pictures)
        rows.append(psnr_row(name, pictures, outputs))
        used[codes[name]] = True
    pictures_read = sum(len(pictures) for pictures in sources.values())
    for path in shards:
        grids = np.load(path)
        used[grids] = True
        pictures_read += len(grids)
    words = f"share of {CODES:,} codes in use on {pictures_read:,} pictures"
    share = float(used.mean())
    return [*rows, Row("codebook", words, f"{share:.1%}", pictures_read, share)], codes


def entropy_rows(
    models: EntropyModels,
    sampler: Sampler,
    domains: dict[str, tuple[list[Picture], np.ndarray]],
    seed: int,
) -> list[Row]:
    """Bits saved by the best scenario against uniform coding and against order 0.

    Args:
        domains: name -> pictures, and (V,) counts of codes behind the order-0 code.
    """
    rows = []
    for domain, (pictures, counts) in domains.items():
        for stream in STREAMS if pictures else ():
            found = measure(domain, stream, pictures, models, sampler, static_costs(counts), seed)
            known = {k: bits for k, bits in found.bits.items() if bits is not None}
            best = min(bits for k, bits in known.items() if k not in ("uniform", "order-0"))
            saved = {k: 1 - best / known[k] for k in ("uniform", "order-0")}
            text = (
                f"{best:.2f} bits a token; saves {saved['uniform']:.1%} of {known['uniform']:.0f}, "
                f"{saved['order-0']:.1%} of order 0 ({known['order-0']:.2f})"
            )
            name = f"entropy, {domain}"
            rows.append(Row(name, stream, text, found.tokens, saved["uniform"]))
    return rows


def generated_pictures(evaluation: Evaluation) -> list[Picture]:
    """Token grids that the backbone drew from prompts, with their prompts."""
    return [
        Picture(
            np.array(verdict.record.tokens, dtype=np.int32),
            text=verdict.case.prompt,
            scenario=Scenario.ADAPTED,
        )
        for verdict in evaluation.of("t2i")
        if verdict.record.tokens
    ]


def _where(verdicts: Sequence[Verdict], key: str, value: str) -> list[Verdict]:
    return [verdict for verdict in verdicts if getattr(verdict.case, key) == value]


def _checked(verdicts: Iterable[Verdict], check: str) -> list[bool]:
    return [verdict.checks[check] for verdict in verdicts if check in verdict.checks]
