"""One id space for text, special and image tokens; the only place with offset arithmetic.

It does not know what a token looks like as text or pixels, nor how ids travel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SPECIALS = ("pad", "soi", "eoi", "sov", "eov", "t2i", "mmu", "t2v", "v2v", "lvg")


@dataclass(frozen=True)
class Vocabulary:
    """Layout of the unified vocabulary, as in Show-o.

    ```
    0 .. text_size-1 | PAD soi eoi sov eov t2i mmu t2v v2v lvg | code 0 .. code V-1 | MASK
         text ids    |             special ids                 |     image ids      |
    ```

    Args:
        text_size: number of text ids (Show-o with Phi-1.5: 50,295).
        codebook_size: number V of image codes (MAGVIT-v2: 8,192).
    """

    text_size: int
    codebook_size: int

    def __post_init__(self) -> None:
        if self.text_size < 1 or self.codebook_size < 2:
            raise ValueError(
                f"a vocabulary needs text_size >= 1 and codebook_size >= 2, "
                f"got {self.text_size} and {self.codebook_size}"
            )

    def _special(self, name: str) -> int:
        return self.text_size + _SPECIALS.index(name)

    @property
    def pad_id(self) -> int:
        return self._special("pad")

    @property
    def soi_id(self) -> int:
        """Start of image."""
        return self._special("soi")

    @property
    def eoi_id(self) -> int:
        """End of image."""
        return self._special("eoi")

    @property
    def t2i_id(self) -> int:
        """Task token: text to image."""
        return self._special("t2i")

    @property
    def mmu_id(self) -> int:
        """Task token: multimodal understanding."""
        return self._special("mmu")

    @property
    def image_offset(self) -> int:
        """Id of image code 0."""
        return self.text_size + len(_SPECIALS)

    @property
    def mask_id(self) -> int:
        """Id that stands for an image token yet to be generated."""
        return self.image_offset + self.codebook_size

    @property
    def size(self) -> int:
        """Number of ids in all.

        >>> Vocabulary(50295, 8192).size
        58498
        """
        return self.mask_id + 1

    def codes_to_ids(self, codes: Any) -> Any:
        """Image codes (any integer array or tensor) to unified ids of the same shape."""
        return codes + self.image_offset

    def ids_to_codes(self, ids: Any) -> Any:
        """Unified image ids to codes in [0, codebook_size); the inverse of `codes_to_ids`."""
        return ids - self.image_offset
