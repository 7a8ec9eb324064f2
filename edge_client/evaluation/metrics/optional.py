"""Metrics of papers whose weights no package brings: CLIP scores, standard LPIPS, Inception FID.

They run only where their weights lie on this machine already, and are None elsewhere ("not
available here"). Nothing here downloads anything.

| metric | needs |
| --- | --- |
| CLIP-T, CLIP-I | `transformers`, and `CLIP` in the hub's cache or a folder with it |
| LPIPS (AlexNet) | `lpips` and `torchvision`, and AlexNet in torch's hub cache |
| FID (Inception) | `pytorch-fid`, and its Inception weights in torch's hub cache |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_client.evaluation.metrics.extra import extra_module, has_module
from edge_client.evaluation.metrics.features import Features, frechet
from edge_client.evaluation.metrics.pixels import check_pair
from edge_client.evaluation.metrics.wanted import ALEXNET_FILE, CLIP, CLIP_VARIABLE, INCEPTION_FILE
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags

_BATCH = 16
CLIP_GREY = (122, 117, 104)
"""CLIP's mean colour, which tells it nothing."""
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def clip_t(pictures: Sequence[Pixels], texts: Sequence[str]) -> float | None:
    """Mean cosine of each picture and its text, as the paper's CLIP-T.

    Args:
        pictures: (H, W, 3) uint8 RGB each.
        texts: as many.
    """
    clip = _clip()
    if clip is None or not texts:
        return None
    return _mean_cosine(clip.pictures(pictures), clip.texts(texts))


def clip_i(first: Sequence[Pixels], second: Sequence[Pixels]) -> float | None:
    """Mean cosine of each picture and its counterpart, as the paper's CLIP-I."""
    clip = _clip()
    if clip is None or not first:
        return None
    return _mean_cosine(clip.pictures(first), clip.pictures(second))


def r_clip_i(
    first: Sequence[Pixels], second: Sequence[Pixels], where: Sequence[Flags]
) -> float | None:
    """CLIP-I of a part of each picture: the rest is grey in both, as for the paper's R-CLIP-I.

    Args:
        first, second: (H, W, 3) uint8 each, as many.
        where: (H, W) bool each, the part that counts.
    """
    grey = np.array(CLIP_GREY, dtype=np.uint8)

    def parts(pictures: Sequence[Pixels]) -> list[Pixels]:
        pairs = zip(pictures, where, strict=True)
        return [np.where(flags[..., None], pixels, grey) for pixels, flags in pairs]

    return clip_i(parts(first), parts(second))


def lpips(first: Pixels, second: Pixels) -> float | None:
    """The standard LPIPS of Zhang et al. (CVPR 2018), AlexNet; see `st_lpips` for what is here."""
    network = _lpips()
    if network is None:
        return None
    check_pair(first, second)
    import torch

    one, other = (
        torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
        for pixels in (first, second)
    )
    with torch.inference_mode():
        return float(network(one, other))


def inception_fid(first: Sequence[Pixels], second: Sequence[Pixels]) -> float | None:
    """The FID of papers, on features of pytorch-fid's Inception; None for fewer than two each."""
    network = _inception()
    if network is None or min(len(first), len(second)) < 2:
        return None
    return frechet(_inception_features(network, first), _inception_features(network, second))


class Clip:
    """CLIP's two encoders.

    Args:
        source: folder with weights in transformers' layout, or a name in the hub's local cache.

    Raises:
        OSError: there are no such weights here.
    """

    def __init__(self, source: str) -> None:
        library = extra_module("transformers", "CLIP")
        self._model = library.CLIPModel.from_pretrained(source, local_files_only=True).eval()
        self._tokenizer = library.AutoTokenizer.from_pretrained(source, local_files_only=True)
        self._side = int(self._model.config.vision_config.image_size)

    def texts(self, texts: Sequence[str]) -> Features:
        """(N, D) unit vectors."""
        import torch

        words = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            found = self._model.text_model(**words).pooler_output
            return _unit_rows(self._model.text_projection(found))

    def pictures(self, pictures: Sequence[Pixels]) -> Features:
        """(N, D) unit vectors; each picture is resized to the model's square (bicubic)."""
        import torch

        rows = []
        for start in range(0, len(pictures), _BATCH):
            batch = torch.stack([self._tensor(p) for p in pictures[start : start + _BATCH]])
            with torch.inference_mode():
                found = self._model.vision_model(pixel_values=batch).pooler_output
                rows.append(_unit_rows(self._model.visual_projection(found)))
        return np.concatenate(rows)

    def _tensor(self, pixels: Pixels) -> Any:
        import torch

        image = Image.fromarray(pixels).resize((self._side, self._side), Image.Resampling.BICUBIC)
        scaled = (np.asarray(image, dtype=np.float32) / np.float32(255) - _MEAN) / _DEVIATION
        return torch.from_numpy(scaled).permute(2, 0, 1)


@cache
def _clip() -> Clip | None:
    source = os.environ.get(CLIP_VARIABLE) or CLIP
    if not has_module("transformers") or not _has_clip(source):
        return None
    try:
        return Clip(source)
    except (OSError, ValueError):  # transformers' way to say that nothing usable is there
        return None


def _has_clip(source: str) -> bool:
    """Whether there may be weights, told without the seconds that transformers takes to load."""
    if Path(source).is_dir():
        return any(Path(source).glob("*.safetensors")) or any(Path(source).glob("*.bin"))
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    folder = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    return (folder / f"models--{source.replace('/', '--')}").is_dir()


@cache
def _lpips() -> Any:
    if not (has_module("lpips") and has_module("torchvision") and _hub_file(ALEXNET_FILE)):
        return None
    return extra_module("lpips", "LPIPS").LPIPS(net="alex", verbose=False).eval()


@cache
def _inception() -> Any:
    if not (has_module("pytorch_fid") and _hub_file(INCEPTION_FILE)):
        return None
    library = extra_module("pytorch_fid.inception", "the Inception FID")
    return library.InceptionV3([library.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()


def _inception_features(network: Any, pictures: Sequence[Pixels]) -> Features:
    import torch

    rows = []
    for pixels in pictures:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            rows.append(network(tensor / 255.0)[0].mean(dim=(2, 3)).double().numpy())
    return np.concatenate(rows)


def hub_folder() -> Path:
    """Where torch keeps weights of its hub."""
    import torch

    return Path(torch.hub.get_dir())


def _hub_file(name: str) -> bool:
    return (hub_folder() / "checkpoints" / name).is_file()


def _unit_rows(rows: Any) -> Features:
    found: Features = rows.double().numpy()
    unit: Features = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def _mean_cosine(first: Features, second: Features) -> float:
    return float((first * second).sum(axis=1).mean())
