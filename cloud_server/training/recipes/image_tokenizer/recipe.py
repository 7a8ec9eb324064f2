"""Recipe: trains the built-in image tokenizer and writes its fp16 weights.

Knows the data and the losses; the network is `shared_protocol.tokenizers.compact`. The same command
makes the shipped file on a CPU or a GPU: device, precision and length are flags. Run it through
`cloud-server train image-tokenizer --photos DIR --minutes 35`.
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloud_server.training.recipes.image_tokenizer.crops import (
    CropSource,
    load_photos,
    world_of_candidates,
)
from cloud_server.training.recipes.image_tokenizer.lfq_losses import lfq_losses
from cloud_server.training.recipes.image_tokenizer.scores import report
from cloud_server.training.recipes.run_loop import Chore, Length, run_to_the_end
from cloud_server.training.recipes.runs import (
    CHECKPOINT,
    SMOKE_STEPS,
    Progress,
    add_run_arguments,
    autocast,
    load_checkpoint,
    read_recipe,
    save_checkpoint,
)
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.sprites import default_cache_dir
from cloud_server.training.scenes.world import World
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact, save_compact

logger = logging.getLogger(__name__)

DEFAULT_CONFIG = Path(__file__).parents[2] / "configs" / "image_tokenizer.toml"
EXPORT_NAME = "image_tokenizer.safetensors"
LOG_EVERY = 50


@dataclass(frozen=True)
class TokenizerRecipe:
    """Everything that shapes the result, as in configs/image_tokenizer.toml."""

    seed: int
    batch: int
    crop: int
    learning_rate: float
    warm_up_share: float
    weight_decay: float
    clip_norm: float
    photo_share: float
    candidate_share: float
    aligned_share: float
    edge_gain: float
    square_weight: float
    gradient_weight: float
    commitment_weight: float
    entropy_weight: float
    diversity_weight: float
    entropy_groups: int

    @classmethod
    def load(cls, path: Path | None = None) -> TokenizerRecipe:
        """Reads a TOML file; without `path`, the shipped recipe."""
        return read_recipe(cls, path or DEFAULT_CONFIG)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this recipe."""
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and sheets")
    parser.add_argument(
        "--photos", type=Path, help="folder with photographs (searched recursively)"
    )
    parser.add_argument("--export", type=Path, help=f"file; default: OUT/{EXPORT_NAME}")
    add_run_arguments(parser, minutes=35.0)
    parser.add_argument("--report-minutes", type=float, default=4.0)
    parser.add_argument("--config", type=Path, help="another image_tokenizer.toml")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")


def run(args: argparse.Namespace) -> int:
    """Trains, reports and exports; returns the process's exit status."""
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = TokenizerRecipe.load(args.config)
    if args.seed is not None:
        recipe = replace(recipe, seed=args.seed)
    if args.smoke:
        recipe, args.steps = tiny(recipe), SMOKE_STEPS
    TokenizerTrainer(recipe, args).train()
    return 0


def tiny(recipe: TokenizerRecipe) -> TokenizerRecipe:
    """The same recipe with batches that take no time."""
    return replace(recipe, batch=2, crop=32 * 3 + 32)


class TokenizerTrainer:
    """One run: model, optimizer, data, clock."""

    def __init__(self, recipe: TokenizerRecipe, args: argparse.Namespace) -> None:
        self.recipe, self.args = recipe, args
        self.progress = Progress()
        self._losses: dict[str, float] = {}
        torch.manual_seed(recipe.seed)
        model = CompactTokenizer().to(args.device)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
        )
        self.world = World.load(args.world)
        self.renderer = Renderer(self.world, args.cache or default_cache_dir())
        self.photos = load_photos(args.photos)
        self.source = self._source()
        if args.resume and self.checkpoint.exists():
            self._restore()

    @property
    def checkpoint(self) -> Path:
        """The file that --resume reads."""
        return Path(self.args.out) / CHECKPOINT

    @property
    def export(self) -> Path:
        """The shipped form of the weights."""
        return Path(self.args.export or self.args.out / EXPORT_NAME)

    def train(self) -> None:
        """Steps until the planned length is reached, with reports on the way."""
        args = self.args
        run_to_the_end(
            self.progress,
            Length(args.steps, args.minutes),
            self.advance,
            self._log,
            log_every=LOG_EVERY,
            chores=[Chore(args.report_minutes, self.save)],
        )
        self.save()

    def _log(self, share: float) -> None:
        logger.info("step %d share %.3f %s", self.progress.step, share, self._losses)

    def advance(self, share: float) -> None:
        """One update, at a share of the run."""
        learning_rate = learning_rate_at(share, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        crops = self.source.batch(self.progress.step, self.recipe.batch)
        pixels = to_pixels(crops, self.args.device)
        with autocast(self.args.device, self.args.precision):
            output, z = self.model(pixels)
        total, parts = total_loss(output.float(), pixels, z, self.recipe)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self._losses = {name: round(value.item(), 4) for name, value in parts.items()}

    def save(self) -> None:
        """Checkpoint, fp16 export and, unless this is a smoke run, scores of the exported file."""
        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_checkpoint(self.checkpoint, self.progress, **states)
        save_compact(self.model, self.export, {"recipe": str(asdict(self.recipe))})
        if not self.args.smoke:
            sheet = Path(self.args.out) / f"sheet_{self.progress.step:06d}.png"
            scores = report(
                load_compact(self.export), self.world, self.renderer, self.photos, sheet
            )
            logger.info("report step %d %s", self.progress.step, scores)

    def _restore(self) -> None:
        self.progress, states = load_checkpoint(self.checkpoint, self.args.device)
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])

    def _source(self) -> CropSource:
        world = replace(self.world, aligned_share=self.recipe.aligned_share)
        return CropSource(
            world=world,
            candidates=world_of_candidates(world),
            renderer=self.renderer,
            photos=self.photos,
            crop=self.recipe.crop,
            photo_share=self.recipe.photo_share,
            candidate_share=self.recipe.candidate_share,
            seed=self.recipe.seed,
        )


def learning_rate_at(share: float, recipe: TokenizerRecipe) -> float:
    """Linear warm-up, then a cosine to zero at the end of the planned length."""
    if share < recipe.warm_up_share:
        return recipe.learning_rate * (share / recipe.warm_up_share + 0.01)
    rest = (share - recipe.warm_up_share) / (1 - recipe.warm_up_share)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def to_pixels(crops: np.ndarray, device: str) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in -1..1, channels last in memory."""
    return torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def total_loss(
    output: Tensor, pixels: Tensor, z: Tensor, recipe: TokenizerRecipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Edge-weighted L1 + L2, differences of neighbours at two scales, LFQ terms.

    Args:
        output / pixels: float32 [B, 3, H, W] in -1..1.
        z: float [B, K, h, w].

    Returns:
        The weighted sum and its unweighted parts.
    """
    error = output - pixels
    weights = edge_weights(pixels, recipe.edge_gain)
    lfq = lfq_losses(z, groups=recipe.entropy_groups)
    parts = {
        "l1": (weights * error.abs()).mean(),
        "l2": (weights * error.square()).mean(),
        "gradient": difference_loss(error) + difference_loss(F.avg_pool2d(error, 2)),
        "commitment": lfq.commitment,
        "entropy": lfq.entropy,
        "diversity": lfq.diversity,
    }
    total = (
        parts["l1"]
        + recipe.square_weight * parts["l2"]
        + recipe.gradient_weight * parts["gradient"]
        + recipe.commitment_weight * parts["commitment"]
        + recipe.entropy_weight * parts["entropy"]
        - recipe.diversity_weight * parts["diversity"]
    )
    return total, parts


def edge_weights(pixels: Tensor, gain: float) -> Tensor:
    """float [B, 1, H, W], 1 on flat ground up to 1 + gain at strong edges; mean about 1 to 2."""
    grey = pixels.mean(dim=1, keepdim=True)
    right = F.pad((grey[..., 1:] - grey[..., :-1]).abs(), (0, 1))
    below = F.pad((grey[..., 1:, :] - grey[..., :-1, :]).abs(), (0, 0, 0, 1))
    strength = F.max_pool2d((right + below).clamp(max=0.5) * 2, 3, stride=1, padding=1)
    return 1 + gain * strength


def difference_loss(error: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring errors: punishes blur and block borders."""
    right = (error[..., 1:] - error[..., :-1]).abs().mean()
    below = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return right + below


def main(argv: list[str] | None = None) -> int:
    """Command line of this recipe alone."""
    parser = argparse.ArgumentParser(description="Train the built-in image tokenizer.")
    add_arguments(parser)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
