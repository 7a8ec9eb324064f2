"""Finds tokens that look out of place: the backbone, which sees the others, would not put them.

It asks no judge and knows no objects: a smear is a token whose probability, given all tokens of
other groups and the prompt, without guidance, is below a threshold. The tokens of a picture are
hidden in eight groups, a group at a time::

    0 1 2 3 0 1 2 3      the numbers are groups; no two cells of a group touch
    4 5 6 7 4 5 6 7
    2 3 0 1 2 3 0 1
    6 7 4 5 6 7 4 5

`THRESHOLD` comes from rendered scenes of the training split alone:
`python -m cloud_server.training.benchmark.smears --tokens DIR` measures it again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.backbone.registry import kind_of
from cloud_server.generation.image_logits import guided_image_logits
from cloud_server.serving.load import backbone_path
from cloud_server.settings import Settings
from cloud_server.training.recipes.entropy.sequences import Pool
from cloud_server.training.scenes.language import caption
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import CheckpointError, ConfigError, InvalidInputError
from shared_protocol.vocabulary import Vocabulary

Codes = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

THRESHOLD = 3e-5
"""One token in 500 of rendered training scenes is less likely by the shipped backbone: 0.50 a
scene, and 6.0 % of 200 scenes have `MANY`. Other weights find other tokens: compare pictures of two
by the same `--backbone`."""
REAL_SHARE = 1 / 500
MANY = 4
"""So many tokens out of place in a picture are seen at a glance."""
GROUPS = 8
STRIDE = 4
PICTURES, SMOKE, SEED = 200, 2, 31
"""Pictures of the measurement of the threshold, and the seed of their captions."""


@dataclass(frozen=True)
class Reader:
    """A backbone and what must be known to ask it.

    Args:
        backbone: the network.
        vocabulary: its ids.
        eot_id: text id that opens and closes texts.
        max_text_len: length of the text block, without the task token.
    """

    backbone: Backbone
    vocabulary: Vocabulary
    eot_id: int
    max_text_len: int


def load_reader(bundle: Bundle, path: Path) -> Reader:
    """The backbone at `path`, on the CPU in float32.

    Raises:
        CheckpointError: no weights there, or weights of another vocabulary than the bundle's.
    """
    weights = kind_of(path).load(path, "cpu", torch.float32)
    if not weights.fits(bundle.vocabulary, bundle.grid):
        raise CheckpointError(
            f"the backbone at {path} is not made for the bundle {bundle.name}",
            "name another --backbone",
        )
    return Reader(weights.backbone, bundle.vocabulary, bundle.eot_id, weights.max_text_len)


def groups(height: int, width: int) -> Codes:
    """(H, W) the group of every cell, 0 to 7: two sublattices of stride 4, far from each other."""
    rows, columns = np.indices((height, width))
    found: Codes = rows % 2 * STRIDE + (columns + rows // 2 % 2 * 2) % STRIDE
    return found


def probabilities(reader: Reader, codes: Codes, prompt: Codes) -> Shares:
    """How likely every token of a picture is, given the prompt and the tokens of other groups.

    Args:
        reader: is asked once, with the picture eight times.
        codes: (H, W) codes, the backbone's native grid; both sides multiples of 4.
        prompt: (N,) text ids, without special ids; may be empty.

    Returns:
        (H, W) probabilities.

    Raises:
        InvalidInputError: sides that the groups do not fill.
    """
    height, width = codes.shape
    if height % STRIDE or width % STRIDE:
        raise InvalidInputError(f"a grid of {height} x {width} has no whole groups of {STRIDE}")
    flat = torch.from_numpy(codes.reshape(1, -1)).expand(GROUPS, -1)
    places = torch.from_numpy(
        np.argsort(groups(height, width).reshape(-1), kind="stable").reshape(GROUPS, -1)
    )
    logits = guided_image_logits(
        reader.backbone,
        reader.vocabulary,
        [prompt] * GROUPS,
        guidance=[0.0] * GROUPS,
        eot_id=reader.eot_id,
        max_text_len=reader.max_text_len,
        tokens=codes.size,
    )
    device = reader.backbone.device
    with torch.inference_mode():
        hidden = flat.scatter(1, places, -1)
        scores = logits(hidden.to(device), places.to(device)).cpu().double().softmax(-1)
        shares = scores.gather(-1, flat.gather(1, places)[..., None])[..., 0]
        found = torch.empty(codes.size, dtype=shares.dtype)
        found[places.reshape(-1)] = shares.reshape(-1)
    result: Shares = found.numpy().reshape(height, width)
    return result


def smeared(shares: Shares) -> npt.NDArray[np.bool_]:
    """Which tokens look out of place, by their probabilities; of the same shape."""
    found: npt.NDArray[np.bool_] = shares < THRESHOLD
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the measurement of the threshold."""
    parser.add_argument("--tokens", type=Path, required=True, help="folder of scene shards")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"scenes [{PICTURES}]")
    parser.add_argument("--bundle", default=BUILTIN, help="name or folder [builtin]")
    parser.add_argument("--backbone", type=Path, help="weights [the bundle's]")
    parser.add_argument("--smoke", action="store_true", help="two scenes only")


def run(args: argparse.Namespace) -> int:
    """Print how likely real tokens of training scenes are; returns the process's exit status.

    Raises:
        ConfigError: the folder holds no training scenes.
        CheckpointError: there is no backbone.
    """
    pool = Pool(args.tokens)
    pool.refresh()
    scenes = [picture for picture in pool.pictures if picture.scene is not None]
    if not scenes:
        raise ConfigError(
            f"{args.tokens} holds no training scenes", "make them: 'cloud-server train token-cache'"
        )
    bundle = load_bundle(args.bundle)
    reader = load_reader(bundle, backbone_path(bundle, Settings(backbone=args.backbone)))
    rng, found = np.random.default_rng(SEED), []
    for index in rng.permutation(len(scenes))[: SMOKE if args.smoke else args.pictures]:
        picture = scenes[int(index)]
        assert picture.scene is not None, "chosen so"
        prompt = bundle.text_tokenizer.encode(caption(picture.scene, rng, "train")).ids
        found.append(probabilities(reader, picture.codes.astype(np.int64), prompt.astype(np.int64)))
    shares = np.stack(found)
    counts = smeared(shares).sum((1, 2))
    sys.stdout.write(
        f"{shares.size} real tokens of {len(shares)} pictures: "
        f"one in {1 / REAL_SHARE:.0f} is below {np.quantile(shares, REAL_SHARE):.2g}\n"
        f"below {THRESHOLD:g}: {counts.sum() / shares.size:.4%}, {counts.mean():.2f} a picture; "
        f"pictures with {MANY} or more: {np.mean(counts >= MANY):.1%}\n"
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
