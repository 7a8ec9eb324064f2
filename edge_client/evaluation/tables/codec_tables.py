"""Tables and figures of the four tasks by tokens and by pixel codecs (Tables II to V, Figs. 10-13).

It asks no server: a record has the numbers, and the pictures of each stage lie beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_client.evaluation import metrics
from edge_client.evaluation.context import Case, Cell, Context, Table, Tile
from edge_client.evaluation.metrics import optional, wilson
from edge_client.evaluation.pixel_loop.pipeline import (
    CLOUD_GEN,
    CLOUD_REC,
    set_up,
    stage_path,
)
from edge_client.evaluation.tables.comparing import (
    fid_cell,
    frechet_cell,
    interval,
    lpips_or_none,
    mean,
    mean_psnr,
    mean_score,
    read_pixels,
)
from edge_client.evaluation.tables.quality import SKIPPED, available
from edge_client.pictures.contact_sheet import contact_sheet
from edge_client.pictures.images import load_picture
from edge_client.pictures.outputs import save_picture
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags

Found = Sequence[Mapping[str, Any]]
CAPTIONS = "describe"
"""Kind of question whose answers are captions."""
UP = ("PSNR up, dB", "ST-LPIPS up", "LPIPS up")
DOWN = ("PSNR down, dB", "ST-LPIPS down", "LPIPS down")
KEPT = ("PSNR kept, dB", "95 % interval")
WHOLE = ("Frechet", "FID", "CLIP-T")
ANSWERS = ("exact match", "95 % interval of it", "BLEU-4", "ROUGE-L", "CIDEr-D")
RATES = (
    "method",
    "cases",
    "bpp up",
    "bpp down",
    "bpp total",
    "body bytes up",
    "body bytes down",
)
COLUMNS = {
    "t2i": (*RATES, *DOWN, *WHOLE),
    "inpaint": (*RATES, *UP, *DOWN, *KEPT, *WHOLE, "R-CLIP-I"),
    "outpaint": (*RATES, *UP, *DOWN, *KEPT, *WHOLE),
    "vqa": (*RATES, *UP, *ANSWERS),
}
"""Those of the paper's Tables II, III, IV and V, and more."""


@dataclass(frozen=True)
class Shelf:
    """Where the pictures of the section lie, and what they are compared with.

    Args:
        context: of the run.
        folder: of the section's pictures.
        real: source pictures of the data, as a set.
    """

    context: Context
    folder: Path
    real: Sequence[Pixels]

    def picture(self, one: Mapping[str, Any]) -> Path:
        """The result that the edge shows."""
        return result_path(self.folder, str(one["method"]), str(one["case"]))

    def case(self, one: Mapping[str, Any]) -> Case:
        """The case of a record."""
        return next(case for case in self.context.data.cases if case.id == one["case"])

    def source(self, one: Mapping[str, Any]) -> Pixels:
        """The picture of its case, as the model sees it."""
        height, width = self.context.picture_size
        return load_picture(self.context.picture(self.case(one)), height, width).pixels


def result_path(folder: Path, method: str, case: str) -> Path:
    """Where a method's result of a case is kept.

    >>> result_path(Path("out"), "vvc, section VI-A", "a").as_posix()
    'out/vvc-section-VI-A/a.png'
    """
    name = method.replace(", ", "-").replace(" ", "-").replace("/", "-")
    return folder / name / f"{case}.png"


def task_table(task: str, found: Found, methods: Sequence[str], shelf: Shelf) -> Table:
    """One row for each method that has a record."""
    height, width = shelf.context.picture_size
    rows = []
    for method in methods:
        mine = [one for one in found if one["method"] == method]
        if mine:
            rows.append(tuple(_cell(column, method, mine, shelf) for column in COLUMNS[task]))
    return Table(
        f"codecs-{task}",
        f"{task} by tokens and by pixels",
        COLUMNS[task],
        tuple(rows),
        (
            f"bpp: bits of pictures and masks over {width}x{height} pixels, without text, framing "
            "and what the codecs' receivers could know beforehand; body bytes: whole HTTP bodies.",
            "up: the picture that the cloud sees against the source (of tokens, all of them drawn, "
            "though those under a mask are not sent); down: the picture that the edge shows "
            "against the one that the cloud made; kept: the part of the result that was to stay as "
            "it was, against the source.",
            f"Frechet: distance of EfficientNet-Lite0 features, not FID, of the results from the "
            f"{len(shelf.real)} source pictures of the data; compare within this table only.",
        ),
    )


def _cell(column: str, method: str, found: Found, shelf: Shelf) -> Cell:
    if column == "method":
        return method
    for group in (_rates, _ways, _kept, _whole, _answers):
        measures = group(found, shelf)
        if column in measures:
            return measures[column]()
    raise AssertionError(f"no measure for {column!r}")


Measures = dict[str, Callable[[], Cell]]


def _rates(found: Found, shelf: Shelf) -> Measures:
    height, width = shelf.context.picture_size
    scale = 8 / (height * width)
    up = mean_bytes(found, "up_picture", "up_mask") * scale
    down = mean_bytes(found, "down_picture") * scale
    return {
        "cases": lambda: len(found),
        "bpp up": lambda: up,
        "bpp down": lambda: down,
        "bpp total": lambda: up + down,
        "body bytes up": lambda: mean_bytes(found, "up_body"),
        "body bytes down": lambda: mean_bytes(found, "down_body"),
    }


def mean_bytes(found: Found, *names: str) -> float:
    """Mean of the sum of some parts."""
    return mean(float(sum(one["bytes"][name] for name in names)) for one in found) or 0.0


def _ways(found: Found, shelf: Shelf) -> Measures:
    measures: Measures = {}
    for way in ("up", "down"):
        measures[f"PSNR {way}, dB"] = lambda way=way: mean_psnr(  # type: ignore[misc]
            one[way] for one in found
        )
        measures[f"ST-LPIPS {way}"] = lambda way=way: mean_score(  # type: ignore[misc]
            (one[way] for one in found), "st_lpips"
        )
    measures["LPIPS up"] = lambda: lpips_or_none(
        [(seen, shelf.source(one)) for one, seen in _stage(found, shelf, CLOUD_REC)]
    )
    measures["LPIPS down"] = lambda: lpips_or_none(
        [(read_pixels(shelf.picture(one)), made) for one, made in _stage(found, shelf, CLOUD_GEN)]
    )
    return measures


def _stage(found: Found, shelf: Shelf, stage: str) -> list[tuple[Mapping[str, Any], Pixels]]:
    """The records that have a picture of this stage, with it."""
    return [
        (one, read_pixels(stage_path(shelf.picture(one), stage)))
        for one in found
        if one.get("stages", {}).get(stage)
    ]


def _kept(found: Found, shelf: Shelf) -> Measures:
    kept = [one["kept"] for one in found]
    numbers = [one["psnr"] for one in kept if one is not None and one["psnr"] is not None]
    return {"PSNR kept, dB": lambda: mean_psnr(kept), "95 % interval": lambda: interval(numbers)}


def _whole(found: Found, shelf: Shelf) -> Measures:
    drawn = [one for one in found if one["picture"]]

    def made() -> list[Pixels]:
        return [read_pixels(shelf.picture(one)) for one in drawn]

    def told() -> Cell:
        return optional.clip_t(made(), [shelf.case(one).prompt for one in drawn])

    def kept() -> Cell:
        parts: list[Flags] = []
        for one in drawn:
            known = set_up(shelf.context, shelf.case(one)).known
            assert known is not None, "asked of inpainting only"
            parts.append(known)
        return optional.r_clip_i(made(), [shelf.source(one) for one in drawn], parts)

    return {
        "Frechet": lambda: frechet_cell(made(), shelf.real),
        "FID": lambda: fid_cell(made(), shelf.real),
        "CLIP-T": lambda: told() if drawn else SKIPPED,
        "R-CLIP-I": lambda: kept() if drawn else SKIPPED,
    }


def _answers(found: Found, shelf: Shelf) -> Measures:
    judged = [one["right"] for one in found if one["right"] is not None]
    share = wilson(sum(judged), len(judged)) if judged else None
    captioned = [
        (str(one["answer"] or ""), case.answers)
        for one in found
        if (case := shelf.case(one)).kind == CAPTIONS and case.answers
    ]
    captions, references = [c for c, _ in captioned], [r for _, r in captioned]

    def scored(metric: Callable[..., float]) -> Cell:
        return available(lambda: metric(captions, references)) if captioned else SKIPPED

    return {
        "exact match": lambda: SKIPPED if share is None else share.value,
        "95 % interval of it": lambda: (
            SKIPPED if share is None else f"{share.low:.2f} to {share.high:.2f}"
        ),
        "BLEU-4": lambda: scored(metrics.bleu),
        "ROUGE-L": lambda: scored(metrics.rouge_l),
        "CIDEr-D": lambda: scored(metrics.cider_d),
    }


# ------------------------------------------------------------------------------------------------
# Pictures
# ------------------------------------------------------------------------------------------------


def example_row(shelf: Shelf, found: Found) -> tuple[Tile, ...]:
    """The results of one case, a tile a method."""
    return tuple(_tile(shelf, one) for one in found)


def _tile(shelf: Shelf, one: Mapping[str, Any]) -> Tile:
    size = one["bytes"]
    caption = f"{one['case']}, {one['method']}: {size['up_body']} B up, {size['down_body']} B down"
    return Tile(shelf.picture(one), caption)


def stage_sheet(shelf: Shelf, found: Found, target: Path) -> Path:
    """Figs. 10 to 13: source, cloud reconstruction, cloud generation and result of one case.

    Args:
        shelf: where the pictures lie.
        found: the records of the case, a row each.
        target: the file.
    """
    rows = [row for one in found if (row := _stages(shelf, one))]
    if rows:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_picture(target, contact_sheet(rows))
    return target


def _stages(shelf: Shelf, one: Mapping[str, Any]) -> list[Tile]:
    case, kept = shelf.case(one), one.get("stages", {})
    span = _span(case)
    tiles = [Tile(shelf.context.picture(case), "source")] if case.image else []
    if kept.get(CLOUD_REC):
        seen = stage_path(shelf.picture(one), CLOUD_REC)
        answer = f": {one['answer']}" if one["answer"] is not None else ""
        tiles.append(Tile(seen, f"{one['method']}, cloud reconstruction{answer}"))
    if kept.get(CLOUD_GEN):
        made = stage_path(shelf.picture(one), CLOUD_GEN)
        tiles.append(Tile(made, f"{one['method']}, cloud generation", span))
    if one["picture"]:
        tiles.append(Tile(shelf.picture(one), f"{one['method']}, result", span))
    return tiles


def _span(case: Case) -> int:
    """Tiles that an extended picture is wide; a tile is about a native picture."""
    extend = case.extend or {}
    return 2 if extend.get("left", 0) + extend.get("right", 0) else 1
