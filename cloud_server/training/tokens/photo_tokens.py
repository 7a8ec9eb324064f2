"""Turns photographs into token shards, so that the entropy recipe never touches pixels.

Knows the image tokenizer's file and a folder of pictures, no transformer. Every photograph is
encoded as it is, mirrored, and shifted by half a token:

    OUT/train_plain.npy  OUT/train_mirrored.npy    uint16 [N, 16, 16]
    OUT/train_shifted.npy                          uint16 [N, 15, 15]
    OUT/test_plain.npy                             the last --held-out photographs

Run it through
`python -m cloud_server.training.tokens.photo_tokens --photos DIR --tokenizer FILE --out DIR`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from cloud_server.training.recipes.image_tokenizer.crops import PHOTOS_HELD_OUT, load_photos
from cloud_server.training.recipes.image_tokenizer.scores import encode_pictures
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact

logger = logging.getLogger(__name__)

BATCH = 20
SMOKE_PHOTOS = 4
SHIFT = 8
"""Half a token, in pixels."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--photos", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--tokenizer", type=Path, required=True, help="image_tokenizer.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--held-out", type=int, default=PHOTOS_HELD_OUT)
    parser.add_argument("--limit", type=int, help="read only the first so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_PHOTOS} photographs only")


def run(args: argparse.Namespace) -> int:
    """Write the shards; returns the process's exit status."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_compact(args.tokenizer)
    if args.smoke:
        args.limit, args.held_out = SMOKE_PHOTOS, 1
    photos = load_photos(args.photos, args.limit)
    train = photos[: len(photos) - args.held_out]
    end = photos.shape[1] - SHIFT
    shards = {
        "train_plain": train,
        "test_plain": photos[len(train) :],
        "train_mirrored": train[:, :, ::-1],
        "train_shifted": train[:, SHIFT:end, SHIFT:end],
    }
    for name, pictures in shards.items():
        if len(pictures):
            np.save(args.out / f"{name}.npy", encode(tokenizer, pictures))
            logger.info("wrote %s: %d photographs", name, len(pictures))
    return 0


def encode(tokenizer: CompactTokenizer, pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> codes uint16 [N, H/16, W/16], in batches."""
    starts = range(0, len(pictures), BATCH)
    return np.concatenate([encode_pictures(tokenizer, pictures[i : i + BATCH]) for i in starts])


def main(argv: list[str] | None = None) -> int:
    """Command line of this recipe alone."""
    parser = argparse.ArgumentParser(description="Keep photographs as image codes.")
    add_arguments(parser)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
