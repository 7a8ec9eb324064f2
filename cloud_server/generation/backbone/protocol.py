"""What the engine needs of a unified transformer; knows no layout of ids and no architecture."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, device

ALL = slice(None)
NOTHING = slice(0, 0)


class KeyValueCache(Protocol):
    """Keys and values of the tokens that a backbone has read, one column a token."""

    @property
    def rows(self) -> int:
        """Number of sequences."""
        ...

    def __len__(self) -> int:
        """Number of tokens read, per row."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`."""
        ...


class Backbone(Protocol):
    """A transformer over the unified vocabulary that builds no attention mask of its own."""

    @property
    def device(self) -> device:
        """Where its weights lie."""
        ...

    @property
    def pointing(self) -> tuple[int, int] | None:
        """Layer and head that look from an object's name at the object; None = none does."""
        ...

    def new_cache(self, rows: int, capacity: int) -> KeyValueCache:
        """An empty cache for `rows` sequences of at most `capacity` tokens."""
        ...

    def stacked(self, caches: Sequence[KeyValueCache], capacity: int) -> KeyValueCache:
        """A new cache that starts with copies of caches of one row and equal length each."""
        ...

    def logits(
        self,
        token_ids: Tensor,
        allow: Tensor | None,
        position_ids: Tensor,
        *,
        cache: KeyValueCache | None = None,
        rows: slice | Tensor = ALL,
        columns: slice = ALL,
    ) -> Tensor:
        """Read tokens and score what may stand at some of their positions.

        Where the cache has C = k * B rows, the same tokens are read after k pasts each: row c of
        the result is token row c mod B after past c. Without a cache, C = B.

        Args:
            token_ids: (B, L) int64 ids of the unified vocabulary.
            allow: bool, broadcastable to (C, 1, L, P + L), True where a token (row) may see
                another (column); P is the number of tokens in `cache`. None: all see all.
            position_ids: (B, L) int64.
            cache: tokens read before; extended by these L tokens.
            rows: positions, out of the L, whose logits are wanted: a slice, or (B, R) int64. What
                only other positions need is not computed.
            columns: ids, out of the vocabulary, whose logits are wanted.

        Returns:
            (C, rows, columns) float32, the caller's to overwrite.
        """
        ...

    def looks(
        self, token_ids: Tensor, allow: Tensor | None, position_ids: Tensor, cache: KeyValueCache
    ) -> Tensor:
        """Where the head `pointing` looks from each of some tokens that follow those of `cache`.

        Args:
            token_ids, allow, position_ids: as for `logits`; as many rows as the cache has.
            cache: tokens read before, with room for L more; not extended.

        Returns:
            (B, L, P + L) float32 weights, each row's sum 1.
        """
        ...
