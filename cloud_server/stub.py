"""A server without a model, for programs that talk to one and are tested where there is no model.

It speaks every path and every frame with the formats of the bundle; what it draws is a pattern and
what it answers a sentence, both fixed by the seed. It does not know how it is served, imports no
torch, and says of itself what it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_server.generation.work import (
    AnswerResult,
    AnswerWork,
    PictureResult,
    PictureWork,
    Result,
    Work,
    begin,
)
from cloud_server.serving.classifying import Classifying
from cloud_server.serving.loaded_model import LoadedModel, Neck, SharedFile
from cloud_server.settings import Settings
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import digests_of
from shared_protocol.labels import LabelSet
from shared_protocol.messages import OnStep
from shared_protocol.selfcheck.roundtrip import round_trip_digest

logger = logging.getLogger(__name__)

DEVICE = "stub: no model, fixed tokens"
STEP_S = 0.005
_WORDS = 6
ANSWER = "this is a stub"
"""What every question is answered with, and the seed."""


def load_stub(settings: Settings) -> LoadedModel:
    """What is served in place of a model.

    Raises:
        ConfigError: no such bundle.
        CheckpointError: files of it are missing or changed.
    """
    logger.warning("this server is a stub: it has no model, and its tokens are fixed by the seed")
    bundle = load_bundle(settings.bundle)
    digests = digests_of(bundle.manifest)
    neck = Neck(StubClassifier(), LabelSet.of(StubClassifier.labels))
    return LoadedModel(
        bundle=bundle,
        engine=Classifying(StubEngine(bundle), neck),
        device=DEVICE,
        max_batch=settings.max_batch or 1,
        scenarios=bundle.entropy.available(),
        entropy={"ok": True, "digest": round_trip_digest(bundle)},
        manifest=bundle.manifest.canonical,
        files={name: SharedFile(bundle.file(name), digest) for name, digest in digests.items()},
        typing=bundle.manifest.typing.content(),
        stub=True,
        neck=neck,
    )


class StubClassifier:
    """Finds the same labels in every picture, the first the likeliest."""

    labels = ("stub", "fixed label", "no model")
    fingerprint = "0" * 64

    def classify(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Classifier.classify`."""
        return np.tile(np.array([0.5, 0.3, 0.2], dtype=np.float32), (len(tokens), 1))


class StubEngine:
    """Runs work without a model; equal work has equal results.

    Args:
        bundle: whose tokens it gives.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def run(self, requests: Sequence[Work], on_step: OnStep | None = None) -> list[Result]:
        """See `Engine.run`; steps of progress are reported, some milliseconds apart."""
        begin("generate")
        steps = max(map(_steps_of, requests), default=0)
        for step in range(1, steps + 1):
            time.sleep(STEP_S)  # so that whoever follows the work has something to follow
            for request in requests:
                if isinstance(request, PictureWork) and request.watch is not None:
                    request.watch(self._pattern(request))
            if on_step is not None:
                on_step(step, steps)
        return [self._result(request) for request in requests]

    def _result(self, request: Work) -> Result:
        if isinstance(request, PictureWork):
            return PictureResult(self._pattern(request))
        assert isinstance(request, AnswerWork), "labels are found beside this engine"
        tokenizer = self._bundle.text_tokenizer
        ids = tokenizer.encode(f"{ANSWER} {request.seed}").ids.astype(np.int64)
        return AnswerResult(ids[: request.max_new_tokens], len(ids) <= request.max_new_tokens)

    def _pattern(self, request: PictureWork) -> NDArray[np.int64]:
        """(H, W) codes: those that are known, and stripes that the seed begins."""
        known, wanted = _canvas(request, self._bundle.grid)
        rows, columns = np.indices(known.shape)
        size = self._bundle.vocabulary.codebook_size
        stripes = (request.seed * 31 + 7 * (rows // 2) + columns // 2) % size
        return np.where(wanted, stripes, known).astype(np.int64)


def _steps_of(request: Work) -> int:
    if isinstance(request, PictureWork):
        return request.steps
    return min(_WORDS, request.max_new_tokens) if isinstance(request, AnswerWork) else 1


def _canvas(
    request: PictureWork, grid: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(H, W) codes that are known, and where there are none."""
    if request.codes is None:
        shape = request.grid or grid
        return np.zeros(shape, dtype=np.int64), np.ones(shape, dtype=bool)
    codes = request.codes.astype(np.int32)
    wanted = np.zeros(codes.shape, dtype=bool) if request.mask is None else request.mask
    if request.extension is None:
        return codes.astype(np.int64), wanted
    new = request.extension.new_positions(*codes.shape)
    inner = request.extension.place(wanted.astype(np.int32)) > 0
    return request.extension.place(codes).astype(np.int64), new | inner
