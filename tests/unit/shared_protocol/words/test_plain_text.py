"""Text as people type it, in plain form."""

import numpy as np
import pytest

from cloud_server.training.scenes.language import caption, questions
from cloud_server.training.scenes.world import default_world
from shared_protocol.words.plain import MOST_CHARACTERS, plain_prompt, plain_question, spelled

PROMPTS = {
    "a fox on a beach": [
        "A fox on a beach.", "A FOX ON A BEACH", "  a fox\ton a\n beach ", "a fox on a beach!!!",
        "Please draw a fox on a beach", "Could you please paint me a fox on a beach?",
        "a fox on a beach, please", "Draw a fox on a beach. Thanks!", "“A fox on a beach”",
        "I'd like to see a fox on a beach", "Hi, can you show me a fox on a beach?",
        "ａ ｆｏｘ on a beach…", "- a fox on a beach", "a fox on a\u00a0beach\u200b",
        "I want to see a fox on a beach",
    ],
    "a gray airplane, a donut": [
        "A grey aeroplane , a doughnut", "a gray airplane — a donut.", "a gray airplane,a donut",
        "A Grey Aeroplane - a doughnut",
    ],
}  # fmt: skip
QUESTIONS = {
    "what is left of the fox?": [
        "What's left of the fox?", "what is left of the fox", "WHATS LEFT OF THE FOX??",
        "Please, what is left of the fox?", "What is left of the fox, please?",
        "What’s left of the fox ?", "Hello! What is left of the fox? Thank you very much!",
    ],
    "describe the picture.": [
        "Describe the picture", "describe the picture!", "Please describe the picture.",
        "Can you describe the picture?", "Could you please describe the picture, please?",
        "I would like you to describe the picture",
    ],
    "tell me, is there a fox?": ["Tell me: is there a fox?", "tell me, is there a fox."],
    "is there not a gray shape?": ["Isn't there a grey shape", "is not there a gray shape?"],
    "does the image not contain a fox?": ["Doesn’t the image contain a fox?"],
    "can you see a fox?": ["Can you see a fox?", "can you see a fox please"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("plain", "typed"), [(plain, typed) for plain, ways in PROMPTS.items() for typed in ways]
)
def test_prompts_typed_in_any_way_become_one(plain: str, typed: str) -> None:
    assert plain_prompt(typed) == plain == plain_prompt(plain)


@pytest.mark.parametrize(
    ("plain", "typed"), [(plain, typed) for plain, ways in QUESTIONS.items() for typed in ways]
)
def test_questions_typed_in_any_way_become_one(plain: str, typed: str) -> None:
    assert plain_question(typed) == plain == plain_question(plain)


@pytest.mark.parametrize(
    "text",
    [
        "show jumping", "make love not war", "a card that says thank you", "1,000 foxes at 12:30",
        "a sign that says please", "the fox's red t-shirt", "a 3.5 m tall tree", "café, naïve",
        "лиса на пляже", "狐が海辺にいる", "draw bridge",
        "i want to ride my bicycle", "rock'n'roll",
    ],
)  # fmt: skip
def test_words_that_could_name_something_are_kept(text: str) -> None:
    assert plain_prompt(text) == text


@pytest.mark.parametrize("text", ["", "   ", "?!", "...", "please", "🦊"])
def test_text_without_words_is_not_lost(text: str) -> None:
    assert plain_prompt(text) == text.strip()
    assert plain_question(text).startswith(text.strip())


@pytest.mark.parametrize("seed", range(3))
def test_plain_text_stays_and_training_questions_are_what_they_were(seed: int) -> None:
    rng, world = np.random.default_rng(seed), default_world()
    for _ in range(100):
        scene = world.sample_scene(rng, "train")
        prompt = plain_prompt(caption(scene, rng, "train"))
        assert plain_prompt(prompt) == prompt
        for qa in questions(scene, rng, "train", world):
            asked = qa.question.replace("doughnut", "donut")
            plain = plain_question(asked)
            assert plain_question(plain) == plain
            assert plain == asked.removeprefix("please, ").removeprefix("please ")


def test_long_and_strange_texts_take_no_time() -> None:
    for text in (" " * 100_000, "please " * 20_000, "," * 100_000, "don't" * 20_000, "- " * 50_000):
        plain_question(text[:MOST_CHARACTERS])


def test_possessives_stay_and_short_forms_become_whole() -> None:
    assert spelled("it's the fox's, i'm sure they don't mind") == (
        "it is the fox's, i am sure they do not mind"
    )
