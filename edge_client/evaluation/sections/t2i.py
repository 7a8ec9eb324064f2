"""Pictures from prompts (the paper's Table II): what they cost, and how they look.

Nobody knows what picture a prompt should give, so pictures are compared with the data's as a set.
What the cloud drew and what the edge shows are the same tokens: a checksum over them is in every
message, and an interaction whose checksum fails is an error, not a result.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_client.evaluation.context import Context, Section, Tile
from edge_client.evaluation.interactions import load_pixels, result_pixels, run_task
from edge_client.evaluation.tables.quality import Pairs, available, frechet, quality_table
from edge_client.evaluation.tables.rates import parts_plot, rate_table, scenario_note
from edge_client.evaluation.tables.results import Cell, Table
from shared_protocol.tokenizers.image import Pixels

TITLE = "Text to image"


def run(context: Context) -> Section:
    """Run the task's cases and measure them."""
    talks = run_task(context, "t2i")
    drawn = [result_pixels(context, talk) for talk in context.track(talks, "t2i pictures")]
    real = [load_pixels(context, path) for path in context.pictures()]
    pixels = drawn[0].shape[0] * drawn[0].shape[1]
    texts = [talk.case.prompt for talk in talks]
    pairs = Pairs("the data's pictures, as a set", drawn, texts=texts, real=real)
    distribution = _distribution(drawn, real)
    return Section(
        "t2i",
        TITLE,
        (
            rate_table("t2i-rate", "Bytes of a text to image interaction", talks, pixels),
            quality_table("t2i-quality", "What the pictures show", [pairs]),
            distribution,
        ),
        (parts_plot("t2i", TITLE, talks),),
        tuple(
            tuple(Tile(t.picture(context.out), t.case.prompt) for t in talks[start:][:4])
            for start in range(0, min(8, len(talks)), 4)
        ),
        (scenario_note(talks),),
    )


def _distribution(drawn: Sequence[Pixels], real: Sequence[Pixels]) -> Table:
    enough = min(len(drawn), len(real)) > 1
    row: tuple[Cell, ...] = (
        len(drawn),
        len(real),
        available(lambda: frechet(drawn, real)) if enough else "–",
    )
    columns = ("pictures drawn", "pictures of the data", "Frechet, EfficientNet-Lite0")
    note = "Of the pictures drawn from prompts to the source pictures of the data, as sets."
    return Table("t2i-distribution", "Distance of distributions", columns, (row,), (note,))
