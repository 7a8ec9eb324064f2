"""The variants named w-clip-vit: answers from CLIP features of a picture instead of its tokens.

Does not know requests, messages or where features come from. Only tokens travel, so that a server
gets them from a neck (see `feature_answers`); `clip_features` is for whoever has both weights and
pictures on one machine::

    pixels ─► CLIP tower, last layer but one, without CLS ─► (P, W) ─► mm_projector ─► (P, D)
                                                                                        │
    mmu, system prompt, soi ────── embeddings (2 + S, D) ──────┐                        │
    eoi, question ──────────────── embeddings ─────────────────┴─ joined around it ◄────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PhiForCausalLM

from cloud_server.generation.backbone.checkpoint import load_clip_projector, load_showo_phi
from cloud_server.generation.prompting import causal_mask
from shared_protocol.errors import CheckpointError, InvalidInputError
from shared_protocol.vocabulary import Vocabulary

SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
QUESTION = "USER: {} ASSISTANT:"
_LAYER = -2
"""The tower's hidden state that Show-o reads."""


def clip_mask(length: int, first: int, patches: int) -> Tensor:
    """(1, 1, L, L) bool: causal, and the columns of the patches are visible to all rows.

    Args:
        length: L.
        first: position of the first patch.
        patches: P.
    """
    columns = torch.arange(length)
    return (causal_mask(length) | ((columns >= first) & (columns < first + patches)))[None, None]


class ClipAnswerer:
    """Answers questions from CLIP features.

    Args:
        phi: the transformer.
        projector: (1, P, W) features to (1, P, D) embeddings.
        vocabulary: the unified id space.
        eot_id: ends an answer.
    """

    def __init__(
        self, phi: PhiForCausalLM, projector: nn.Module, vocabulary: Vocabulary, eot_id: int
    ) -> None:
        self._phi = phi.eval().requires_grad_(False)
        self._projector = projector
        self._vocabulary = vocabulary
        self._eot_id = eot_id

    @classmethod
    def load(
        cls,
        path: Path,
        vocabulary: Vocabulary,
        eot_id: int,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> ClipAnswerer:
        """From the files of a variant named w-clip-vit.

        Raises:
            CheckpointError: unreadable, of another model, or of another vocabulary.
        """
        phi = load_showo_phi(path, device=device, dtype=dtype)
        if phi.config.vocab_size != vocabulary.size:
            raise CheckpointError(
                f"the weights at {path} have {phi.config.vocab_size} ids, not {vocabulary.size}"
            )
        projector = load_clip_projector(path, device=device, dtype=dtype)
        return cls(phi, projector, vocabulary, eot_id)

    @torch.inference_mode()
    def projected(self, features: Tensor) -> Tensor:
        """(P, W) features to (1, P, D) embeddings."""
        like = self._phi.lm_head.weight
        embedded: Tensor = self._projector(features[None].to(like.device, like.dtype))
        return embedded

    @torch.inference_mode()
    def answer(
        self,
        features: Tensor,
        system: Sequence[int],
        question: Sequence[int],
        max_new_tokens: int = 100,
    ) -> list[int]:
        """The most likely answer.

        Args:
            features: (P, W), see `clip_features`.
            system: ids of `SYSTEM_PROMPT`.
            question: ids of `QUESTION` with the question in it.
            max_new_tokens: longest answer.

        Returns:
            Ids, with the final eot if that was reached.
        """
        if max_new_tokens < 1:
            raise InvalidInputError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        embedded = self._prompt(features, system, question)
        device = embedded.device
        allow = clip_mask(embedded.shape[1], len(system) + 2, len(features)).to(device)
        cache = DynamicCache()
        answer: list[int] = []
        while True:
            read = self._phi.model(
                inputs_embeds=embedded,
                attention_mask=allow,
                past_key_values=cache,
                use_cache=True,
            )
            token = int(self._phi.lm_head(read.last_hidden_state[0, -1]).argmax())
            answer.append(token)
            if token == self._eot_id or len(answer) == max_new_tokens:
                return answer
            embedded = self._embed([token])
            allow = torch.ones(1, 1, 1, cache.get_seq_length() + 1, dtype=torch.bool, device=device)

    def _prompt(self, features: Tensor, system: Sequence[int], question: Sequence[int]) -> Tensor:
        before = [self._vocabulary.mmu_id, *system, self._vocabulary.soi_id]
        after = [self._vocabulary.eoi_id, *question]
        return torch.cat(
            [self._embed(before), self.projected(features), self._embed(after)], dim=1
        )  # (1, L, D)

    def _embed(self, ids: Sequence[int]) -> Tensor:
        tokens = torch.tensor([list(ids)], device=self._phi.lm_head.weight.device)
        embedded: Tensor = self._phi.model.embed_tokens(tokens)
        return embedded


def clip_features(pixels: NDArray[np.uint8], tower: Path) -> Tensor:
    """What a CLIP vision tower sees in a picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        tower: folder with the tower (Show-o: openai/clip-vit-large-patch14-336) and its image
            processor, in transformers' layout.

    Returns:
        (P, W) float32, one row a patch in raster order.

    Raises:
        CheckpointError: no such tower there.
    """
    from transformers import CLIPImageProcessor, CLIPVisionModel

    try:
        processor = CLIPImageProcessor.from_pretrained(tower, local_files_only=True)
        model = CLIPVisionModel.from_pretrained(tower, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"no CLIP tower at {tower}: {error}",
            "give the folder of openai/clip-vit-large-patch14-336",
        ) from error
    inputs = processor(images=pixels, return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        seen = model.float().eval()(inputs["pixel_values"], output_hidden_states=True)
    features: Tensor = seen.hidden_states[_LAYER][0, 1:]
    return features
