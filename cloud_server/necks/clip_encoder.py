"""CLIP's vision tower behind a neck: entered after its second layer, read as Show-o reads it.

It does not know tokens, necks or questions. The features are those of the last layer but one, the
class token among them; labels are compared with what the last layer makes of the class token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloud_server.necks.encoders import frozen
from shared_protocol.errors import CheckpointError, ConfigError

CLIP = "clip"
ENTRY = 2
"""Layers that are skipped: the paper found one or two best (section 4.5)."""
_READ = -2
"""The hidden state that Show-o and most language models read."""
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's pictures, channel by channel."""
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_GIVE = "give a folder of openai/clip-vit-large-patch14-336, or another CLIP, in transformers' form"


class ClipEncoder:
    """A vision tower with or without its text side.

    Args:
        model: transformers' `CLIPModel`, or `CLIPVisionModel` where there are no labels.
        labels: what pictures are compared with.
        rows: (labels, P) text embeddings of them, normalised; None = without labels.
        entry: layers that are skipped.
    """

    name = CLIP
    neck_kind = "vit"

    def __init__(
        self,
        model: Any,
        labels: Sequence[str] = (),
        rows: Tensor | None = None,
        entry: int = ENTRY,
    ) -> None:
        self._model: Any = frozen(model)
        self._tower = getattr(model, "vision_model", model)
        self.labels, self._rows, self.entry = tuple(labels), rows, entry
        config = self._tower.config
        if not 0 <= entry < config.num_hidden_layers - 1:
            told = f"entry {entry}: this tower has {config.num_hidden_layers} layers"
            raise ConfigError(told, f"enter before layer {config.num_hidden_layers - 1}")
        self.middle_width, self.input_side = config.hidden_size, config.image_size
        self.middle_side = config.image_size // config.patch_size

    @classmethod
    def load(
        cls,
        folder: Path,
        labels: Sequence[str] = (),
        rows: Tensor | None = None,
        entry: int = ENTRY,
    ) -> ClipEncoder:
        """From a folder in transformers' layout.

        Args:
            folder: a `CLIPModel`, or a `CLIPVisionModel` without labels.
            labels: their texts.
            rows: their embeddings, if they are known; else the folder's text side makes them.
            entry: see the class.

        Raises:
            CheckpointError: there is no CLIP.
            ConfigError: labels for a tower without a text side.
        """
        from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

        try:
            kind = CLIPConfig.get_config_dict(folder, local_files_only=True)[0].get("model_type")
            loader = CLIPModel if kind == "clip" else CLIPVisionModel
            model = loader.from_pretrained(
                folder, local_files_only=True, attn_implementation="eager", dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise CheckpointError(f"no CLIP in {folder}: {error}", _GIVE) from error
        if labels and not hasattr(model, "visual_projection"):
            told = f"{folder} holds CLIP's vision tower alone, which knows no labels"
            raise ConfigError(told, "give the whole CLIP, or leave the labels out")
        if labels and rows is None:
            rows = text_rows(model, folder, labels)
        return cls(model, labels, rows, entry)

    def full(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 to (B, 1 + N, D), the class token first."""
        return self._layers(self._start(pixels), 0)

    def middle(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 to (B, 1 + N, D)."""
        values = self._start(pixels)
        for layer in self._tower.encoder.layers[: self.entry]:
            values = _output(layer(values, attention_mask=None))
        return values

    def partial(self, middle: Tensor) -> Tensor:
        """(B, 1 + N, D) to the same shape."""
        return self._layers(middle, self.entry)

    def label_rows(self) -> Tensor:
        """(labels, P): the texts' embeddings, normalised.

        Raises:
            ConfigError: this encoder has no labels.
        """
        if self._rows is None:
            raise ConfigError("this CLIP was loaded without labels", "name them: --labels FILE")
        return self._rows

    def scores(self, features: Tensor) -> Tensor:
        """(B, 1 + N, D) to (B, labels): cosine similarities times CLIP's own scale.

        Differs from the paper's equation 3: it has no scale, and a softmax over plain cosines is
        nearly flat.
        """
        last = _output(self._tower.encoder.layers[-1](features, attention_mask=None))
        pooled = self._model.visual_projection(self._tower.post_layernorm(last[:, 0]))
        cosines = F.normalize(pooled, dim=1) @ self.label_rows().T
        scores: Tensor = cosines * self._model.logit_scale.exp()
        return scores

    def network(self) -> nn.Module:
        """All of CLIP that was loaded."""
        net: nn.Module = self._model
        return net

    def _start(self, pixels: Tensor) -> Tensor:
        size = (self.input_side, self.input_side)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(
                pixels, size, mode="bicubic", align_corners=False, antialias=True
            ).clamp(-1, 1)
        mean = pixels.new_tensor(_MEAN)[:, None, None]
        std = pixels.new_tensor(_STD)[:, None, None]
        values: Tensor = self._tower.embeddings(((pixels + 1) / 2 - mean) / std)
        normed: Tensor = self._tower.pre_layrnorm(values)
        return normed

    def _layers(self, values: Tensor, first: int) -> Tensor:
        layers = self._tower.encoder.layers
        for layer in layers[first : len(layers) + 1 + _READ]:
            values = _output(layer(values, attention_mask=None))
        return values


def _output(found: Any) -> Tensor:
    """A layer's values; some versions of transformers put them into a tuple."""
    values: Tensor = found[0] if isinstance(found, tuple) else found
    return values


def text_rows(model: Any, folder: Path, labels: Sequence[str]) -> Tensor:
    """(labels, P) normalised embeddings of the labels' texts.

    Raises:
        CheckpointError: the folder has no tokenizer.
    """
    from transformers import CLIPTokenizerFast

    # Without files, some versions of transformers open an empty tokenizer.
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(f"no tokenizer in {folder}, which labels need", _GIVE)
    try:
        tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no tokenizer in {folder}: {error}", _GIVE) from error
    inputs = tokenizer(list(labels), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        pooled = model.text_model(**inputs).pooler_output
        rows = F.normalize(model.text_projection(pooled), dim=1)
    return rows.clone()
