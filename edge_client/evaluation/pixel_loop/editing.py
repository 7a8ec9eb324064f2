"""One round after another of edits of a picture, kept in tokens or sent in pixels.

It does not know tables. A round's result is the next round's picture: tokens stay tokens on the
edge, pixels are what the codec left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_client.client import EdgeBundle
from edge_client.evaluation.codecs import PixelCodec, match_rate
from edge_client.evaluation.context import Records
from edge_client.evaluation.exchanges import exchange
from edge_client.evaluation.pixel_loop.client import PixelClient
from edge_client.evaluation.pixel_loop.message import PixelRequest
from edge_client.evaluation.tables.comparing import pixel_flags, read_pixels, scores
from edge_client.pictures.outputs import save_picture
from edge_client.transport.base import Transport
from shared_protocol.errors import InternalError
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Codes, Flags, ImageTokens, TokenMask

TOKENS = "tokens"
MARGIN = 3
"""Tokens around the edits that pixel scores leave out, as a detokeniser looks beyond its token."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture to be edited again and again.

    Args:
        name: of its file.
        source: (H, W, 3) uint8.
        prompt: of every edit.
        options: of every edit; the round is added to the seed.
    """

    name: str
    source: Pixels
    prompt: str
    options: Options

    def key(self, method: str, number: int) -> str:
        """The id of the record of a round."""
        return f"{self.name}/{method}/{number}"

    def options_of(self, number: int) -> Options:
        """Those of a round."""
        return Options(steps=self.options.steps, seed=(self.options.seed + number) % 2**32)


def edit_mask(grid: tuple[int, int], number: int) -> TokenMask:
    """A quarter of the upper left quarter, another one in each of four rounds.

    >>> [int(edit_mask((4, 4), number).flags.argmax()) for number in (1, 2, 3, 4, 5)]
    [0, 1, 4, 5, 0]
    """
    height, width = max(1, grid[0] // 4), max(1, grid[1] // 4)
    row, column = divmod((number - 1) % 4, 2)
    flags = np.zeros(grid, dtype=bool)
    flags[row * height : (row + 1) * height, column * width : (column + 1) * width] = True
    return TokenMask(flags)


def untouched(grid: tuple[int, int], margin: int) -> Flags:
    """(h, w) bool, True for the tokens that no round edits and that are not within `margin`."""
    flags = np.ones(grid, dtype=bool)
    flags[: 2 * max(1, grid[0] // 4) + margin, : 2 * max(1, grid[1] // 4) + margin] = False
    return flags


class _Edits:
    """What both ways share: the tokens of the source, and the scores of a round."""

    def __init__(self, subject: Subject, bundle: EdgeBundle, folder: Path, method: str) -> None:
        self._subject = subject
        self._bundle = bundle
        self._folder = folder / method.replace("/", "-") / subject.name
        self._tokenizer = bundle.image_tokenizer()
        self._source = self._tokenizer.tokenize(subject.source)
        self._grid = self._source.shape
        self._text = bundle.text_tokenizer.encode(subject.prompt)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.png"

    def _keep(self, shown: Pixels, codes: Codes, number: int) -> dict[str, Any]:
        """Save what is shown after a round; its scores against the source and against round 1."""
        self._folder.mkdir(parents=True, exist_ok=True)
        save_picture(self._path(number), np.ascontiguousarray(shown))
        first = read_pixels(self._path(1))
        margin = min(MARGIN, self._grid[0] // 4)
        stride = shown.shape[0] // self._grid[0]
        where = pixel_flags(untouched(self._grid, margin), stride)
        same = codes == self._source.codes
        return {
            "against_source": scores(shown, self._subject.source, where),
            "against_first": scores(shown, first, where),
            "tokens_kept": float(same[untouched(self._grid, 0)].mean()),
        }


class TokenEdits(_Edits):
    """Edits of a picture that stays in tokens.

    Args:
        subject: what is edited.
        bundle: the server's, too.
        transport: to the server.
        folder: for pictures.
    """

    def __init__(
        self, subject: Subject, bundle: EdgeBundle, transport: Transport, folder: Path
    ) -> None:
        super().__init__(subject, bundle, folder, TOKENS)
        self._transport = transport

    def edit(self, number: int, records: Records) -> dict[str, Any]:
        """Round `number`, 1 or more; earlier ones are in `records`.

        Raises:
            InternalError: a token outside the edit changed.
        """
        before = self._source
        if number > 1:
            codes = records[self._subject.key(TOKENS, number - 1)]["codes"]
            before = ImageTokens(np.array(codes), before.codebook_size)
        mask = edit_mask(self._grid, number)
        options = self._subject.options_of(number)
        request = Request(Task.INPAINT, self._text, before, mask, options=options)
        done = exchange(self._bundle, self._transport, request)
        after = done.response.image
        assert after is not None, "an inpainting answers with a picture"
        changed = int((after.codes != before.codes)[~mask.flags].sum())
        if changed:
            raise InternalError(
                f"{changed} tokens outside the edit of round {number} changed",
                "the two ends merge differently: report it",
            )
        return {
            "up_picture": done.uplink.sizes.image,
            "down_picture": done.downlink.sizes.image,
            "codes": after.codes.tolist(),
            **self._keep(self._tokenizer.detokenize(after), after.codes, number),
        }


class PixelEdits(_Edits):
    """Edits of a picture that goes up and comes back in pixels.

    Args:
        subject: what is edited.
        bundle: that of the gateway.
        client: of a gateway.
        folder: for pictures.
        codec: both ways.
        method: what the records call it.
        multiple: of the bytes that the tokens took on their way up in the same round.
    """

    def __init__(  # noqa: PLR0913 - what a comparison holds fixed
        self,
        subject: Subject,
        bundle: EdgeBundle,
        client: PixelClient,
        folder: Path,
        codec: PixelCodec,
        method: str,
        multiple: int,
    ) -> None:
        super().__init__(subject, bundle, folder, method)
        self._client = client
        self._codec = codec
        self._multiple = multiple

    def edit(self, number: int, records: Records) -> dict[str, Any]:
        """Round `number`, 1 or more; the rounds in tokens are in `records`."""
        before = self._subject.source if number == 1 else read_pixels(self._path(number - 1))
        tokens = records[self._subject.key(TOKENS, number)]["up_picture"]
        target = float(max(1, tokens * self._multiple))
        coded = match_rate(self._codec, before, target, shrink=True).coded
        request = PixelRequest(
            self._text,
            coded.payload,
            edit_mask(self._grid, number),
            options=self._subject.options_of(number),
        )
        done = self._client.ask(Task.INPAINT, request, coded.codec.name, target)
        assert done.pixels is not None, "an inpainting answers with a picture"
        return {
            "up_picture": coded.picture_bytes,
            "down_picture": done.down - done.down_header,
            "target": target,
            **self._keep(done.pixels, self._tokenizer.tokenize(done.pixels).codes, number),
        }
