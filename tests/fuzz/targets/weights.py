"""Files of weights: checkpoints in safetensors, image tokenizers, entropy models, necks.

Inputs begin with a choice and the length of the header, which is put right, so that changes of the
header's text reach the reader behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save as to_bytes

from shared_protocol.compute import Compute
from shared_protocol.entropy import checkpoint
from shared_protocol.entropy.config import (
    ACTIVATION_MAX,
    LOGIT_STEPS,
    LOGIT_TOP,
    SCORE_STEPS,
    SCORE_TOP,
    EntropyConfig,
)
from shared_protocol.entropy.tables import exp_table
from shared_protocol.entropy.weights import expected_arrays
from shared_protocol.errors import BadMessageError, ConfigError
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.sizes import COMPACT_FORMAT, CompactConfig
from targets.target import Read, Target

ERRORS = (ConfigError,)
TINY = EntropyConfig(
    high_bits=2,
    low_bits=2,
    width=2,
    layers=1,
    heads=1,
    hidden=2,
    code_width=1,
    text_size=2,
    text_width=1,
    text_limit=2,
    low_width=2,
    side=2,
)
NARROW = CompactConfig(2, (1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))
TABLES = {
    "score_exp": exp_table(SCORE_TOP, SCORE_STEPS),
    "logit_exp": exp_table(LOGIT_TOP, LOGIT_STEPS),
}


def whole(data: bytes) -> bytes:
    """The file that an input means: after its first byte, the length of the header put right."""
    body, choice = data[1:], (data or b"\0")[0]
    if choice % 2:
        return body
    end = body.find(b"\0\0") if b"\0\0" in body else len(body)
    return end.to_bytes(8, "little") + body


def compact_input(file: bytes) -> bytes:
    """The input that means `file`, if its header holds no zeros; else one that is it as it is."""
    size = int.from_bytes(file[:8], "little")
    if file[8 + size : 10 + size] == b"\0\0":
        return b"\0" + file[8:]
    return b"\1" + file


def prepare_tensors(folder: Path) -> Read:
    """Names, shapes and values of any checkpoint."""
    from shared_protocol.bundles.tensor_files import open_tensors

    path = folder / "any.safetensors"

    def read(data: bytes) -> None:
        path.write_bytes(whole(data))
        tensors = open_tensors(path)
        assert {name: tuple(tensor.shape) for name, tensor in tensors} == tensors.shapes

    return read


def _tensors() -> Iterator[bytes]:
    arrays = {"a": np.zeros((2, 3), dtype=np.float32), "b.weight": np.zeros(4, dtype=np.float16)}
    yield compact_input(to_bytes(arrays, {"format": "pt"}))
    yield b"\1" + to_bytes({"a": np.ones(3, dtype=np.int64)})


def prepare_image_tokenizer(folder: Path) -> Read:
    """A compact image tokenizer; what is accepted codes a picture."""
    from shared_protocol.tokenizers.image import NetworkTokenizer
    from shared_protocol.tokenizers.load import load_network

    path, pixels = folder / "image.safetensors", np.full((32, 16, 3), 90, dtype=np.uint8)

    def read(data: bytes) -> None:
        path.write_bytes(whole(data))
        network = load_network("compact", path, Compute.NUMPY)
        sizes = network.config
        if sizes.stride != 16:
            return  # a bundle refuses it
        tokenizer = NetworkTokenizer(lambda: network, sizes.stride, 1 << sizes.bits)
        with np.errstate(all="ignore"):
            tokens = tokenizer.tokenize(pixels)
            assert tokenizer.detokenize(tokens).shape == pixels.shape

    return read


def _image_tokenizers() -> Iterator[bytes]:
    from shared_protocol.tokenizers.load import ARCHITECTURES, Channels

    channels = Channels({})
    kind = ARCHITECTURES["compact"]
    widths = _Widths()
    kind.encoder(widths, 3, NARROW)
    kind.decoder(widths, NARROW.bits, NARROW)
    arrays = {name: np.zeros(shape, dtype=np.float16) for name, shape in widths.expected.items()}
    config = {name: getattr(NARROW, name) for name in NARROW.__dataclass_fields__}
    about = {"format": COMPACT_FORMAT, "config": json.dumps(config)}
    yield compact_input(to_bytes(arrays, about))
    assert not channels.expected


class _Widths:
    """`Layers` over numbers of channels, for a network whose convolutions give one channel."""

    def __init__(self) -> None:
        self.expected: dict[str, tuple[int, ...]] = {}

    def convolve(self, x: int, name: str, padding: object = 0, stride: int = 1) -> int:
        outputs = {"encoder.conv_out": NARROW.bits, "decoder.conv_out": 48}.get(name, 1)
        if name.startswith("decoder.stages") and name.rsplit(".", 1)[-1].isdigit():
            outputs = 4
        side = 3 if padding else 1
        self.expected |= {f"{name}.weight": (outputs, x, side, side), f"{name}.bias": (outputs,)}
        return outputs

    def to_depth(self, x: int, block: int) -> int:
        return x * block**2

    def to_space(self, x: int, block: int) -> int:
        return x // block**2

    def add(self, x: int, y: int) -> int:
        return x

    def relu(self, x: int) -> int:
        return x

    unit_norm = relu


def prepare_entropy(folder: Path) -> Read:
    """An entropy model; whatever is accepted must decode what it encoded, compiled or not."""
    from entropy_streams import draw_stream

    from shared_protocol.coding.image_codec import CodingContext
    from shared_protocol.entropy.coder import EntropyModels

    path = folder / "entropy.safetensors"
    drawn, context = draw_stream(2, 4, 3)
    context = CodingContext(
        context.targets, context.known, context.known_codes % 16, context.text % 2
    )

    def read(data: bytes) -> None:
        path.write_bytes(_with_tables(whole(data)))
        config = checkpoint.load(path).config
        if config.codebook_size != 16 or config.text_size != 2:
            return
        models = EntropyModels.load(dict.fromkeys((Scenario.GENERIC, Scenario.MASKED), path))
        for scenario in models.available():
            coded = models.encode(scenario, drawn % 16, context)
            assert np.array_equal(models.decode(scenario, coded, context), drawn % 16)
            damaged = coded[:-1] + bytes([coded[-1] ^ 1])
            try:
                models.decode(scenario, damaged, context)
            except BadMessageError:
                continue

    return read


def _with_tables(file: bytes) -> bytes:
    """`file` with the two exponential tables, whose only right content no fuzzer guesses."""
    size = int.from_bytes(file[:8], "little")
    if size > len(file):
        return file
    try:
        header, values = json.loads(file[8 : 8 + size]), file[8 + size :]
        for name, table in TABLES.items():
            place = [len(values), len(values) + table.nbytes]
            header.setdefault(
                name, {"dtype": "I32", "shape": list(table.shape), "data_offsets": place}
            )
            values += table.tobytes()
        text = json.dumps(header).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return file
    return len(text).to_bytes(8, "little") + text + values


def _entropies() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, (shape, kind) in expected_arrays(TINY).items():
        if name not in TABLES:
            high = 2 if kind.kind == "f" else min(3, ACTIVATION_MAX)
            arrays[name] = rng.integers(1, high, shape).astype(kind)
    arrays["gelu"] = arrays["gelu"] * 0 + 1
    about = {"format": checkpoint.FORMAT, "config": TINY.to_json()}
    yield b"\1" + to_bytes(arrays, about)


def prepare_neck(folder: Path) -> Read:
    """What a neck's file says of itself, and its tensors."""
    from cloud_server.necks.neck_file import read_neck_file

    path = folder / "neck.safetensors"

    def read(data: bytes) -> None:
        path.write_bytes(whole(data))
        read_neck_file(path)

    return read


def _necks() -> Iterator[bytes]:
    about = {
        **{"format": "unimic-neck", "version": "1", "kind": "conv", "tokenizer": "ab" * 32},
        **{"encoder": "scene-cells", "entry": "0", "labels": json.dumps(["fox", "car"])},
        "sizes": json.dumps({"kind": "conv", "width": 2, "side": 4, "blocks": 1, "heads": 1}),
    }
    yield compact_input(to_bytes({"neck.conv_out.weight": np.ones((2, 2), np.float16)}, about))


CODER = "shared_protocol.entropy"
WORDS = (b'"F16"', b'"F32"', b'"BF16"', b'"I8"', b'"shape":[', b'"data_offsets":[0,', b"[" * 64)
TARGETS = (
    Target(
        "safetensors",
        prepare_tensors,
        _tensors,
        ("shared_protocol.bundles.tensor_files", "shared_protocol.bundles.weight_files"),
        ERRORS,
        1000,
        words=WORDS,
    ),
    Target(
        "image_tokenizer",
        prepare_image_tokenizer,
        _image_tokenizers,
        ("shared_protocol.tokenizers.load", "shared_protocol.tokenizers.sizes"),
        ERRORS,
        6000,
        words=WORDS,
    ),
    Target(
        "entropy_model",
        prepare_entropy,
        _entropies,
        (f"{CODER}.weights", f"{CODER}.config", f"{CODER}.tables"),
        ERRORS,
        14_000,
        words=WORDS,
    ),
    Target(
        "neck_file",
        prepare_neck,
        _necks,
        ("cloud_server.necks.neck_file", "cloud_server.necks.networks"),
        ERRORS,
        2000,
        words=WORDS,
    ),
)
