"""Measures how far pictures of one prompt differ from seed to seed, drawn as a server draws them.

Knows prompts, requests and codes; judges nothing: pictures that differ are not therefore right. The
distance of two pictures is the share of their cells whose codes differ; a prompt's number is the
mean over all pairs of its pictures. Prompts are those of the test split, of a seed of their own.
`cloud-server train diversity --prompts 20 --seeds 16 --out FILE`
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cloud_server.generation.work import PictureResult
from cloud_server.serving.load import Care, backbone_path, load_engine
from cloud_server.serving.loaded_model import Runner
from cloud_server.serving.translation import to_work
from cloud_server.settings import Settings
from cloud_server.training.benchmark.case_makers import t2i_cases
from cloud_server.training.benchmark.cases import SEED
from cloud_server.training.scenes.world import World
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.digests import digest_of_weights
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import InvalidInputError
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task

logger = logging.getLogger(__name__)

Codes = npt.NDArray[np.int64]

PROMPTS, SEEDS = 20, 16
STREAM = 200
"""Beside the seed of the prompts, so that they are not the evaluation's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `cloud-server train diversity`."""
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help=f"how many [{PROMPTS}]")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"pictures a prompt [{SEEDS}]")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the prompts [{SEED}]")
    parser.add_argument("--bundle", default=BUILTIN, help="name or folder [builtin]")
    parser.add_argument("--backbone", type=Path, help="weights [the bundle's]")
    parser.add_argument("--steps", type=int, help="decoding steps [the bundle's]")
    parser.add_argument("--guidance", type=float, help="[the bundle's]")
    parser.add_argument("--mend", default="auto", help="as of cloud-server [auto]")
    parser.add_argument("--settle", default="auto", help="as of cloud-server [auto]")
    parser.add_argument("--threads", type=int, help="CPU threads [torch's choice]")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--smoke", action="store_true", help="two prompts, two steps, two seeds")


def run(args: argparse.Namespace) -> int:
    """Draw, print and write the distances; returns the process's exit status.

    Raises:
        InvalidInputError: fewer than one prompt or two seeds, which have no distance.
        CheckpointError: there is no backbone, or one that does not fit the bundle.
    """
    if args.smoke:
        args.prompts = args.seeds = args.steps = 2
    if args.prompts < 1 or args.seeds < 2:
        raise InvalidInputError(
            f"{args.prompts} prompts with {args.seeds} seeds have no distance",
            "ask for one prompt and two seeds at least",
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    bundle = load_bundle(args.bundle)
    settings = Settings(backbone=args.backbone, mend=args.mend, settle=args.settle)
    path = backbone_path(bundle, settings)
    engine = load_engine(bundle, path, "cpu", 1, care=Care(settings.mend, settings.settle))
    rows = []
    for prompt in prompts(World.load(args.world), args.prompts, args.seed):
        requests = [
            Request(
                Task.T2I,
                bundle.text_tokenizer.encode(prompt),
                options=Options(steps=args.steps, guidance=args.guidance, seed=seed),
            )
            for seed in range(1, args.seeds + 1)
        ]
        rows.append({"prompt": prompt, "distance": distance(drawn(requests, engine, bundle))})
        logger.info("%.3f  %s", rows[-1]["distance"], prompt)
    about = {
        "bundle": f"{bundle.name} {bundle.fingerprint.hex()[:16]}",
        "backbone": digest_of_weights(path)[:16],
        "seed": args.seed,
        "seeds": args.seeds,
        "steps": args.steps or "of the bundle",
        "guidance": "of the bundle" if args.guidance is None else args.guidance,
        "mend": args.mend,
        "settle": args.settle,
    }
    write(args.out, about, rows)
    return 0


def prompts(world: World, count: int, seed: int) -> list[str]:
    """Prompts of the test split, half of them for one object, half for two."""
    rng = np.random.default_rng((seed, STREAM))
    return [drawn_case.case.prompt for drawn_case in t2i_cases(world, count, rng)]


def drawn(requests: Sequence[Request], engine: Runner, bundle: Bundle) -> Codes:
    """(S, H, W) codes of the pictures that the requests ask for, one after another."""
    results = [result for one in requests for result in engine.run([to_work(one, bundle)])]
    return np.stack([result.codes for result in results if isinstance(result, PictureResult)])


def distance(pictures: Codes) -> float:
    """Mean over all pairs of the share of cells whose codes differ, 0 to 1.

    Args:
        pictures: (S, H, W) codes of at least two pictures.

    >>> distance(np.array([[[1, 2]], [[1, 2]], [[1, 3]]]))
    0.3333333333333333
    """
    first, second = np.triu_indices(len(pictures), 1)
    return float((pictures[first] != pictures[second]).mean())


def write(out: Path, about: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Print the mean and write everything as JSON."""
    found = [float(row["distance"]) for row in rows]
    data = {
        "about": about,
        "mean": statistics.fmean(found),
        "least": min(found),
        "most": max(found),
        "prompts": list(rows),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"cells that differ between two pictures of a prompt: {data['mean']:.1%} on average, "
        f"{data['least']:.1%} to {data['most']:.1%} by prompt; "
        f"{len(rows)} prompts, {about['seeds']} seeds\n"
    )
