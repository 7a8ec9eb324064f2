"""Draws scenes and keeps them as image codes, so that transformer recipes never touch pixels.

Knows the tokenizer file and the world, no transformer. A shard is a pure function of (tokenizer,
world, seed, split, shard number); shards that exist are kept, so an interrupted run goes on where
it stopped, and readers may start while shards are still being written.

    OUT/train_00000.npy     uint16 [2000, 16, 16] codes
    OUT/train_00000.jsonl   the scenes, one a line, same order (written first)
    OUT/meta.json           what made them
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import Scene, Split, World
from cloud_server.training.tokens.shards import check_meta
from cloud_server.training.tokens.shards import write_shard as keep_shard
from shared_protocol.bundles.digests import digest_of
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact

logger = logging.getLogger(__name__)

SPLIT_SEEDS: dict[Split, int] = {"train": 0, "test": 1}
BATCH = 20
SMOKE_SCENES = 40
STRIDE, RIM = 16, 4  # pixels: a token's side, and how far beyond it the encoder sees


@dataclass(frozen=True)
class ShardJob:
    """Everything that one shard depends on; small, so that it can be sent to a worker process."""

    tokenizer: Path
    out: Path
    world: Path | None
    cache: Path | None
    split: Split
    seed: int
    number: int
    size: int

    @property
    def codes_path(self) -> Path:
        """Where the codes go; its presence means that the shard is complete."""
        return self.out / f"{self.split}_{self.number:05d}.npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("--tokenizer", type=Path, required=True, help="image_tokenizer.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--shard", type=int, default=2_000, help="scenes a shard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_SCENES} scenes only")


def run(args: argparse.Namespace) -> int:
    """Writes the shards that are missing; returns the process's exit status.

    Raises:
        ConfigError: the folder holds shards of another tokenizer, seed or shard size.
    """
    if args.smoke:
        args.scenes, args.workers = SMOKE_SCENES, 1
    args.out.mkdir(parents=True, exist_ok=True)
    check_meta(args.out, meta_of(args.tokenizer, args.seed, args.shard))
    jobs = [job for job in plan_shards(args) if not job.codes_path.exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, mp_context=context) as pool:
        for done in as_completed([pool.submit(write_shard, job) for job in jobs]):
            logger.info("wrote %s", done.result().name)
    return 0


def plan_shards(args: argparse.Namespace) -> list[ShardJob]:
    """The shards of `args.scenes` scenes; the last may be short."""
    sizes = [min(args.shard, args.scenes - i) for i in range(0, args.scenes, args.shard)]
    return [
        ShardJob(args.tokenizer, args.out, args.world, args.cache, args.split, args.seed, n, size)
        for n, size in enumerate(sizes)
    ]


def meta_of(tokenizer: Path, seed: int, shard: int) -> dict[str, Any]:
    """What the codes and the scenes of a folder of shards depend on."""
    return {"tokenizer_sha256": digest_of(tokenizer), "seed": seed, "shard": shard}


def write_shard(job: ShardJob) -> Path:
    """Draws, encodes and writes one shard; returns the path of its codes."""
    torch.set_num_threads(1)  # one worker a core
    world = World.load(job.world)
    scenes = shard_scenes(world, job)
    encoder = _block_encoder(job.tokenizer)
    codes = encode_scenes(encoder, Renderer(world, job.cache), scenes)
    return keep_shard(job.codes_path, codes, [scene.to_dict() for scene in scenes])


def shard_scenes(world: World, job: ShardJob) -> list[Scene]:
    """The scenes of a shard."""
    rng = np.random.default_rng((job.seed, SPLIT_SEEDS[job.split], job.number))
    return [world.sample_scene(rng, job.split) for _ in range(job.size)]


class BlockEncoder:
    """Encodes pictures block by block and remembers every block that it has seen.

    A code depends on its own 16x16 block and 4 px around it, and scenes repeat most of theirs
    (backgrounds, aligned sprites): some ten times faster than encoding whole pictures.
    """

    def __init__(self, tokenizer: CompactTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[bytes, int] = {}

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] -> codes uint16 [N, H/16, W/16]."""
        windows = cut_windows(pictures)
        flat = windows.reshape(-1, *windows.shape[3:])  # [M, 24, 24, 4]
        keys = [window.tobytes() for window in flat]
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        if new:
            self._known.update(
                zip(new, self._encode_windows(flat[list(new.values())]), strict=True)
            )
        codes = np.array([self._known[key] for key in keys], dtype=np.uint16)
        return codes.reshape(windows.shape[:3])

    def _encode_windows(self, windows: np.ndarray) -> list[int]:
        inside = torch.from_numpy(windows[..., 3:]).float()
        pixels = (torch.from_numpy(windows[..., :3]).float() / 127.5 - 1) * inside
        codes: list[int] = self._tokenizer.encode_windows(pixels.permute(0, 3, 1, 2)).tolist()
        return codes


def cut_windows(pictures: np.ndarray) -> np.ndarray:
    """Every block with its rim, and a fourth channel that is 0 beyond the picture's edge.

    Args:
        pictures: uint8 [N, H, W, 3].

    Returns:
        uint8 [N, H/16, W/16, 24, 24, 4].
    """
    marked = np.concatenate([pictures, np.ones_like(pictures[..., :1])], axis=3)
    padded = np.pad(marked, ((0, 0), (RIM, RIM), (RIM, RIM), (0, 0)))
    side = STRIDE + 2 * RIM
    views = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return np.ascontiguousarray(views[:, ::STRIDE, ::STRIDE].transpose(0, 1, 2, 4, 5, 3))


def encode_scenes(encoder: BlockEncoder, renderer: Renderer, scenes: list[Scene]) -> np.ndarray:
    """Codes of scenes of one size, uint16 [N, H/16, W/16]."""
    chunks = [scenes[i : i + BATCH] for i in range(0, len(scenes), BATCH)]
    pictures = (np.stack([renderer.render(scene) for scene in chunk]) for chunk in chunks)
    return np.concatenate([encoder.encode(batch) for batch in pictures])


@cache
def _block_encoder(tokenizer: Path) -> BlockEncoder:
    """One a worker process, so that shards share what is known."""
    return BlockEncoder(load_compact(tokenizer))


def main(argv: list[str] | None = None) -> int:
    """Command line of the token cache alone."""
    parser = argparse.ArgumentParser(description="Render scenes and keep them as image codes.")
    add_arguments(parser)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
