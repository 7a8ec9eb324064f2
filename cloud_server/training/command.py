"""The `cloud-server train` commands: picks a recipe module and runs it.

It does not know what a recipe does; a recipe is imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from collections.abc import Sequence
from types import ModuleType

from shared_protocol.errors import ConfigError

RECIPES = {
    "scenes": (".scenes.contact_sheet", "a sheet of scenes to look at"),
    "text-tokenizer": (".recipes.text.tokenizer", "byte-level BPE and its prior"),
    "world-words": (".recipes.text.world_words", "the words that the models know"),
    "image-tokenizer": (".recipes.image_tokenizer.recipe", "pixels to codes and back"),
    "token-cache": (".tokens.token_cache", "scenes as codes, made once"),
    "photo-tokens": (".tokens.photo_tokens", "photographs as codes, made once"),
    "easy-vqa": (".tokens.easy_vqa", "easy-vqa's pictures as codes, made once"),
    "generated-tokens": (
        ".tokens.generated_tokens",
        "the backbone's answers as codes, to fit the entropy models to",
    ),
    "kept-pictures": (
        ".tokens.picture_drawer",
        "the backbone's own drawings that pass a check, to train it on",
    ),
    "backbone": (".recipes.backbone.recipe", "the unified transformer"),
    "average": (".recipes.backbone.averaging", "the mean of two exports of the transformer"),
    "entropy": (".recipes.entropy.recipe", "the entropy models, exact after training"),
    "one-or-three": (
        ".recipes.entropy.one_or_three",
        "one entropy model for all scenarios against three small ones",
    ),
    "neck": (".recipes.neck.recipe", "image tokens into the middle of a vision encoder"),
    "mask-prior": (".recipes.mask_prior", "counts of the mask coder"),
    "bundle": (".recipes.bundle", "seal the trained files: digests, fingerprint"),
    "cases": (".benchmark.cases", "held-out requests with their truth, to evaluate"),
    "judge": (".benchmark.judge", "says what a generated picture shows"),
    "report": (".benchmark.report", "the table of what the bundle can do"),
    "neck-report": (
        ".benchmark.neck_report",
        "a neck beside decoding first, post-processing and codecs",
    ),
    "failures": (".benchmark.failures", "sheets of what went wrong, and of the usual"),
    "before-after": (".benchmark.before_after", "pictures of the same prompts side by side"),
    "diversity": (".benchmark.diversity", "how far pictures of one prompt differ"),
    "all": (".recipes.everything", "every recipe in turn, each with its defaults"),
}
"""Command -> (module with `add_arguments(parser)` and `run(args)`, what it makes)."""


def train(argv: Sequence[str]) -> int:
    """Run `cloud-server train <recipe> …` and return the process's exit status.

    Raises:
        ConfigError: the recipe is not part of this installation.
    """
    parser = argparse.ArgumentParser(
        prog="cloud-server train",
        description="Make the weights that this project ships.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_list_of_recipes(),
    )
    parser.add_argument("recipe", choices=sorted(RECIPES), metavar="recipe", help="see below")
    chosen = parser.parse_args(argv[:1]).recipe
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return _run(chosen, argv[1:])


def _list_of_recipes() -> str:
    lines = [f"  {name:<16} {purpose}" for name, (_, purpose) in RECIPES.items()]
    return "\n".join(["recipes ('cloud-server train RECIPE --help' tells more):", *lines])


def _run(recipe: str, argv: Sequence[str]) -> int:
    module = _load(recipe)
    parser = argparse.ArgumentParser(
        prog=f"cloud-server train {recipe}", description=module.__doc__
    )
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(argv)) or 0)


def _load(recipe: str) -> ModuleType:
    name = RECIPES[recipe][0]
    try:
        module = importlib.import_module(name, __package__)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the recipe {recipe} cannot be loaded: no module {error.name}",
            "install the extras of unimic that it needs: [cloud] and [dev]",
        ) from error
    if not hasattr(module, "add_arguments") or not hasattr(module, "run"):
        raise ConfigError(f"{name} is not a recipe: it lacks add_arguments() or run()")
    return module
