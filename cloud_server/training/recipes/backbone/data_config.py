"""What the training batches of the unified transformer are made of: shares and sizes.

It does not know how a batch is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud_server.training.recipes.backbone.hidden_tokens import HidingConfig


@dataclass(frozen=True)
class DataConfig:
    """What batches are made of.

    Attributes:
        qa_tokens: about how many text tokens of questions follow one image.
        window_qa_tokens: the same behind a window.
        kind_shares: share of the offered questions of each kind that are asked.
        block_share: share of t2i examples that hide one object only (inpainting).
        side_share: share of t2i examples that hide one side of the picture (outpainting).
        unbegun_share: share of t2i examples that look like pictures half drawn: objects hidden as
            a whole, background known here and there. All their tokens are predicted and count
            alike, so that holes are filled as often with background as they should be.
        finished_share: share of those in which every object is there already.
        copies_share: share of t2i examples, among the half-drawn ones, in which an object has begun
            a second time and must become background; at 0 no random number is drawn for it.
        describe_share: share of t2i prompts that say where everything is.
        kept_describe_share: the same for pictures that the network drew itself. They were drawn
            from descriptions, so there is more to learn from captions.
        dropout: share of t2i prompts that are empty.
        background_share: share of masked background tokens that are predicted.
        background_weight: weight of those against tokens of objects.
        window: side of the rectangles, in tokens, of the window curriculum.
        noise_share: share of prompts and questions with stray text tokens, so that words that
            were never trained on do not matter.
        typed_share: share of prompts and questions that are spelled as people type them, see
            `scenes.typed_forms`; at 0 no random number is drawn for it.
        crowded_share: share of the scenes for questions that must hold several objects.
    """

    qa_tokens: int = 170
    window_qa_tokens: int = 80
    kind_shares: Mapping[str, float] = field(default_factory=dict)
    block_share: float = 0.15
    side_share: float = 0.12
    unbegun_share: float = 0.0
    finished_share: float = 0.0
    copies_share: float = 0.0
    describe_share: float = 0.25
    kept_describe_share: float = 0.3
    dropout: float = 0.1
    background_share: float = 0.35
    background_weight: float = 0.6
    window: int = 8
    noise_share: float = 0.0
    typed_share: float = 0.0
    crowded_share: float = 0.0

    def hiding(self) -> HidingConfig:
        """The shares of t2i examples by what they hide."""
        return HidingConfig(
            self.block_share,
            self.side_share,
            self.unbegun_share,
            self.finished_share,
            self.copies_share,
        )
