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
from PIL import Image

from edge_client.client import Interaction
from edge_client.exchange.label_names import Label
from edge_client.pictures.edits import (
    Look,
    Wish,
    for_inpainting,
    for_outpainting,
    for_question,
    parse_ratio,
)
from edge_client.pictures.mask_files import Mask, box_shapes, draw_shapes, load_mask_file
from edge_client.pictures.opening import Photo
from edge_client.pictures.outputs import check_output, destination, save_source
from edge_client.pictures.pasting import inpainted, outpainted
from edge_client.pictures.sources import Source, full_image
from edge_client.session.cost import TurnCost
from shared_protocol.errors import InvalidInputError, MaskError
from shared_protocol.labels import USUAL_TOP
from shared_protocol.messages import Options
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


class Labels(Answer):
    """What a picture shows, the likeliest first, as words such as "fox 93 %, hat 0.6 %".

    Attributes:
        labels: the same as values.
    """

    labels: tuple[Label, ...]

    @classmethod
    def of(cls, done: Interaction, told: Sequence[str], window: tuple[int, int] | None) -> Labels:
        """Those of an interaction, with warnings about its input."""
        words = ", ".join(map(str, done.labels))
        made = cls(words, TurnCost.of(done), (*done.warnings, *told), window)
        made.labels = done.labels
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
        tokens: (H, W) codes of what the model knows of it.
        source: the photo that it comes from, with all edits in full size.
        name: the file that it came from, or what made it.
        warnings: what the user should know about how it was made.
        cost: of the turn that made it; None for one that was opened.
    """

    session: Session = field(repr=False)
    tokens: ImageTokens
    source: Source = field(repr=False)
    name: str = ""
    warnings: tuple[str, ...] = ()
    cost: TurnCost | None = None

    @cached_property
    def pixels(self) -> Pixels:
        """(height, width, 3) uint8 RGB, as decoded from the tokens: what the model sees."""
        return self.session.bundle.image_tokenizer().detokenize(self.tokens)

    @property
    def full(self) -> Pixels:
        """(height, width, 3) uint8 RGB in full size: the photo with all edits in it."""
        return np.asarray(full_image(self.source)[0].convert("RGB"))

    def thumbnail(self, side: int = 512) -> Pixels:
        """(h, w, 3) uint8 RGB of all of it, its longer side `side` pixels at most."""
        image = full_image(self.source)[0].convert("RGB")
        image.thumbnail((side, side))
        return np.asarray(image)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of the picture in full size."""
        return self.source.size

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
            window: (top, left) in tokens of the part that is looked at, where the tokens are more
                than the model sees at once; None = the middle.
            max_new_tokens: longest answer; None = the bundle's.
            seed: equal seeds give equal answers.

        Raises:
            PromptError: the question is empty or too long.
            UnimicError: what else went wrong, typed; so do all methods that ask the cloud.
        """
        options = Options(seed=seed, max_new_tokens=max_new_tokens)
        seen, corner, told = self._window(window)
        done = self.session.client.vqa(seen, question, options)
        cost = TurnCost.of(done)
        answer = Answer(done.answer or "", cost, (*done.warnings, *told), corner)
        self.session.note(Turn("vqa", question, self, answer, cost))
        return answer

    def classify(
        self,
        top: int = USUAL_TOP,
        *,
        window: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> Labels:
        """What the picture shows: the `top` likeliest labels of those that the cloud knows.

        Args:
            top: how many, 1..255.
            window: see `ask`.
            seed: has no influence unless tokens are left out.

        Raises:
            InvalidInputError: `top` is out of range, or the cloud cannot classify.
        """
        seen, corner, told = self._window(window)
        labels = Labels.of(self.session.client.classify(seen, top, seed=seed), told, corner)
        self.session.note(Turn("classify", f"top {top}", self, labels, labels.cost))
        return labels

    def inpaint(  # noqa: PLR0913 - what, where, and options by name
        self,
        where: Where,
        prompt: str = "",
        *,
        around: float | None = None,
        edge: float | None = None,
        negative: str = "",
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        mend: int | None = None,
    ) -> Picture:
        """The picture with a part repainted; see `Where` for what may name the part.

        Args:
            where: the part.
            prompt: what it, or the whole picture, shows; none = what is there is removed.
            around: look only at the part and so much around it, as a share of its size.
            edge: width of the soft edge in pixels of the picture; None = half a token.
            negative: what the new part is not to show.
            seed: equal seeds give equal results.
            steps: decoding steps; None = the bundle's.
            guidance: weight of the prompt; None = the bundle's.
            mend: how often it is mended at most; None = as the server does.

        Raises:
            MaskError: it names nothing.
        """
        self.source.check_editable()
        options = Options(steps=steps, guidance=guidance, seed=seed, mend=mend)
        mask = self._mask(where)
        if isinstance(where, TokenMask):
            picture, flags = self.source.seen(), where
            told: list[str] = []
        else:
            picture, flags, told = for_inpainting(self.source, mask, Look(around=around))
        done = self.session.client.inpaint(picture.content, flags, prompt, options, None, negative)
        assert done.pixels is not None, "the task makes a picture"
        assert done.response.image is not None, "the task makes a picture"
        step = inpainted(done.pixels, picture, mask, flags, edge)
        told = [*told, *picture.told(self.session.bundle.stride)]
        made = self.source.edited(step, done.response.image, picture.geometry)
        return self.session.made(done, prompt, self, made, told)

    def outpaint(  # noqa: PLR0913 - four sides, and options by name
        self,
        prompt: str = "",
        *,
        left: int | str = 0,
        right: int | str = 0,
        up: int | str = 0,
        down: int | str = 0,
        to: str | None = None,
        edge: float | None = None,
        negative: str = "",
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        mend: int | None = None,
    ) -> Picture:
        """The picture continued on some sides.

        Args:
            prompt: what the extended picture shows.
            left, right, up, down: token columns or rows, or "25%" or "64px" of the picture.
            to: the shape that is to come out instead, such as "16:9".
            edge: width of the soft edge in pixels of the picture; None = half a token.
            negative: what the new part is not to show.
            seed: equal seeds give equal results.
            steps: decoding steps; None = the bundle's.
            guidance: weight of the prompt; None = the bundle's.
            mend: how often it is mended at most; None = as the server does.
        """
        self.source.check_editable()
        options = Options(steps=steps, guidance=guidance, seed=seed, mend=mend)
        sides = {"left": str(left), "right": str(right), "up": str(up), "down": str(down)}
        wish = Wish(sides, None if to is None else parse_ratio(to))
        grown = for_outpainting(self.source, wish, Look())
        seen, extension = grown.picture.content, grown.extension
        done = self.session.client.outpaint(seen, extension, prompt, options, None, negative)
        assert done.pixels is not None, "the task makes a picture"
        assert done.response.image is not None, "the task makes a picture"
        stride = self.session.bundle.stride
        step, geometry = outpainted(done.pixels, grown.picture, grown.extension, stride, edge)
        made = grown.source.edited(step, done.response.image, geometry)
        return self.session.made(done, prompt, self, made, grown.warnings)

    def save(
        self, path: str | Path, *, tokens: bool = True, native: bool = False, force: bool = False
    ) -> list[Path]:
        """Write the picture in full size, and its tokens in it and beside it.

        Args:
            path: ends in .png, .jpg or .webp; a file there is replaced.
            tokens: whether they are kept.
            native: write what the tokens decode to instead, as the model sees it.
            force: overwrite even the photo that it was made from.

        Returns:
            What was written.

        Raises:
            ImageError: the path ends in no format that can be written, or cannot be written.
        """
        target = Path(path)
        check_output(target)
        source = self.source.native() if native else self.source
        base = self.source.base
        reads = (None if base is None else base.path,)
        saved = save_source(destination(target, target, reads, force), source, tokens)
        return [saved.path] if saved.tokens is None else [saved.path, saved.tokens]

    def _window(
        self, corner: tuple[int, int] | None
    ) -> tuple[Pixels | ImageTokens, tuple[int, int] | None, list[str]]:
        """What a question is about, where it begins if it is not all, and warnings."""
        (height, width), native = self.tokens.shape, self.session.bundle.grid
        if (height, width) == native and corner is None:
            picture, told = for_question(self.source, Look())
            # What falls away was told when the picture was opened.
            return picture.content, None, [line for line in told if line not in self.warnings]
        top, left = corner or ((height - native[0]) // 2, (width - native[1]) // 2)
        if not (0 <= top <= height - native[0] and 0 <= left <= width - native[1]):
            raise InvalidInputError(
                f"the window at {top},{left} is not inside {height}x{width} tokens",
                f"the model looks at {native[0]}x{native[1]} of them at once",
            )
        codes = self.tokens.codes[top : top + native[0], left : left + native[1]]
        told = [
            f"the answer is about columns {left}..{left + native[1] - 1}, rows "
            f"{top}..{top + native[0] - 1} of {width}x{height} tokens, since the model looks at "
            f"{native[1]}x{native[0]} at once"
        ]
        return ImageTokens(codes, self.tokens.codebook_size), (top, left), told

    def _mask(self, where: Where) -> Mask:
        width, height = self.size
        if isinstance(where, TokenMask):
            return Mask(Image.new("L", (width, height), 255), "the mask")
        if isinstance(where, (str, Path)):
            photo = self.source.photo or Photo(
                self.name, Image.new("RGB", (width, height)), (width, height)
            )
            return load_mask_file(Path(where), photo)
        if isinstance(where, np.ndarray):
            return Mask(Image.fromarray(_mask_pixels(where, (height, width))), "the mask")
        return draw_shapes(box_shapes(_boxes(where)), self.name, (width, height))


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
