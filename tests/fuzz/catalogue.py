"""All targets by name; a target's module is imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from targets.target import Target

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
ROOT = HERE.parents[1]

MODULES = {
    "messages": ("container", "parameters", "requests", "responses"),
    "parts": ("text", "masks", "dropped", "labels", "codes", "varints"),
    "frames": ("hello", "turns", "replies", "frame_cutter", "reply_stream"),
    "picture_files": ("umic", "carried", "label_names", "history"),
    "bundle_files": (
        "manifest",
        "configurations",
        "known_words",
        "text_tokenizer",
        "text_prior",
        "mask_prior",
    ),
    "weights": ("safetensors", "image_tokenizer", "entropy_model", "neck_file"),
    "pictures": ("pictures", "mask_files"),
    "typed": ("config", "keys", "typed"),
    "server": ("http_requests", "web_sockets"),
}
"""Module of `targets` to the names of its targets."""
NAMES = tuple(name for names in MODULES.values() for name in names)


def reachable() -> None:
    """Let the project and the tests' fakes be imported, where pytest has not done so."""
    for folder in (ROOT / "tests" / "soak", ROOT / "tests" / "fakes", ROOT):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def target_named(name: str) -> Target:
    """The target of that name."""
    module = next(module for module, names in MODULES.items() if name in names)
    targets = importlib.import_module(f"targets.{module}").TARGETS
    return next(target for target in targets if target.name == name)


def stored(name: str) -> list[bytes]:
    """The inputs of a target's folder, by name of file."""
    folder = CORPUS / name
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
