"""Reads and writes the transformer's weights: Show-o's files, and a compact form of our own.

Does not know how the weights are used.

Show-o's files: safetensors or a torch pickle of plain tensors, one file, or shards with an index;
keys `showo.model...` and `showo.lm_head...`; the shape of the network is read off the tensors.

Compact files: safetensors, same keys without the `showo.` prefix. A matrix is stored as int8 with
one scale per row (`NAME.int8`, `NAME.scale`), everything else as float16. The metadata entry
`backbone` holds a `BackboneCard` as JSON. A set of shards is a list of such files.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

from cloud_server.backbone.showo import (
    ShowoBackbone,
    ShowoConfig,
    build_phi,
    build_stem,
    phi_config,
)
from shared_protocol.errors import CheckpointError
from shared_protocol.vocabulary import Vocabulary

_PREFIX = "showo."
_STEM = "stem."
_IGNORED = ("mm_projector.",)
"""Parts of upstream files that discrete-token inference does not need (the CLIP projection)."""
_NAMES = (
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors.index.json",
    "pytorch_model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
_CARD_KEY = "backbone"
_INT8 = ".int8"
_SCALE = ".scale"
_MAX_LISTED = 5


def _key_mismatch(
    missing: Sequence[str], unexpected: Sequence[str] = (), misshapen: Sequence[str] = ()
) -> CheckpointError:
    """The error for a checkpoint whose tensors are not those of the network."""
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    parts = [
        f"{len(names)} {kind}: {', '.join(names[:_MAX_LISTED])}"
        + (", ..." if len(names) > _MAX_LISTED else "")
        for kind, names in kinds
        if names
    ]
    return CheckpointError(
        f"the checkpoint does not fit the network ({'; '.join(parts)})",
        "check that the file is a Show-o transformer and complete",
    )


@dataclass(frozen=True)
class BackboneCard:
    """What a compact checkpoint says about itself.

    Attributes:
        config: architecture.
        text_size: number of text ids.
        codebook_size: number of image codes.
        side: native grid side, in tokens.
        max_text_len: length of the text block without the task token.
    """

    config: ShowoConfig
    text_size: int
    codebook_size: int
    side: int
    max_text_len: int

    def __post_init__(self) -> None:
        if self.config.stem_width and self.max_text_len % self.side:
            raise CheckpointError(
                f"with a stem, max_text_len {self.max_text_len} must be a multiple of the side "
                f"{self.side}"
            )

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.text_size, self.codebook_size)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "BackboneCard":
        try:
            fields = json.loads(text)
            return BackboneCard(**{**fields, "config": ShowoConfig(**fields["config"])})
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(f"unreadable backbone card: {error}") from error


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone and what its checkpoint says about it."""

    backbone: ShowoBackbone
    card: BackboneCard


# ------------------------------------------------------------------------------------------------
# Show-o's files
# ------------------------------------------------------------------------------------------------


def load_showo_backbone(
    path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> ShowoBackbone:
    """Load Show-o's transformer from a file or from a folder that holds it.

    Raises:
        CheckpointError: no file there, unreadable, or tensors missing, unexpected or misshapen.
    """
    state = _without_prefix(_read_tensors(_files_at(path)))
    return _backbone_of(state, config_of(state), device, dtype)


def config_of(state: Mapping[str, Tensor]) -> ShowoConfig:
    """The architecture that tensors without prefix belong to; the rotary constants are Phi's."""
    layers = {int(name.split(".")[2]) for name in state if name.startswith("model.layers.")}
    first = "model.layers.0"
    needed = ("lm_head.weight", f"{first}.mlp.fc1.weight", f"{first}.self_attn.q_layernorm.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        raise _key_mismatch(missing)
    vocab_size, hidden = state[needed[0]].shape
    return ShowoConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=state[needed[1]].shape[0],
        layers=len(layers),
        heads=hidden // state[needed[2]].shape[0],
    )


def _files_at(path: Path) -> list[Path]:
    """The weight files of a folder, an index, or a single file."""
    if path.is_dir():
        found = [path / name for name in _NAMES if (path / name).is_file()]
        if not found:
            raise CheckpointError(f"no weights in {path}", f"expected one of {', '.join(_NAMES)}")
        path = found[0]
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}", "check the path")
    if path.suffix != ".json":
        return [path]
    index = json.loads(path.read_text(encoding="utf-8"))
    return [path.parent / name for name in sorted(set(index["weight_map"].values()))]


def _read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            if file.suffix == ".safetensors":
                state |= load_file(file)
            else:
                state |= torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"cannot read {file}: {error}") from error
    return state


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names: without `showo.`, without the parts that are not used here."""
    return {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in state.items()
        if not name.startswith(_IGNORED)
    }


def _backbone_of(
    state: Mapping[str, Tensor], config: ShowoConfig, device: str, dtype: torch.dtype
) -> ShowoBackbone:
    with torch.device("meta"):
        phi, stem = build_phi(config), build_stem(config)
    expected = phi.state_dict()
    if stem is not None:
        expected |= {f"{_STEM}{name}": tensor for name, tensor in stem.state_dict().items()}
    _check_keys(expected, state)
    ready = {name: tensor.to(device=device, dtype=dtype) for name, tensor in state.items()}
    if stem is not None:
        names = [name for name in ready if name.startswith(_STEM)]
        own = {name.removeprefix(_STEM): ready.pop(name) for name in names}
        stem.load_state_dict(own, assign=True)
    phi.load_state_dict(ready, assign=True)
    # Not part of any checkpoint, hence still without memory.
    phi.model.rotary_emb = PhiRotaryEmbedding(phi_config(config)).to(device)
    return ShowoBackbone(phi, stem)


def _check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misshapen = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or misshapen:
        raise _key_mismatch(missing, unexpected, misshapen)


# ------------------------------------------------------------------------------------------------
# Compact files
# ------------------------------------------------------------------------------------------------


def load_builtin_backbone(
    path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> LoadedBackbone:
    """Load a compact backbone from a file, or from a folder of shards (`backbone*.safetensors`).

    Raises:
        CheckpointError: no file there, unreadable, without a card, or tensors missing, unexpected
            or misshapen.
    """
    files = sorted(path.glob("backbone*.safetensors")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise CheckpointError(f"no compact backbone at {path}", "train or unpack one first")
    card = _read_card(files[0])
    state = unpack_state(_read_tensors(files))
    return LoadedBackbone(_backbone_of(state, card.config, device, dtype), card)


def save_builtin_backbone(
    state: Mapping[str, Tensor], card: BackboneCard, folder: Path, max_bytes: int = 12_000_000
) -> list[Path]:
    """Write the tensors of a Phi (`model...`, `lm_head...`) as compact shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("backbone*.safetensors"):
        stale.unlink()
    shards = _split(pack_state(state), max_bytes)
    paths = [folder / f"backbone-{index}.safetensors" for index in range(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
        save_file(shard, path, metadata={_CARD_KEY: card.to_json()})
    return paths


def pack_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in stored form: matrices as int8 with a scale per row, the rest as float16."""
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim != 2:
            packed[name] = tensor.detach().to(torch.float16).contiguous()
            continue
        rows = tensor.detach().float()
        scale = (rows.abs().amax(1, keepdim=True) / 127).clamp(min=1e-7).to(torch.float16)
        steps = (rows / scale.float()).round().clamp(-127, 127)
        packed[name + _INT8], packed[name + _SCALE] = steps.to(torch.int8), scale
    return packed


def unpack_state(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack_state`, up to rounding: float32 tensors under their own names."""
    state: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        if name.endswith(_INT8):
            name = name.removesuffix(_INT8)
            if name + _SCALE not in packed:
                raise _key_mismatch([name + _SCALE])
            state[name] = tensor.float() * packed[name + _SCALE].float()
        elif not name.endswith(_SCALE):
            state[name] = tensor.float()
    return state


def _read_card(file: Path) -> BackboneCard:
    try:
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from error
    if _CARD_KEY not in metadata:
        raise CheckpointError(f"{file} has no backbone card", "use a file made by the recipe")
    return BackboneCard.from_json(metadata[_CARD_KEY])


def _split(tensors: Mapping[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    """Tensors in order, in as few shards below `max_bytes` as that order allows."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        if shards[-1] and used + tensor.nbytes > max_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    return shards
