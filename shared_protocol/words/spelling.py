"""Spellings and short forms that mean the same, with the one that plain text uses.

It does not know sentences: these are tables of words in lower case, which `plain` reads.
"""

from __future__ import annotations

BRITISH = {
    "aeroplane": "airplane",
    "armour": "armor",
    "catalogue": "catalog",
    "centre": "center",
    "colour": "color",
    "cosy": "cozy",
    "doughnut": "donut",
    "favourite": "favorite",
    "fibre": "fiber",
    "flavour": "flavor",
    "grey": "gray",
    "harbour": "harbor",
    "humour": "humor",
    "jewellery": "jewelry",
    "litre": "liter",
    "metre": "meter",
    "mould": "mold",
    "moustache": "mustache",
    "neighbour": "neighbor",
    "plough": "plow",
    "pyjamas": "pajamas",
    "rumour": "rumor",
    "sceptic": "skeptic",
    "theatre": "theater",
    "tyre": "tire",
    "vapour": "vapor",
}
"""British to American, which the built-in models were trained on; inflections follow."""
_ENDINGS = ("", "s", "ed", "ing", "ful", "less", "hood")
AMERICAN = {f"{word}{end}": f"{other}{end}" for word, other in BRITISH.items() for end in _ENDINGS}
AMERICAN["centred"], AMERICAN["greyish"] = "centered", "grayish"

SHORT = {
    "can't": "cannot",
    "cant": "cannot",
    "won't": "will not",
    "wont": "will not",
    "let's": "let us",
    "i'm": "i am",
    "im": "i am",
    "pls": "please",
    "plz": "please",
    "whats": "what is",
    "wheres": "where is",
    "theres": "there is",
    "whos": "who is",
    "hows": "how is",
    "isnt": "isn't",
    "arent": "aren't",
    "dont": "don't",
    "doesnt": "doesn't",
}
"""Short forms, and those whose apostrophe was left out and that are no other word."""
