"""What the edge makes of typed words, by what its bundle says."""

import numpy as np
import pytest
from edge_fakes import FakeBundle, FakeCloud

from edge_client.client import EdgeClient, Interaction
from edge_client.session.cost import TurnCost
from edge_client.session.picture import Answer
from shared_protocol.errors import PromptError
from shared_protocol.tasks import Extension
from shared_protocol.tokens import TokenMask
from shared_protocol.words.known import KnownWords

GREY = np.full((64, 64, 3), 77, dtype=np.uint8)
HOLE = TokenMask(np.arange(16).reshape(4, 4) == 5)
WARNING = ("the fake models do not know: dragon",)


class PlainBundle(FakeBundle):
    reads_plain_text = True
    known_words = KnownWords(["fox"], {"fox": "a fox"})


def client(bundle: FakeBundle) -> tuple[EdgeClient, FakeCloud]:
    cloud = FakeCloud(bundle)
    return EdgeClient(bundle, cloud), cloud


def sent(cloud: FakeCloud) -> str:
    return bytes(cloud.requests[-1].text.ids.tolist()).decode()


def all_tasks(talk: EdgeClient, text: str) -> list[Interaction]:
    return [
        talk.t2i(text),
        talk.inpaint(GREY, HOLE, text),
        talk.outpaint(GREY, Extension(right=1), text),
        talk.vqa(GREY, text),
    ]


def test_text_travels_in_plain_form_where_the_bundle_says_so() -> None:
    talk, cloud = client(PlainBundle())
    talk.t2i("Please draw Fox and DRAGON!")
    assert sent(cloud) == "draw fox and dragon"
    talk.t2i("Red fox, please.")
    assert sent(cloud) == "a red fox"
    talk.vqa(GREY, "Where's the Fox")
    assert sent(cloud) == "where is the fox?"


def test_text_travels_as_it_is_typed_where_it_does_not() -> None:
    talk, cloud = client(FakeBundle())
    for done in all_tasks(talk, " A Dragon, please. "):
        assert sent(cloud) == " A Dragon, please. "
        assert done.warnings == ()


def test_every_task_warns_of_words_that_the_models_do_not_know() -> None:
    talk, _ = client(PlainBundle())
    assert {done.warnings for done in all_tasks(talk, "A Dragon")} == {WARNING}
    assert {done.warnings for done in all_tasks(talk, "A FOX")} == {()}
    answer = Answer("", TurnCost.of(talk.vqa(GREY, "a dragon?")), WARNING)
    assert answer.warnings == WARNING


def test_a_known_list_without_plain_text_warns_and_changes_nothing() -> None:
    bundle = PlainBundle()
    bundle.reads_plain_text = False
    talk, cloud = client(bundle)
    assert talk.t2i("Dragon").warnings == WARNING
    assert sent(cloud) == "Dragon"


@pytest.mark.parametrize("bundle", [FakeBundle, PlainBundle])
def test_edits_need_no_words_and_pictures_and_questions_do(bundle: type[FakeBundle]) -> None:
    talk, cloud = client(bundle())
    talk.inpaint(GREY, HOLE)
    assert sent(cloud) == ""
    talk.outpaint(GREY, Extension(right=1))
    assert sent(cloud) == ""
    with pytest.raises(PromptError, match="prompt is empty"):
        talk.t2i("  ")
    with pytest.raises(PromptError, match="question is empty"):
        talk.vqa(GREY, " ")
