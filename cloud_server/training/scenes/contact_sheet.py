"""A sheet of scenes with their captions, questions and answers, for a person to look at.

It trains nothing; the recipes draw the same scenes for themselves.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cloud_server.training.scenes.language import caption, describe, questions
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import Scene, Split, World

TEXT_HEIGHT = 230
LINE_HEIGHT = 11
LINE_CHARACTERS = 42


def contact_sheet(
    world: World, renderer: Renderer, split: Split, seed: int, columns: int = 5, rows: int = 3
) -> Image.Image:
    """Random scenes of a split in a grid, each above its words."""
    rng = np.random.default_rng(seed)
    width, height = world.width, world.height + TEXT_HEIGHT
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index in range(columns * rows):
        left, top = index % columns * width, index // columns * height
        scene = world.sample_scene(rng, split)
        sheet.paste(Image.fromarray(renderer.render(scene)), (left, top))
        lines = scene_lines(scene, rng, split, world)
        text = "\n".join(lines[: TEXT_HEIGHT // LINE_HEIGHT])
        draw.multiline_text((left + 3, top + world.height + 2), text, fill="black", spacing=0)
    return sheet


def scene_lines(scene: Scene, rng: np.random.Generator, split: Split, world: World) -> list[str]:
    """Two captions, the description and every question, wrapped."""
    texts = [f"* {caption(scene, rng, split)}" for _ in range(2)]
    texts.append(f"= {describe(scene)}")
    texts += [
        f"{qa.question} {qa.answer}"
        for qa in questions(scene, rng, split, world)
        if qa.kind != "describe"
    ]
    return [line for text in texts for line in textwrap.wrap(text, LINE_CHARACTERS)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `cloud-server train scenes`."""
    parser.add_argument("--out", type=Path, default=Path("scenes.png"), help="PNG to write")
    parser.add_argument("--world", type=Path, help="world (TOML); default: the built-in one")
    parser.add_argument("--cache", type=Path, help="where the sprite packages are kept")
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="one row of scenes only")


def run(args: argparse.Namespace) -> int:
    """Draw the sheet; fetches the sprites on first use."""
    world = World.load(args.world)
    rows = 1 if args.smoke else 3
    renderer = Renderer(world, args.cache)
    contact_sheet(world, renderer, args.split, args.seed, rows=rows).save(args.out)
    return 0
