"""One neck in one file: what it is made for, its weights, and those of its encoder that it carries.

It does not know what is computed with them::

    metadata   format, version, kind, tokenizer, encoder, labels, sizes, entry; notes of the recipe
    neck.*         the neck
    encoder.*      the encoder, or what of it is left behind the entry, where it travels along
    label_rows     embeddings of the labels, where the encoder cannot make them
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from cloud_server.necks.networks import NeckSizes
from shared_protocol.bundles.digests import digest_of
from shared_protocol.bundles.weight_files import check_safe_file, check_shapes
from shared_protocol.errors import CheckpointError
from shared_protocol.files import write_atomically

FORMAT, VERSION = "unimic-neck", "1"
NECK, ENCODER, LABEL_ROWS = "neck.", "encoder.", "label_rows"
MOST_LABELS, LONGEST_LABEL = 1 << 16, 200
_MOST_BYTES = 4 << 30
_TRAIN = "make one: 'cloud-server train neck'"
_OWN = ("format", "version", "kind", "tokenizer", "encoder", "labels", "sizes", "entry")


@dataclass(frozen=True)
class NeckFile:
    """The content of a file.

    Attributes:
        sizes: of the neck.
        tokenizer: fingerprint of the image tokenizer whose codes it reads, 64 hex digits: a
            bundle's `tokenizer_fingerprint`.
        encoder: name of the encoder that it leads into.
        entry: layers or blocks of the encoder that are skipped.
        labels: what the encoder tells apart; may be none.
        tensors: name to tensor, float32.
        notes: how it was made, in words.
    """

    sizes: NeckSizes
    tokenizer: str
    encoder: str
    entry: int
    labels: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_labels(self.labels)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def check_labels(labels: tuple[str, ...]) -> None:
    """Raise `CheckpointError` for labels that no reply can number."""
    if len(labels) > MOST_LABELS or len(set(labels)) != len(labels):
        raise CheckpointError(
            f"{len(labels):,} labels, {len(set(labels)):,} of them different",
            f"use at most {MOST_LABELS:,}, each once",
        )
    wrong = [label for label in labels if not 1 <= len(label) <= LONGEST_LABEL]
    if wrong:
        told = f"a label of {len(wrong[0])} characters"
        raise CheckpointError(told, f"a label has 1 to {LONGEST_LABEL}")


def write_neck_file(path: Path, content: NeckFile) -> None:
    """Write half-precision weights; the file is there whole or not at all."""
    metadata = {
        **content.notes,
        "format": FORMAT,
        "version": VERSION,
        "kind": content.sizes.kind,
        "tokenizer": content.tokenizer,
        "encoder": content.encoder,
        "entry": str(content.entry),
        "labels": json.dumps(content.labels, ensure_ascii=False),
        "sizes": json.dumps(asdict(content.sizes)),
    }
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in content.tensors.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, to_bytes(state, metadata))


def read_neck_file(path: Path) -> NeckFile:
    """What `write_neck_file` wrote, checked.

    Raises:
        CheckpointError: damaged, too large, not a neck, or of another version of the format.
    """
    metadata = check_safe_file(path, _MOST_BYTES).get("__metadata__") or {}
    if metadata.get("format") != FORMAT:
        found = str(metadata.get("format"))[:80]
        raise CheckpointError(f"{path} is no neck: its format is {found!r}", _TRAIN)
    if metadata.get("version") != VERSION:
        found = str(metadata.get("version"))[:80]
        told = f"{path} is a neck of version {found!r}, this program reads {VERSION!r}"
        raise CheckpointError(told, "update the older of the two, or train the neck again")
    try:
        return _content(metadata, _tensors(path))
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
        told = f"{path} is a damaged neck: {str(error)[:200]}"
        raise CheckpointError(told, _TRAIN) from error


def fingerprint_of(path: Path) -> str:
    """SHA-256 of a neck's file, 64 hex digits."""
    return digest_of(path)


def _content(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> NeckFile:
    labels, sizes = json.loads(metadata["labels"]), json.loads(metadata["sizes"])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("its labels are no list of words")
    if metadata["kind"] != sizes["kind"]:
        raise ValueError(f"its kind is {metadata['kind'][:80]!r} and {str(sizes['kind'])[:80]!r}")
    notes = {name: said for name, said in metadata.items() if name not in _OWN}
    return NeckFile(
        NeckSizes(**sizes),
        metadata["tokenizer"],
        metadata["encoder"],
        int(metadata["entry"]),
        tuple(labels),
        tensors,
        notes,
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", _TRAIN) from error
    tensors = {n: t.float() if t.is_floating_point() else t for n, t in found.items()}
    broken = [n for n, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path}: {broken[0][:80]} is not finite", _TRAIN)
    return tensors


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> Any:
    """The network, on the meta device until now, with these weights, in evaluation mode.

    Raises:
        CheckpointError: tensors are missing, unexpected or misshapen.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    check_shapes(expected, {name: tuple(tensor.shape) for name, tensor in state.items()}, [path])
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def on_meta() -> Any:
    """No memory until the weights are known to fit: a file may claim any sizes."""
    return torch.device("meta")
