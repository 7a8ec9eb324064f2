"""Text to byte-pair ids and back, around a `tokenizers` file.

It does not know special tokens of the unified vocabulary, models, nor how ids travel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared_protocol.errors import CheckpointError, ConfigError, PromptError
from shared_protocol.files import read_regular
from shared_protocol.tokens import TextTokens

END_OF_TEXT = "<|endoftext|>"
MAX_BYTES = 8 << 20
"""Of a tokenizer's file; Phi's has 2 MB."""
_LONGEST_PIECE = 256
"""Characters of the longest id; Phi has one of 128 spaces or so."""
_SPLITTERS = ("Sequence", "Split", "ByteLevel", "Digits")


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

        remedy = "use the tokenizer that belongs to the bundle, or fetch it again"
        try:
            text = read_regular(path, MAX_BYTES).decode()
            _check_kind(json.loads(text))
            with _no_panics():
                tokenizer = Tokenizer.from_str(text)
                _check_ids(tokenizer, path)
                return cls(tokenizer)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}", remedy) from error
        except (ConfigError, CheckpointError):
            raise
        except Exception as error:  # the library's errors have no base of their own
            told = f"{path} is not a tokenizer: {str(error)[:200]}"
            raise CheckpointError(told, remedy) from error

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
        with _no_panics():
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return TextTokens(ids, self._size)

    def decode(self, tokens: TextTokens) -> str:
        """The text of `tokens`; special tokens show as nothing.

        Ids that do not form whole UTF-8 characters, which `encode` never gives but a model may,
        show as U+FFFD.
        """
        with _no_panics():
            return str(self._tokenizer.decode(tokens.ids.tolist(), skip_special_tokens=True))


def _check_kind(told: Any) -> None:
    """Raise `CheckpointError` unless a file is a byte-level BPE, the one kind that bundles hold.

    Others can do anything with a text: a normalizer that replaces each character by a million is a
    few bytes of JSON, and so is an id that stands for a megabyte.
    """
    kind, splitter = told["model"].get("type"), told.get("pre_tokenizer")
    given = told.get("normalizer") or (told.get("decoder") or {}).get("type") not in (
        None,
        "ByteLevel",
    )
    fits = kind in (None, "BPE") and not given
    for each in [splitter, *((splitter or {}).get("pretokenizers") or [])]:
        fits = fits and (each is None or each["type"] in _SPLITTERS)
    pieces = [*told["model"].get("vocab", ()), *(t["content"] for t in told["added_tokens"])]
    fits = fits and max(map(len, pieces), default=0) <= _LONGEST_PIECE
    if not fits:
        raise CheckpointError(
            "the text tokenizer is no byte-level BPE without a normalizer",
            "use the tokenizer that belongs to the bundle",
        )


@contextmanager
def _no_panics() -> Iterator[None]:
    """A panic of the library, which is no `Exception`, becomes one of our errors."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(
            f"the text tokenizer is broken: {str(error)[:200]}", "fetch the bundle again"
        ) from error


def _check_ids(tokenizer: Any, path: Path) -> None:
    """Refuse ids beyond their number, which no message could carry."""
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    largest = max(ids, default=-1)
    if largest >= len(ids):
        raise CheckpointError(
            f"{path} has {len(ids)} ids, the largest of which is {largest}",
            "use a tokenizer whose ids are 0, 1, 2 and so on",
        )
