"""Questions about pictures (the paper's Table V): cost, and how many are answered right."""

from __future__ import annotations

from collections.abc import Sequence

from edge_client.evaluation import grading, metrics
from edge_client.evaluation.context import Context, Section, Tile
from edge_client.evaluation.interactions import Talk, load_pixels, run_task
from edge_client.evaluation.metrics import wilson
from edge_client.evaluation.tables.quality import Pairs, available, quality_table
from edge_client.evaluation.tables.rates import parts_plot, rate_table, scenario_note
from edge_client.evaluation.tables.results import Cell, Plot, Series, Table

TITLE = "Visual question answering"
CAPTIONS = "describe"
"""Kind of question whose answers are captions."""


def run(context: Context) -> Section:
    """Run the task's cases and measure them."""
    talks = run_task(context, "vqa")
    asked = list(dict.fromkeys(context.picture(talk.case) for talk in talks))
    originals = [load_pixels(context, path) for path in context.track(asked, "vqa pictures")]
    tokenizer = context.bundle.image_tokenizer()
    seen = [tokenizer.detokenize(tokenizer.tokenize(pixels)) for pixels in originals]
    pixels = originals[0].shape[0] * originals[0].shape[1]
    tables = [
        rate_table("vqa-rate", "Bytes of a question", talks, pixels),
        quality_table(
            "vqa-pictures",
            "What the cloud is asked about",
            [Pairs("(tokenised original against original)", seen, originals)],
        ),
    ]
    graded = [talk for talk in talks if talk.case.answers]
    notes = [scenario_note(talks)]
    plots = [parts_plot("vqa", TITLE, talks)]
    if graded:
        tables += [exact_match_table(graded), caption_table(graded)]
        plots.append(_kinds_plot(graded))
    else:
        notes.append("The data have no reference answers, so no answer is graded.")
    examples = tuple(
        tuple(
            Tile(context.picture(talk.case), f"{talk.case.prompt} {talk.record.answer}")
            for talk in talks[start : start + 4]
        )
        for start in range(0, min(8, len(talks)), 4)
    )
    return Section(
        "vqa",
        TITLE,
        tuple(table for table in tables if table.rows),
        tuple(plots),
        examples,
        tuple(notes),
    )


def is_right(talk: Talk) -> bool:
    """Whether the answer is one of those accepted, see `grading`."""
    return grading.is_right(talk.case, talk.record.answer)


def exact_match_table(talks: Sequence[Talk]) -> Table:
    """Share of right answers, in all, by wording and by kind."""
    groups = {"all": list(talks)}
    for talk in talks:
        if talk.case.wording:
            groups.setdefault(f"wording: {talk.case.wording}", []).append(talk)
    for talk in sorted(talks, key=lambda talk: talk.case.kind):
        groups.setdefault(f"kind: {talk.case.kind or 'not said'}", []).append(talk)
    rows: list[tuple[Cell, ...]] = []
    for name, group in groups.items():
        right = sum(map(is_right, group))
        found = wilson(right, len(group))
        rows.append((name, len(group), right, found.value, found.low, found.high))
    columns = ("questions", "asked", "right", "share", "95 % from", "to")
    note = (
        "Exact match with an accepted answer, case and punctuation aside; of POPE, whether it was "
        "denied or affirmed rightly. Wilson intervals."
    )
    return Table("vqa-exact-match", "Answers", columns, tuple(rows), (note,))


def caption_table(talks: Sequence[Talk]) -> Table:
    """Captions against reference captions; no rows without any."""
    captioned = [talk for talk in talks if talk.case.kind == CAPTIONS]
    captions = [talk.record.answer or "" for talk in captioned]
    references = [talk.case.answers for talk in captioned]
    columns = ("captions", "number", "BLEU-4", "ROUGE-L", "CIDEr-D")
    if not captioned:
        return Table("vqa-captions", "Captions", columns, ())
    row = (
        f"kind: {CAPTIONS}",
        len(captioned),
        available(lambda: metrics.bleu(captions, references)),
        available(lambda: metrics.rouge_l(captions, references)),
        available(lambda: metrics.cider_d(captions, references)),
    )
    return Table("vqa-captions", "Captions", columns, (row,))


def _kinds_plot(talks: Sequence[Talk]) -> Plot:
    kinds = sorted({talk.case.kind or "not said" for talk in talks})
    shares = [
        100.0 * sum(map(is_right, group)) / len(group)
        for kind in kinds
        if (group := [talk for talk in talks if (talk.case.kind or "not said") == kind])
    ]
    return Plot(
        "vqa-kinds",
        "Questions answered right",
        "kind of question",
        "right, %",
        (Series("right", kinds, shares),),
        "bar",
    )
