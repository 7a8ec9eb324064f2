"""The words and sentence frames that captions, questions and answers are made of.

They say nothing by themselves; `language` puts them together. What stands behind `HELD_OUT` in a
list is used for the test split only.
"""

from __future__ import annotations

HELD_OUT = "|"  # marks where the wordings of `test` alone begin

PHRASES: dict[str, tuple[str, ...]] = {
    "airplane": ("an airplane", "a plane"),
    "apple": ("an apple", "a red apple"),
    "balloon": ("a balloon", "a red balloon"),
    "burger": ("a burger", "a hamburger"),
    "car": ("a car", "a red car"),
    "donut": ("a donut", "a doughnut"),
    "gift": ("a gift", "a present"),
    "grapes": ("a bunch of grapes",),
    "pizza": ("a pizza", "a slice of pizza"),
    "tree": ("a tree", "a green tree"),
    "umbrella": ("an umbrella", "a purple umbrella"),
    "sailboat": ("a sailboat", "a boat"),
}

# background -> (adverb phrases, noun phrase, time of day or None)
PLACES: dict[str, tuple[tuple[str, ...], str]] = {
    "meadow": (
        ("in a meadow", "on a meadow", "on the grass", "in a green meadow", "in the meadow",
         "on green grass", "in a field", HELD_OUT, "on a green field"),
        "a meadow",
    ),
    "beach": (
        ("on a beach", "on the beach", "at the beach", "on the sand by the sea", "at the seaside",
         HELD_OUT, "by the sea"),
        "a beach",
    ),
    "desert": (
        ("in a desert", "in the desert", "in a sandy desert", "in the middle of the desert",
         HELD_OUT, "out in the desert"),
        "a desert",
    ),
    "snow": (
        ("in the snow", "on the snow", "on snow", "in a snowy field", "in deep snow",
         HELD_OUT, "in a snowy place"),
        "snow",
    ),
}  # fmt: skip
TIMES: dict[str, tuple[str, ...]] = {
    "day": ("", "", "by day", "during the day"),
    "night": ("at night", "by night", "during the night"),
    "sunset": ("at sunset", "during sunset"),
}
STUDIO_WORDINGS = (
    "against a plain {colour} background",
    "on a {colour} background",
    "on a plain {colour} background",
    "before a {colour} wall",
    "with a {colour} background",
    HELD_OUT,
    "in front of a {colour} wall",
)

LEFT, RIGHT, ABOVE, BELOW = "left", "right", "above", "below"
RELATION_WORDINGS: dict[str, tuple[str, ...]] = {
    LEFT: (
        "to the left of", "left of", "on the left of", "at the left of", "further left than",
        HELD_OUT, "on the left side of",
    ),
    RIGHT: (
        "to the right of", "right of", "on the right of", "at the right of",
        "further right than", HELD_OUT, "on the right side of",
    ),
    ABOVE: (
        "above", "over", "higher up than", "on top of", "further up than",
        "at a higher place than", HELD_OUT, "higher than",
    ),
    BELOW: (
        "below", "under", "lower down than", "beneath", "further down than",
        "at a lower place than", HELD_OUT, "lower than",
    ),
}  # fmt: skip
OPPOSITE = {LEFT: RIGHT, RIGHT: LEFT, ABOVE: BELOW, BELOW: ABOVE}

CAPTION_FRAMES = (
    "{what}", "{what}", "{what}", "a picture of {what}", "an image of {what}", "there is {what}",
    "a photo of {what}", "draw {what}", "please show {what}", "a scene of {what}",
    "paint me {what}", "I want to see {what}", HELD_OUT, "a scene with {what}", "show me {what}",
)  # fmt: skip
SINGLE_PLACES = (
    "at the {zone}",
    "in the {zone}",
    "on the {zone}",
    "standing at the {zone}",
    HELD_OUT,
    "placed at the {zone}",
)
JOINERS = ("and", "and", "with", "next to", "beside", "along with", HELD_OUT, "together with")

PRESENCE = (
    "is there {a} in the picture?", "is there {a}?", "can you see {a}?",
    "does the picture show {a}?", "does the image contain {a}?", "is {a} in the image?",
    "is there {a} anywhere?", "do you see {a}?", "is {a} visible somewhere?",
    "tell me if there is {a}.", "tell me, is there {a}?", "tell me, can you see {a}?",
    "can {a} be seen in the picture?",
    HELD_OUT, "do you see {a} anywhere?",
)  # fmt: skip
COUNT = (
    "how many objects are there?", "how many objects are in the picture?",
    "how many things can you see?", "how many things are in the image?", "count the objects.",
    "count the things in the picture.", "what number of things do you see?",
    "tell me the number of objects.", "tell me, how many objects are there?",
    "how many objects does the image show?",
    HELD_OUT, "what is the number of objects?",
)  # fmt: skip
RELATION = (
    "what is {relation} {the}?", "which object is {relation} {the}?",
    "which thing is {relation} {the}?", "what can you see {relation} {the}?",
    "what object do you see {relation} {the}?", "what stands {relation} {the}?",
    "tell me what is {relation} {the}.", "tell me, what is {relation} {the}?",
    "name the object {relation} {the}.",
    HELD_OUT, "what do you see {relation} {the}?",
)  # fmt: skip
RELATION_CHECK = (
    "is {the} {relation} {other}?", "is it true that {the} is {relation} {other}?",
    "do you see {the} {relation} {other}?", "does {the} stand {relation} {other}?",
    "tell me if {the} is {relation} {other}.", "say, is {the} {relation} {other}?",
    "please, is {the} {relation} {other}?", "tell me, can you see {the} {relation} {other}?",
    "can you see {the} {relation} {other}?", HELD_OUT, "tell me, is {the} {relation} {other}?",
)  # fmt: skip
WHERE = (
    "where is {the}?", "where in the picture is {the}?",
    "where can you see {the}?", "where do you see {the}?", "at which place is {the}?",
    "in which corner or part is {the}?", "in what part of the image is {the}?",
    "tell me where {the} is.", "tell me, where is {the}?", "which part of the image shows {the}?",
    HELD_OUT, "in which part of the picture is {the}?",
)  # fmt: skip
AT = (
    "what is at the {zone}?", "what object is at the {zone}?",
    "what can you see at the {zone}?", "what do you see at the {zone}?", "what is in the {zone}?",
    "which thing is seen at the {zone}?", "tell me what is at the {zone}.",
    "tell me, what is at the {zone}?",
    "name the object at the {zone}.", HELD_OUT, "what can be seen at the {zone}?",
)  # fmt: skip
BACKGROUND = (
    "what is the background?", "what is in the background?",
    "what kind of background is it?", "what can you see in the background?",
    "which background does the image have?", "describe the background.",
    "what does the scene look like behind the objects?", HELD_OUT, "what does the background show?",
)  # fmt: skip
TIME = (
    "what time of day is it?", "is it day, night or sunset?",
    "which time of day is this?", "what time is it in the picture?",
    "is this by day, at night or at sunset?", "tell me the time of day.",
    "at what time was this?", HELD_OUT, "at what time of day is this?",
)  # fmt: skip
IDENTITY = (
    "what is in the picture?", "what object is this?", "what is this?",
    "what does the image show?", "which object do you see?", "name the object.",
    HELD_OUT, "what does the picture show?",
)  # fmt: skip
LISTING = (
    "which objects are in the picture?", "list the objects.", "what is in the picture?",
    "name the objects in the picture.", "which things can you see?", "list all things.",
    "what objects does the image show?", "tell me all the objects.", HELD_OUT, "name all objects.",
)  # fmt: skip
DESCRIBE = (
    "describe the picture.", "describe the image.", "what do you see?",
    "please describe this picture.", "give me a description of the image.",
    "what does the whole scene look like?", "describe what you see.", "write a description.",
    HELD_OUT, "give a description.",
)  # fmt: skip
