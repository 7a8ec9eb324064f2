"""Runs every recipe in turn and ends with a sealed bundle that a server can load.

Knows the order of the recipes and which file each hands to the next; trains nothing itself::

    OUT/scenes.png            what the world looks like
    OUT/image_tokenizer/      checkpoint and sheets
    OUT/tokens/  OUT/photos/  scenes and photographs as codes
    OUT/backbone/ OUT/entropy/  checkpoints
    OUT/judge.safetensors     for the report; OUT/encoder.safetensors, its like, for the neck
    OUT/neck/                 the neck, for `cloud-server --neck OUT/neck/neck.safetensors`
    OUT/bundle/               the bundle; `cloud-server --bundle OUT/bundle` serves it

A run that was interrupted goes on with --resume: finished recipes are left out.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from cloud_server.training.recipes.bundle import CONFIG as BUNDLE_CONFIG
from cloud_server.training.scenes.sprites import default_cache_dir
from cloud_server.training.scenes.stand_ins import write_stand_ins
from cloud_server.training.scenes.world import World
from shared_protocol.tokenizers.text import TextTokenizer

logger = logging.getLogger(__name__)

DONE = "done.txt"
ENCODER_SEED = 4711
"""Of the detector behind the neck: the judge must not train what it examines."""


@dataclass(frozen=True)
class Step:
    """A recipe with its arguments; `label` tells two runs of one recipe apart."""

    recipe: str
    arguments: tuple[str, ...]
    label: str = ""

    @property
    def name(self) -> str:
        """Of this step, unique in a plan."""
        return f"{self.recipe} {self.label}".strip()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--photos", type=Path, help="folder with photographs, if any")
    parser.add_argument("--easy-vqa", action="store_true", help="train on PyPI easy-vqa, too")
    parser.add_argument("--name", default="own", help="of the bundle ['own']")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="tiny steps on stand-in sprites: shows that the recipes fit together, nothing more",
    )


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet; returns the process's exit status."""
    from cloud_server.training.command import train

    bundle = args.out / "bundle"
    bundle.mkdir(parents=True, exist_ok=True)
    cache = args.cache or default_cache_dir()
    if args.smoke:
        cache = args.out / "cache"
        write_stand_ins(cache, World.load())
    log = args.out / DONE
    done = log.read_text(encoding="utf-8").splitlines() if args.resume and log.exists() else []
    log.write_text("".join(f"{name}\n" for name in done), encoding="utf-8")
    for step in plan(args, cache):
        if step.name in done:
            continue
        if step.recipe == "bundle":
            write_bundle_config(args.out / "bundle.toml", args.name, bundle)
        logger.info("--- %s", step.name)
        status = train([step.recipe, *step.arguments])
        if status:
            return status
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{step.name}\n")
    return 0


def plan(args: argparse.Namespace, cache: Path) -> list[Step]:
    """Every step, in an order in which each finds what it needs."""
    out: Path = args.out
    bundle, tokens, photos, easy = out / "bundle", out / "tokens", out / "photos", out / "easy_vqa"
    tokenizer, words = bundle / "image_tokenizer.safetensors", bundle / "text_tokenizer.json"
    smoke = ["--smoke"] if args.smoke else []
    kept = ["--cache", str(cache)]
    machine = ["--device", args.device, "--precision", args.precision]
    machine += ["--threads", str(args.threads)] if args.threads else []
    resume = ["--resume"] if args.resume else []
    run_ = [*machine, *smoke]
    pictures = ["--photos", str(args.photos)] if args.photos else []
    steps = [
        _step("scenes", "--out", out / "scenes.png", *kept, *smoke),
        _step("image-tokenizer", "--out", out / "image_tokenizer", "--export", tokenizer,
              *pictures, *kept, *run_, *resume),
        _step("text-tokenizer", "--out", bundle, *smoke),
        _step("world-words", "--out", bundle, *(["--easy-vqa"] if args.easy_vqa else [])),
        _step("mask-prior", "--out", bundle, *smoke),
        _step("token-cache", "--tokenizer", tokenizer, "--out", tokens, *kept, *smoke),
        _step("token-cache", "--tokenizer", tokenizer, "--out", tokens, "--split", "test",
              "--scenes", 2000, *kept, *smoke, label="test"),
    ]  # fmt: skip
    shards: list[object] = ["--tokens", tokens, "--text-tokenizer", words]
    drawn, asked = [], []
    if args.photos:
        options = ["--photos", args.photos, "--tokenizer", tokenizer, "--out", photos]
        steps.append(_step("photo-tokens", *options, *smoke))
        drawn = ["--photo-tokens", photos]
    if args.easy_vqa:
        steps.append(_step("easy-vqa", "--tokenizer", tokenizer, "--out", easy, *smoke))
        asked = ["--easy-vqa", easy]
    return [
        *steps,
        _step("backbone", *shards, *asked, "--image-tokenizer", tokenizer,
              "--out", out / "backbone", "--export", bundle / "backbone", *run_,
              *_resume(args, out / "backbone" / "checkpoint.pt")),
        _step("entropy", *shards, *drawn, "--out", out / "entropy",
              "--export", bundle / "entropy.safetensors", *run_, *resume),
        _step("judge", "--tokenizer", tokenizer, "--out", out / "judge.safetensors",
              *kept, *run_, *resume),
        _step("judge", "--tokenizer", tokenizer, "--out", out / "encoder.safetensors",
              "--seed", ENCODER_SEED, *kept, *run_, *resume, label="encoder"),
        _step("bundle", "--config", out / "bundle.toml", "--folder", bundle),
        _step("neck", "--bundle", bundle, "--encoder", out / "encoder.safetensors",
              "--images", tokens, "--out", out / "neck", *kept, *run_, *resume),
    ]  # fmt: skip


def _step(recipe: str, *arguments: object, label: str = "") -> Step:
    return Step(recipe, tuple(str(argument) for argument in arguments), label)


def _resume(args: argparse.Namespace, checkpoint: Path) -> list[str]:
    """The flag, for a recipe that resumes only where there is a checkpoint."""
    return ["--resume"] if args.resume and checkpoint.exists() else []


def write_bundle_config(path: Path, name: str, bundle: Path) -> None:
    """The shipped bundle's recipe under another name, with this text tokenizer's size."""
    size = TextTokenizer.load(bundle / "text_tokenizer.json").size
    lines = BUNDLE_CONFIG.read_text(encoding="utf-8").splitlines()
    changed = {"name = ": f'name = "{name}"', "text_size = ": f"text_size = {size}"}
    text = [
        next((new for start, new in changed.items() if line.startswith(start)), line)
        for line in lines
    ]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
