"""Questions answered from what a neck makes of a picture's tokens, where the model reads features.

It does not know messages, settings or which encoder the features are of. Show-o's variants named
w-clip-vit read CLIP features; a neck gives them from tokens, so that no pixels are needed::

    AnswerWork ─ codes ─► neck ─► rest of CLIP ─► features ─┐
               └ question, framed ──────────────────────────┴─► ClipAnswerer ─► AnswerResult
    all other work ─────────────────────────────────────────────► the engine
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cloud_server.generation.backbone.checkpoint import load_clip_projector
from cloud_server.generation.backbone.clip import QUESTION, SYSTEM_PROMPT, ClipAnswerer
from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.backbone.showo import ShowoBackbone
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.work import AnswerResult, AnswerWork, PictureResult, filling
from cloud_server.generation.work import Result as AnyResult
from cloud_server.generation.work import Work as AnyWork
from cloud_server.necks.classifier import FeatureNeck
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.errors import CheckpointError, InternalError
from shared_protocol.messages import OnStep


class Engine(Protocol):
    """What does all other work."""

    def run(
        self, requests: Sequence[AnyWork], on_step: OnStep | None = None
    ) -> Sequence[AnyResult]: ...


@dataclass(frozen=True)
class Asking:
    """How a question is put to the answerer, in ids.

    Attributes:
        system: of `clip.SYSTEM_PROMPT`.
        frame: around the question, `clip.QUESTION` without it.
        eot_id: ends an answer.
    """

    system: tuple[int, ...]
    frame: QuestionFrame
    eot_id: int


class FeatureAnswers:
    """An engine that also answers, with a neck and a model over features.

    Args:
        inner: does all other work.
        answerer: the model.
        neck: tokens to the features that it reads.
        asking: how it is asked.
    """

    def __init__(
        self, inner: Engine, answerer: ClipAnswerer, neck: FeatureNeck, asking: Asking
    ) -> None:
        self._inner, self._answerer = inner, answerer
        self._neck, self._asking = neck, asking

    def run(
        self, requests: Sequence[AnyWork], on_step: OnStep | None = None
    ) -> Sequence[AnyResult]:
        """See `Engine.run` of the engine; questions are answered one by one."""
        questions = [request for request in requests if isinstance(request, AnswerWork)]
        if not questions:
            return self._inner.run(requests, on_step)
        answers = []
        for number, question in enumerate(questions, 1):
            answers.append(self._answer(question))
            if on_step is not None:
                on_step(number, len(questions))
        return answers

    def _answer(self, question: AnswerWork) -> AnswerResult:
        codes = self._whole(question)
        features = self._neck.features(codes.reshape(1, -1).astype(np.int64))[0]
        framed = self._asking.frame.wrap(question.text_ids.astype(np.int64))
        ids = self._answerer.answer(
            features, self._asking.system, framed.tolist(), question.max_new_tokens
        )
        finished = bool(ids) and ids[-1] == self._asking.eot_id
        kept = ids[:-1] if finished else ids
        return AnswerResult(np.array(kept, dtype=np.int64), finished)

    def _whole(self, question: AnswerWork) -> np.ndarray:
        """The picture's codes, what is missing made up without words."""
        if question.missing is None:
            return question.codes
        fill = filling(question.codes, question.missing, question.seed)
        made = self._inner.run([fill])[0]
        if not isinstance(made, PictureResult):
            raise InternalError("the engine filled no picture")
        return made.codes


def answers_from_features(
    engine: Engine, bundle: Bundle, path: Path, backbone: Backbone, neck: FeatureNeck
) -> FeatureAnswers:
    """The engine with an answerer over the features that the neck makes of tokens.

    Raises:
        CheckpointError: the weights do not read features of the neck's width.
    """
    if not isinstance(backbone, ShowoBackbone):
        raise CheckpointError(f"the weights at {path} read no features", "leave out the neck")
    like = backbone.phi.lm_head.weight
    projector = load_clip_projector(path, device=str(like.device), dtype=like.dtype)
    width = neck.features(np.zeros((1, math.prod(bundle.grid)), np.int64)).shape[-1]
    if projector[0].in_features != width:
        raise CheckpointError(
            f"the weights at {path} read features of {projector[0].in_features} channels, the "
            f"neck gives {width}",
            "use a neck into the encoder that they were trained with",
        )
    answerer = ClipAnswerer(backbone.phi, projector, bundle.vocabulary, bundle.eot_id)
    before, after = QUESTION.split("{}")
    system, *frame = (
        tuple(int(index) for index in bundle.text_tokenizer.encode(text).ids)
        for text in (SYSTEM_PROMPT, before, after)
    )
    asking = Asking(system, QuestionFrame(*frame), bundle.eot_id)
    return FeatureAnswers(engine, answerer, neck, asking)
