"""The English that prompts are made of, apart from the names of things and places.

These are tables and know nothing of what is done with them. Several words stand as one string.
"""

from __future__ import annotations

from typing import Final


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _rows(*texts: str) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts for part in text.split("|"))


REFUSED: Final = _split(
    "no not never without neither nor none nothing cannot except excluding minus lacking missing "
    "absent or either maybe perhaps possibly optionally instead unless rather nobody zero"
)
"""Who says one of these does not say plainly what is to be drawn."""
LISTED: Final = _rows("and nothing else", "nothing else", "no more and no less", "nothing more")
"""Of them, these say nothing but that all was said."""

NUMBERS: Final = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
}  # fmt: skip
MOST: Final = 99
"""More of a thing than this are no quantity that is meant."""
AMOUNTS: Final = {
    "a": 1, "an": 1, "single": 1, "a single": 1, "one single": 1, "one more": 1, "a lone": 1,
    "another": 1, "yet another": 1, "a pair of": 2, "pair of": 2, "a couple of": 2, "a couple": 2,
    "couple of": 2, "a trio of": 3, "half a dozen": 6, "a dozen": 12, "dozen": 12,
}  # fmt: skip
POINTERS: Final = _split("the this that these those")
OWNERS: Final = _split("my your his her their our its someone's")
UNSURE: Final = _rows(
    "many|some|several|few|a few|quite a few|a lot of|lots of|plenty of|numerous|various|"
    "multiple|countless|dozens of|hundreds of|thousands of|tons of|loads of|any|more|most|all"
    "|every|each|a number of|a group of|groups of|a bunch of|bunches of|a herd of|a flock of|a "
    "school of|a pack of|a crowd of|a pile of|a row of|an army of|a family of|a set of|all the",
    "at least|at most|up to|more than|less than|"
    "fewer than|approximately|a handful of|a swarm of|a colony of|a collection of|enough|much|"
    "a variety of|half|half a|half an|part of a|too many|so many|a million|a hundred|a thousand"
    "|hundred|thousand|million|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|thirteen|"
    "fourteen|fifteen|sixteen|seventeen|eighteen|nineteen",
)
"""Before a thing, they leave open how many there are."""
ROUGH: Final = _split("about around roughly nearly almost")
"""They do so only before a number."""

PICTURES: Final = _split(
    "picture image photo photograph drawing painting illustration sketch scene view shot pic "
    "artwork canvas frame"
)
STYLES: Final = _split(
    "portrait cartoon closeup watercolor watercolour render rendering sticker icon logo emoji "
    "poster postcard comic wallpaper painting art silhouette style"
)
"""Names of pictures that ask for more than a picture."""
SHOWS: Final = _rows(
    "of|with|where|in which|showing|that shows|which shows|containing|that contains|featuring|"
    "shows|has|contains|should show|should have|should contain|depicting|that has|to show|"
    "which has|that depicts|depicts|features|showing us"
)
ORDERS: Final = _rows(
    "draw|paint|sketch|show|make|create|generate|render|give|produce|put|place|add|include|imagine"
    "|design|depict|draw me|paint me|sketch me|show me|make me|give me|show us|i want|i want to see"
    "|i want to have|i would like|i would like to see|i would love to see|i need|let us see|we see",
    "i see|you see|you can see|we can see|there is|there are|there should be|there stands|there sit"
    "|there sits|there stand|here is|here are|and there is|please|can you|could you|would you|"
    "now|i would love|i want you to draw|for me|just|only|simply|exactly|also|too|as well|then|it "
    "shows|each other|side by side|next to each other|beside each other|one another|both|and also|"
    "together|of course|thanks|thank you|see|i wish for|i am looking for|there|here",
)
"""They say that something is to be drawn, or add nothing to it."""
BEING: Final = _split(
    "is are be being was stands stand standing sits sit sitting lies lie lying located placed "
    "positioned situated seen shown put set floats float floating flies fly flying "
    "hovers hovering appears resting rests rest visible should must can will drawn painted find "
    "found"
)
"""They say that something is there, which a picture cannot but show."""
NEVER_VERBS: Final = _split("present")
"""Things whose word means another thing behind a form of `be`."""
IS: Final = _split("is are be being was were")

TIGHT: Final = _rows("and|plus|as well as|along with|together with|&|+|accompanied by|and also")
NEAR: Final = _rows(
    "next to|beside|near|by|close to|alongside|adjacent to|right next to|near to|right beside|"
    "just next to|directly next to"
)
WITH: Final = _rows("with|and with|that has|which has|has|having")
STOPS: Final = _rows(".|;|!|?|while|whereas|and there is|and there are|and then")
COMMAS: Final = (",",)
SILENT: Final = _split(": ( ) \" ' [ ] - * … /")
WHICH: Final = _rows("which|that|who|which is|that is|who is|which are|that are")
PRONOUNS: Final = _split("it him them he she they")
SWALLOWING: Final = _rows("of|like|shaped like|such as|looks like|than|as|from|made of|into")
"""The thing behind one of these is not itself in the picture."""

NOT_SHOWN: Final = _rows(
    "from left to right|from right to left|from top to bottom|from bottom to top|left to right|"
    "in front of|in back of|inside of|outside of|out of|at the foot of|at the base of|at the edge "
    "of|on the edge of|on the roof of|on the head of|on the back of|at the side of|at the end of|"
    "in the shade of|in the shadow of|to the side of|at the door of|at the feet of|because of"
)
"""How things stand to each other that no relation says; the other thing is there all the same."""

SIDES: Final = _rows("left|right")
RELATIONS: Final = {
    "above": _rows(
        "above|over|on top of|atop|higher than|higher up than|up above|further up than|above of|"
        "farther up than|at a higher place than|at a higher position than|at a higher spot than|"
        "in a higher place than"
    ),
    "below": _rows(
        "below|under|beneath|underneath|lower than|lower down than|down below|further down than|"
        "farther down than|at a lower place than|at a lower position than|in a lower place than|"
        "at a lower spot than"
    ),
}
SIDE_RELATIONS: Final = _rows(
    "{} of|to the {} of|on the {} of|at the {} of|in the {} of|{} from|to the {} from|"
    "to the {} side of|on the {} side of|at the {} side of|on the {} hand side of|{} side of|"
    "to the {} hand side of|to {} of|on {} of|on {} side of|further {} than|farther {} than|"
    "more {} than|further to the {} than|farther to the {} than|more to the {} than|"
    "further to the {} of|further on the {} than"
)
OWN_SIDES: Final = _rows(
    "to its {}|on its {}|at its {}|to its {} side|on its {} side|at its {} side|to its {} hand side"
    "|on its {} hand side|to their {}|on their {}|to his {}|on his {}|to her {}|on her {}"
)
DANGLING: Final = {"above": _rows("on top|above|overhead"), "below": _rows("below|underneath")}
"""Relations to what was spoken of last, if anything."""
EXACTLY: Final = _split("right just directly immediately straight")
SIDE_ENDS: Final = _rows("hand side|side")
"""After "to the fox's left"."""

ZONE_BEFORE: Final = _rows("at|in|on|to|toward|towards|near|at the very|in the very|by|into")
DOWN: Final = {"top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}
ACROSS: Final = {"left": "left", "right": "right"}
MIDDLE: Final = _split("center middle")
CENTERED: Final = _split("centered")
TURNED: Final = _split("looks turns drives goes moves points faces runs walks swims sails heads")
"""Whoever does this, or something else that ends in -ing, to the left, is not yet at the left."""
ZONE_AFTER: Final = _rows(
    "corner|side|half|part|edge|area|third|end|section|portion|border|hand side|hand corner|"
    "hand half|region|hand part|quarter|quadrant"
)
OF_PICTURE: Final = tuple(
    f"{of} {the} {noun}"
    for of in ("of", "in", "on")
    for the in ("the", "this")
    for noun in sorted(PICTURES)
)
SPLIT_AT_HYPHENS: Final = _split(
    "top upper bottom lower left right center middle hand side most corner"
)

ARTICLES: Final = _split("a an the")
SURFACE: Final = _rows(
    "in|on|at|out in|out on|in the middle of|in the center of|right in|right on|down on|"
    "down at|out at"
)
SIDEWAYS: Final = _rows("by|beside|near|next to|close to")
FRONT: Final = _rows("against|before|in front of|with")
SCENERY: Final = _split("scene setting landscape environment scenery background backdrop")
BACKGROUND: Final = "background"
BACKDROPS: Final = _split("background backdrop")
TIME_BEFORE: Final = _split("at by during in")
SAME_TIME: Final = {
    "nighttime": "night",
    "night time": "night",
    "daytime": "day",
    "day time": "day",
    "daylight": "day",
    "sunset time": "sunset",
}

IRREGULAR: Final = {
    "octopus": ("octopuses", "octopi", "octopodes"),
    "cactus": ("cacti", "cactuses", "cactus'"),
    "bus": ("buses", "busses"),
    "fish": ("fish", "fishes"),
    "leaf": ("leaves",),
    "wolf": ("wolves",),
    "loaf": ("loaves",),
    "mouse": ("mice",),
    "goose": ("geese",),
    "tomato": ("tomatoes",),
    "potato": ("potatoes",),
}

OTHER_FUNCTION_WORDS: Final = _split(
    "in on at to from into onto inside outside behind between among around across through off out "
    "for because when where during before after until since if but so up down via upon along "
    "against past toward towards within everywhere outdoors outside nearby alone what how i we you "
    "me us does do did have had who whom whose am were been would could may might"
)
NO_VERBS: Final = _split(
    "building painting drawing clothing parking string spring morning evening ceiling wedding "
    "news pudding dressing plushie earring racing housing stuffing topping keyring"
)
"""They end like something that is done, and name things."""
NOT_OF_A_KIND: Final = ("hot air balloon", "house of cards", "water balloon", "tree house")
"""Names that end like a thing, and mean another; its own shape is not theirs."""
