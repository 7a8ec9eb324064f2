"""Words to ids for training batches, and a question with its answer as ids.

It does not know scenes or batches. The frame around a question is the one that serving uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

QUESTION_BEFORE = "USER: \n"
QUESTION_AFTER = " ASSISTANT:"
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Turn:
    """A question with its frame, and its answer with its eot, as ids."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt + self.answer


class WordCoder:
    """Text to ids with the text tokenizer's file."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        end = self._tokenizer.token_to_id(END_OF_TEXT)
        if end is None:
            raise ValueError(f"{path} has no {END_OF_TEXT}")
        self.eot_id = int(end)
        self.size = int(self._tokenizer.get_vocab_size())
        self.before = self.encode(QUESTION_BEFORE)
        self.after = self.encode(QUESTION_AFTER)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))
