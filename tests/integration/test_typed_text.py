"""Prompts and questions typed in many ways, with the built-in bundle and a real server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving_fakes import LiveServer, fake_settings

import edge_client
from cloud_server.serving.load import load_model
from edge_client.client import EdgeClient
from edge_client.transport.schemes import open_transport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.messages import Options

SCENE = Path(edge_client.__file__).parent / "samples" / "scene1.webp"
PROMPTS = (
    "a fox left of a red balloon on a beach",
    "A fox left of a red balloon on a beach.",
    "A FOX LEFT OF A RED BALLOON ON A BEACH!",
    "Please draw a fox left of a red balloon on a beach",
    "Could you paint me a Fox, please? ".replace("a Fox", "a Fox left of a red balloon on a beach"),
    "  a fox   left of a red balloon\non a beach  ",
    "“A fox left of a red balloon on a beach”",
    "fox left of red balloon on beach",
)
QUESTIONS = {
    "what is left of the tree?": (
        "What is left of the tree?", "what's left of the tree", "WHAT IS LEFT OF THE TREE?",
        "Could you please tell me what is left of the tree?", "What’s left of the tree, please?",
    ),
    "describe the picture.": ("Describe the picture", "PLEASE DESCRIBE THE PICTURE!"),
    "what time of day is it?": ("What time of day is it", "Hi! What time of day is it? Thanks!"),
}  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[EdgeClient]:
    settings = fake_settings(port=0, device="cpu")
    model = load_model(settings)
    changes = {name: getattr(model, name) for name in model.__dataclass_fields__}
    with LiveServer(settings, **changes) as server, open_transport(server.url) as transport:
        yield EdgeClient(load_bundle(), transport)


@pytest.mark.slow
def test_a_prompt_typed_in_eight_ways_gives_equal_ids_and_equal_pictures(
    client: EdgeClient,
) -> None:
    options = Options(steps=2, seed=3)
    first, *others = [client.t2i(prompt, options) for prompt in PROMPTS]
    assert len(PROMPTS) == 8
    assert first.warnings == ()
    for other in others:
        assert np.array_equal(other.request.text.ids, first.request.text.ids)
        assert other.response.image == first.response.image


@pytest.mark.slow
def test_questions_typed_in_any_way_give_the_same_answers(client: EdgeClient) -> None:
    pixels = np.asarray(Image.open(SCENE).convert("RGB"))
    picture = client.vqa(pixels, "what is this?").request.image
    assert picture is not None
    for question, ways in QUESTIONS.items():
        answer = client.vqa(picture, question).answer
        assert answer
        for typed in ways:
            assert client.vqa(picture, typed).answer == answer, typed


@pytest.mark.slow
def test_edits_without_words_and_words_beyond_the_world(client: EdgeClient) -> None:
    from edge_client.pictures.masks import token_mask

    pixels = np.asarray(Image.open(SCENE).convert("RGB"))
    flags = np.zeros(pixels.shape[:2], np.uint8)
    flags[80:176, 144:240] = 255
    done = client.inpaint(pixels, token_mask(flags, (16, 16)), options=Options(steps=2))
    assert done.response.image is not None
    assert done.warnings == ()
    told = client.t2i("a dragon on a beach", Options(steps=2)).warnings
    assert told == ("the builtin models do not know: dragon",)
