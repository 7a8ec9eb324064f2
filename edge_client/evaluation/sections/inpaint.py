"""Text-guided inpainting (the paper's Table III): cost, quality, and what happens to the rest."""

from __future__ import annotations

import numpy as np

from edge_client.evaluation.context import Context, Section, Tile
from edge_client.evaluation.interactions import (
    case_mask,
    result_pixels,
    run_task,
    source_pixels,
)
from edge_client.evaluation.tables.preserved import preserved_table
from edge_client.evaluation.tables.quality import Pairs, quality_table
from edge_client.evaluation.tables.rates import parts_plot, rate_table, scenario_note

TITLE = "Text-guided inpainting"


def run(context: Context) -> Section:
    """Run the task's cases and measure them."""
    talks = run_task(context, "inpaint")
    tokenizer = context.bundle.image_tokenizer()
    results, originals, tokenised, outside = [], [], [], []
    for talk in context.track(talks, "inpaint pictures"):
        original = source_pixels(context, talk.case)
        mask = case_mask(context, talk.case)
        assert mask is not None, "every case of this task repaints something"
        results.append(result_pixels(context, talk))
        originals.append(original)
        tokenised.append(tokenizer.detokenize(tokenizer.tokenize(original)))
        outside.append(~np.kron(mask.flags, np.ones((tokenizer.stride,) * 2, dtype=bool)))
    texts = [talk.case.prompt for talk in talks]
    quality = quality_table(
        "inpaint-quality",
        "Quality of the result",
        [
            Pairs("original", results, originals, texts=texts),
            Pairs("original, outside the mask", results, originals, outside),
            Pairs("tokenised original, outside the mask", results, tokenised, outside),
            Pairs("(tokenised original against original)", tokenised, originals),
        ],
    )
    preserved = preserved_table(
        "inpaint-preserved",
        "Tokens outside the mask after the interaction",
        talks,
        (
            "Pixels outside the mask can differ although their tokens do not: the decoder looks at "
            "neighbouring tokens.",
        ),
    )
    pixels = originals[0].shape[0] * originals[0].shape[1]
    return Section(
        "inpaint",
        TITLE,
        (
            rate_table("inpaint-rate", "Bytes of an inpainting", talks, pixels),
            quality,
            preserved,
        ),
        (parts_plot("inpaint", TITLE, talks),),
        tuple(
            (
                Tile(context.picture(talk.case), "original"),
                Tile(talk.picture(context.out), talk.case.prompt),
            )
            for talk in talks
        ),
        (scenario_note(talks),),
    )
