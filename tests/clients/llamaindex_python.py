"""Questions about a picture with LlamaIndex, whole and as a stream."""

from __future__ import annotations

import importlib.metadata
import sys

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike
from pictures import photo, say


def main(address: str) -> None:
    version = importlib.metadata.version("llama-index-llms-openai-like")
    model = OpenAILike(
        model="unimic-builtin", api_base=f"{address}/v1", api_key="none", is_chat_model=True
    )
    blocks = [TextBlock(text="what color is the sky?"), ImageBlock(image=photo())]
    messages = [ChatMessage(role="user", blocks=blocks)]
    first = model.chat(messages).message
    say("question", bool(first.content), f"openai-like {version}: {first.content!r}")
    messages += [first, ChatMessage(role="user", content="what is it?")]
    text = "".join(chunk.delta or "" for chunk in model.stream_chat(messages))
    say("second question, stream", bool(text), repr(text))


if __name__ == "__main__":
    main(sys.argv[1])
