"""What turns cost, as clients of OpenAI read it (`usage`), and in bytes (`unimic`).

It does not measure anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_client.session.cost import TurnCost


def usage(costs: Sequence[TurnCost]) -> dict[str, Any]:
    """Tokens that the model read and made, as of `/v1/images`."""
    text_in, image_in = (
        sum(cost.text_read for cost in costs),
        sum(cost.image_read for cost in costs),
    )
    text_out, image_out = (
        sum(cost.text_made for cost in costs),
        sum(cost.image_made for cost in costs),
    )
    return {
        "input_tokens": text_in + image_in,
        "input_tokens_details": {"image_tokens": image_in, "text_tokens": text_in},
        "output_tokens": text_out + image_out,
        "output_tokens_details": {"image_tokens": image_out, "text_tokens": text_out},
        "total_tokens": text_in + image_in + text_out + image_out,
    }


def chat_usage(costs: Sequence[TurnCost]) -> dict[str, Any]:
    """The same as of `/v1/chat/completions`."""
    found = usage(costs)
    details_in, details_out = found["input_tokens_details"], found["output_tokens_details"]
    return {
        "prompt_tokens": found["input_tokens"],
        "completion_tokens": found["output_tokens"],
        "total_tokens": found["total_tokens"],
        "prompt_tokens_details": {**details_in, "cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {**details_out, "reasoning_tokens": 0, "audio_tokens": 0},
    }


def response_usage(costs: Sequence[TurnCost]) -> dict[str, Any]:
    """The same as of `/v1/responses`."""
    found = usage(costs)
    found["input_tokens_details"]["cached_tokens"] = 0
    found["output_tokens_details"]["reasoning_tokens"] = 0
    return found


def bytes_of(
    costs: Sequence[TurnCost], seconds: float, warnings: Sequence[str], **more: Any
) -> dict[str, Any]:
    """Bytes both ways, and what else an answer says in its field `unimic`.

    Args:
        costs: of the turns.
        seconds: from the request to the answer.
        warnings: what the user should know.
        **more: further fields.
    """
    return {
        "bytes_up": sum(cost.payload_up for cost in costs),
        "bytes_down": sum(cost.payload_down for cost in costs),
        "wire_up": sum(cost.all_up for cost in costs),
        "wire_down": sum(cost.all_down for cost in costs),
        "progress": sum(cost.progress for cost in costs),
        "image_tokens_sent": sum(cost.image_sent for cost in costs),
        "seconds": round(seconds, 3),
        "warnings": list(dict.fromkeys(warnings)),
        **more,
    }
