from __future__ import annotations

import numpy as np
import pytest
from toy_bundle import answer, half_mask, image, requests, text

from shared_protocol.errors import InvalidInputError, MaskError
from shared_protocol.messages import Options, Request, Response
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import TokenMask


@pytest.mark.parametrize(
    "build",
    [
        lambda: Request(Task.T2I, text(1), image()),
        lambda: Request(Task.INPAINT, text(1), image()),
        lambda: Request(Task.VQA, text(1)),
        lambda: Request(Task.OUTPAINT, text(1), image()),
        lambda: Request(Task.T2I, text(1), extension=Extension(left=1)),
    ],
)
def test_a_request_with_a_missing_or_superfluous_part_is_refused(build: object) -> None:
    with pytest.raises(InvalidInputError, match=r"needs|takes no"):
        build()  # type: ignore[operator]


def test_a_mask_must_fit_the_image_and_select_something() -> None:
    with pytest.raises(MaskError, match="16x16"):
        Request(Task.INPAINT, text(1), image(), half_mask(8, 8))
    with pytest.raises(MaskError, match="nothing"):
        Request(Task.INPAINT, text(1), image(), TokenMask(np.zeros((16, 16), dtype=bool)))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 101}, {"guidance": -1.0}, {"seed": 2**32}, {"max_new_tokens": 513}],
)
def test_options_outside_their_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="use"):
        Options(**wrong)  # type: ignore[arg-type]


def test_guidance_is_rounded_to_what_travels() -> None:
    assert Options(guidance=1.234).guidance == 1.25


def test_known_tokens_and_targets_cover_the_grid_exactly_once() -> None:
    for request in requests().values():
        codes, targets = request.known((16, 16))
        assert codes.shape == targets.shape
        assert (codes[targets] == 0).all()


def test_what_stands_under_the_mask_is_not_known() -> None:
    request = requests()["inpaint"]
    codes, targets = request.known((16, 16))
    assert request.image is not None
    assert np.array_equal(codes[~targets], request.image.codes[~targets])


def test_a_response_holds_what_its_task_asks_for() -> None:
    assert answer(requests()["vqa"]).text == text(8, 9)
    with pytest.raises(InvalidInputError, match="text only"):
        Response(Task.VQA, image())
    with pytest.raises(InvalidInputError, match="an image only"):
        Response(Task.T2I, image(), text(1))
