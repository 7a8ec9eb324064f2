"""Classifies pictures beside what an engine does: fills their gaps, asks the neck, ranks labels.

It does not know how a neck computes, nor messages.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from cloud_server.generation.work import (
    FILL_STEPS,
    ClassifyWork,
    LabelsResult,
    PictureResult,
    Result,
    Work,
    filling,
)
from cloud_server.necks.classifier import Classifier, FeatureNeck, Float32Array, Int64Array
from cloud_server.serving.loaded_model import Neck, Runner
from cloud_server.settings import NECK_VARIABLE, Settings
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import CheckpointError, ConfigError, InternalError, InvalidInputError
from shared_protocol.labels import LabelSet, Ranking, level_of
from shared_protocol.messages import OnStep

logger = logging.getLogger(__name__)


def open_neck(settings: Settings, bundle: Bundle, device: str) -> Classifier | FeatureNeck | None:
    """The neck that the settings name, or the one that is shipped with the bundle; None = neither.

    Raises:
        ConfigError: there is no such file.
        CheckpointError: it is no neck, is damaged, is made for another image tokenizer or leads
            into an encoder that is not here.
    """
    # Here, not above: a server without a model classifies, too, and imports no torch.
    from cloud_server.necks.load import SHIPPED, load_neck

    path = settings.neck
    if path is None:
        if bundle.name != BUILTIN or not SHIPPED.is_file():
            return None
        path = SHIPPED
    if not path.is_file():
        raise ConfigError(
            f"there is no neck at {path}",
            f"check --neck or {NECK_VARIABLE}; 'cloud-server train neck' makes one",
        )
    tokenizer = bundle.tokenizer_fingerprint.hex()
    return load_neck(path, tokenizer_fingerprint=tokenizer, device=device)


def named(found: Classifier | FeatureNeck | None) -> Neck | None:
    """A neck that classifies, with its labels checked; None for one that does not.

    Raises:
        CheckpointError: the labels cannot be.
    """
    if not isinstance(found, Classifier):
        return None
    classifier: Classifier = found
    try:
        labels = LabelSet.of(classifier.labels)
    except InvalidInputError as error:
        raise CheckpointError(
            f"the neck {classifier.fingerprint[:16]} has {error.message}",
            error.remedy or "use another neck",
        ) from error
    logger.info("neck: %s, %d labels", classifier.fingerprint[:16], labels.count)
    return Neck(classifier, labels)


class Classifying:
    """A runner that classifies as well.

    Args:
        inner: runs all other work, and fills the gaps of pictures.
        neck: names what pictures show.
    """

    def __init__(self, inner: Runner, neck: Neck) -> None:
        self._inner = inner
        self._neck = neck

    def run(self, requests: Sequence[Work], on_step: OnStep | None = None) -> Sequence[Result]:
        """See `Engine.run`; requests to classify share one pass of the neck.

        Raises:
            InternalError: the neck gives what are no probabilities.
        """
        asked = [request for request in requests if isinstance(request, ClassifyWork)]
        if not asked:
            return self._inner.run(requests, on_step)
        report = on_step or (lambda step, total: None)
        grids = self._whole(asked, report)
        tokens: Int64Array = np.stack([grid.reshape(-1) for grid in grids]).astype(np.int64)
        rows = self._neck.classifier.classify(tokens)
        if rows.shape != (len(asked), self._neck.labels.count) or not np.isfinite(rows).all():
            raise InternalError(f"the neck gave probabilities of shape {rows.shape}, or no numbers")
        total = 1 if all(each.missing is None for each in asked) else FILL_STEPS + 1
        report(total, total)
        return [
            LabelsResult(self._ranking(row, each.top))
            for row, each in zip(rows, asked, strict=True)
        ]

    def _whole(self, asked: Sequence[ClassifyWork], report: OnStep) -> list[Int64Array]:
        """(H, W) codes of each picture, what was missing made up."""
        gaps = [
            filling(each.codes, each.missing, each.seed)
            for each in asked
            if each.missing is not None
        ]

        def filled(step: int, total: int) -> None:
            report(FILL_STEPS * step // max(1, total), FILL_STEPS + 1)

        made = iter(self._inner.run(gaps, filled) if gaps else ())
        grids = []
        for each in asked:
            result = None if each.missing is None else next(made)
            codes = result.codes if isinstance(result, PictureResult) else each.codes
            grids.append(codes.astype(np.int64))
        return grids

    def _ranking(self, row: Float32Array, top: int) -> Ranking:
        """The likeliest labels of a picture; of equally likely ones the first of the list."""
        numbers = np.argsort(-row, kind="stable")[:top].tolist()
        levels = tuple(level_of(float(row[number])) for number in numbers)
        names = tuple(self._neck.classifier.labels[number] for number in numbers)
        return Ranking(self._neck.labels, tuple(numbers), levels, names)
