"""How near a caption is to reference captions: BLEU-4, ROUGE-L and CIDEr-D.

It does not know pictures or models. BLEU and ROUGE-L come from `sacrebleu` and `rouge-score`;
CIDEr-D is written here, as its only package brings 100 MB of Java with it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from edge_client.evaluation.metrics.extra import extra_module
from shared_protocol.errors import InvalidInputError

ORDERS = (1, 2, 3, 4)
SIGMA = 6.0
"""Width in words of CIDEr-D's penalty on length."""
SCALE = 10.0
_WORD = re.compile(r"[a-z0-9']+")

Grams = Counter[tuple[str, ...]]


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of a whole set, lower case, sacrebleu's 13a words, 0..1.

    Args:
        captions: one for each picture.
        references: at least one for each picture; their number may differ.

    Raises:
        InvalidInputError: not one list of references for each caption.
        ConfigError: sacrebleu is not installed.
    """
    _check(captions, references)
    library = extra_module("sacrebleu", "BLEU")
    most = max(len(group) for group in references)
    streams = [[_nth(group, n) for group in references] for n in range(most)]
    return float(library.corpus_bleu(list(captions), streams, lowercase=True).score) / 100.0


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean over captions of the best ROUGE-L F1 among the references, no stemming, 0..1.

    Raises:
        InvalidInputError: not one list of references for each caption.
        ConfigError: rouge-score is not installed.
    """
    _check(captions, references)
    library = extra_module("rouge_score.rouge_scorer", "ROUGE-L")
    scorer = library.RougeScorer(["rougeL"], use_stemmer=False)
    best = [
        max(float(scorer.score(reference, caption)["rougeL"].fmeasure) for reference in group)
        for caption, group in zip(captions, references, strict=True)
    ]
    return float(np.mean(best))


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D of a set, as COCO's evaluation computes it (Vedantam et al., CVPR 2015), 0..10.

    How much an n-gram weighs depends on how many pictures of the set have it in a reference, so the
    value belongs to its set; a set of one picture has no weights and scores 0.

    Differs from COCO's: words are runs of letters, digits and apostrophes in lower case, because
    Stanford's tokeniser needs Java.

    Raises:
        InvalidInputError: not one list of references for each caption.
    """
    _check(captions, references)
    cooked = [[_grams(text) for text in group] for group in references]
    seen: Grams = Counter()
    for group in cooked:
        seen.update({gram for grams in group for gram in grams})
    scores = [
        np.mean([_similarity(_grams(caption), grams, seen, len(captions)) for grams in group])
        for caption, group in zip(captions, cooked, strict=True)
    ]
    return SCALE * float(np.mean(scores))


def _similarity(
    caption: Grams, reference: Grams, seen: Mapping[tuple[str, ...], int], n: int
) -> float:
    """Mean over orders of the clipped cosine, times the penalty on length."""
    penalty = math.exp(-((_length(caption) - _length(reference)) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for order in ORDERS:
        one, other = (_weighted(grams, order, seen, n) for grams in (caption, reference))
        dot = sum(
            min(weight, other[gram]) * other[gram] for gram, weight in one.items() if gram in other
        )
        norms = math.sqrt(sum(w * w for w in one.values()) * sum(w * w for w in other.values()))
        total += dot / norms if norms else 0.0
    return penalty * total / len(ORDERS)


def _weighted(
    grams: Grams, order: int, seen: Mapping[tuple[str, ...], int], pictures: int
) -> dict[tuple[str, ...], float]:
    """Count times inverse document frequency of the n-grams of one order."""
    return {
        gram: count * (math.log(pictures) - math.log(max(1, seen.get(gram, 0))))
        for gram, count in grams.items()
        if len(gram) == order
    }


def _grams(text: str) -> Grams:
    words = _WORD.findall(text.lower())
    return Counter(
        tuple(words[start : start + order])
        for order in ORDERS
        for start in range(len(words) - order + 1)
    )


def _length(grams: Grams) -> int:
    # COCO's code measures length in bigrams.
    return sum(count for gram, count in grams.items() if len(gram) == 2)


def _nth(group: Sequence[str], n: int) -> str:
    """The n-th reference; the last again where a picture has fewer, which changes no count."""
    return group[min(n, len(group) - 1)]


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not captions or len(captions) != len(references) or not all(references):
        raise InvalidInputError(
            f"{len(captions)} captions with {len(references)} lists of references",
            "give at least one caption, and one non-empty list of references for each",
        )
