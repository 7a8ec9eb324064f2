"""The scenario with OpenAI's Python library, 2.x or 3.x."""

from __future__ import annotations

import sys
from typing import Any

import openai
from pictures import OWN, data_url, kept_outside, mask, opened, photo, say, told_bytes


def main(address: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=300)
    extra: dict[str, Any] = {"seed": 1, "unimic": OWN}
    model = client.models.list().data[0].id
    say("models", client.models.retrieve(model).id == model, f"openai {openai.__version__}")

    made = client.images.generate(
        model=model, prompt="a red balloon", n=2, size="512x512", extra_body=extra
    )
    size = opened(made.data[0].b64_json).size
    ok = size == (512, 512) and made.usage.output_tokens == 512 and len(made.data) == 2
    say("generate", ok, told_bytes(made.model_extra["unimic"]))

    picture = photo()
    for name, image in (("edit", picture), ("edit, list", [("a.png", picture, "image/png")])):
        done = client.images.edit(
            model=model, image=image, mask=mask(), prompt="a tree", extra_body=extra
        )
        ok = kept_outside(picture, opened(done.data[0].b64_json))
        say(name, ok, told_bytes(done.model_extra["unimic"]))

    messages: list[Any] = [
        {"role": "user", "content": [
            {"type": "text", "text": "what color is the sky?"},
            {"type": "image_url", "image_url": {"url": data_url(picture)}},
        ]}
    ]  # fmt: skip
    answer = client.chat.completions.create(model=model, messages=messages)
    words = answer.choices[0].message.content
    say("question", bool(words), f"{words!r}, {told_bytes(answer.model_extra['unimic'])}")
    messages += [
        {"role": "assistant", "content": words},
        {"role": "user", "content": "what is it?"},
    ]
    answer = client.chat.completions.create(model=model, messages=messages)
    told = answer.model_extra["unimic"]
    ok = told["image_tokens_sent"] == 0
    say("second question", ok, f"{answer.choices[0].message.content!r}, {told_bytes(told)}")

    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options=options
    ))  # fmt: skip
    say("chat, stream", chunks[-1].usage.total_tokens > 256, f"{len(chunks)} chunks")

    partial = {**extra, "unimic": {**OWN, "steps": 8}}
    kinds = [
        event.type
        for event in client.images.generate(
            model=model, prompt="a house", stream=True, partial_images=2, extra_body=partial
        )
    ]
    ok = kinds[-1] == "image_generation.completed" and len(kinds) > 1
    say("picture, stream", ok, f"{len(kinds) - 1} partial")

    with_tool(client, model, partial)
    try:
        client.images.edit(model=model, image=picture, prompt="x")
        say("refusal", False, "nothing was refused")
    except openai.BadRequestError as error:
        say("refusal", (error.param, error.code) == ("mask", "invalid_image_file"), error.code)


def with_tool(client: openai.OpenAI, model: str, extra: dict[str, Any]) -> None:
    """A picture by `/v1/responses`, and a question about it."""
    tools: list[Any] = [{"type": "image_generation", "partial_images": 1}]
    first = None
    kinds = []
    for event in client.responses.create(
        model=model, input="a fox", tools=tools, stream=True, extra_body=extra
    ):
        kinds.append(event.type)
        if event.type == "response.completed":
            first = event.response
    assert first is not None
    call = first.output[0]
    ok = opened(call.result).size == (256, 256) and any("partial_image" in each for each in kinds)
    say("responses, stream", ok, f"{len(kinds)} events")
    later = client.responses.create(
        model=model, input="what animal is it?", previous_response_id=first.id
    )
    told = later.model_extra["unimic"]
    ok = told["image_tokens_sent"] == 0 and bool(later.output_text)
    say("responses, question", ok, f"{later.output_text!r}, {told_bytes(told)}")


if __name__ == "__main__":
    main(sys.argv[1])
