"""A loaded model: everything that serving needs at hand, behind protocols.

It does not know how it was loaded, nor what it is used for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cloud_server.generation.work import AnswerWork, Result, Work
from cloud_server.necks.classifier import Classifier
from cloud_server.serving.admission.price import Effort
from cloud_server.serving.translation import ServedBundle
from shared_protocol.errors import InvalidInputError
from shared_protocol.labels import LabelSet
from shared_protocol.messages import OnStep
from shared_protocol.tasks import TABLE, Scenario, Task


class Runner(Protocol):
    """The part of `engine.Engine` that serving needs."""

    def run(self, requests: Sequence[Work], on_step: OnStep | None = None) -> Sequence[Result]: ...


class PicturesOnly:
    """A runner whose model cannot answer questions from tokens.

    Show-o's variants named w-clip-vit were trained to answer from CLIP features of the picture's
    pixels, and pixels never reach a server here; their pictures are made from tokens as ever.

    Args:
        inner: runs all other requests.
        weights: what to call the model in the error.
    """

    def __init__(self, inner: Runner, weights: str) -> None:
        self._inner = inner
        self._weights = weights

    def run(self, requests: Sequence[Work], on_step: OnStep | None = None) -> Sequence[Result]:
        """See `Engine.run`.

        Raises:
            InvalidInputError: a question.
        """
        if any(isinstance(request, AnswerWork) for request in requests):
            raise InvalidInputError(
                f"the weights {self._weights} answer questions from CLIP features of pixels, and "
                "only tokens travel here",
                "start the server with a neck into that CLIP, or ask one that holds "
                "showlab/show-o or showlab/show-o-512x512",
            )
        return self._inner.run(requests, on_step)


class LabelsOnly:
    """A runner for a bundle without a transformer, beside whose neck it refuses all else."""

    def run(self, requests: Sequence[Work], on_step: OnStep | None = None) -> Sequence[Result]:
        """Refuse.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError(
            "this server has no transformer for its bundle: it names what whole pictures show, and "
            "makes, changes and answers nothing",
            "ask it to classify without leaving tokens out, or have it started with --backbone",
        )


@dataclass(frozen=True)
class SharedFile:
    """A file that both ends must hold.

    Args:
        path: where it is.
        sha256: what its content was when the model was loaded, 64 hex digits.
    """

    path: Path
    sha256: str


@dataclass(frozen=True)
class Neck:
    """What classifies the pictures of a bundle by their tokens.

    Args:
        classifier: the neck with its encoder.
        labels: what it tells apart.
    """

    classifier: Classifier
    labels: LabelSet


@dataclass(frozen=True)
class LoadedModel:
    """Everything that is loaded, ready to serve.

    Args:
        bundle: what both ends share.
        engine: the model.
        device: where the model runs, in words.
        max_batch: most requests in one pass.
        scenarios: the entropy models of the bundle.
        entropy: what /v1/info says about the entropy models.
        manifest: the bundle's manifest, the bytes that its fingerprint is the SHA-256 of.
        files: what the manifest names, for edges that lack it.
        effort: what the engine does about a picture besides drawing it once.
        stub: whether there is no model, see `cloud_server.stub`.
        typing: what the bundle tells edges beyond its fingerprint, see `bundles.manifest.Typing`.
        neck: what names labels; None = nothing does.
        labels_only: whether there is no transformer, see `LabelsOnly`.
    """

    bundle: ServedBundle
    engine: Runner
    device: str
    max_batch: int
    scenarios: Sequence[Scenario]
    entropy: Mapping[str, Any]
    manifest: bytes = b""
    files: Mapping[str, SharedFile] = field(default_factory=dict)
    typing: Mapping[str, str] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)
    stub: bool = False
    neck: Neck | None = None
    labels_only: bool = False

    @property
    def labels(self) -> LabelSet | None:
        """What it tells apart; None where nothing classifies."""
        return None if self.neck is None else self.neck.labels

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it does: all of Table I, but for labels without a neck, or labels alone."""
        labels, rest = self.neck is not None, not self.labels_only
        return tuple(t for t, row in TABLE.items() if (labels if row.answers_in_labels else rest))
