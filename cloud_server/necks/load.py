"""Opens a neck's file with the encoder that it leads into.

It does not know settings, bundles or messages; no image tokenizer and no recipe is needed for it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from cloud_server.necks.cell_net import CellNet
from cloud_server.necks.classifier import Classifier, FeatureNeck
from cloud_server.necks.clip_encoder import CLIP, ClipEncoder
from cloud_server.necks.encoders import CELLS, EFFICIENTNET, CellEncoder, Encoder, LiteEncoder
from cloud_server.necks.from_tokens import from_tokens
from cloud_server.necks.neck_file import (
    ENCODER,
    LABEL_ROWS,
    NECK,
    NeckFile,
    fill,
    fingerprint_of,
    on_meta,
    read_neck_file,
)
from cloud_server.necks.networks import build_neck
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import CheckpointError

SHIPPED = Path(__file__).parents[1] / "weights" / BUILTIN / "neck.safetensors"
"""The built-in bundle's: names the objects of a scene. Made by `cloud-server train neck`."""
ENCODER_FOLDER = "encoder"
"""Beside a neck's file, where its encoder is a CLIP: the folder with it."""


def load_neck(
    path: Path,
    *,
    tokenizer_fingerprint: str,
    device: str = "cpu",
    encoder: Path | None = None,
) -> Classifier | FeatureNeck:
    """The neck in a file, ready to answer; both, where a CLIP has labels.

    Args:
        path: a file that `cloud-server train neck` wrote.
        tokenizer_fingerprint: of the image tokenizer whose codes will come, 64 hex digits:
            `Bundle.tokenizer_fingerprint.hex()`.
        device: where it computes.
        encoder: folder of the encoder, for a neck into CLIP; None = `encoder` beside the file.

    Raises:
        CheckpointError: made for another image tokenizer, of an unknown encoder, damaged or no
            neck at all.
        ConfigError: the package with the encoder is not installed.
    """
    content = read_neck_file(path)
    if content.tokenizer != tokenizer_fingerprint:
        raise CheckpointError(
            f"the neck {path} reads tokens of the image tokenizer {content.tokenizer[:16]}…, this "
            f"bundle's is {tokenizer_fingerprint[:16]}…",
            "serve the bundle that it was trained for, or train one: "
            "'cloud-server train neck --bundle …'",
        )
    with on_meta():
        neck = build_neck(content.sizes)
    fill(neck, content.part(NECK), path)
    into = open_encoder(content, path, encoder)
    sizes = content.sizes
    if (into.middle_width, into.middle_side) != (sizes.width, sizes.side):
        raise CheckpointError(
            f"the neck {path} leads to {sizes.width} channels at {sizes.side}x{sizes.side}, its "
            f"encoder {into.name} has {into.middle_width} at {into.middle_side}x{into.middle_side}",
            "give the encoder that it was trained with",
        )
    return from_tokens(neck, into, fingerprint_of(path), sizes.bits, device)


def open_encoder(content: NeckFile, path: Path, folder: Path | None = None) -> Encoder:
    """The encoder behind the neck of a file, as much of it as is needed behind the entry.

    Raises:
        CheckpointError: the file names none that there is, or its weights do not fit.
        ConfigError: the package with the encoder is not installed.
    """
    if content.encoder == CELLS:
        return _cells(content, path)
    if content.encoder == EFFICIENTNET:
        return LiteEncoder.installed(content.labels, content.entry)
    if content.encoder == CLIP:
        rows = content.tensors.get(LABEL_ROWS)
        where = folder or path.parent / ENCODER_FOLDER
        return ClipEncoder.load(where, content.labels, rows, content.entry)
    raise CheckpointError(
        f"the neck {path} leads into the encoder {content.encoder[:80]!r}",
        f"this program has {CELLS}, {EFFICIENTNET} and {CLIP}; update it, or use another neck",
    )


def _cells(content: NeckFile, path: Path) -> CellEncoder:
    state = content.part(ENCODER)
    backgrounds = state.get("backgrounds.bias", torch.zeros(0)).numel()
    with on_meta():
        net = CellNet(len(content.labels), backgrounds)
    has_stem = any(name.startswith("stem.") for name in state)
    if not has_stem:
        net.stem = torch.nn.Sequential()
    fill(net, state, path)
    return CellEncoder(net, content.labels, content.entry, content.sizes.side)
