"""Measures the unified transformer while it is trained: answers on unseen scenes, pictures.

Knows scenes and tokens; the weights come as a plain Phi state. An answer counts as right if every
id of it, the final eot included, is the most likely one given those before: exactly when greedy
decoding gives that answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloud_server.generation.engine import Engine
from cloud_server.generation.work import PictureResult, PictureWork
from cloud_server.training.recipes.backbone.batch_maker import BatchMaker
from cloud_server.training.recipes.backbone.network import TrainedBackbone
from cloud_server.training.recipes.backbone.word_coder import WordCoder
from cloud_server.training.scenes.language import caption, questions
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.scene_tokens import TokenisedScene

USUAL_CODES = 10
PRESENT_SHARE = 0.5
"""Share of an object's tokens that must be its usual ones for it to count as drawn."""


@torch.no_grad()
def answer_accuracy(
    net: TrainedBackbone, maker: BatchMaker, items: Sequence[TokenisedScene], precision: str
) -> dict[str, float]:
    """Exact match per kind of question, in held-out wordings, and over all ("all")."""
    rng = np.random.default_rng(7)
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(items), 8):
        chunk = items[start : start + 8]
        asked = [questions(item.scene, rng, "test", maker.world) for item in chunk]
        turns = [maker.turns(qas) for qas in asked]
        batch = maker.mmu_batch(chunk, [maker.grid.full()] * len(chunk), turns, rng)
        device = next(net.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            _, hits, _ = net.losses(batch.to(device))
        kinds = [qa.kind for qas in asked for qa in qas]
        wrong = set(batch.groups[~hits.cpu()].tolist())
        for number, kind in enumerate(kinds):
            right[kind].append(number not in wrong)
            right["all"].append(number not in wrong)
    return {kind: float(np.mean(values)) for kind, values in sorted(right.items())}


@torch.no_grad()
def held_out_losses(
    net: TrainedBackbone, maker: BatchMaker, items: Sequence[TokenisedScene], precision: str
) -> dict[str, float]:
    """Mean weighted loss of whole pictures ("t2i") and of answers ("mmu"), in training wordings.

    The same masks and words each time: comparable within a run, and between runs whose data
    configuration is the same.
    """
    rng = np.random.default_rng(8)
    device = next(net.parameters()).device.type
    sums = {"t2i": 0.0, "mmu": 0.0}
    counted = dict.fromkeys(sums, 0.0)
    for start in range(0, len(items), 8):
        chunk = items[start : start + 8]
        for task, make in (("t2i", maker.t2i), ("mmu", maker.mmu)):
            batch = make(chunk, rng, False).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                each, _, _ = net.losses(batch)
            sums[task] += float((each * batch.weights).sum())
            counted[task] += float(batch.weights.sum())
    return {task: total / max(counted[task], 1.0) for task, total in sums.items()}


class PrototypeDetector:
    """Finds objects in token grids by their usual tokens on the grid; a quick stand-in for eyes."""

    def __init__(self, world: World, items: Sequence[TokenisedScene]) -> None:
        self._cells = world.sprite_size // world.stride
        counts: dict[str, list[Counter[int]]] = {}
        for item in items:
            for thing in item.scene.objects:
                if thing.x % world.stride == 0 and thing.y % world.stride == 0:
                    patch = self._patch(
                        item.codes, thing.y // world.stride, thing.x // world.stride
                    )
                    table = counts.setdefault(thing.name, [Counter() for _ in range(patch.size)])
                    for counter, code in zip(table, patch.tolist(), strict=True):
                        counter[code] += 1
        self._common = {
            name: [{code for code, _ in counter.most_common(USUAL_CODES)} for counter in table]
            for name, table in counts.items()
        }

    def _patch(self, codes: np.ndarray, top: int, left: int) -> np.ndarray:
        return codes[top : top + self._cells, left : left + self._cells].reshape(-1)

    def score(self, codes: np.ndarray, name: str) -> float:
        """Largest share of usual tokens of `name` over all places of the grid (H, W)."""
        table = self._common.get(name)
        if table is None:
            return 0.0
        height, width = codes.shape
        places = [
            (top, left)
            for top in range(height - self._cells + 1)
            for left in range(width - self._cells + 1)
        ]
        return max(self._share(self._patch(codes, *place), table) for place in places)

    def _share(self, patch: np.ndarray, table: Sequence[set[int]]) -> float:
        hits = [code in usual for code, usual in zip(patch.tolist(), table, strict=True)]
        return float(np.mean(hits))

    def present(self, codes: np.ndarray, scene: Scene) -> list[bool]:
        """For each object of the scene, whether it is drawn in `codes`."""
        return [self.score(codes, thing.name) >= PRESENT_SHARE for thing in scene.objects]


def draw_prompts(
    engine: Engine,
    coder: WordCoder,
    scenes: Sequence[Scene],
    *,
    steps: int = 16,
    guidance: float = 2.0,
) -> list[tuple[str, np.ndarray]]:
    """A caption of every scene, and codes generated from it."""
    rng = np.random.default_rng(11)
    prompts = [caption(scene, rng, "test") for scene in scenes]
    requests = [
        PictureWork(
            "t2i", np.array(coder.encode(prompt)), steps=steps, guidance=guidance, seed=seed
        )
        for seed, prompt in enumerate(prompts)
    ]
    results = engine.run(requests)
    return [
        (prompt, result.codes)
        for prompt, result in zip(prompts, results, strict=True)
        if isinstance(result, PictureResult)
    ]


def contact_sheet(pixels: Tensor, path: Path, columns: int = 4) -> None:
    """Write pictures (B, 3, H, W) in -1..1 as one PNG."""
    values = ((pixels.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    rows = [values[start : start + columns] for start in range(0, len(values), columns)]
    blank = np.zeros_like(values[:1])
    full = [np.concatenate([row, *[blank] * (columns - len(row))]) for row in rows]
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in full])
    Image.fromarray(picture).save(path)
