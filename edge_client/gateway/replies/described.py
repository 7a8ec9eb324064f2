"""What the gateway says of itself at `/openapi.json`.

It does not check anything; `requests` does.
"""

from __future__ import annotations

from typing import Any

from edge_client.gateway.requests.picture_wish import MOST_PARTIALS, MOST_PICTURES
from shared_protocol.http.contract import HEALTH_PATH, JSON_TYPE
from shared_protocol.messages import MAX_GUIDANCE, MAX_MENDS, MAX_STEPS

_TEXT: dict[str, Any] = {"type": "string"}
_PICTURE = {"type": "string", "format": "binary"}
_UNIMIC: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "Options of this gateway; in a form as JSON, or as parts named unimic[steps].",
    "properties": {
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
        "steps": {"type": "integer", "minimum": 1, "maximum": MAX_STEPS},
        "guidance": {"type": "number", "minimum": 0, "maximum": MAX_GUIDANCE},
        "mend": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_MENDS,
            "description": "how often a picture that does not show what was asked is mended",
        },
        "negative_prompt": {"type": "string", "description": "what the picture is not to show"},
        "around": {
            "type": ["number", "boolean"],
            "description": "edits: look only at the masked part and so much around it",
        },
        "edge": {"type": "number", "description": "edits: width of the soft edge in pixels"},
        "fit": {
            "enum": ["crop", "pad", "stretch"],
            "description": "questions: how a picture of another shape becomes the model's square",
        },
        "round": {"type": "string", "description": "edits: a picture that was made here, by name"},
    },
}
_COST: dict[str, Any] = {
    "type": "object",
    "description": "what an answer cost",
    "properties": {
        "bytes_up": {"type": "integer", "description": "coded messages that left the device"},
        "bytes_down": {"type": "integer"},
        "wire_up": {"type": "integer", "description": "every byte of the link, openings included"},
        "wire_down": {"type": "integer"},
        "progress": {"type": "integer", "description": "bytes of progress and previews, of those"},
        "image_tokens_sent": {"type": "integer", "description": "0 where the cloud had them"},
        "seconds": {"type": "number"},
        "warnings": {"type": "array", "items": _TEXT},
        "round": {"type": ["string", "null"], "description": "name of the picture"},
        "rounds": {"type": "array", "items": _TEXT},
        "seeds": {"type": "array", "items": {"type": "integer"}},
    },
}
_LOOKS: dict[str, Any] = {
    "model": _TEXT,
    "prompt": _TEXT,
    "n": {"type": "integer", "minimum": 1, "maximum": MOST_PICTURES},
    "size": {"type": "string", "description": "auto, or WIDTHxHEIGHT in multiples of 16"},
    "quality": {"enum": ["auto", "low", "medium", "high", "standard", "hd", "xhigh", "max"]},
    "output_format": {"enum": ["png", "jpeg", "webp"]},
    "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
    "response_format": {"enum": ["b64_json", "url"]},
    "background": {"enum": ["auto", "opaque"]},
    "stream": {"type": "boolean"},
    "partial_images": {"type": "integer", "minimum": 0, "maximum": MOST_PARTIALS},
    "seed": {"type": "integer"},
    "unimic": _UNIMIC,
}


def description(model: str, keyed: bool) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        model: what the only model is called.
        keyed: whether a key is asked for.
    """
    paths: dict[str, Any] = {
        "/v1/images/generations": _post("A picture from a prompt", _LOOKS, ["prompt"]),
        "/v1/images/edits": _post(
            "A picture with its transparent part made anew, or continued beyond its edges",
            {**_LOOKS, "image": _PICTURE, "mask": _PICTURE},
            ["prompt"],
            "multipart/form-data",
        ),
        "/v1/chat/completions": _post(
            "An answer to a question about a picture",
            {"model": _TEXT, "messages": {"type": "array"}, "stream": {"type": "boolean"},
             "unimic": _UNIMIC},
            ["messages"],
        ),
        "/v1/responses": _post(
            "An answer, or a picture as a call of the tool image_generation",
            {"model": _TEXT, "input": {"type": ["string", "array"]}, "tools": {"type": "array"},
             "previous_response_id": _TEXT, "stream": {"type": "boolean"}, "unimic": _UNIMIC},
            ["input"],
        ),
        "/v1/images/{id}/content": _get("A picture that was made here", "id"),
        "/v1/models": _get(f"The only model, {model}"),
        "/v1/models/{id}": _get("One model", "id"),
        "/v1/unimic/about": _get("Which model and cloud, and the model's token grid"),
        "/v1/unimic/rounds": _get("Pictures that were made here, the oldest first"),
        "/v1/unimic/desk": _get("Rounds and turns of the page on this device, with their bytes"),
        HEALTH_PATH: _get("Whether the gateway is there; asks nothing of the cloud"),
    }  # fmt: skip
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "UniMIC gateway",
            "version": "1",
            "description": "The OpenAI API on this device; entropy-coded tokens leave it.",
        },
        "paths": paths,
    }
    if keyed:
        bearer = {"type": "http", "scheme": "bearer"}
        found["components"] = {"securitySchemes": {"key": bearer}}
        found["security"] = [{"key": []}]
    return found


def _post(
    summary: str, fields: dict[str, Any], required: list[str], kind: str = JSON_TYPE
) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields, "required": required}
    body = {"required": True, "content": {kind: {"schema": schema}}}
    return {"post": {"summary": summary, "requestBody": body, "responses": _replies(True)}}


def _get(summary: str, parameter: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": summary, "responses": _replies(False)}
    if parameter is not None:
        place = {"name": parameter, "in": "path", "required": True, "schema": _TEXT}
        found["parameters"] = [place]
    return {"get": found}


def _replies(costs: bool) -> dict[str, Any]:
    error = {"type": "object", "properties": {"error": {"type": "object"}}}
    failed = {"description": "OpenAI's error", "content": {JSON_TYPE: {"schema": error}}}
    done: dict[str, Any] = {"description": "Done"}
    if costs:
        schema = {"type": "object", "properties": {"unimic": _COST}}
        done["content"] = {JSON_TYPE: {"schema": schema}}
    return {"200": done, "default": failed}
