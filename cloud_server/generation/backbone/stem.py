"""A small input layer that tells each image token what stands around it on the grid.

Does not know sequences but by ids and positions. Differs from Show-o: because a network of a few
million parameters spends most of its training on finding out that the token above stands `side`
positions earlier; with this layer it is told. Show-o's own weights have none.
"""

import torch
from torch import Tensor, nn

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""(row, column) offsets of the neighbours."""
FIRST = 2
"""Position of the first image token, modulo `side`: it follows a task token and soi in a question,
and `max_text_len` (a multiple of `side`), a task token and soi in a picture."""


class NeighbourStem(nn.Module):
    """Codes around an image token, looked up in a table of their own and joined.

    ```
    1 2 3
    4 x 5   ─► 8 rows of (codes + 2, width) ─► concatenated ─► linear ─► added to x's embedding
    6 7 8
    ```

    Args:
        codes: codebook size V; ids V.. are the mask, and "no image token there".
        image_offset: unified id of code 0.
        width: of the table.
        dim: of the embeddings.
        side: grid side in tokens.
        max_positions: number of position ids.
    """

    def __init__(
        self, codes: int, image_offset: int, width: int, dim: int, side: int, max_positions: int
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(codes + 2, width)
        self.join = nn.Linear(len(AROUND) * width, dim, bias=False)
        nn.init.normal_(self.table.weight, std=0.5)
        nn.init.zeros_(self.join.weight)
        self._absent, self._offset = codes + 1, image_offset
        self._side, self._positions = side, max_positions

    def concerns(self, token_ids: Tensor) -> bool:
        """Whether there is an image token among them; to others the stem adds nothing."""
        return bool((token_ids >= self._offset).any())

    def forward(self, token_ids: Tensor, position_ids: Tensor) -> Tensor:
        """(B, L) ids and positions to (B, L, dim), zero where no image token stands."""
        rows = token_ids - self._offset
        is_image = rows >= 0
        board = self._board(rows, position_ids, is_image)
        column = (position_ids - FIRST) % self._side
        around = [
            self._neighbour(board, position_ids, column, down, right) for down, right in AROUND
        ]
        joined: Tensor = self.join(self.table(torch.stack(around, dim=-1)).flatten(-2))
        return joined * is_image[..., None]

    def _board(self, rows: Tensor, position_ids: Tensor, is_image: Tensor) -> Tensor:
        """(B, positions) table rows by position id, margins of one row and one token included."""
        length = self._positions + 2 * (self._side + 1)
        board = rows.new_full((rows.shape[0], length + 1), self._absent)
        place = torch.where(is_image, position_ids + self._side + 1, length)  # last: thrown away
        board.scatter_(1, place, torch.where(is_image, rows, self._absent))
        return board

    def _neighbour(
        self, board: Tensor, position_ids: Tensor, column: Tensor, down: int, right: int
    ) -> Tensor:
        place = position_ids + (self._side + 1 + down * self._side + right)
        beyond = (column + right < 0) | (column + right >= self._side)
        return board.gather(1, place).masked_fill(beyond, self._absent)
