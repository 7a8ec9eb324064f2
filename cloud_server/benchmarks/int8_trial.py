"""Would eight bits pay on a CPU? `python -m cloud_server.benchmarks.int8_trial` answers.

Prints, for the built-in transformer and for two layers of Show-o's (random weights), processor
time of one pass in float32, bfloat16 and int8, how far the scores move, and how often the best
code is another one. `--pictures N` also draws N prompts with the built-in transformer in each and
lets the judge look. Nothing is served in int8; results/int8.md says why.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cloud_server.benchmarks.engine_bench import WEIGHTS, random_phi
from cloud_server.benchmarks.int8_linear import in_int8
from cloud_server.generation.backbone.checkpoint import LoadedBackbone, load_builtin_backbone
from cloud_server.generation.backbone.showo import ShowoBackbone, ShowoConfig
from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.work import PictureResult, PictureWork
from cloud_server.serving.load import question_frame
from cloud_server.training.benchmark.case_makers import t2i_cases
from cloud_server.training.benchmark.judge_model import SHIPPED, Judge
from cloud_server.training.scenes.world import World
from shared_protocol.bundles.find import load_bundle
from shared_protocol.tokens import ImageTokens

DTYPES = ("float32", "bfloat16", "int8")
SHAPES = ((1, 1), (2, 256), (2, 400), (8, 256))
"""Rows and tokens of a pass: a step of an answer, a guided picture, a window, a batch of four."""
_ROUNDS, _SEED, _LAYERS = 7, 1808, 2
_STEPS, _GUIDANCE = 16, 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the process's exit status."""
    parser = argparse.ArgumentParser(prog="int8_trial", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pictures", type=int, default=0, metavar="N", help="judged [0]")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU [1]")
    parser.add_argument("--small", action="store_true", help="the built-in transformer alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    bundle = load_bundle("builtin")
    shipped = load_builtin_backbone(WEIGHTS)
    for line in passes(
        "built-in", in_each_dtype(shipped.backbone), bundle.vocabulary.codebook_size
    ):
        _say(line)
    if not given.small:
        phi = random_phi(ShowoConfig(layers=_LAYERS), "cpu", torch.float32)
        name = f"Show-o's, {_LAYERS} of 24 layers"
        for line in passes(name, in_each_dtype(ShowoBackbone(phi)), 8192):
            _say(line)
    if given.pictures:
        for line in judged(shipped, given.pictures):
            _say(line)
    return 0


def in_each_dtype(plain: ShowoBackbone) -> dict[str, ShowoBackbone]:
    """The same network in each of `DTYPES`; int8 keeps bfloat16 between the linear layers."""
    found = {"float32": plain}
    for name in DTYPES[1:]:
        phi = deepcopy(plain.phi).to(torch.bfloat16 if name == "bfloat16" else torch.float32)
        stem = None if plain.stem is None else deepcopy(plain.stem).to(phi.lm_head.weight.dtype)
        if name == "int8":
            in_int8(phi.model.layers)
        found[name] = ShowoBackbone(phi, stem, plain.pointing)
    return found


def passes(title: str, networks: dict[str, ShowoBackbone], codes: int) -> Iterator[str]:
    """Lines of the table of passes: milliseconds of processor time, the least of several rounds."""
    yield f"\n{title}: milliseconds of processor time a pass; scores beside float32"
    yield (
        f"{'rows x tokens':>14}"
        + "".join(f"{name:>10}" for name in networks)
        + (f"{'int8 gains':>12}{'score moved':>13}{'other best':>12}")
    )
    for rows, tokens in SHAPES:
        generator = torch.Generator().manual_seed(_SEED)
        size = networks["float32"].vocab_size
        drawn = torch.randint(0, codes, (rows, tokens), generator=generator)
        ids = drawn + (size - 1 - codes)
        columns = slice(size - 1 - codes, size - 1)
        places = torch.arange(tokens)[None].expand(rows, tokens)
        runs = {
            name: partial(network.logits, ids, None, places, columns=columns)
            for name, network in networks.items()
        }
        moved, other = _moved(runs["float32"](), runs["int8"]())
        spent = _milliseconds(runs)
        gain = min(spent["float32"], spent["bfloat16"]) / spent["int8"]
        cells = "".join(f"{spent[name]:10.1f}" for name in networks)
        yield f"{f'{rows} x {tokens}':>14}{cells}{gain:11.2f}x{moved:12.1%} {other:11.1%}"


def _milliseconds(works: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Least processor time of each, in turns, so that a busy machine is busy for all of them."""
    least = dict.fromkeys(works, float("inf"))
    for _ in range(_ROUNDS):
        for name, work in works.items():
            began = time.process_time()
            work()
            least[name] = min(least[name], (time.process_time() - began) * 1e3)
    return least


def _moved(plain: Tensor, other: Tensor) -> tuple[float, float]:
    """How far scores moved (deviation over their spread), and how often the best is another."""
    moved = float((other - plain).std() / plain.std())
    return moved, float((plain.argmax(-1) != other.argmax(-1)).double().mean())


def judged(shipped: LoadedBackbone, count: int) -> Iterator[str]:
    """Lines of what the judge sees in pictures of `count` prompts, neither mended nor settled."""
    bundle, judge = load_bundle("builtin"), Judge.load(SHIPPED)
    cases = [made.case for made in t2i_cases(World.load(), count, np.random.default_rng(_SEED))]
    yield f"\n{count} prompts, {_STEPS} steps, guidance {_GUIDANCE}: share of pictures"
    for name, network in in_each_dtype(shipped.backbone).items():
        options = EngineOptions(
            bundle.eot_id, question_frame(bundle), bundle.grid[0], shipped.card.max_text_len
        )
        engine = Engine(network, bundle.vocabulary, options)
        present = once = 0
        for case in cases:
            ids = bundle.text_tokenizer.encode(case.prompt).ids.astype(np.int64)
            work = PictureWork("t2i", ids, steps=_STEPS, guidance=_GUIDANCE, seed=case.seed)
            result = engine.run([work])[0]
            assert isinstance(result, PictureResult), "a picture was asked for"
            tokens = ImageTokens(result.codes.astype(np.int32), bundle.vocabulary.codebook_size)
            seen, _ = judge.look(bundle.image_tokenizer().detokenize(tokens))
            names = sorted(sighting.name for sighting in seen)
            present += set(case.truth["asked"]) <= set(names)
            once += sorted(case.truth["asked"]) == names
        yield f"{name:>14}  all objects {present / count:.2f}, each once {once / count:.2f}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
