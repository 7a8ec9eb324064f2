"""Responses in OpenAI's form: the whole object, and the events by which it comes about.

It does not know how an answer or a picture is made.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

from edge_client.gateway.problems import Problem
from edge_client.gateway.replies.chat_routes import unimic_of as unimic_of_words
from edge_client.gateway.replies.following import sse
from edge_client.gateway.replies.image_routes import packed64, told_of, unimic_of
from edge_client.gateway.requests.messages import CALL
from edge_client.gateway.requests.response_request import ResponseWish
from edge_client.gateway.work.costs import response_usage
from edge_client.gateway.work.maker import Made, Partial
from edge_client.session.cost import TurnCost


class ResponseWriter:
    """Writes one response.

    Args:
        wish: what was asked.
        model: who answers.

    Attributes:
        name: of the response.
        item: of its only item.
    """

    def __init__(self, wish: ResponseWish, model: str) -> None:
        self.name = f"resp_{secrets.token_hex(16)}"
        self.item = f"{CALL}{secrets.token_hex(16)}"
        self._message = f"msg_{secrets.token_hex(16)}"
        self._wish = wish
        self._model = model
        self._created = int(time.time())

    def call(self, status: str, made: Made | None = None) -> dict[str, Any]:
        """A call of the tool, with its picture where there is one already."""
        head = {"id": self.item, "type": "image_generation_call", "status": status}
        tool = self._wish.tool
        if made is None or tool is None:
            return {**head, "result": None}
        told = {**head, "result": packed64(made.round.data), "revised_prompt": tool.prompt}
        return {**told, **told_of(made, tool)}

    def message(self, status: str, text: str | None = None) -> dict[str, Any]:
        """A message, with its words where they are there already."""
        content = [] if text is None else [self.part(text)]
        head = {"id": self._message, "type": "message", "status": status}
        return {**head, "role": "assistant", "content": content}

    def part(self, text: str) -> dict[str, Any]:
        """The words of a message."""
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def items(self, result: Any) -> list[dict[str, Any]]:
        """What a response holds, of a result that is pictures or an answer."""
        if isinstance(result, list):
            return [self.call("completed", result[-1])]
        return [self.message("completed", result.texts[0])]

    def whole(
        self, result: Any = None, items: Sequence[Any] = (), status: str = "completed", **more: Any
    ) -> dict[str, Any]:
        """The response.

        Args:
            result: pictures or an answer; None = not yet.
            items: what it holds.
            status: "in_progress", "completed" or "failed".
            **more: fields that are other than usual.
        """
        wish = self._wish
        told: dict[str, Any] = {
            "id": self.name,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "max_output_tokens": wish.most,
            "model": self._model,
            "output": list(items),
            "parallel_tool_calls": False,
            "previous_response_id": wish.previous,
            "reasoning": {"effort": None, "summary": None},
            "store": wish.store,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "top_p": None,
            "truncation": "disabled",
            "usage": None,
            "user": None,
            "metadata": {},
            **wish.echo,
        }
        if result is not None:
            told["usage"] = response_usage(_costs(result))
            told["unimic"] = self._unimic(result)
        return {**told, **more}

    def _unimic(self, result: Any) -> dict[str, Any]:
        if not isinstance(result, list):
            return unimic_of_words(result)
        assert self._wish.tool is not None, "pictures are made with the tool only"
        told = unimic_of(result, self._wish.tool)
        warnings = [*self._wish.warnings, *told["warnings"]]
        return {**told, "warnings": list(dict.fromkeys(warnings))}


class ResponseEvents:
    """A response as events.

    Args:
        writer: writes it.
    """

    def __init__(self, writer: ResponseWriter) -> None:
        self._writer = writer
        self._count = 0
        self._calling = False

    def begin(self) -> Iterable[bytes]:
        """It was taken."""
        whole = self._writer.whole(status="in_progress")
        yield self._event("created", response=whole)
        yield self._event("in_progress", response=whole)

    def take(self, event: Any) -> Iterable[bytes]:
        """Pictures, on the way and finished."""
        if not isinstance(event, (Partial, Made)):
            return
        yield from self._call()
        here = {"output_index": 0, "item_id": self._writer.item}
        if isinstance(event, Partial):
            yield self._event(
                "image_generation_call.partial_image",
                **here,
                partial_image_index=event.index,
                partial_image_b64=packed64(event.data),
                size=f"{event.size[0]}x{event.size[1]}",
            )
            return
        yield self._event("image_generation_call.completed", **here)
        item = self._writer.call("completed", event)
        yield self._event("output_item.done", output_index=0, item=item)

    def end(self, result: Any) -> Iterable[bytes]:
        """Words, and that is all."""
        items = self._writer.items(result)
        if not isinstance(result, list):
            yield from self._words(result.texts[0], items[0])
        yield self._event("completed", response=self._writer.whole(result, items))

    def fail(self, problem: Problem) -> Iterable[bytes]:
        """It failed."""
        error = {"code": problem.code, "message": problem.message}
        whole = self._writer.whole(status="failed", error=error)
        yield self._event("failed", response=whole)
        self._count += 1
        told = {"type": "error", "sequence_number": self._count, **error, "param": problem.param}
        yield sse({**told, **problem.body}, "error")

    def _call(self) -> Iterable[bytes]:
        """The tool was called; said once."""
        if self._calling:
            return
        self._calling = True
        here = {"output_index": 0, "item_id": self._writer.item}
        item = self._writer.call("in_progress")
        yield self._event("output_item.added", output_index=0, item=item)
        yield self._event("image_generation_call.in_progress", **here)
        yield self._event("image_generation_call.generating", **here)

    def _words(self, text: str, item: dict[str, Any]) -> Iterable[bytes]:
        writer = self._writer
        here = {"output_index": 0, "content_index": 0, "item_id": item["id"]}
        empty = writer.message("in_progress")
        yield self._event("output_item.added", output_index=0, item=empty)
        yield self._event("content_part.added", **here, part=writer.part(""))
        yield self._event("output_text.delta", **here, delta=text, logprobs=[])
        yield self._event("output_text.done", **here, text=text, logprobs=[])
        yield self._event("content_part.done", **here, part=writer.part(text))
        yield self._event("output_item.done", output_index=0, item=item)

    def _event(self, name: str, **more: Any) -> bytes:
        kind = f"response.{name}"
        told = {"type": kind, "sequence_number": self._count, **more}
        self._count += 1
        return sse(told, kind)


def _costs(result: Any) -> list[TurnCost]:
    if isinstance(result, list):
        return [cost for made in result for cost in made.costs]
    return list(result.costs)
