"""Seals a folder of trained files into a bundle: writes its manifest with digests and fingerprint.

It does not train anything, and knows no file but by its role.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from shared_protocol.bundles.find import bundle_folder, load_bundle
from shared_protocol.bundles.manifest import BUILTIN, TYPING, write_manifest
from shared_protocol.errors import ConfigError

CONFIG = Path(__file__).parents[1] / "configs" / "bundle.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the recipe."""
    parser.add_argument("--config", type=Path, default=CONFIG, help="recipe (TOML)")
    parser.add_argument(
        "--folder", type=Path, help="the bundle's folder; default: the built-in one"
    )


def run(args: argparse.Namespace) -> None:
    """Write `bundle.json` beside the files that are there."""
    folder = args.folder or bundle_folder(BUILTIN)
    recipe = tomllib.loads(args.config.read_text(encoding="utf-8"))
    path = seal(folder, recipe)
    print(f"{path}: fingerprint {load_bundle(str(folder)).fingerprint.hex()}")  # noqa: T201


def seal(folder: Path, recipe: dict[str, Any]) -> Path:
    """Write the manifest of the files in `folder` and return its path.

    Args:
        folder: holds the files named by `recipe["files"]`; roles in `recipe["optional"]`, and
            the words of the world, may be absent and are then left out.
        recipe: the manifest's fields, plus `optional`.

    Raises:
        ConfigError: a file that is not optional is missing.
    """
    optional = set(recipe.get("optional", []))
    present = {role: file for role, file in recipe["files"].items() if (folder / file).is_file()}
    missing = set(recipe["files"]) - set(present) - optional
    if missing:
        raise ConfigError(f"{folder} lacks {', '.join(sorted(missing))}", "train those parts first")
    content = {key: value for key, value in recipe.items() if key != "optional"}
    typing = dict(recipe.get(TYPING, {}))
    if not (folder / typing.get("world", "")).is_file():
        typing.pop("world", None)
    return write_manifest(folder, {**content, "files": present, TYPING: typing})
