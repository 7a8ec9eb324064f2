"""Which image tokens stay at home when a message must be smaller: rate control by the edge.

It does not know files or the network. The paper masks the tokens of less informative regions
before sending (VI-B) and does not say how they are found. Here the entropy models can say what is
less informative: the fewer bits a token takes, the better the others predict it. But such tokens
save few bytes, and saying which ones they are takes up to 34; leaving out tokens evenly takes two
bytes to say and keeps neighbours of each. So that is the default, and
`edge-client evaluate rate-control` shows all orders beside each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.drop_codec import even_order
from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.errors import InvalidInputError
from shared_protocol.message.codec import CodecBundle, encode_request
from shared_protocol.message.parts import request_context
from shared_protocol.messages import Request
from shared_protocol.tasks import Direction, positions
from shared_protocol.tokens import Flags, TokenMask

TRIES = 32
"""Keep ratios that are tried for a target size: 31/32, 30/32, …"""


class Order(Enum):
    """Which tokens are dropped first."""

    CHEAPEST = "cheapest"
    """Those that take the fewest bits: the most predictable ones."""
    COSTLIEST = "costliest"
    """Those that take the most bits."""
    RANDOM = "random"
    """Any, by the request's seed."""
    EVEN = "even"
    """Evenly all over the picture (every second one first), a pattern that costs few bytes."""


@dataclass(frozen=True)
class Budget:
    """How much of a picture may be sent.

    Args:
        keep_ratio: share of the tokens that would travel which do travel, above 0 and up to 1.
        target_bytes: size of the message that must not be exceeded.
        order: which tokens are dropped first.

    Raises:
        InvalidInputError: neither or both are given, or a value is out of its range.
    """

    keep_ratio: float | None = None
    target_bytes: int | None = None
    order: Order = Order.EVEN

    def __post_init__(self) -> None:
        if (self.keep_ratio is None) == (self.target_bytes is None):
            raise InvalidInputError("give a keep ratio or a target in bytes", "one of both")
        if self.keep_ratio is not None and not 0.0 < self.keep_ratio <= 1.0:
            raise InvalidInputError(f"the keep ratio is {self.keep_ratio}", "use 0 < ratio <= 1")
        if self.target_bytes is not None and self.target_bytes < 1:
            raise InvalidInputError(f"the target is {self.target_bytes} bytes", "use 1 or more")


def within(budget: Budget, request: Request, bundle: CodecBundle) -> Request:
    """`request` with as many tokens dropped as `budget` asks for; itself if that is none.

    Raises:
        InvalidInputError: there is no image, or no keep ratio makes the message small enough.
    """
    if request.image is None:
        raise InvalidInputError("there is no image to drop tokens of", "use it with a picture")
    if budget.keep_ratio is None:
        return _within_bytes(budget, request, bundle)
    ranks = drop_ranks(request, bundle, budget.order)
    return _keep(request, ranks, round(budget.keep_ratio * int((ranks >= 0).sum())))


def _within_bytes(budget: Budget, request: Request, bundle: CodecBundle) -> Request:
    """The first of ever smaller keep ratios whose message is small enough."""
    target = budget.target_bytes or 0
    smallest = size = len(encode_request(request, bundle).data)
    if size <= target:
        return request
    ranks = drop_ranks(request, bundle, budget.order)
    count = int((ranks >= 0).sum())
    for kept in range(TRIES - 1, -1, -1):
        fewer = _keep(request, ranks, count * kept // TRIES)
        size = len(encode_request(fewer, bundle).data)
        if size <= target:
            return fewer
        smallest = min(smallest, size)
    raise InvalidInputError(
        f"no choice of tokens makes this message {target} bytes long",
        f"the smallest found has {smallest}",
    )


def _keep(request: Request, ranks: npt.NDArray[np.int64], kept: int) -> Request:
    """`request` with all but the `kept` (at least one) last-ranked tokens dropped."""
    count = int((ranks >= 0).sum())
    flags: Flags = (ranks >= 0) & (ranks < count - max(1, kept))
    return replace(request, dropped=TokenMask(flags)) if flags.any() else request


def drop_ranks(request: Request, bundle: CodecBundle, order: Order) -> npt.NDArray[np.int64]:
    """(H, W) int64: 0 for the token that is dropped first, -1 where no token travels."""
    assert request.image is not None
    context = _whole_context(request)
    count = context.count
    ranks = np.full(request.image.shape, -1, dtype=np.int64)
    places = np.argwhere(context.targets)
    if order is Order.EVEN:
        by_pattern = np.argsort(even_order(*ranks.shape)[context.targets], kind="stable")
        ranks[tuple(places[by_pattern].T)] = np.arange(count)
        return ranks
    rng = np.random.default_rng(request.options.seed)
    scattered = rng.permutation(count)  # equal costs are dropped all over the picture
    if order is not Order.RANDOM:
        costs = _costs(request, bundle)[scattered]
        by_cost = np.argsort(costs if order is Order.CHEAPEST else -costs, kind="stable")
        scattered = scattered[by_cost]
    ranks[tuple(places[scattered].T)] = np.arange(count)
    return ranks


def _costs(request: Request, bundle: CodecBundle) -> npt.NDArray[np.float64]:
    """(M,) bits of every token that travels, by the model that comes first for this message."""
    assert request.image is not None
    context = _whole_context(request)
    codes = request.image.codes[context.targets]
    allowed, available = request.row.scenarios(Direction.UPLINK), bundle.entropy.available()
    ready = [scenario for scenario in allowed if scenario in available]
    if not ready:  # without a model every token takes as many bits as any other
        return np.zeros(len(codes), dtype=np.float64)
    return bundle.entropy.bits_by_token(ready[0], codes, context)


def _whole_context(request: Request) -> CodingContext:
    """The coding context of the request's image while nothing is dropped."""
    spec = request.row.image(Direction.UPLINK)
    assert request.image is not None
    assert spec is not None, "Table I sends an image up"
    mask = None if request.mask is None else request.mask.flags
    readable = positions(spec.subset, request.image.shape, mask, None)
    return request_context(readable, request.text.ids)
