"""Bits per token of every scenario on every kind of stream, scenes and photographs apart.

Knows token shards, the entropy models of a bundle and nothing of how they were trained. Prints a
Markdown table: ideal code lengths of the exact integer models, beside uniform coding (13 bits) and
a static order-0 code whose counts come from the training shards of the same domain.
`python -m cloud_server.training.entropy_report --tokens DIR --text-tokenizer FILE`
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_server.training.entropy_data import Example, Picture, Pool, Sampler
from shared_protocol.bundles import load_bundle
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.text import TextTokenizer

BATCH = 8
DRAWN = ("scenes", "generated")
STREAMS = {
    "whole image": "text",
    "outside a mask (inpaint up)": "masked",
    "inside a mask (inpaint down)": "text_inside",
    "border (outpaint down)": "text_border",
}
"""Name of a kind of stream -> the way of `entropy_data.WAYS` that draws its context."""


@dataclass(frozen=True)
class Row:
    """Mean bits per token of one kind of stream; None where a scenario has no model."""

    domain: str
    stream: str
    tokens: int
    bits: dict[str, float | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--tokens", type=Path, required=True, help="folder of scene shards")
    parser.add_argument("--photo-tokens", type=Path, help="folder of photograph shards")
    parser.add_argument("--generated-tokens", type=Path, help="folder of a backbone's outputs")
    parser.add_argument("--pictures", type=Path, help="further photographs, never trained on")
    parser.add_argument("--image-tokenizer", type=Path, help="file that tokenises --pictures")
    parser.add_argument("--text-tokenizer", type=Path, required=True)
    parser.add_argument("--bundle", default="builtin", help="name or folder of the bundle")
    parser.add_argument("--weights", type=Path, help="one file for all scenarios, not the bundle's")
    parser.add_argument("--count", type=int, default=200, help="pictures a domain at most")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Print the table; returns the process's exit status."""
    models = _models(args)
    sampler = Sampler(TextTokenizer.load(args.text_tokenizer), {"text": 1.0}, {}, 0, split="test")
    drawn = static_costs(train_codes([args.tokens]))
    photographed = static_costs(train_codes([args.photo_tokens]))
    rows = [
        measure(
            domain,
            stream,
            pictures[: args.count],
            models,
            sampler,
            drawn if domain in DRAWN else photographed,
            args.seed,
        )
        for domain, pictures in _domains(args).items()
        for stream in STREAMS
        if pictures
    ]
    sys.stdout.write(table(rows))
    return 0


def measure(
    domain: str,
    stream: str,
    pictures: Sequence[Picture],
    models: EntropyModels,
    sampler: Sampler,
    order0: np.ndarray,
    seed: int,
) -> Row:
    """Bits per token of `pictures`, every scenario on the same streams.

    Args:
        order0: (V,) bits of each code under the static code.
    """
    rng = np.random.default_rng(seed)
    examples = [sampler.draw(picture, rng, STREAMS[stream]) for picture in pictures]
    codes = np.concatenate([example.codes for example in examples])
    bits: dict[str, float | None] = {
        "uniform": math.log2(len(order0)),
        "order-0": float(order0[codes].mean()),
    }
    for scenario in Scenario:
        if scenario is not Scenario.UNIFORM:
            known = scenario in models.available()
            total = total_bits(models, scenario, examples) if known else None
            bits[scenario.name.lower()] = None if total is None else total / len(codes)
    return Row(domain, stream, len(codes), bits)


def total_bits(models: EntropyModels, scenario: Scenario, examples: Sequence[Example]) -> float:
    """Ideal code length of all examples under one scenario."""
    chunks = [examples[i : i + BATCH] for i in range(0, len(examples), BATCH)]
    lengths = (
        models.code_lengths(scenario, [e.codes for e in chunk], [e.context for e in chunk])
        for chunk in chunks
    )
    return float(sum(sum(some) for some in lengths))


def train_codes(folders: Iterable[Path | None], codebook_size: int = 8192) -> np.ndarray:
    """How often each code occurs in the training shards, (V,)."""
    counts = np.zeros(codebook_size, dtype=np.int64)
    for folder in folders:
        for path in sorted(folder.glob("train_*.npy")) if folder else []:
            counts += np.bincount(np.load(path).reshape(-1), minlength=codebook_size)
    return counts


def static_costs(counts: np.ndarray) -> np.ndarray:
    """Bits of each code under the static code that the counts, each plus a half, make."""
    shares = (counts + 0.5) / (counts + 0.5).sum()
    costs: np.ndarray = -np.log2(shares)
    return costs


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    names = list(rows[0].bits)
    head = ["pictures", "stream", "tokens", *names, "saved"]
    lines = [head, ["---"] * len(head)] + [_cells(row, names) for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    cells = [f"{row.bits[n]:.3f}" if row.bits[n] is not None else "-" for n in names]
    uniform = row.bits["uniform"] or 1.0
    best = min(bits for bits in row.bits.values() if bits is not None)
    return [row.domain, row.stream, str(row.tokens), *cells, f"{100 * (1 - best / uniform):.1f} %"]


def _domains(args: argparse.Namespace) -> dict[str, list[Picture]]:
    generated = Pool(args.generated_tokens, "test_*.npy", Scenario.ADAPTED)
    pools = {
        "scenes": Pool(args.tokens, "test_*.npy"),
        "generated": generated,
        "photographs": Pool(args.photo_tokens, "test_*.npy"),
    }
    for pool in pools.values():
        pool.refresh()
    domains = {name: pool.pictures for name, pool in pools.items()}
    if args.pictures:
        domains[args.pictures.name] = _tokenised(args.pictures, args.image_tokenizer)
    return domains


def _tokenised(folder: Path, tokenizer: Path) -> list[Picture]:
    from cloud_server.training.photo_tokens import encode
    from cloud_server.training.tokenizer_data import load_photos
    from shared_protocol.tokenizers.compact import load_compact

    codes = encode(load_compact(tokenizer), load_photos(folder))
    return [Picture(grid.astype(np.int32)) for grid in codes]


def _models(args: argparse.Namespace) -> EntropyModels:
    if args.weights is None:
        return load_bundle(args.bundle).entropy
    scenarios = [scenario for scenario in Scenario if scenario is not Scenario.UNIFORM]
    return EntropyModels.load(dict.fromkeys(scenarios, args.weights))


def main(argv: list[str] | None = None) -> int:
    """Command line of the report alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
