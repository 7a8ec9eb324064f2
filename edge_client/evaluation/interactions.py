"""Runs the cases of a task over the wire, once, and gives back what was asked and what came of it.

It does not judge. The records of all four tasks lie in one file, in the format of `run_cases`; each
also says how many bytes HTTP put on its connection, headers and framing included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_client.evaluation.context import Case, Context, Records
from edge_client.evaluation.data import token_mask_of
from edge_client.evaluation.run_cases import MAX_FAILURES, CaseRunner, failure_record
from edge_client.pictures.images import load_picture
from edge_client.transport.counted_http import CountedHttp
from shared_protocol.cases import CaseRecord
from shared_protocol.errors import ConfigError, UnimicError
from shared_protocol.messages import Request
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens, TokenMask

HTTP = "http"
"""Name in a record's "bytes" of what HTTP wrote and read."""


@dataclass(frozen=True)
class Talk:
    """A case and its record."""

    case: Case
    record: CaseRecord

    @property
    def bytes(self) -> dict[str, Any]:
        """Bytes by direction and part."""
        return self.record.bytes

    def picture(self, out: Path) -> Path:
        """Where the picture that was made lies; `out` is the folder of the records."""
        assert self.record.picture is not None, "asked of tasks that make pictures"
        return out / self.record.picture


def run_task(context: Context, task: str) -> list[Talk]:
    """Every case of `task` that has a result, asked now unless an earlier run did.

    Raises:
        UnimicError: nothing came of any case, or of too many one after another.
        ConfigError: the data have no case of this task.
    """
    cases = context.cases(task)
    if not cases:
        raise ConfigError(f"{context.data.folder} holds no case of {task}", "name other data")
    handler = CountedHttp()
    with context.transport(handler) as transport:
        runner = CaseRunner(
            context.bundle, transport, context.data.folder, context.out, context.steps
        )

        def ask(case: Case) -> dict[str, Any]:
            sent, received = handler.sent, handler.received
            record = runner.record(replace(case, seed=(case.seed + context.seed) % 2**32))
            counted = {"sent": handler.sent - sent, "received": handler.received - received}
            record.bytes[HTTP] = counted
            return record.to_dict()

        records = Records(runner.records.path)
        (context.out / "pictures").mkdir(parents=True, exist_ok=True)
        ask_all(context, cases, records, ask, task)
    done = ((case, good(records, case.id)) for case in cases)
    return [Talk(case, CaseRecord.from_dict(record)) for case, record in done if record]


def ask_all(
    context: Context,
    cases: list[Case],
    records: Records,
    ask: Callable[[Case], dict[str, Any]],
    label: str,
) -> None:
    """Add the record of each case that has no good one yet; failures are recorded, too.

    Raises:
        UnimicError: that of the last failure, if too many followed one another or all failed.
    """
    streak = 0
    for case in context.track(cases, label):
        if good(records, case.id):
            continue
        try:
            records.add(ask(case))
            streak = 0
        except UnimicError as error:
            records.add(failure_record(case, error).to_dict())
            streak += 1
            if streak >= min(MAX_FAILURES, len(cases)):
                raise


def good(records: Records, key: str) -> dict[str, Any] | None:
    """The record with this id if it is one of a success."""
    record = records.get(key)
    return None if record is None or record.get("error") else record


def source_pixels(context: Context, case: Case) -> Pixels:
    """The (H, W, 3) picture of a case as the edge tokenises it."""
    return load_pixels(context, context.picture(case))


def load_pixels(context: Context, path: Path) -> Pixels:
    """A picture, (H, W, 3) uint8, resized and cropped to the bundle's grid."""
    stride = context.bundle.image_tokenizer().stride
    height, width = (side * stride for side in context.bundle.grid)
    return load_picture(path, height, width).pixels


def result_pixels(context: Context, talk: Talk) -> Pixels:
    """The (H', W', 3) picture that came of a case, decoded from its tokens."""
    size = context.bundle.vocabulary.codebook_size
    tokens = ImageTokens(np.array(talk.record.tokens, dtype=np.int32), size)
    return context.bundle.image_tokenizer().detokenize(tokens)


def request_of(context: Context, case: Case) -> Request:
    """The request that the edge makes of a case."""
    text = context.bundle.text_tokenizer.encode(case.prompt)
    task = Task.named(case.task)
    if case.image is None:
        return Request(task, text, options=context.options(case))
    steps = None if task is Task.VQA else context.steps
    return Request(
        task,
        text,
        context.bundle.image_tokenizer().tokenize(source_pixels(context, case)),
        case_mask(context, case),
        None if case.extend is None else Extension(**case.extend),
        context.options(case, steps=steps),
    )


def case_mask(context: Context, case: Case) -> TokenMask | None:
    """The tokens that an inpainting repaints; None for the other tasks."""
    if not case.repaints:
        return None
    stride = context.bundle.image_tokenizer().stride
    height, width = (side * stride for side in context.bundle.grid)
    picture = load_picture(context.picture(case), height, width)
    return token_mask_of(context.data.folder, case, picture, context.bundle.grid)
