"""Text-guided outpainting (the paper's Table IV): cost, quality, and what happens to the source."""

from __future__ import annotations

from edge_client.evaluation.context import Context, Section, Tile
from edge_client.evaluation.interactions import Talk, result_pixels, run_task, source_pixels
from edge_client.evaluation.tables.preserved import preserved_table
from edge_client.evaluation.tables.quality import Pairs, quality_table
from edge_client.evaluation.tables.rates import parts_plot, rate_table, scenario_note
from shared_protocol.tokenizers.image import Pixels

TITLE = "Text-guided outpainting"


def run(context: Context) -> Section:
    """Run the task's cases and measure them."""
    talks = run_task(context, "outpaint")
    tokenizer = context.bundle.image_tokenizer()
    wide, inner, originals, tokenised = [], [], [], []
    for talk in context.track(talks, "outpaint pictures"):
        original, result = source_pixels(context, talk.case), result_pixels(context, talk)
        wide.append(result)
        inner.append(source_window(result, original, talk, tokenizer.stride))
        originals.append(original)
        tokenised.append(tokenizer.detokenize(tokenizer.tokenize(original)))
    texts = [talk.case.prompt for talk in talks]
    quality = quality_table(
        "outpaint-quality",
        "Quality of the result",
        [
            Pairs("the originals, as a set (whole canvas)", wide, texts=texts, real=originals),
            Pairs("original, inside its window", inner, originals),
            Pairs("tokenised original, inside its window", inner, tokenised),
            Pairs("(tokenised original against original)", tokenised, originals),
        ],
    )
    preserved = preserved_table(
        "outpaint-preserved", "Tokens of the source after the interaction", talks
    )
    pixels = originals[0].shape[0] * originals[0].shape[1]
    return Section(
        "outpaint",
        TITLE,
        (
            rate_table("outpaint-rate", "Bytes of an outpainting", talks, pixels),
            quality,
            preserved,
        ),
        (parts_plot("outpaint", TITLE, talks),),
        tuple(
            (
                Tile(context.picture(talk.case), "original"),
                Tile(talk.picture(context.out), talk.case.prompt, _span(talk)),
            )
            for talk in talks
        ),
        (scenario_note(talks), "Bits per pixel are of the source picture's pixels."),
    )


def source_window(result: Pixels, original: Pixels, talk: Talk, stride: int) -> Pixels:
    """The part of an extended picture where its source stands."""
    extend = talk.case.extend or {}
    top, left = stride * extend.get("up", 0), stride * extend.get("left", 0)
    return result[top : top + original.shape[0], left : left + original.shape[1]]


def _span(talk: Talk) -> int:
    width, height = talk.bytes["canvas"]
    return max(1, round(float(width) / float(height)))
