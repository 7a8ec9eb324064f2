"""The compiled decoder: found or not, in mid-stream, side by side, and what it refuses."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from entropy_streams import SCENARIOS, TINY, draw_plans, draw_stream

from shared_protocol.coding.image_codec import nothing_known
from shared_protocol.coding.range_coder import RangeDecoder, RangeEncoder
from shared_protocol.compute import Compute
from shared_protocol.entropy import native
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.scenarios import layout
from shared_protocol.errors import TruncatedError
from shared_protocol.tasks import Scenario

ROOT = Path(__file__).parents[4]


def the_module() -> object:
    found = native.find_kernel()
    assert found.module is not None, found.words
    return found.module


@pytest.fixture
def searched_again() -> Iterator[None]:
    native.find_kernel.cache_clear()
    yield
    native.find_kernel.cache_clear()


def test_this_installation_has_it() -> None:
    assert "plain" in native.find_kernel().words
    the_module()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_codes_are_read_from_the_middle_of_a_stream(
    models: EntropyModels, scenario: Scenario
) -> None:
    engine = models.engine(scenario)
    steps = Engine(engine.model)
    codes, context = draw_stream(5, 6, 6)
    plan = layout(scenario, context, engine.config)
    (intervals,) = engine.intervals([plan], [codes])
    encoder = RangeEncoder()
    for bit in (1, 0, 1):
        encoder.encode_bit(bit, 3, 10)
    for _ in range(2):
        for start, frequency, total in intervals.reshape(-1, 3).tolist():
            encoder.encode(start, frequency, total)
        encoder.encode_bit(1, 1, 100)
    data = encoder.finish()
    for reader in (engine, steps):
        decoder = RangeDecoder(data)
        assert [decoder.decode_bit(3, 10) for _ in range(3)] == [1, 0, 1]
        for _ in range(2):
            (found,) = reader.read([plan], [decoder])
            assert np.array_equal(found, codes)
            assert decoder.decode_bit(1, 100) == 1
        decoder.finish()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_lanes_of_any_number_and_length_are_decoded_side_by_side(
    engine: Engine, count: int
) -> None:
    plans, codes = draw_plans(engine, Scenario.TEXT_CONDITIONED, range(count))
    models = EntropyModels({Scenario.TEXT_CONDITIONED: TINY})
    contexts = [draw_stream(seed, 4 + seed % 3, 5 + seed % 2)[1] for seed in range(count)]
    streams = models.encode_batch(Scenario.TEXT_CONDITIONED, codes, contexts)
    kernel = engine.kernel
    assert kernel is not None
    lanes = [
        engine._lane(plan, RangeDecoder(data)) for plan, data in zip(plans, streams, strict=True)
    ]
    found = kernel.decode(lanes)
    assert all(np.array_equal(a, b) for a, b in zip(found, codes, strict=True))
    for lane in lanes:
        lane.decoder.finish()


def test_one_cut_stream_among_others_is_named(engine: Engine) -> None:
    context = nothing_known(12, 12)
    codes = (np.arange(144) * 977 % 8192).astype(np.int32)
    models = EntropyModels({Scenario.GENERIC: TINY})
    data = models.encode(Scenario.GENERIC, codes, context)
    with pytest.raises(TruncatedError, match="2 bytes"):
        models.decode_batch(Scenario.GENERIC, [data, data[:2], data], [context] * 3)


def test_a_shorter_array_is_refused_before_anything_is_read(engine: Engine) -> None:
    _, context = draw_stream(2, 4, 4)
    plan = layout(Scenario.MASKED, context, engine.config)
    kernel = engine.kernel
    assert kernel is not None
    lane = engine._lane(plan, RangeDecoder(bytes(20)))
    far = plan.target_places.copy()
    far[0] = 99
    board = plan.board.copy()
    board[1, 1] = 1 << 20
    for broken in (
        replace(lane, keys=lane.keys[:, :, :-1].copy()),
        replace(lane, start=lane.start + 1),
        replace(lane, start=2**31 - 1),
        replace(lane, plan=replace(plan, target_kind=99)),
        replace(lane, plan=replace(plan, target_places=far)),
        replace(lane, plan=replace(plan, board=board)),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            kernel.decode([broken])


def test_weights_of_other_sizes_are_refused(engine: Engine) -> None:
    kernel = engine.kernel
    assert kernel is not None
    module = the_module()
    with pytest.raises(ValueError, match="as long as"):
        module.decode(kernel._sizes, kernel._weights[:-64], [])
    with pytest.raises(ValueError, match="sizes"):
        module.decode(kernel._sizes[:-4], kernel._weights, [])
    for place, value in ((2, 0), (2, 5), (0, -1)):
        sizes = np.frombuffer(kernel._sizes, dtype=np.int32).copy()
        sizes[place] = value
        with pytest.raises(ValueError, match="of no model"):
            module.decode(sizes.tobytes(), kernel._weights, [])
    with pytest.raises(TypeError):
        module.decode(kernel._sizes, kernel._weights, ())


@pytest.mark.usefixtures("searched_again")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("no module"), "no C compiler"),
        (ImportError("wrong ELF class: ELFCLASS32"), "wrong ELF class"),
        (ImportError("it was built for a processor with AVX2"), "AVX2"),
    ],
)
def test_where_it_cannot_be_loaded_numpy_decodes_the_same(
    monkeypatch: pytest.MonkeyPatch, error: ImportError, words: str
) -> None:
    codes, context = draw_stream(3, 4, 4)
    data = EntropyModels({Scenario.MASKED: TINY}).encode(Scenario.MASKED, codes, context)
    native.find_kernel.cache_clear()
    original = importlib.import_module

    def fail(name: str) -> object:
        if name.endswith("_kernel"):
            raise error
        return original(name)

    monkeypatch.setattr(native.importlib, "import_module", fail)
    found = native.find_kernel()
    assert found.module is None
    assert words in found.words
    models = EntropyModels({Scenario.MASKED: TINY})
    assert models.engine(Scenario.MASKED).kernel is None
    assert np.array_equal(models.decode(Scenario.MASKED, data, context), codes)


@pytest.mark.usefixtures("searched_again")
@pytest.mark.parametrize("changed", [{"VERSION": 0}, {"CONSTANTS": (1, 2, 3)}])
def test_one_of_another_version_is_not_used(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]
) -> None:
    real = {"VERSION": native.VERSION, "CONSTANTS": native.CONSTANTS, "TARGETS": "plain"}
    other = SimpleNamespace(**{**real, **changed})
    monkeypatch.setattr(native.importlib, "import_module", lambda name: other)
    assert native.find_kernel().module is None
    assert "another version" in native.find_kernel().words


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(60), b"not a library"])
def test_a_file_that_is_no_library_is_said_and_passed_over(tmp_path: Path, content: bytes) -> None:
    """A copy of the package with a broken kernel, in a process of its own."""
    copy = tmp_path / "shared_protocol"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "shared_protocol"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in names:
        if name.endswith(".py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (copy / "entropy" / "_kernel.abi3.so").write_bytes(content)
    script = "from shared_protocol.entropy.native import find_kernel; print(find_kernel())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert "cannot be used here" in done.stdout, done.stderr


VARIABLES = [
    {"OMP_NUM_THREADS": "0"},
    {"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": "-3"},
    {"OPENBLAS_NUM_THREADS": "64", "MKL_NUM_THREADS": "x", "GOTO_NUM_THREADS": "1"},
    {"OPENBLAS_CORETYPE": "nonsense", "OMP_PROC_BIND": "close", "KMP_AFFINITY": "junk"},
    {"OPENBLAS_MAIN_FREE": "1", "OMP_WAIT_POLICY": "ACTIVE", "OMP_DYNAMIC": "TRUE"},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", VARIABLES, ids=lambda v: ",".join(f"{k}={x}" for k, x in v.items())
)
@pytest.mark.parametrize("compute", [Compute.AUTO, Compute.NUMPY], ids=str)
def test_no_variable_of_a_library_changes_a_bit(
    variables: dict[str, str], compute: Compute
) -> None:
    codes, context = draw_stream(3, 9, 9)
    data = EntropyModels({Scenario.MASKED: TINY}).encode(Scenario.MASKED, codes, context)
    script = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from entropy_streams import TINY, draw_stream\n"
        "from shared_protocol.compute import Compute\n"
        "from shared_protocol.entropy.coder import EntropyModels\n"
        "from shared_protocol.tasks import Scenario\n"
        "codes, context = draw_stream(3, 9, 9)\n"
        "models = EntropyModels({Scenario.MASKED: TINY}, Compute(sys.argv[1]))\n"
        "data = bytes.fromhex(sys.argv[2])\n"
        "assert (models.decode(Scenario.MASKED, data, context) == codes).all()\n"
        "print(models.encode(Scenario.MASKED, codes, context).hex())\n"
    )
    paths = [str(ROOT), str(ROOT / "tests" / "fakes")]
    done = subprocess.run(
        [sys.executable, "-c", script, compute.value, data.hex(), *paths],
        env={**os.environ, **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == data.hex(), done.stderr
