"""What every training run shares: its flags, its recipe, where it stands, its checkpoint.

It does not know what is trained.
"""

from __future__ import annotations

import argparse
import tomllib
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch

from shared_protocol.errors import CheckpointError, ConfigError

SMOKE_STEPS = 3
CHECKPOINT = "checkpoint.pt"
"""The file in --out that --resume reads."""
Recipe = TypeVar("Recipe")


@dataclass
class Progress:
    """Where a run stands; both clocks survive a resume."""

    step: int = 0
    seconds: float = 0.0

    def share(self, steps: int | None, minutes: float) -> float:
        """How much of the planned length is done, 0..1.

        >>> Progress(step=5).share(20, 0.0), Progress(seconds=90.0).share(None, 1.0)
        (0.25, 1.0)
        """
        done = self.step / steps if steps else self.seconds / (60 * minutes)
        return min(done, 1.0)


def add_run_arguments(
    parser: argparse.ArgumentParser,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
) -> None:
    """Declare length, device, precision, threads, seed, resume and smoke.

    Args:
        parser: gets the flags.
        steps: planned length of a run that is not planned by the clock.
        minutes: planned length by the clock; adds --minutes.
        seed: None = the recipe file's.
    """
    length = f"planned length [{steps}]"
    if minutes is not None:
        by_the_clock = f"planned length by the clock [{minutes}]"
        parser.add_argument("--minutes", type=float, default=minutes, help=by_the_clock)
        length = "planned length in steps, instead of --minutes"
    parser.add_argument("--steps", type=int, default=steps, help=length)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    seed_help = "instead of the recipe's" if seed is None else f"[{seed}]"
    parser.add_argument("--seed", type=int, default=seed, help=seed_help)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_STEPS} tiny steps")


def read_recipe(kind: type[Recipe], path: Path) -> Recipe:
    """A recipe from a TOML file whose names are the fields of `kind`.

    Raises:
        ConfigError: it cannot be read, or names are missing or unknown.
    """
    try:
        return kind(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is no recipe: {error}", "start from the shipped one, in training/configs"
        ) from error


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision as the flags ask for it."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def save_checkpoint(path: Path, progress: Progress, **states: Any) -> None:
    """Write state dicts and progress so that a reader sees the whole file or none."""
    partial = path.with_suffix(".partial")
    torch.save({**states, "progress": asdict(progress)}, partial)
    partial.replace(path)


def load_checkpoint(path: Path, device: str) -> tuple[Progress, dict[str, Any]]:
    """What `save_checkpoint` wrote.

    Raises:
        CheckpointError: it is not such a file.
    """
    try:
        states: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return Progress(**states.pop("progress")), states
    except (OSError, RuntimeError, KeyError, TypeError, UnpicklingError) as error:
        raise CheckpointError(f"cannot use the checkpoint {path}: {error}", "start over") from error
