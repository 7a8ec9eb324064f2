"""Text to byte-pair ids and back, around a `tokenizers` file.

It does not know special tokens of the unified vocabulary, models, nor how ids travel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared_protocol.errors import CheckpointError, ConfigError, PromptError
from shared_protocol.tokens import TextTokens

END_OF_TEXT = "<|endoftext|>"


class TextTokenizer:
    """A byte-level BPE: any Unicode text comes back byte for byte.

    Text that spells a special token, such as `<|endoftext|>`, is ordinary text here and becomes
    ordinary ids; nobody can smuggle control ids in by typing them.

    Args:
        tokenizer: a `tokenizers.Tokenizer` with an `<|endoftext|>` token.

    Raises:
        ConfigError: the tokenizer has no end-of-text token.
    """

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        end = tokenizer.token_to_id(END_OF_TEXT)
        if end is None:
            raise ConfigError(f"the text tokenizer has no {END_OF_TEXT} token")
        self._tokenizer = tokenizer
        self._eot_id = int(end)
        self._size = int(tokenizer.get_vocab_size(with_added_tokens=True))

    @classmethod
    def load(cls, path: Path) -> TextTokenizer:
        """Read a `tokenizer.json`.

        Raises:
            CheckpointError: no such file, not a tokenizer, or one whose ids leave out numbers.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        except Exception as error:
            raise CheckpointError(f"{path} is not a tokenizer: {error}") from error
        _check_ids(tokenizer, path)
        return cls(tokenizer)

    @property
    def eot_id(self) -> int:
        """Id of `<|endoftext|>`."""
        return self._eot_id

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._size

    def encode(self, text: str) -> TextTokens:
        """Ids of `text`, without any special token; empty text gives no ids.

        Raises:
            PromptError: `text` holds a lone surrogate and so is not Unicode text.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the text has a lone surrogate at position {error.start}",
                "send valid Unicode text",
            ) from error
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return TextTokens(ids, self._size)

    def decode(self, tokens: TextTokens) -> str:
        """The text of `tokens`; special tokens show as nothing.

        Ids that do not form whole UTF-8 characters, which `encode` never gives but a model may,
        show as U+FFFD.
        """
        return str(self._tokenizer.decode(tokens.ids.tolist(), skip_special_tokens=True))


def _check_ids(tokenizer: Any, path: Path) -> None:
    """Refuse ids beyond their number, which no message could carry."""
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    largest = max(ids, default=-1)
    if largest >= len(ids):
        raise CheckpointError(
            f"{path} has {len(ids)} ids, the largest of which is {largest}",
            "use a tokenizer whose ids are 0, 1, 2 and so on",
        )
