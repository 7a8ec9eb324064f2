"""One interaction, top to bottom: tokenise, exchange, detokenise.

It does not know files, terminals or links: pixels (or tokens) and words come in, pixels and words
go out, and an `Exchange` brings the response to a request.

::

    words, pixels ─ tokenise ─► Request ── encode ─► ═══╗
                                   │                    ║ exchange
    words, pixels ◄ detokenise ── Response ◄ decode ◄ ══╝
                                   merge

Ends whose entropy models disagree still get the right result; see `coded_exchange`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from edge_client.exchange.coded_exchange import (
    Exchange,
    Held,
    NamedBundle,
    SingleMessages,
    Stopwatch,
    Wire,
)
from edge_client.exchange.label_names import Label, LabelNames
from edge_client.exchange.tracing import interaction
from edge_client.rate_control import Budget, within
from edge_client.transport.base import Transport
from shared_protocol.bundles.manifest import Defaults
from shared_protocol.errors import NotFoundError, PromptError
from shared_protocol.http.contract import NO_PATH
from shared_protocol.labels import USUAL_TOP, LabelSet
from shared_protocol.message.anatomy import Anatomy
from shared_protocol.message.picture_file import PictureBundle
from shared_protocol.messages import OnStep, Options, Request, Response
from shared_protocol.tasks import TABLE, Extension, Task
from shared_protocol.tokenizers.image import ImageTokenizer, Pixels
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask, check_grid
from shared_protocol.words.known import KnownWords, unknown_warning
from shared_protocol.words.plain import MOST_CHARACTERS, plain_prompt, plain_question


class Words(Protocol):
    """Text to ids and back."""

    def encode(self, text: str) -> TextTokens:
        """Ids of `text`."""

    def decode(self, tokens: TextTokens) -> str:
        """Text of `tokens`."""


class EdgeBundle(NamedBundle, PictureBundle, Protocol):
    """What a session needs of a bundle; `bundles.Bundle` is one."""

    @property
    def text_tokenizer(self) -> Words:
        """Text to ids and back."""

    @property
    def defaults(self) -> Defaults:
        """Of what a request leaves out."""

    @property
    def reads_plain_text(self) -> bool:
        """Whether text is brought to plain form before it becomes ids."""

    @property
    def known_words(self) -> KnownWords | None:
        """What the bundle's models know; None if it does not say."""

    def image_tokenizer(self) -> ImageTokenizer:
        """Pixels to codes and back."""


@dataclass(frozen=True, eq=False)
class Interaction:
    """One interaction and everything measured on its way.

    Args:
        request: what was asked, in tokens.
        response: what was answered, in tokens.
        uplink, downlink: what the two messages are made of.
        canvas: (height, width) in pixels of the picture that the task is about.
        milliseconds: time by stage, see `report.STAGES`; stages that did not occur are missing.
        wire: every byte that moved, see `Wire`.
        opening: bytes of opening links, among all.
        progress: bytes of progress and previews, among those received.
        pixels: (H, W, 3) uint8 result, or None (VQA).
        answer: answer, or None (all but VQA).
        labels: the likeliest first; none but of CLASSIFY.
        warnings: what the user should know, in words.
    """

    request: Request
    response: Response
    uplink: Anatomy
    downlink: Anatomy
    canvas: tuple[int, int]
    milliseconds: Mapping[str, float]
    wire: Wire
    opening: Wire = field(default_factory=Wire)
    progress: int = 0
    pixels: Pixels | None = None
    answer: str | None = None
    warnings: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()

    @property
    def task(self) -> Task:
        """Which of Table I."""
        return self.request.task


class EdgeClient:
    """One user's way to a cloud.

    A picture comes as pixels (H, W, 3) uint8, or as the tokens that it is made of already. Text is
    brought to plain form where the bundle says so, and words that its models lack are warned of.

    Args:
        bundle: must be the server's, too.
        exchange: how requests are answered; a `Transport` is used for single messages.
        on_step: for a transport: called with (finished steps, all steps) while the cloud works.
        names: those of the server's labels that are known; None = none yet.
    """

    def __init__(
        self,
        bundle: EdgeBundle,
        exchange: Exchange | Transport,
        on_step: OnStep | None = None,
        names: LabelNames | None = None,
    ) -> None:
        self._bundle = bundle
        self._names = names or LabelNames()
        self._exchange: Exchange = (
            exchange
            if not isinstance(exchange, Transport)
            else SingleMessages(bundle, exchange, on_step)
        )
        self._tokenizer = bundle.image_tokenizer()

    def t2i(self, prompt: str, options: Options | None = None, negative: str = "") -> Interaction:
        """A picture from a prompt, that shows nothing `negative`, as all three that make pictures.

        Raises:
            PromptError: the prompt is empty or too long.
            UnimicError: whatever else went wrong, typed; so do all tasks.
        """
        return self._interact(_Ask(Task.T2I, prompt, negative=negative), options)

    def inpaint(
        self,
        picture: Pixels | ImageTokens,
        mask: TokenMask,
        prompt: str = "",
        options: Options | None = None,
        budget: Budget | None = None,
        negative: str = "",
    ) -> Interaction:
        """`picture` with what is under `mask` repainted; without a prompt it is removed.

        With a `budget` some tokens are not sent; the cloud fills in its own for its own use, and
        the result holds the edge's, here as in `outpaint`.
        """
        ask = _Ask(Task.INPAINT, prompt, picture, mask=mask, budget=budget, negative=negative)
        return self._interact(ask, options)

    def outpaint(
        self,
        picture: Pixels | ImageTokens,
        extension: Extension,
        prompt: str = "",
        options: Options | None = None,
        budget: Budget | None = None,
        negative: str = "",
    ) -> Interaction:
        """`picture`, continued by `extension` token columns and rows."""
        ask = _Ask(
            Task.OUTPAINT, prompt, picture, extension=extension, budget=budget, negative=negative
        )
        return self._interact(ask, options)

    def vqa(
        self,
        picture: Pixels | ImageTokens,
        question: str,
        options: Options | None = None,
        budget: Budget | None = None,
    ) -> Interaction:
        """An answer to a question about `picture`.

        With a `budget` the cloud fills in the tokens that are not sent before it answers.
        """
        return self._interact(_Ask(Task.VQA, question, picture, budget=budget), options)

    def classify(
        self,
        picture: Pixels | ImageTokens,
        top: int = USUAL_TOP,
        budget: Budget | None = None,
        seed: int = 0,
    ) -> Interaction:
        """The `top` likeliest labels of `picture`, as many as the server knows at most.

        Names travel once: where a label comes whose name is not known here, it is asked for in a
        second exchange, which the cost of this one includes, and those after it at once. With a
        `budget` the cloud fills in the tokens that are not sent, by `seed`.

        Raises:
            InvalidInputError: `top` is not 1..255, or the server cannot classify.
            NotFoundError, UnsupportedVersionError: the server is older than this task.
        """
        options, held = Options(top=top, seed=seed), self._names.held
        ask = _Ask(Task.CLASSIFY, "", picture, budget=budget, held=held)
        try:
            done = self._interact(ask, replace(options, names=self._names.wanted))
            if done.labels:
                return done
            assert done.request.image is not None, "the task is about a picture"
            ask = replace(ask, picture=done.request.image, held=None)
            return _joined(done, self._interact(ask, replace(options, names=True)))
        except NotFoundError as error:
            raise _too_old(error) from error

    def _interact(self, ask: _Ask, options: Options | None) -> Interaction:
        watch = Stopwatch()
        row = TABLE[ask.task]  # cheap, and refuses before anything is loaded
        words = self._read(ask.text, asks=row.answers_in_words)
        text = TextTokens(_NO_IDS, self._bundle.vocabulary.text_size)
        if row.needs_text:
            text = self._words_to_tokens(words, row.text_name, row.text_required)
        negative = self._negative(ask, options)
        image = self._tokens_of(ask.picture, watch)
        if image is not None and ask.extension is not None:
            check_grid(*ask.extension.canvas(*image.shape))
        request = Request(
            ask.task,
            text,
            image,
            ask.mask,
            ask.extension,
            options or Options(),
            negative=negative,
            held=ask.held,
        )
        if ask.budget is not None:
            with watch("choose"):
                request = within(ask.budget, request, self._bundle)

        with interaction():
            held = self._exchange.hold(request, watch)

        return self._interaction(request, image, held, watch, self._unknown(ask))

    def _tokens_of(
        self, picture: Pixels | ImageTokens | None, watch: Stopwatch
    ) -> ImageTokens | None:
        if picture is None or isinstance(picture, ImageTokens):
            return picture
        with watch("tokenise"):
            return self._tokenizer.tokenize(picture)

    def _interaction(
        self,
        request: Request,
        image: ImageTokens | None,
        held: Held,
        watch: Stopwatch,
        warnings: tuple[str, ...],
    ) -> Interaction:
        response, tokenizer = held.response, self._tokenizer
        with watch("detokenise"):
            pixels = None if response.image is None else tokenizer.detokenize(response.image)
            answer = None if response.text is None else self._tokens_to_words(response.text)
        return Interaction(
            request=request,
            response=response,
            uplink=held.uplink,
            downlink=held.downlink,
            canvas=_canvas(response.image or image, tokenizer.stride),
            milliseconds=watch.milliseconds,
            wire=held.wire,
            opening=held.opening,
            progress=held.progress,
            pixels=pixels,
            answer=answer,
            warnings=(*warnings, *held.warnings),
            labels=self._labels(response),
        )

    def _labels(self, response: Response) -> tuple[Label, ...]:
        """The labels of a response; none where a name is not known."""
        found = response.labels
        if found is None:
            return ()
        if found.names:
            self._names.learn(found)
        return self._names.named(found) or ()

    def _words_to_tokens(self, words: str, noun: str, required: bool) -> TextTokens:
        if not words.strip() and required:
            raise PromptError(f"the {noun} is empty", "say what the picture should show, or ask")
        tokens = self._bundle.text_tokenizer.encode(words)
        limit = self._bundle.max_text_tokens
        if len(tokens) > limit:
            count = len(words.split())
            raise PromptError(
                f"the {noun} has {len(tokens)} tokens, at most {limit} fit",
                f"shorten it: of its {count} words some {max(1, count * limit // len(tokens))} fit",
            )
        return tokens

    def _negative(self, ask: _Ask, options: Options | None) -> TextTokens | None:
        if not ask.negative.strip():
            return None
        guidance = None if options is None else options.guidance
        if (self._bundle.defaults.guidance if guidance is None else guidance) == 0:
            raise PromptError(
                "a negative prompt works through guidance, and guidance is 0",
                "leave --guidance out, or set it above 0",
            )
        return self._words_to_tokens(self._read(ask.negative), "negative prompt", True)

    def _read(self, typed: str, *, asks: bool = False) -> str:
        """Words in the form that the bundle's models were taught."""
        if not self._bundle.reads_plain_text or len(typed) > MOST_CHARACTERS:
            return typed
        if asks:
            return plain_question(typed)
        known, prompt = self._bundle.known_words, plain_prompt(typed)
        return prompt if known is None else known.with_articles(prompt)

    def _unknown(self, ask: _Ask) -> tuple[str, ...]:
        """A warning of words that the models do not know, if the bundle says which they know."""
        known = self._bundle.known_words
        if known is None or len(ask.text) > MOST_CHARACTERS:
            return ()
        named = dict.fromkeys((*known.unknown(ask.text), *known.unknown(ask.negative)))
        return unknown_warning(tuple(named), self._bundle.name)

    def _tokens_to_words(self, tokens: TextTokens) -> str:
        return self._bundle.text_tokenizer.decode(tokens).strip()


@dataclass(frozen=True, eq=False)
class _Ask:
    """What the user wants, before it is tokens."""

    task: Task
    text: str
    picture: Pixels | ImageTokens | None = None
    mask: TokenMask | None = None
    extension: Extension | None = None
    budget: Budget | None = None
    negative: str = ""
    held: LabelSet | None = None


_NO_IDS = np.zeros(0, dtype=np.int32)


def _joined(first: Interaction, second: Interaction) -> Interaction:
    """`second` with what both have cost."""
    one, other = first.milliseconds, second.milliseconds
    spent = {stage: one.get(stage, 0.0) + other.get(stage, 0.0) for stage in {**one, **other}}
    return replace(
        second,
        uplink=first.uplink.joined(second.uplink),
        downlink=first.downlink.joined(second.downlink),
        milliseconds=spent,
        wire=first.wire.joined(second.wire),
        opening=first.opening.joined(second.opening),
        progress=first.progress + second.progress,
        warnings=tuple(dict.fromkeys((*first.warnings, *second.warnings))),
    )


def _too_old(error: NotFoundError) -> NotFoundError:
    """What a server says that has no path for a task, in words that help."""
    if error.message != NO_PATH:
        return error
    return NotFoundError(
        f"the server does not know the task {Task.CLASSIFY.slug}",
        "it is older than this program: update it, or ask another",
    )


def _canvas(image: ImageTokens | None, stride: int) -> tuple[int, int]:
    """(height, width) in pixels."""
    assert image is not None, "every task has a picture on one of its ways"
    return image.shape[0] * stride, image.shape[1] * stride
