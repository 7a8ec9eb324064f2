"""The scenario with LiteLLM."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

import litellm
from pictures import OWN, data_url, kept_outside, mask, opened, photo, say


def main(address: str) -> None:
    place: dict[str, Any] = {"api_base": f"{address}/v1", "api_key": "none", "timeout": 300}
    model = "openai/unimic-builtin"
    version = importlib.metadata.version("litellm")
    made = litellm.image_generation(
        "a red balloon", model=model, size="512x512", extra_body={"seed": 1, "unimic": OWN}, **place
    )
    ok = opened(made.data[0].b64_json).size == (512, 512)
    say("generate", ok, f"litellm {version}")

    picture = photo()
    done = litellm.image_edit(
        image=[picture], mask=mask(), prompt="a tree", model=model, extra_body={"seed": 1}, **place
    )
    say("edit", kept_outside(picture, opened(done.data[0].b64_json)), "")

    messages: list[Any] = [
        {"role": "user", "content": [
            {"type": "text", "text": "what color is the sky?"},
            {"type": "image_url", "image_url": {"url": data_url(picture)}},
        ]}
    ]  # fmt: skip
    answer = litellm.completion(model=model, messages=messages, **place)
    words = answer.choices[0].message.content
    say("question", bool(words), repr(words))
    messages += [
        {"role": "assistant", "content": words},
        {"role": "user", "content": "what is it?"},
    ]
    chunks = list(litellm.completion(model=model, messages=messages, stream=True, **place))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    say("chat, stream", bool(text), repr(text))


if __name__ == "__main__":
    main(sys.argv[1])
