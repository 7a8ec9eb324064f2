"""Which tokens the edge leaves out, and that a message gets as small as was asked."""

from __future__ import annotations

import numpy as np
import pytest
from edge_fakes import FakeBundle, FakeCloud, FakeWords

from edge_client.arguments import parse
from edge_client.client import EdgeClient
from edge_client.rate_control import Budget, Order, drop_ranks, within
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, TokenMask

BUNDLE = FakeBundle()
HOLE = TokenMask(np.arange(16).reshape(4, 4) == 5)
RAMP = np.kron(np.arange(16).reshape(4, 4) * 10, np.ones((16, 16)))[..., None].repeat(3, axis=2)
PIXELS = RAMP.astype(np.uint8)


def question(side: int = 4, **options: int) -> Request:
    """The fake models charge a token its own number: 0 is the cheapest, the last the dearest."""
    codes = np.arange(side * side, dtype=np.int32).reshape(side, side)
    return Request(
        Task.VQA, FakeWords().encode("what?"), ImageTokens(codes, 8192), options=Options(**options)
    )


def dropped(budget: Budget, request: Request | None = None) -> list[int]:
    """Codes of the tokens that are left out."""
    fewer = within(budget, request or question(), BUNDLE)
    assert fewer.image is not None
    return [] if fewer.dropped is None else fewer.image.codes[fewer.dropped.flags].tolist()


def test_the_cheapest_tokens_go_first_and_the_share_is_kept() -> None:
    assert dropped(Budget(0.75, order=Order.CHEAPEST)) == [0, 1, 2, 3]
    assert dropped(Budget(0.75, order=Order.COSTLIEST)) == [12, 13, 14, 15]


def test_every_second_token_goes_in_the_order_that_is_cheap_to_say() -> None:
    budget = Budget(0.5)
    assert dropped(budget) == [0, 2, 5, 7, 8, 10, 13, 15]
    sizes = {}
    for order in Order:
        fewer = within(Budget(0.5, order=order), question(16), BUNDLE)
        sizes[order] = encode_request(fewer, BUNDLE).anatomy.sizes.dropped
    assert sizes[Order.EVEN] == 2
    assert min(size for order, size in sizes.items() if order is not Order.EVEN) > 2


def test_a_random_order_hangs_on_the_seed_alone() -> None:
    budget = Budget(0.5, order=Order.RANDOM)
    first, again, other = (dropped(budget, question(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == len(other) == 8


def test_all_tokens_or_nearly_all_are_sent_as_they_are() -> None:
    request = question()
    assert within(Budget(1.0), request, BUNDLE) is request
    assert within(Budget(0.98), request, BUNDLE) is request


def test_one_token_is_always_sent() -> None:
    assert len(dropped(Budget(0.001))) == 15


def test_the_share_is_of_what_would_travel() -> None:
    image, text = question().image, FakeWords().encode("a fox")
    request = Request(Task.INPAINT, text, image, HOLE)
    fewer = within(Budget(0.6), request, BUNDLE)
    assert fewer.dropped is not None
    assert fewer.dropped.count == 6
    assert not (fewer.dropped.flags & HOLE.flags).any()
    ranks = drop_ranks(request, BUNDLE, Order.CHEAPEST)
    assert ranks[HOLE.flags].tolist() == [-1]
    assert sorted(ranks[ranks >= 0].tolist()) == list(range(15))


def test_without_a_model_every_token_costs_the_same_and_some_are_dropped() -> None:
    bundle = FakeBundle()
    bundle.entropy.scenarios = ()
    fewer = within(Budget(0.5), question(), bundle)
    assert fewer.dropped is not None
    assert fewer.dropped.count == 8


def test_a_target_takes_the_most_tokens_that_fit_it() -> None:
    request = question(16)
    whole = len(encode_request(request, BUNDLE).data)
    target = whole * 2 // 3
    fewer = within(Budget(target_bytes=target), request, BUNDLE)
    assert fewer.dropped is not None
    assert len(encode_request(fewer, BUNDLE).data) <= target
    step = fewer.dropped.flags.size // 32
    more = within(Budget((256 - fewer.dropped.count + step) / 256), request, BUNDLE)
    assert len(encode_request(more, BUNDLE).data) > target


def test_a_message_that_is_small_enough_stays_whole() -> None:
    request = question()
    assert within(Budget(target_bytes=10_000), request, BUNDLE) is request


def test_a_target_out_of_reach_names_the_smallest_message() -> None:
    with pytest.raises(InvalidInputError, match="the smallest found has"):
        within(Budget(target_bytes=3), question(), BUNDLE)


@pytest.mark.parametrize(
    ("ratio", "target"), [(None, None), (0.5, 9), (0.0, None), (1.1, None), (None, 0)]
)
def test_a_budget_that_makes_no_sense_is_refused(ratio: float | None, target: int | None) -> None:
    with pytest.raises(InvalidInputError):
        Budget(ratio, target)


def test_a_prompt_has_no_tokens_to_leave_out() -> None:
    with pytest.raises(InvalidInputError, match="no image"):
        within(Budget(0.5), Request(Task.T2I, FakeWords().encode("a fox")), BUNDLE)


def test_the_result_holds_the_edges_own_tokens_where_some_were_left_out() -> None:
    cloud = FakeCloud(FakeBundle())
    session = EdgeClient(FakeBundle(), cloud)
    budget = Budget(0.4)
    filled = session.inpaint(PIXELS, HOLE, "a ball", budget=budget)
    wider = session.outpaint(PIXELS, Extension(left=1), "a ball", budget=budget)
    answered = session.vqa(PIXELS, "what?", budget=budget)
    source = PIXELS[::16, ::16, 0]
    assert filled.response.image is not None
    assert wider.response.image is not None
    assert (filled.response.image.codes == np.where(HOLE.flags, 200, source)).all()
    assert (wider.response.image.codes[:, 1:] == source).all()
    assert [request.dropped.count for request in cloud.requests] == [9, 10, 10]
    assert "choose" in answered.milliseconds


def test_a_budget_survives_the_fall_back_to_uniform_coding() -> None:
    session = EdgeClient(FakeBundle(entropy_key=1), FakeCloud(FakeBundle()))
    filled = session.inpaint(PIXELS, HOLE, "a ball", budget=Budget(0.5))
    assert filled.warnings
    assert filled.uplink.scenario is Scenario.UNIFORM
    assert filled.uplink.sizes.dropped > 0
    assert filled.response.image is not None
    source = PIXELS[::16, ::16, 0]
    assert (filled.response.image.codes == np.where(HOLE.flags, 200, source)).all()


def test_the_command_line_takes_a_share_or_a_size() -> None:
    given = parse(["vqa", "a.png", "what?", "--keep-ratio", "0.5", "--drop-order", "random"])
    assert (given.keep_ratio, given.target_bytes, given.drop_order) == (0.5, None, "random")
    given = parse(["inpaint", "a.png", "a fox", "--box", "0,0,9,9", "--target-bytes", "200"])
    assert (given.keep_ratio, given.target_bytes, given.drop_order) == (None, 200, "even")
    with pytest.raises(ConfigError):
        parse(["vqa", "a.png", "what?", "--keep-ratio", "0.5", "--target-bytes", "9"])
