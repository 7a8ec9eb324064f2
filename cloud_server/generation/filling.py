"""Answers questions about pictures of which the edge left tokens out: fills them in, then answers.

It does not know messages or networks, only engine requests; an engine reads whole pictures, so that
a question about an incomplete one takes two passes.

::

    FilledAnswerRequest ── fill: inpaint the dropped tokens ──► codes ── answer ──► AnswerResult
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cloud_server.generation import engine

Run = Callable[[Sequence[engine.Request], engine.OnStep | None], Sequence[engine.Result]]


@dataclass(frozen=True, eq=False)
class FilledAnswerRequest:
    """A question about a picture with gaps.

    Args:
        fill: an inpainting of the gaps.
        answer: the question; its codes count only where `fill` makes none anew.
    """

    fill: engine.GenerationRequest
    answer: engine.AnswerRequest


Request = engine.Request | FilledAnswerRequest


class FillingRunner:
    """Runs batches of either kind on an engine.

    Args:
        run: the engine's `run`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def run(
        self, requests: Sequence[Request], on_step: engine.OnStep | None = None
    ) -> Sequence[engine.Result]:
        """Run requests that share a batch key; see `engine.Engine.run`."""
        gappy = [request for request in requests if isinstance(request, FilledAnswerRequest)]
        if not gappy:
            return self._run(
                [r for r in requests if not isinstance(r, FilledAnswerRequest)], on_step
            )
        filled = self._run([request.fill for request in gappy], on_step)
        answers: list[engine.Request] = []
        for request, result in zip(gappy, filled, strict=True):
            assert isinstance(result, engine.GenerationResult)
            answers.append(replace(request.answer, codes=result.codes))
        return self._run(answers, on_step)
