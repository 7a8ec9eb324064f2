"""A session that hears other things than before, forgets, and takes a file's content."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edge_fakes import FakeBundle
from gateway_fakes import GatewayCloud, png, scene

from edge_client.session.session import Session


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> GatewayCloud:
    found = GatewayCloud()
    found.reports = 2
    monkeypatch.setattr("edge_client.exchange.best.open_link", lambda *_: found.link())
    return found


def session() -> Session:
    bundle: Any = FakeBundle()
    return Session("http://h", bundle=bundle)


def test_previews_may_be_asked_for_later_and_the_picture_stays_known(cloud: GatewayCloud) -> None:
    heard: list[int] = []
    with session() as talk:
        first = talk.new("x")
        assert [hello.previews for hello in cloud.hellos] == [False]
        talk.listen(lambda *_: None, lambda codes, there: heard.append(int(there.sum())), 3)
        owl = first.inpaint((0, 0, 16, 16), "an owl")
        assert heard
        assert [hello.previews for hello in cloud.hellos] == [False, True]
        assert owl.cost is not None
        assert owl.cost.image_sent == 0
        talk.listen(lambda *_: None, lambda *_: None, 3)
        owl.ask("what?")
        assert len(cloud.hellos) == 2
        talk.listen()
        owl.ask("what?")
        assert [hello.previews for hello in cloud.hellos] == [False, True, False]


def test_tokens_are_counted_by_what_the_model_reads_and_makes(cloud: GatewayCloud) -> None:
    with session() as talk:
        picture = talk.open(png(scene()))
        cost = picture.ask("what?").cost
        assert (cost.text_read, cost.image_read, cost.text_made, cost.image_made) == (5, 16, 16, 0)
        assert cost.image_sent == 16
        made = picture.inpaint((0, 0, 16, 16), "owl", negative="cat")
        assert made.cost is not None
        assert (made.cost.text_read, made.cost.image_read) == (6, 15)
        assert (made.cost.image_made, made.cost.image_sent) == (1, 0)
        wide = picture.outpaint("sea", right=2)
        assert wide.cost is not None
        assert (wide.cost.image_read, wide.cost.image_made) == (16, 8)


def test_a_session_forgets_what_it_showed_and_the_cloud_does_not(cloud: GatewayCloud) -> None:
    with session() as talk:
        made = talk.new("x")
        talk.forget()
        assert (talk.history, talk.picture) == ((), None)
        assert made.ask("what?").cost.image_sent == 0


def test_content_of_a_file_is_taken_as_the_file(cloud: GatewayCloud) -> None:
    with session() as talk:
        assert (
            talk.open(png(scene())).tokens.codes == np.arange(4) * 16 + np.arange(4)[:, None]
        ).all()
