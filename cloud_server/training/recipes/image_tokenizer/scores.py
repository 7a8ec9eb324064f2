"""Scores of an image tokenizer on held-out scenes and photographs, and sheets to look at.

Reports what users get: uint8 in, codes, uint8 out, whole 256x256 pictures. PSNR alone does not tell
a good picture from a blur: look at the sheet.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cloud_server.training.recipes.image_tokenizer.crops import PHOTOS_HELD_OUT
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import Scene, World
from shared_protocol.tokenizers.compact import CompactTokenizer

SCORE_SEED = 20_000
SHEET_COLUMNS = 8


def report(
    tokenizer: CompactTokenizer,
    world: World,
    renderer: Renderer,
    photos: np.ndarray,
    sheet: Path | None,
    scenes: int = 96,
) -> dict[str, float]:
    """Scores on held-out scenes and photographs; writes a sheet if a path is given.

    Args:
        photos: uint8 [N, 256, 256, 3]; only the last PHOTOS_HELD_OUT are looked at.

    Returns:
        Mean PSNR in dB (`scenes`, `objects` inside the boxes, `photos`) and codes in use.
    """
    rng = np.random.default_rng(SCORE_SEED)
    truths = [world.sample_scene(rng, "test") for _ in range(scenes)]
    pictures = np.stack([renderer.render(scene) for scene in truths])
    held_out = photos[-PHOTOS_HELD_OUT:]
    scene_codes, scene_outputs = reconstruct(tokenizer, pictures)
    scores = {
        "scenes": mean_psnr(pictures, scene_outputs),
        "objects": mean_object_psnr(truths, pictures, scene_outputs),
        "codes_scenes": float(len(np.unique(scene_codes))),
    }
    rows = sheet_rows(pictures, scene_outputs, 2)
    if len(held_out):
        photo_codes, photo_outputs = reconstruct(tokenizer, held_out)
        scores["photos"] = mean_psnr(held_out, photo_outputs)
        used = np.union1d(np.unique(scene_codes), np.unique(photo_codes))
        scores["codes_all"] = float(len(used))
        rows += sheet_rows(held_out, photo_outputs, 1)
    if sheet:
        Image.fromarray(np.concatenate(rows, axis=0)).save(sheet)
    return {name: round(value, 2) for name, value in scores.items()}


def reconstruct(
    tokenizer: CompactTokenizer, pictures: np.ndarray, batch: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint16 [N, H/16, W/16] and pictures uint8 [N, H, W, 3] after a round trip."""
    codes = np.concatenate([encode_pictures(tokenizer, p) for p in _batches(pictures, batch)])
    outputs = np.concatenate([decode_pictures(tokenizer, c) for c in _batches(codes, batch)])
    return codes, outputs


def encode_pictures(tokenizer: CompactTokenizer, pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> codes uint16 [N, H/16, W/16]."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    codes: np.ndarray = tokenizer.encode_codes(pixels / 127.5 - 1).numpy()
    return codes.astype(np.uint16)


def decode_pictures(tokenizer: CompactTokenizer, codes: np.ndarray) -> np.ndarray:
    """codes [N, H/16, W/16] -> uint8 [N, H, W, 3], truncated as Show-o does."""
    pixels = tokenizer.decode_codes(torch.from_numpy(codes.astype(np.int64)))
    bytes_ = ((pixels + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
    pictures: np.ndarray = bytes_.permute(0, 2, 3, 1).numpy()
    return pictures


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 arrays of one shape."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-6))


def mean_psnr(pictures: np.ndarray, outputs: np.ndarray) -> float:
    """Mean over pictures of the PSNR in dB."""
    return float(np.mean([psnr(a, b) for a, b in zip(pictures, outputs, strict=True)]))


def mean_object_psnr(scenes: list[Scene], pictures: np.ndarray, outputs: np.ndarray) -> float:
    """Mean over objects of the PSNR in dB inside their boxes."""
    values = []
    for scene, picture, output in zip(scenes, pictures, outputs, strict=True):
        for thing in scene.objects:
            box = np.s_[thing.y : thing.y + thing.size, thing.x : thing.x + thing.size]
            values.append(psnr(picture[box], output[box]))
    return float(np.mean(values))


def sheet_rows(pictures: np.ndarray, outputs: np.ndarray, pairs: int) -> list[np.ndarray]:
    """Rows of originals, each with the row of its reconstructions below."""
    rows = []
    for start in range(0, pairs * SHEET_COLUMNS, SHEET_COLUMNS):
        for source in (pictures, outputs):
            rows.append(np.concatenate(list(source[start : start + SHEET_COLUMNS]), axis=1))
    return rows


def _batches(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[i : i + size] for i in range(0, len(array), size)]
