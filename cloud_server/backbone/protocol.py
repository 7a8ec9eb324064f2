"""What the engine needs of a unified transformer; knows no layout of ids and no architecture."""

from typing import Protocol

from torch import Tensor, device

ALL = slice(None)
NOTHING = slice(0, 0)


class KeyValueCache(Protocol):
    """Keys and values of the tokens that a backbone has read, one column a token."""

    def __len__(self) -> int:
        """Number of tokens read."""
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

    def new_cache(self) -> KeyValueCache:
        """An empty cache, to be passed to `logits`."""
        ...

    def logits(
        self,
        token_ids: Tensor,
        allow: Tensor,
        position_ids: Tensor,
        *,
        cache: KeyValueCache | None = None,
        rows: slice = ALL,
        columns: slice = ALL,
    ) -> Tensor:
        """Read tokens and score what may stand at some of their positions.

        Args:
            token_ids: (B, L) int64 ids of the unified vocabulary.
            allow: (B, 1, L, P + L) bool, True where a token (row) may see another (column);
                P is the number of tokens in `cache`.
            position_ids: (B, L) int64.
            cache: tokens read before; extended by these L tokens.
            rows: positions, out of the L, whose logits are wanted.
            columns: ids, out of the vocabulary, whose logits are wanted.

        Returns:
            (B, rows, columns) float32.
        """
        ...
