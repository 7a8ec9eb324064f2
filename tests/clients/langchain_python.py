"""Questions about a picture with LangChain: twice, the second with the first in the messages."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

from langchain_openai import ChatOpenAI
from pictures import data_url, photo, say


def main(address: str) -> None:
    version = importlib.metadata.version("langchain-openai")
    model = ChatOpenAI(
        model="unimic-builtin", base_url=f"{address}/v1", api_key="none", temperature=0
    )
    messages: list[Any] = [
        ("human", [
            {"type": "text", "text": "what color is the sky?"},
            {"type": "image_url", "image_url": {"url": data_url(photo())}},
        ])
    ]  # fmt: skip
    first = model.invoke(messages)
    say("question", bool(first.content), f"langchain-openai {version}: {first.content!r}")
    messages += [first, ("human", "what is it?")]
    text = "".join(str(chunk.content) for chunk in model.stream(messages))
    say("second question, stream", bool(text), repr(text))


if __name__ == "__main__":
    main(sys.argv[1])
