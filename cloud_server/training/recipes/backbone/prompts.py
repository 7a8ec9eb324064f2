"""Words of training batches as ids: prompts of pictures, spelled and strewn as people might.

Knows scenes and the text tokenizer; no image codes, masks or network.
"""

from __future__ import annotations

import numpy as np

from cloud_server.generation.prompting import text_block
from cloud_server.training.recipes.backbone.data_config import DataConfig
from cloud_server.training.recipes.backbone.word_coder import WordCoder
from cloud_server.training.scenes.language import caption, describe
from cloud_server.training.scenes.typed_forms import typed_form
from cloud_server.training.scenes.world import Scene
from shared_protocol.vocabulary import Vocabulary


class PromptMaker:
    """Turns scenes into text blocks, and texts into ids.

    Args:
        config: shares.
        vocabulary: id layout.
        coder: text tokenizer.
        max_text_len: length of the t2i text block without the task token.
    """

    def __init__(
        self, config: DataConfig, vocabulary: Vocabulary, coder: WordCoder, max_text_len: int
    ) -> None:
        self._config, self._vocabulary, self._coder = config, vocabulary, coder
        self._max_text_len = max_text_len

    def block(self, scene: Scene, rng: np.random.Generator, describe_share: float) -> list[int]:
        """The text block of a prompt: empty, a description with places, or a caption.

        Args:
            scene: what is spoken of.
            rng: the only source of randomness.
            describe_share: share of prompts that say where everything is.
        """
        draw = rng.random()
        if draw < self._config.dropout:
            text = ""
        elif draw < self._config.dropout + describe_share:
            text = describe(scene)
        else:
            text = caption(scene, rng, "train")
        return text_block(
            self.ids(text, rng, asks=False),
            self._vocabulary,
            eot_id=self._coder.eot_id,
            max_text_len=self._max_text_len,
        )

    def ids(self, text: str, rng: np.random.Generator, *, asks: bool) -> list[int]:
        """A text's ids, now and then spelled as people type it, or with stray ids in between.

        Args:
            text: a prompt, or a question where `asks` says so.
            rng: the only source of randomness.
            asks: whether it is a question.
        """
        return self._noisy(self._coder.encode(self._typed(text, rng, asks=asks)), rng)

    def _typed(self, text: str, rng: np.random.Generator, *, asks: bool) -> str:
        """The text, now and then as people type it; draws nothing where none is to be typed."""
        share = self._config.typed_share
        if not text or not share or rng.random() >= share:
            return text
        return typed_form(text, rng, asks=asks)

    def _noisy(self, ids: list[int], rng: np.random.Generator) -> list[int]:
        """The ids, now and then with up to three stray ones in between."""
        if not ids or rng.random() >= self._config.noise_share:
            return ids
        for _ in range(int(rng.integers(1, 4))):
            stray = int(rng.integers(self._coder.size))
            if stray != self._coder.eot_id:
                ids.insert(int(rng.integers(len(ids) + 1)), stray)
        return ids
