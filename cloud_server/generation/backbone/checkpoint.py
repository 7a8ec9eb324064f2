"""Reads and writes the transformer's weights: Show-o's files, and a compact form of our own.

Does not know how the weights are used.

Show-o's files: safetensors or a torch pickle of plain tensors, one file, or shards with an index
(see `tensor_files`); keys `showo.model...`, `showo.lm_head...` and, in the variants that look at
pictures through CLIP, `mm_projector...`; the shape of the network is read off the tensors.

Compact files: safetensors, same keys without the `showo.` prefix. A matrix is stored as int8 with
one scale per row (`NAME.int8`, `NAME.scale`), everything else as float16. The metadata entry
`backbone` holds a `BackboneCard` as JSON. A set of shards is a list of such files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cloud_server.generation.backbone.phi import Phi, Rotary, ShowoConfig
from cloud_server.generation.backbone.showo import (
    ShowoBackbone,
    build_stem,
    whole_phi,
)
from shared_protocol.bundles.tensor_files import TensorFiles, load_into, open_tensors, placed
from shared_protocol.bundles.weight_files import Shape, check_shapes
from shared_protocol.errors import CheckpointError
from shared_protocol.vocabulary import Vocabulary

_PREFIX = "showo."
_STEM = "stem."
_PROJECTOR = "mm_projector."
_CARD_KEY = "backbone"
_INT8 = ".int8"
_SCALE = ".scale"


@dataclass(frozen=True)
class BackboneCard:
    """What a compact checkpoint says about itself.

    Attributes:
        config: architecture.
        text_size: number of text ids.
        codebook_size: number of image codes.
        side: native grid side, in tokens.
        max_text_len: length of the text block without the task token.
        pointing: layer and head, from 0, that look from an object's name at the object; None where
            none was taught to.
    """

    config: ShowoConfig
    text_size: int
    codebook_size: int
    side: int
    max_text_len: int
    pointing: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.pointing is not None:
            layer, head = self.pointing
            if not (0 <= layer < self.config.layers and 0 <= head < self.config.heads):
                raise CheckpointError(
                    f"the backbone card names head {head} of layer {layer} for pointing",
                    f"there are {self.config.heads} heads in {self.config.layers} layers",
                )
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
            if fields.get("pointing") is not None:
                layer, head = fields["pointing"]
                fields["pointing"] = (int(layer), int(head))
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

    Tensor by tensor, straight to `device` in `dtype`: no second copy of the weights is made.

    Raises:
        CheckpointError: no file there, unreadable, or tensors missing, unexpected or misshapen.
    """
    tensors = open_tensors(path, _phi_name)
    config = config_of(tensors)
    with torch.device("meta"):
        phi = Phi(config)
    load_into(phi, tensors, device=device, dtype=dtype)
    return ShowoBackbone(_with_rotary(phi, device))


def load_showo_phi(path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """transformers' own model over the weights of `load_showo_backbone`."""
    phi: Phi = load_showo_backbone(path, device=device, dtype=dtype).phi
    return whole_phi(phi)


def load_clip_projector(
    path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> nn.Sequential:
    """The layers that turn CLIP features into embeddings, of the variants that have them.

    Returns:
        (B, patches, clip width) to (B, patches, hidden).

    Raises:
        CheckpointError: these weights have none, or misshapen ones.
    """
    tensors = open_tensors(path, _projector_name)
    shape = tensors.shapes.get("0.weight", ())
    if len(shape) != 2:
        raise CheckpointError(f"the weights at {path} have no CLIP projection", _CLIP_WEIGHTS)
    hidden, width = shape
    with torch.device("meta"):
        projector = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
    load_into(projector, tensors, device=device, dtype=dtype)
    return projector.eval().requires_grad_(False)


_CLIP_WEIGHTS = "use those of a variant named w-clip-vit"


def reads_clip_features(path: Path) -> bool:
    """Whether these are weights of a variant that answers questions from CLIP features."""
    return bool(open_tensors(path, _projector_name).shapes)


def _phi_name(stored: str) -> str | None:
    """Our name of a tensor of Show-o's; None for what a transformer over tokens does not need."""
    return None if stored.startswith(_PROJECTOR) else stored.removeprefix(_PREFIX)


def _projector_name(stored: str) -> str | None:
    return stored.removeprefix(_PROJECTOR) if stored.startswith(_PROJECTOR) else None


def config_of(tensors: TensorFiles) -> ShowoConfig:
    """The architecture that tensors without prefix belong to; the rotary constants are Phi's.

    Raises:
        CheckpointError: the tensors that tell it are missing or misshapen.
    """
    shapes = tensors.shapes
    first = "model.layers.0"
    told = {
        "lm_head.weight": 2,
        f"{first}.mlp.fc1.weight": 2,
        f"{first}.self_attn.q_layernorm.weight": 1,
    }
    missing = [name for name in told if name not in shapes]
    check_shapes(dict.fromkeys(missing, ()), {}, tensors.files)
    for name, axes in told.items():
        if len(shapes[name]) != axes:
            raise CheckpointError(f"{name} is {shapes[name]}", f"it must have {axes} axes")
    (vocab_size, hidden), (intermediate, _), (head_dim,) = (shapes[name] for name in told)
    return ShowoConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=intermediate,
        layers=len({n.split(".")[2] for n in shapes if n.startswith("model.layers.")}),
        heads=hidden // max(1, head_dim),
    )


def _with_rotary(phi: Phi, device: str) -> Phi:
    # Not part of any checkpoint, hence still without memory.
    phi.model.rotary_emb = Rotary(phi.config).to(device)
    return phi


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
    state = unpack_state({name: tensor.clone() for name, tensor in TensorFiles(files)})
    return LoadedBackbone(_backbone_of(state, card, files, device, dtype), card)


def _backbone_of(
    state: Mapping[str, Tensor],
    card: BackboneCard,
    files: list[Path],
    device: str,
    dtype: torch.dtype,
) -> ShowoBackbone:
    config = card.config
    with torch.device("meta"):
        phi, stem = Phi(config), build_stem(config)
    expected = _shapes(phi.state_dict())
    if stem is not None:
        expected |= {f"{_STEM}{name}": shape for name, shape in _shapes(stem.state_dict()).items()}
    check_shapes(expected, _shapes(state), files)
    ready = {name: placed(tensor, device, dtype) for name, tensor in state.items()}
    if stem is not None:
        names = [name for name in ready if name.startswith(_STEM)]
        own = {name.removeprefix(_STEM): ready.pop(name) for name in names}
        stem.load_state_dict(own, assign=True)
    phi.load_state_dict(ready, assign=True)
    return ShowoBackbone(_with_rotary(phi, device), stem, card.pointing)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


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
                raise CheckpointError(f"the compact weights have {name}{_INT8} without {_SCALE}")
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
