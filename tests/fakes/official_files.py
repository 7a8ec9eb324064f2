"""Show-o's published files in small, or in full size with random weights, in their own layout.

    python tests/fakes/official_files.py FOLDER     writes 2.9 GB of full-size files, shard by shard

The folder is what UNIMIC_MODELS names, and what `--bundle` takes: a folder per repository.
"""

from __future__ import annotations

import json
import lzma
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from cloud_server.generation.backbone.showo import ShowoConfig, build_phi
from shared_protocol.tokenizers.magvitv2 import MagvitV2

PARITY = Path(__file__).parents[1] / "parity"
GOLDEN = PARITY / "golden"
MERGES = PARITY / "phi" / "gpt2_merges.txt.xz"
SHARD_BYTES = 500_000_000
SPACES = [" " * count for count in range(31, 1, -1)]
TABS = ["\t" * count for count in range(9, 1, -1)]


def small_files(folder: Path, transformer: str = "show-o", source: str = "showo_tiny") -> Path:
    """Copy the models of the golden vectors into a folder per repository."""
    for name, repository in (
        (source, transformer),
        ("magvit_tiny", "magvitv2"),
        ("tokenizer", "phi-1_5"),
    ):
        shutil.copytree(GOLDEN / name, folder / repository)
    return folder


def full_size_files(folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write the files of the 256-pixel model with random weights: published keys and shapes."""
    config = ShowoConfig()
    with torch.device("meta"):
        phi = build_phi(config)
    names = {f"showo.{name}": tensor.shape for name, tensor in phi.state_dict().items()}
    write_shards(names, folder / "show-o", dtype)
    content = {
        "_class_name": "Showo",
        "codebook_size": 8192,
        "llm_vocab_size": 50295,
        "mask_token_id": config.vocab_size - 1,
        "num_vq_tokens": 256,
        "vocab_size": config.vocab_size,
        "w_clip_vit": False,
    }
    (folder / "show-o" / "config.json").write_text(json.dumps(content))
    (folder / "magvitv2").mkdir(parents=True)
    save_file(MagvitV2().state_dict(), folder / "magvitv2" / "pytorch_model.safetensors")
    (folder / "phi-1_5").mkdir()
    phi_tokenizer().save(str(folder / "phi-1_5" / "tokenizer.json"))
    return folder


def write_shards(names: dict[str, torch.Size], folder: Path, dtype: torch.dtype) -> None:
    """Random tensors of these shapes in shards with an index; one shard in memory at a time."""
    folder.mkdir(parents=True)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(_shards(names, dtype)):
        file = f"pytorch_model-{number:05}.safetensors"
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    index = folder / "pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


def _shards(names: dict[str, torch.Size], dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shard: dict[str, Tensor] = {}
    for name, shape in names.items():
        shard[name] = _random(name, shape, generator).to(dtype)
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            yield shard
            shard = {}
    yield shard


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Weights of a sane scale: norms near one, biases near zero."""
    noise = torch.randn(shape, generator=generator) * 0.02
    return noise + 1.0 if "layernorm.weight" in name else noise


def phi_tokenizer() -> Tokenizer:
    """Phi-1.5's tokenizer, rebuilt: GPT-2's merges and 38 tokens of white space.

    GPT-2's vocabulary is its 256 byte characters in order, then one entry a merge.
    """
    lines = lzma.decompress(MERGES.read_bytes()).decode().splitlines()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines if line)]
    entries = [*byte_characters(), *(left + right for left, right in merges)]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in (*SPACES, *TABS)])
    return tokenizer


def byte_characters() -> list[str]:
    """The printable stand-ins of the 256 bytes, in GPT-2's order: visible ones, then the rest."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) for byte in visible] + [chr(256 + n) for n in range(len(hidden))]


if __name__ == "__main__":
    print(full_size_files(Path(sys.argv[1])))
