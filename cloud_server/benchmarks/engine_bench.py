"""Times generation and answering beside Show-o's plain loops, in one run, on one device.

It does not judge quality, and needs no server. Run it as
`python -m cloud_server.benchmarks.engine_bench`. Where both sides compute in
float32 they must give the same tokens; otherwise the command says so and fails. With
`--here bfloat16` the engine computes as `cloud-server --bundle show-o` does by default, beside
plain loops in float32: other roundings, so other draws from nearly the same chances. Models::

    builtin   the shipped weights, 256 px
    reduced   random weights, 6 layers of 512, 256 and 512 px
    full      random weights of Show-o's size (1.4 billion), 256 and 512 px; with --full
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PhiForCausalLM
from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

from cloud_server.generation.backbone.checkpoint import load_builtin_backbone
from cloud_server.generation.backbone.showo import ShowoBackbone, ShowoConfig, build_phi, phi_config
from cloud_server.generation.engine import Engine, EngineOptions, seeded_noise
from cloud_server.generation.masked_decoding import POLICIES, DecodingPolicy
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.reference_loop import MultinomialNoise, PlainShowo
from cloud_server.generation.text_decoding import AnswerOptions, PictureReader, generate_text
from cloud_server.generation.work import PictureResult, PictureWork
from cloud_server.serving.load import choose_device
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.vocabulary import Vocabulary

WEIGHTS = Path(__file__).parents[1] / "weights" / BUILTIN
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PICTURES = {16: (256, 16, 3.0), 32: (512, 50, 5.0)}
"""Grid side to pixels, steps and guidance; those of Show-o's instructions."""
TEXT, QUESTION, SEED = np.arange(100, 112), np.arange(100, 110), 1
REDUCED_TEXT = 1014
SPREAD = 0.035
"""Half the width of random weights; their standard deviation is 0.02."""
GIGABYTE = 1 << 30
FULL_BYTES = {"float32": 8 * GIGABYTE, "bfloat16": 4 * GIGABYTE}
COLUMNS = (
    "| model | task | plain s | here s | ratio | plain CPU s | here CPU s | here tokens/s "
    "| equal tokens |"
)


@dataclass(frozen=True)
class Contestant:
    """A model to be timed: its weights, its ids, and the picture sizes that it can do.

    The plain loops compute with `backbone`, the engine with `served`: the same, or rounded further.
    """

    name: str
    backbone: ShowoBackbone
    served: ShowoBackbone
    vocabulary: Vocabulary
    max_text_len: int
    sides: tuple[int, ...]

    @property
    def eot_id(self) -> int:
        """An id that no answer of the benchmark can emit, so that all have one length."""
        return self.vocabulary.text_size - 1

    @property
    def plain(self) -> PlainShowo:
        return PlainShowo(self.backbone, self.vocabulary, self.eot_id, self.max_text_len)

    def engine(self, side: int, policy: DecodingPolicy) -> Engine:
        frame = QuestionFrame((), ())
        options = EngineOptions(self.eot_id, frame, side, self.max_text_len, policy)
        return Engine(self.served, self.vocabulary, options)


@dataclass(frozen=True)
class Duel:
    """One task done both ways; each gives its tokens."""

    task: str
    plain: Callable[[], Sequence[int]]
    here: Callable[[], Sequence[int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Time every model and task, print a line for each, and compare the tokens."""
    given = _parser().parse_args(arguments)
    device = choose_device(given.device)
    here = given.here or given.dtype
    kinds = given.dtype if here == given.dtype else f"{given.dtype}, here {here}"
    _say(f"# {device}, {torch.get_num_threads()} threads, {kinds}; best of {given.rounds}\n")
    _say(COLUMNS + "\n" + "| --- " * 2 + "| ---: " * 7 + "|")
    equal = True
    names = [name for name in ("builtin", "reduced", "full") if name in given.models]
    for name in [*names, *(["full"] if given.full and "full" not in names else [])]:
        contestant = build(name, device, given.dtype, here)
        _answer(contestant, 2).here()  # warm
        for duel in duels(contestant, given):
            equal &= _fight(contestant, duel, given.rounds)
    if not equal and given.dtype == here == "float32":
        _say("\nthe tokens differ: in float32 they should not")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cloud_server.benchmarks.engine_bench", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N [auto]")
    add("--dtype", choices=DTYPES, default="float32", help="of the weights [float32]")
    add("--here", choices=DTYPES, help="the same, on the engine's side alone [as --dtype]")
    add("--models", nargs="*", default=["builtin", "reduced"], metavar="MODEL",
        choices=["builtin", "reduced", "full"], help="some of them [builtin reduced]")  # fmt: skip
    add("--full", action="store_true", help="the model of Show-o's size as well")
    add("--policies", nargs="*", choices=POLICIES, default=["reference", "standard"],
        metavar="POLICY", help="orders of decoding: reference, standard [both]")  # fmt: skip
    add("--sides", nargs="*", type=int, default=[16, 32], help="grid sides, 16 or 32 [both]")
    add("--steps", type=int, help="decoding steps [16 at 256 px, 50 at 512 px]")
    add("--answer", type=int, default=100, help="tokens of an answer [100]")
    add("--rounds", type=int, default=1, help="runs, the best of which counts [1]")
    return parser


def build(name: str, device: str, dtype: str, here: str) -> Contestant:
    """One of the models of this module's description, for plain loops in `dtype`."""
    kinds = [DTYPES[kind] for kind in dict.fromkeys([dtype, here])]
    sides: tuple[int, ...]
    if name == "builtin":
        loaded = [load_builtin_backbone(WEIGHTS, device=device, dtype=kind) for kind in kinds]
        backbones, card = [each.backbone for each in loaded], loaded[0].card
        codes, length, sides = card.vocabulary, card.max_text_len, (card.side,)
    else:
        if name == "reduced":
            codes = Vocabulary(REDUCED_TEXT, 8192)
            config = ShowoConfig(codes.size, 512, 2048, 6, 8)
        else:
            codes, config = Vocabulary(50295, 8192), ShowoConfig()
            _check_memory(device, *{dtype, here})
        backbones = [ShowoBackbone(random_phi(config, device, kind)) for kind in kinds]
        length, sides = 128, (16, 32)
    return Contestant(name, backbones[0], backbones[-1], codes, length, sides)


def random_phi(config: ShowoConfig, device: str, dtype: torch.dtype) -> PhiForCausalLM:
    """A Phi of that shape with random weights, made one tensor at a time where they stay.

    They are drawn in float32, so that those of another dtype are the same, rounded.
    """
    with torch.device("meta"):
        phi = build_phi(config)
    generator = torch.Generator(device).manual_seed(SEED)
    state: dict[str, Tensor] = {}
    for name, tensor in phi.state_dict().items():
        made = torch.zeros(tensor.shape, device=device)
        if tensor.ndim == 2:
            made.uniform_(-SPREAD, SPREAD, generator=generator)
        elif "layernorm" in name and name.endswith("weight"):
            made.fill_(1.0)
        state[name] = made.to(dtype)
    phi.load_state_dict(state, assign=True)
    phi.model.rotary_emb = PhiRotaryEmbedding(phi_config(config)).to(device)
    return phi


def _check_memory(device: str, *dtypes: str) -> None:
    free = (
        os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if device == "cpu"
        else torch.cuda.mem_get_info(device)[0]
    )
    wanted = sum(FULL_BYTES[dtype] for dtype in dtypes)
    if free < wanted:
        kinds = " and ".join(sorted(dtypes))
        sys.exit(
            f"the full model needs {wanted / GIGABYTE:.0f} GiB in {kinds}; try --dtype bfloat16"
        )


def duels(contestant: Contestant, given: argparse.Namespace) -> Iterator[Duel]:
    """Every task of a model."""
    for side in (side for side in contestant.sides if side in given.sides):
        for policy in given.policies:
            # Show-o's loops settle nothing, so that neither side does.
            plain = replace(POLICIES[policy], settle_passes=0)
            yield _picture(contestant, side, plain, given.steps)
    yield _answer(contestant, given.answer)


def _picture(contestant: Contestant, side: int, policy: DecodingPolicy, steps: int | None) -> Duel:
    pixels, usual, guidance = PICTURES[side]
    steps = steps or usual
    request = PictureWork("t2i", TEXT, steps=steps, guidance=guidance, seed=SEED)

    def plain() -> list[int]:
        codes = contestant.plain.generate(
            [TEXT.tolist()],
            torch.full((1, side * side), -1),
            steps=steps,
            guidance=guidance,
            temperature=1.0,
            policy=policy,
            noise=MultinomialNoise([torch.Generator().manual_seed(SEED)]),
        )
        return [int(code) for code in codes[0]]

    def here() -> list[int]:
        (result,) = contestant.engine(side, policy).run([request])
        assert isinstance(result, PictureResult)
        return [int(code) for code in result.codes.reshape(-1)]

    return Duel(f"t2i {pixels} px, {steps} steps, {policy.name}", plain, here)


def _answer(contestant: Contestant, length: int) -> Duel:
    codes = np.arange(256).reshape(16, 16) * 31 % contestant.vocabulary.codebook_size
    emitted, options = slice(0, contestant.eot_id), AnswerOptions(length)
    served, vocabulary = contestant.served, contestant.vocabulary

    def plain() -> list[int]:
        noise = seeded_noise([SEED])
        return contestant.plain.answer(codes, QUESTION, options, noise, emitted)

    def here() -> list[int]:
        (answer,) = generate_text(
            PictureReader(served, vocabulary),
            served,
            vocabulary,
            codes=[codes],
            questions=[QUESTION],
            options=[options],
            eot_id=contestant.eot_id,
            noise=seeded_noise([SEED]),
            emitted=emitted,
        )
        return answer

    return Duel(f"vqa, {length} tokens", plain, here)


def _fight(contestant: Contestant, duel: Duel, rounds: int) -> bool:
    """Print a duel's line; whether its tokens are equal."""
    here = min(_timed(duel.here, contestant) for _ in range(rounds))
    plain = min(_timed(duel.plain, contestant) for _ in range(rounds))
    same = sum(a == b for a, b in zip(plain[2], here[2], strict=True)) / len(here[2])
    cells = [
        contestant.name,
        duel.task,
        f"{plain[0]:.2f}",
        f"{here[0]:.2f}",
        f"{plain[0] / here[0]:.1f}",
        f"{plain[1]:.2f}",
        f"{here[1]:.2f}",
        f"{len(here[2]) / here[0]:.1f}",
        f"{same:.1%}" if same < 1 else "all",
    ]
    _say("| " + " | ".join(cells) + " |")
    return same == 1


def _timed(
    work: Callable[[], Sequence[int]], contestant: Contestant
) -> tuple[float, float, Sequence[int]]:
    """Seconds by the clock, seconds of CPU, and what came of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work()
    if contestant.backbone.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu, tokens


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
