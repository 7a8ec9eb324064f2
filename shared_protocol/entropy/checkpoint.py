"""Float weights to certified integers, and integers to files and back.

It does not know training data or scenarios; calibration batches are handed in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared_protocol.bundles.weight_files import check_safe_file
from shared_protocol.entropy.config import (
    ACTIVATION_MAX,
    ATTENTION_SUM,
    GELU_HALF,
    LOGIT_STEPS,
    LOGIT_TOP,
    SCORE_STEPS,
    SCORE_TOP,
    EntropyConfig,
)
from shared_protocol.entropy.tables import exp_table, gelu_table
from shared_protocol.entropy.weights import Array, ExactWeights, certificates
from shared_protocol.errors import CheckpointError
from shared_protocol.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from shared_protocol.entropy.model import Batch, EntropyModel

FORMAT = "unimic-entropy-1"
MAX_FILE = 24 << 20
"""Of a file of entropy models; the built-in one has 3 MB."""
KEPT_SHARE = 0.9999
"""Share of activations that a scale keeps unclipped; the rest is clamped."""
RESIDUAL_HEADROOM = 2.0
"""How far beyond the largest calibrated residual the int16 range reaches."""
SAMPLES = 200_000
"""Activations looked at for one quantile."""


def save(weights: ExactWeights, path: Path) -> None:
    """Write `weights` with their config and certificates, all or nothing."""
    from safetensors.numpy import save as to_bytes

    bounds = {bound.name: round(bound.largest / bound.limit, 4) for bound in certificates(weights)}
    metadata = {
        "format": FORMAT,
        "config": weights.config.to_json(),
        "certificates": json.dumps(bounds, sort_keys=True),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.arrays.items()}
    write_atomically(path, _ordered(to_bytes(arrays, metadata)))


def _ordered(data: bytes) -> bytes:
    """A safetensors file with its metadata in order, so that equal weights are equal bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= end - 8, "only the order changes"
    return data[:8] + text.ljust(end - 8) + data[end:]


def load(path: Path) -> ExactWeights:
    """Read weights and check every bound again.

    Raises:
        CheckpointError: no such file, another format, or weights that break a bound.
    """
    from safetensors import SafetensorError, safe_open

    check_safe_file(path, MAX_FILE)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                told = f"{path.name} is not in format {FORMAT}"
                raise CheckpointError(told, "export the weights again")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except CheckpointError:
        raise
    except (OSError, SafetensorError, TypeError, ValueError, AttributeError) as error:
        told = f"cannot read entropy weights {path.name}: {error}"
        raise CheckpointError(told, "fetch the bundle again") from error
    try:
        return ExactWeights(EntropyConfig.from_json(metadata.get("config", "")), arrays)
    except CheckpointError:
        raise
    except Exception as error:  # bounds of numbers that no export writes
        told = f"cannot read entropy weights {path.name}: {str(error)[:200]}"
        raise CheckpointError(told, "fetch the bundle again") from error


def quantise(model: EntropyModel, batches: Sequence[Batch]) -> ExactWeights:
    """The integer form of a trained model.

    Args:
        model: float weights; left unchanged.
        batches: a few hundred sequences like those to be coded; they set the scales.

    Raises:
        CheckpointError: the weights do not fit the bounds.
    """
    import torch

    with torch.no_grad():
        scales = _Scales(model)
        for batch in batches:
            scales.observe(batch)
        return ExactWeights(model.config, _arrays(model, scales))


class _Scales:
    """Ranges of activations, gathered by running the float model layer by layer."""

    def __init__(self, model: EntropyModel) -> None:
        self.model = model
        self.seen: dict[str, list[Array]] = {}

    def observe(self, batch: Batch) -> None:
        """Run one batch and note the magnitudes of everything that becomes an integer."""
        from torch.nn import functional as F

        from shared_protocol.entropy.model import norm

        x = self._note("residual", self.model.embed(batch))
        mask = batch.attention_mask()
        for index, block in enumerate(_blocks(self.model)):
            normed = self._note(f"norm{2 * index}", norm(x))
            q, k, v = self._heads(block.qkv(normed))
            self._note_heads(f"q{index}", q)
            self._note_heads(f"k{index}", k)
            self._note(f"v{index}", v)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            mixed = self._note(f"mix{index}", mixed.transpose(1, 2).flatten(2))
            x = self._note("residual", x + block.out(mixed))
            normed = self._note(f"norm{2 * index + 1}", norm(x))
            inner = self._note(f"up{index}", block.up(normed))
            inner = self._note(f"gelu{index}", F.gelu(inner))
            x = self._note("residual", x + block.down(inner))
        states = self._note(f"norm{2 * len(self.model.blocks)}", norm(x))
        self._observe_head(states[:, batch.text.shape[1] :], batch)

    def _observe_head(self, states: Tensor, batch: Batch) -> None:
        from torch.nn import functional as F

        high = batch.codes >> self.model.config.low_bits
        inner = self._note("low_in", self.model.low_in(states) + self.model.given(high))
        self._note("low_gelu", F.gelu(inner))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        split = qkv.view(*qkv.shape[:2], 3, self.model.config.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def _note(self, name: str, x: Tensor) -> Tensor:
        flat = x.detach().float().abs().flatten()
        step = max(1, len(flat) // SAMPLES)
        kept = flat.topk(max(1, len(flat) // 1000)).values if name == "residual" else flat[::step]
        self.seen.setdefault(name, []).append(kept.cpu().numpy())
        return x

    def _note_heads(self, name: str, x: Tensor) -> None:
        for head in range(x.shape[1]):
            self._note(f"{name}.{head}", x[:, head])

    def step(self, name: str, limit: int) -> float:
        """The value of one integer step, such that `KEPT_SHARE` of what was seen fits `limit`."""
        values = np.concatenate(self.seen[name])
        return max(float(np.quantile(values, KEPT_SHARE)), 1e-6) / limit

    def residual_step(self) -> float:
        """The value of one step of the residual stream."""
        largest = max(float(values.max()) for values in self.seen["residual"])
        return max(largest, 1e-6) * RESIDUAL_HEADROOM / (1 << 15)


def _arrays(model: EntropyModel, scales: _Scales) -> dict[str, Array]:
    config, unit = model.config, scales.residual_step()
    arrays: dict[str, Array] = {
        "score_exp": exp_table(SCORE_TOP, SCORE_STEPS),
        "logit_exp": exp_table(LOGIT_TOP, LOGIT_STEPS),
    }
    for name in ("row", "column", "kind", "text_place"):
        table = np.rint(_numpy(getattr(model, name).weight) / unit)
        arrays[name] = np.clip(table, -(1 << 15) + 1, (1 << 15) - 1).astype(np.int16)
    for table_name, table, matrix in (
        ("code_table", _numpy(model.code_table()), "join"),
        ("text_table", _numpy(model.text_table.weight), "text_join"),
    ):
        arrays[table_name], step = _whole(table)
        weight = _numpy(getattr(model, matrix).weight)
        _put(arrays, matrix, _matrix(weight, step, unit))
    norms = [scales.step(f"norm{i}", ACTIVATION_MAX) for i in range(2 * config.layers + 1)]
    arrays["norms"] = np.array([config.width**0.5 / step for step in norms])
    layers = [_block(model, scales, index, unit) for index in range(config.layers)]
    arrays |= {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}
    return arrays | _head(model, scales, norms[-1])


def _block(model: EntropyModel, scales: _Scales, index: int, unit: float) -> dict[str, Array]:
    config, block = model.config, _blocks(model)[index]
    norm1, norm2 = (scales.step(f"norm{2 * index + i}", ACTIVATION_MAX) for i in (0, 1))
    heads = range(config.heads)
    q = np.array([scales.step(f"q{index}.{head}", ACTIVATION_MAX) for head in heads])
    k = np.array([scales.step(f"k{index}.{head}", ACTIVATION_MAX) for head in heads])
    v, mix = (scales.step(f"{name}{index}", ACTIVATION_MAX) for name in ("v", "mix"))
    rows = np.concatenate([np.repeat(q, config.head_width), np.repeat(k, config.head_width)])
    rows = np.concatenate([rows, np.full(config.width, v)])
    inner, gelu = scales.step(f"up{index}", GELU_HALF), scales.step(f"gelu{index}", ACTIVATION_MAX)
    arrays: dict[str, Array] = {
        "score.scale": (q * k * SCORE_STEPS / config.head_width**0.5).astype(np.float32),
        "mix.scale": np.array(v / (ATTENTION_SUM * mix), dtype=np.float32),
        "gelu": gelu_table(inner, gelu),
    }
    _put(arrays, "qkv", _matrix(_numpy(block.qkv.weight), norm1, rows))
    _put(arrays, "out", _matrix(_numpy(block.out.weight), mix, unit))
    _put(arrays, "up", _matrix(_numpy(block.up.weight), norm2, inner, _numpy(block.up.bias)))
    _put(arrays, "down", _matrix(_numpy(block.down.weight), gelu, unit))
    return arrays


def _head(model: EntropyModel, scales: _Scales, step: float) -> dict[str, Array]:
    inner, gelu = scales.step("low_in", GELU_HALF), scales.step("low_gelu", ACTIVATION_MAX)
    arrays: dict[str, Array] = {"low_gelu": gelu_table(inner, gelu)}
    for name, step_in, step_out in (
        ("high", step, 1 / LOGIT_STEPS),
        ("low_in", step, inner),
        ("low_out", gelu, 1 / LOGIT_STEPS),
    ):
        module = getattr(model, name)
        weight, bias = _numpy(module.weight), _numpy(module.bias)
        _put(arrays, name, _matrix(weight, step_in, step_out, bias))
    unit = arrays["low_in.scale"].astype(np.float64) * inner  # value of one step of each row's sum
    arrays["given"] = _to_int32(_numpy(model.given.weight) / unit)
    return arrays


def _blocks(model: EntropyModel) -> list[Any]:
    return list(model.blocks)


def _matrix(
    weight: npt.NDArray[np.float64],
    step_in: float,
    step_out: float | npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64] | None = None,
) -> dict[str, Array]:
    """int8 rows, the multiplier of each row's sum, and the bias in units of that sum."""
    row_step = np.maximum(np.abs(weight).max(1), 1e-8) / ACTIVATION_MAX
    arrays: dict[str, Array] = {
        "weight": np.rint(weight / row_step[:, None]).astype(np.int8),
        "scale": (row_step * step_in / step_out).astype(np.float32),
    }
    if bias is not None:
        arrays["bias"] = _to_int32(bias / (row_step * step_in))
    return arrays


def _to_int32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Rounded; what does not fit ends at the edge, where a certificate refuses it."""
    edge = (1 << 31) - 1
    return np.clip(np.rint(values), -edge, edge).astype(np.int32)


def _put(arrays: dict[str, Array], name: str, matrix: dict[str, Array]) -> None:
    arrays.update({f"{name}.{part}": array for part, array in matrix.items()})


def _whole(table: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int8], float]:
    step = max(float(np.quantile(np.abs(table), KEPT_SHARE)), 1e-6) / ACTIVATION_MAX
    entries = np.clip(np.rint(table / step), -ACTIVATION_MAX, ACTIVATION_MAX)
    return entries.astype(np.int8), step


def _numpy(parameter: Any) -> npt.NDArray[np.float64]:
    return np.asarray(parameter.detach().cpu().double().numpy(), dtype=np.float64)
