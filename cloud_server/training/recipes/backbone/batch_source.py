"""The batches of a training step: which scenes, windows and questions, by the step's number.

It does not know the network, nor in which process it runs: see `batch_workers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cloud_server.training.recipes.backbone.batch import Batch
from cloud_server.training.recipes.backbone.batch_maker import BatchMaker
from cloud_server.training.tokens.easy_vqa import QuestionedImage
from cloud_server.training.tokens.kept_pictures import KeptPicture
from cloud_server.training.tokens.scene_tokens import TokenisedScene, TokenShards

HELD_OUT_SCENES = 160
REFRESH_EVERY = 100
"""Steps after which new shards are looked for."""

StepBatches = list[tuple[str, Batch]]
"""The batches of one step, with the kind of each."""


class BatchSource:
    """Makes the batches of any step; the same for the same seed, step, share and files.

    Args:
        maker: turns scenes into batches.
        shards: scenes; new ones are looked for now and then.
        counts: sequences of each kind in a step, and how long windows are used.
        seed: of the run.
        questioned: easy-vqa's pictures.
        kept: pictures that the network drew itself.
    """

    def __init__(
        self,
        maker: BatchMaker,
        shards: TokenShards,
        counts: Mapping[str, float],
        seed: int,
        *,
        questioned: Sequence[QuestionedImage] = (),
        kept: Sequence[KeptPicture] = (),
    ) -> None:
        self.maker, self.shards = maker, shards
        self._counts, self._seed = counts, seed
        self._questioned, self._kept = questioned, kept

    def batches(self, step: int, share: float) -> StepBatches:
        """Every kind of batch of a step, at a share of the run."""
        if step % REFRESH_EVERY == 0:
            self.shards.refresh()
        rng = np.random.default_rng((self._seed, step))
        made: StepBatches = []
        for task, make in (("t2i", self.maker.t2i), ("mmu", self.maker.mmu)):
            windowed = round(self._counts[f"{task}_window"] * self._window_factor(share))
            if windowed:
                made.append((f"{task}_window", make(self._draw(rng, windowed), rng, True)))
            crowded = self.maker.config.crowded_share if task == "mmu" else 0.0
            items = self._draw(rng, int(self._counts[task]), crowded)
            if task == "t2i" and self._kept:
                picked = rng.integers(len(self._kept), size=int(self._counts.get("kept", 0)))
                kept = [self._kept[int(i)] for i in picked]
                made.append((task, self.maker.t2i(items, rng, False, kept)))
            else:
                made.append((task, make(items, rng, False)))
        if self._questioned:
            picked = rng.integers(len(self._questioned), size=int(self._counts["easy_vqa"]))
            asked = [self._questioned[int(i)] for i in picked]
            made.append(("easy_vqa", self.maker.questioned(asked, rng)))
        return made

    def _window_factor(self, share: float) -> float:
        until = self._counts["window_until"]
        return max(0.0, 1.0 - share / until) if until > 0 else 0.0

    def _draw(
        self, rng: np.random.Generator, count: int, crowded: float = 0.0
    ) -> list[TokenisedScene]:
        """Training scenes; the first ones are kept for evaluation."""
        low = min(HELD_OUT_SCENES, len(self.shards) // 2)
        drawn: list[TokenisedScene] = []
        while len(drawn) < count:
            item = self.shards[int(rng.integers(low, len(self.shards)))]
            if len(item.scene.objects) > 1 or rng.random() >= crowded:
                drawn.append(item)
        return drawn
