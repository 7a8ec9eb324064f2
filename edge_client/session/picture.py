"""Pictures and answers of a session, as values for programs.

It does not know how a turn travels, nor how a session keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from edge_client.client import Interaction
from edge_client.pictures import images
from edge_client.pictures.masks import token_mask
from edge_client.pictures.sources import save_result
from edge_client.session.cost import TurnCost
from shared_protocol.errors import InvalidInputError, MaskError
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens, TokenMask

if TYPE_CHECKING:
    from edge_client.session.session import Session

Box = tuple[int, int, int, int]
Where = Box | Sequence[Box] | TokenMask | npt.NDArray[Any] | str | Path
"""What is to be repainted: boxes (x, y, width, height) in pixels of the picture, tokens, an (H, W)
array (booleans, or uint8 with white = repaint) or a picture file of such."""


class Answer(str):
    """Words, with what they cost.

    Attributes:
        cost: of the turn.
        warnings: what the user should know.
        window: (top, left) in tokens of the part that was looked at; None = the whole picture.
    """

    cost: TurnCost
    warnings: tuple[str, ...]
    window: tuple[int, int] | None

    def __new__(
        cls,
        text: str,
        cost: TurnCost,
        warnings: tuple[str, ...] = (),
        window: tuple[int, int] | None = None,
    ) -> Self:
        """See the class."""
        made = super().__new__(cls, text)
        made.cost, made.warnings, made.window = cost, warnings, window
        return made


@dataclass(frozen=True)
class Turn:
    """One turn that was answered.

    Args:
        task: its name, such as "vqa".
        text: prompt or question.
        source: the picture that it was about, if any.
        result: a picture or an answer.
        cost: see `TurnCost`.
    """

    task: str
    text: str
    source: Picture | None
    result: Picture | Answer
    cost: TurnCost


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a session; it never changes, an edit makes another.

    Attributes:
        session: which it belongs to.
        tokens: (H, W) codes.
        name: the file that it came from, or what made it.
        warnings: what the user should know about how it was made.
        cost: of the turn that made it; None for one that was opened.
    """

    session: Session = field(repr=False)
    tokens: ImageTokens
    name: str = ""
    warnings: tuple[str, ...] = ()
    cost: TurnCost | None = None
    opened: images.Picture | None = field(default=None, repr=False)

    @cached_property
    def pixels(self) -> Pixels:
        """(height, width, 3) uint8 RGB, as decoded from the tokens."""
        return self.session.bundle.image_tokenizer().detokenize(self.tokens)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        stride = self.session.bundle.stride
        return self.tokens.shape[1] * stride, self.tokens.shape[0] * stride

    def ask(
        self,
        question: str,
        *,
        window: tuple[int, int] | None = None,
        max_new_tokens: int | None = None,
        seed: int = 0,
    ) -> Answer:
        """An answer in words; the model sees the picture and this one question, nothing before it.

        Args:
            question: in words.
            window: (top, left) in tokens of the part that is looked at, where the picture is larger
                than the model's own; None = the middle.
            max_new_tokens: longest answer; None = the bundle's.
            seed: equal seeds give equal answers.

        Raises:
            PromptError: the question is empty or too long.
            UnimicError: what else went wrong, typed; so do all methods that ask the cloud.
        """
        seen, corner = self._window(window)
        options = Options(seed=seed, max_new_tokens=max_new_tokens)
        done = self.session.client.vqa(seen, question, options)
        cost, warnings = TurnCost.of(done), done.warnings
        if corner is not None:
            height, width = seen.shape
            warnings = (
                *warnings,
                f"the answer is about columns {corner[1]}..{corner[1] + width - 1}, rows "
                f"{corner[0]}..{corner[0] + height - 1} of {self.tokens.shape[1]}x"
                f"{self.tokens.shape[0]} tokens, since the model looks at {width}x{height} at once",
            )
        answer = Answer(done.answer or "", cost, warnings, corner)
        self.session.note(Turn("vqa", question, self, answer, cost))
        return answer

    def inpaint(
        self,
        where: Where,
        prompt: str,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Picture:
        """The picture with a part repainted; see `Where` for what may name the part.

        Raises:
            MaskError: it names nothing.
        """
        mask = self._mask(where)
        options = Options(steps=steps, guidance=guidance, seed=seed)
        return self._made(self.session.client.inpaint(self.tokens, mask, prompt, options), prompt)

    def outpaint(  # noqa: PLR0913 - four sides, and options by name
        self,
        prompt: str,
        *,
        left: int = 0,
        right: int = 0,
        up: int = 0,
        down: int = 0,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Picture:
        """The picture continued by so many token columns and rows on each side."""
        extension = Extension(left, right, up, down)
        options = Options(steps=steps, guidance=guidance, seed=seed)
        done = self.session.client.outpaint(self.tokens, extension, prompt, options)
        return self._made(done, prompt)

    def save(self, path: str | Path, *, tokens: bool = True) -> list[Path]:
        """Write the picture, and its tokens in it and beside it; returns what was written.

        Raises:
            ImageError: the path ends in no format that can be written, or cannot be written.
        """
        kept = self.tokens if tokens else None
        return save_result(Path(path), self.pixels, kept, self.session.bundle)

    def _made(self, done: Interaction, prompt: str) -> Picture:
        return self.session.made(done, prompt, self)

    def _window(self, corner: tuple[int, int] | None) -> tuple[ImageTokens, tuple[int, int] | None]:
        """The part that a question is about, and where it begins if it is not all."""
        (height, width), native = self.tokens.shape, self.session.bundle.grid
        if (height, width) == native:
            return self.tokens, None
        top, left = corner or ((height - native[0]) // 2, (width - native[1]) // 2)
        if not (0 <= top <= height - native[0] and 0 <= left <= width - native[1]):
            raise InvalidInputError(
                f"the window at {top},{left} is not inside {height}x{width} tokens",
                f"the model looks at {native[0]}x{native[1]} of them at once",
            )
        codes = self.tokens.codes[top : top + native[0], left : left + native[1]]
        return ImageTokens(codes, self.tokens.codebook_size), (top, left)

    def _mask(self, where: Where) -> TokenMask:
        if isinstance(where, TokenMask):
            return where
        width, height = self.size
        plain = images.Picture(
            self.name, np.zeros((height, width, 3), np.uint8), images.Geometry(self.size, self.size)
        )
        picture = self.opened or plain
        if isinstance(where, (str, Path)):
            pixels = images.load_mask(Path(where), picture)
        elif isinstance(where, np.ndarray):
            pixels = _mask_pixels(where, (height, width))
        else:
            pixels = images.box_mask(_boxes(where), picture)
        return token_mask(pixels, self.tokens.shape)


def _boxes(where: Box | Sequence[Box]) -> list[Box]:
    given: Any = where
    boxes = [given] if len(given) == 4 and not hasattr(given[0], "__len__") else list(given)
    if not boxes or any(not hasattr(box, "__len__") or len(box) != 4 for box in boxes):
        raise MaskError(f"{where!r} is no box", "give (x, y, width, height), or several of them")
    return [(int(x), int(y), int(wide), int(high)) for x, y, wide, high in boxes]


def _mask_pixels(mask: npt.NDArray[Any], shape: tuple[int, int]) -> Pixels:
    if mask.shape != shape or mask.dtype not in (np.bool_, np.uint8):
        raise MaskError(
            f"the mask is {mask.dtype} of shape {mask.shape}",
            f"give booleans or uint8 of shape {shape}",
        )
    return np.where(mask, 255, 0).astype(np.uint8) if mask.dtype == np.bool_ else mask
