"""Bits per token of every scenario on every kind of stream, scenes and photographs apart.

Knows token shards, the entropy models of a bundle and nothing of how they were trained. Prints a
Markdown table: ideal code lengths of the exact integer models, beside uniform coding (13 bits) and
a static order-0 code whose counts come from the training shards of the same domain; then the bytes
that a sender saves by trying every model that the message allows; with `--float CHECKPOINT` also
what the integers cost more than the floats that they were made from. Any folder of shards or of
pictures will do:
`python -m cloud_server.training.benchmark.entropy_report --tokens DIR --pictures DIR`
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cloud_server.training.recipes.entropy.sequences import Example, Picture, Pool, Sampler, collate
from cloud_server.training.recipes.entropy.trainer import share_kind
from cloud_server.training.recipes.runs import load_checkpoint
from shared_protocol.bundles.find import load_bundle
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.model import EntropyModel
from shared_protocol.tasks import TABLE, Direction, Scenario, Task
from shared_protocol.tokenizers.text import TextTokenizer

Floats = npt.NDArray[np.float64]

BATCH = 8
DRAWN = ("scenes", "generated")
FILLED_IN = "text_inside"


@dataclass(frozen=True)
class Stream:
    """One kind of stream.

    Args:
        way: of `entropy_data.WAYS`, which draws its context.
        cell: the message that carries it, which says what models the sender may use.
    """

    way: str
    cell: tuple[Task, Direction]

    @property
    def allowed(self) -> tuple[Scenario, ...]:
        """The models that the sender may use, the paper's first."""
        task, direction = self.cell
        return TABLE[task].scenarios(direction)


STREAMS = {
    "whole image (t2i down)": Stream("text", (Task.T2I, Direction.DOWNLINK)),
    "outside a mask (inpaint up)": Stream("masked", (Task.INPAINT, Direction.UPLINK)),
    "inside a mask (inpaint down)": Stream(FILLED_IN, (Task.INPAINT, Direction.DOWNLINK)),
    "border (outpaint down)": Stream("text_border", (Task.OUTPAINT, Direction.DOWNLINK)),
}


@dataclass(frozen=True)
class Row:
    """One kind of stream of one kind of picture.

    Args:
        domain: which pictures.
        stream: name of the stream.
        tokens: how many tokens.
        bits: mean bits a token by "uniform", "order-0" and scenario; None without such a model.
        exact: scenario -> bits of each stream, (N,).
        floats: the same by the float network; empty without one.
        allowed: the models that the sender may use, the paper's first.
    """

    domain: str
    stream: str
    tokens: int
    bits: dict[str, float | None]
    exact: dict[Scenario, Floats]
    floats: dict[Scenario, Floats]
    allowed: tuple[Scenario, ...]

    def sizes(self, scenarios: Iterable[Scenario]) -> npt.NDArray[np.int64]:
        """(N,) bytes of each stream under the best of `scenarios`."""
        known = [self.exact[scenario] for scenario in scenarios if scenario in self.exact]
        sizes: npt.NDArray[np.int64] = np.ceil(np.min(known, axis=0) / 8).astype(np.int64)
        return sizes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--tokens", type=Path, help="folder of scene shards")
    parser.add_argument("--photo-tokens", type=Path, help="folder of photograph shards")
    parser.add_argument("--generated-tokens", type=Path, help="folder of a backbone's outputs")
    parser.add_argument("--pictures", type=Path, help="further photographs, never trained on")
    parser.add_argument("--image-tokenizer", type=Path, help="default: the bundle's")
    parser.add_argument("--text-tokenizer", type=Path, help="default: the bundle's")
    parser.add_argument("--bundle", default="builtin", help="name or folder of the bundle")
    parser.add_argument("--weights", type=Path, help="one file for all scenarios, not the bundle's")
    parser.add_argument("--float", type=Path, help="checkpoint.pt that the weights were made from")
    parser.add_argument("--count", type=int, default=200, help="pictures a domain at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")


def run(args: argparse.Namespace) -> int:
    """Print the tables; returns the process's exit status."""
    if args.threads:
        torch.set_num_threads(args.threads)
    models, network = _models(args), _network(args)
    tokenizer = args.text_tokenizer or load_bundle(args.bundle).path("text_tokenizer")
    sampler = Sampler(TextTokenizer.load(tokenizer), {"text": 1.0}, {}, 0, split="test")
    drawn = static_costs(train_codes([args.tokens]))
    photographed = static_costs(train_codes([args.photo_tokens]))
    rows = []
    for domain, pictures in _domains(args).items():
        order0 = drawn if domain in DRAWN else photographed
        for stream in STREAMS:
            shown = _shown(stream, pictures)[: args.count]
            if shown:
                rows.append(
                    measure(domain, stream, shown, models, sampler, order0, args.seed, network)
                )
    if not rows:
        sys.stdout.write("no pictures: name --tokens, --photo-tokens or --pictures\n")
        return 1
    tables = [rate_table(rows), choice_table(rows)]
    tables += [float_table(rows)] if network is not None else []
    sys.stdout.write("\n".join(tables))
    return 0


def _shown(stream: str, pictures: Sequence[Picture]) -> list[Picture]:
    """A backbone's fillings are shown where fillings travel, whole pictures elsewhere."""
    filled = [picture for picture in pictures if picture.targets is not None]
    wanted = bool(filled) and STREAMS[stream].way == FILLED_IN
    return filled if wanted else [picture for picture in pictures if picture.targets is None]


def measure(  # noqa: PLR0913 - one numeric step, all of it named
    domain: str,
    stream: str,
    pictures: Sequence[Picture],
    models: EntropyModels,
    sampler: Sampler,
    order0: Floats,
    seed: int,
    network: EntropyModel | None = None,
) -> Row:
    """Bits of `pictures`, every scenario on the same streams.

    Args:
        domain: name of these pictures.
        stream: one of `STREAMS`.
        pictures: N of them.
        models: the exact models.
        sampler: draws contexts and texts.
        order0: (V,) bits of each code under the static code.
        seed: of the contexts and texts.
        network: the float network to compare with.
    """
    rng = np.random.default_rng(seed)
    examples = [sampler.draw(picture, rng, STREAMS[stream].way) for picture in pictures]
    codes = np.concatenate([example.codes for example in examples])
    known = models.available()
    floats = {} if network is None else {s: float_bits(network, s, examples) for s in known}
    exact = {scenario: exact_bits(models, scenario, examples) for scenario in known}
    bits: dict[str, float | None] = {
        "uniform": math.log2(len(order0)),
        "order-0": float(order0[codes].mean()),
    }
    for scenario in Scenario:
        if scenario is not Scenario.UNIFORM:
            total = float(exact[scenario].sum()) if scenario in exact else None
            bits[scenario.slug] = None if total is None else total / len(codes)
    return Row(domain, stream, len(codes), bits, exact, floats, STREAMS[stream].allowed)


def exact_bits(models: EntropyModels, scenario: Scenario, examples: Sequence[Example]) -> Floats:
    """(N,) ideal code length of each example under one scenario."""
    chunks = [examples[i : i + BATCH] for i in range(0, len(examples), BATCH)]
    lengths = [
        models.code_lengths(scenario, [e.codes for e in chunk], [e.context for e in chunk])
        for chunk in chunks
    ]
    return np.concatenate([np.asarray(some, dtype=np.float64) for some in lengths])


def float_bits(network: EntropyModel, scenario: Scenario, examples: Sequence[Example]) -> Floats:
    """(N,) the same by the float network, float32 throughout."""
    found = []
    with torch.inference_mode():
        for example in examples:
            one = Example(scenario, example.context, example.codes)
            nats = network(collate([one], network.config))
            found.append(float(nats.double().sum()) / math.log(2))
    return np.array(found)


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


def rate_table(rows: Sequence[Row]) -> str:
    """Markdown: bits a token by scenario, and what the best of those allowed saves."""
    names = list(rows[0].bits)
    head = ["pictures", "stream", "tokens", *names, "bytes", "saved"]
    lines = []
    for row in rows:
        smallest = row.sizes(row.allowed)
        cells = [f"{row.bits[n]:.3f}" if row.bits[n] is not None else "-" for n in names]
        saved = 1 - 8 * smallest.sum() / (row.tokens * (row.bits["uniform"] or 1.0))
        cells += [f"{smallest.mean():.1f}", f"{100 * saved:.1f} %"]
        lines.append([row.domain, row.stream, str(row.tokens), *cells])
    return _markdown(head, lines)


def choice_table(rows: Sequence[Row]) -> str:
    """Markdown: mean bytes under the first allowed model, and by trying them all."""
    head = ["pictures", "stream", "first allowed", "its bytes", "bytes, smallest of", "all", "less"]
    lines = []
    for row in rows:
        tried = [scenario for scenario in row.allowed if scenario in row.exact]
        first, best = row.sizes(tried[:1]).mean(), row.sizes(tried).mean()
        names = ", ".join(scenario.slug for scenario in tried)
        less = f"{100 * (1 - best / first):.1f} %"
        name = tried[0].slug
        cells = [row.domain, row.stream, name, f"{first:.1f}", names, f"{best:.1f}", less]
        lines.append(cells)
    return _markdown(head, lines)


def float_table(rows: Sequence[Row]) -> str:
    """Markdown: how many more bits the exact integers take than the float network, in percent."""
    head = ["exact over float", "stream", *(s.slug for s in rows[0].floats)]
    lines = []
    for row in rows:
        over = [row.exact[s].sum() / floats.sum() - 1 for s, floats in row.floats.items()]
        lines.append([row.domain, row.stream, *(f"{100 * share:+.3f} %" for share in over)])
    return _markdown(head, lines)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


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
        tokenizer = args.image_tokenizer or load_bundle(args.bundle).path("image_tokenizer")
        domains[args.pictures.name] = _tokenised(args.pictures, tokenizer)
    return domains


def _tokenised(folder: Path, tokenizer: Path) -> list[Picture]:
    from cloud_server.training.recipes.image_tokenizer.crops import load_photos
    from cloud_server.training.tokens.photo_tokens import encode
    from shared_protocol.tokenizers.compact import load_compact

    codes = encode(load_compact(tokenizer), load_photos(folder))
    return [Picture(grid.astype(np.int32)) for grid in codes]


def _models(args: argparse.Namespace) -> EntropyModels:
    if args.weights is None:
        return load_bundle(args.bundle).entropy
    scenarios = [scenario for scenario in Scenario if scenario is not Scenario.UNIFORM]
    return EntropyModels.load(dict.fromkeys(scenarios, args.weights))


def _network(args: argparse.Namespace) -> EntropyModel | None:
    """The float network of a training run; its sizes are the weights'."""
    if args.float is None:
        return None
    models = _models(args)
    network = EntropyModel(models.engine(models.available()[0]).config)
    _, states = load_checkpoint(args.float, "cpu")
    network.load_state_dict(states["model"])
    if not states["adapted"]:  # as the export does
        share_kind(network, Scenario.ADAPTED, Scenario.TEXT_CONDITIONED)
    return network.eval()


def main(argv: list[str] | None = None) -> int:
    """Command line of the report alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
