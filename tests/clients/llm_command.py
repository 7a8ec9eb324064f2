"""The command `llm`: a question about a picture, and the conversation continued."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pictures import photo, say

MODELS = """- model_id: unimic
  model_name: unimic-builtin
  api_base: {address}/v1
  api_key_name: unimic
  vision: true
"""


def main(address: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "extra-openai-models.yaml").write_text(MODELS.format(address=address))
        (place / "photo.png").write_bytes(photo())
        environment = {**os.environ, "LLM_USER_PATH": folder}
        command = [str(Path(sys.executable).with_name("llm"))]

        def run(*words: str) -> str:
            done = subprocess.run(
                [*command, *words], env=environment, capture_output=True, text=True, check=False
            )
            return done.stdout.strip() or done.stderr.strip()[-80:] * (done.returncode == 0)

        version = importlib.metadata.version("llm")
        key = ("--key", "none", "-m", "unimic")
        first = run(*key, "what color is the sky?", "-a", str(place / "photo.png"))
        say("question", bool(first), f"llm {version}: {first!r}")
        second = run(*key, "-c", "what is it?")
        say("conversation goes on", bool(second), repr(second))


if __name__ == "__main__":
    main(sys.argv[1])
