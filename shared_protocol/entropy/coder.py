"""Entropy coding of image tokens: codes and what both ends know in, bytes out, and back.

It does not know messages or tasks, and loads no weights before the first call.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.coding.range_coder import RangeDecoder, RangeEncoder
from shared_protocol.compute import Compute
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.errors import CheckpointError, InvalidInputError, TokenRangeError
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

if TYPE_CHECKING:
    from shared_protocol.entropy.engine import Engine
    from shared_protocol.entropy.scenarios import Layout


class EntropyModels:
    """The entropy models of a bundle; weights are read at the first use of each scenario.

    ```
    sender     codes ─┐                        receiver   bytes ─┐
               context ┴─ encode ─► bytes                context ┴─ decode ─► codes
    ```

    Scenarios that name the same file share one model. All methods may be called from any thread.

    Args:
        paths: scenario to weights file.
        compute: what computes; the bytes do not depend on it.
        alphabets: numbers of image codes, and of text ids at least, that a file must be for; None
            = any.
    """

    def __init__(
        self,
        paths: Mapping[Scenario, Path],
        compute: Compute = Compute.AUTO,
        alphabets: tuple[int, int] | None = None,
    ) -> None:
        self._paths = {Scenario(scenario): Path(path) for scenario, path in paths.items()}
        self._compute = compute
        self._alphabets = alphabets
        self._engines: dict[Path, Engine] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        paths: Mapping[Scenario, Path | str],
        compute: Compute = Compute.AUTO,
        alphabets: tuple[int, int] | None = None,
    ) -> EntropyModels:
        """Models for the given files; missing files are reported at once, contents on first use.

        Raises:
            CheckpointError: a file is missing.
        """
        for path in paths.values():
            if not Path(path).is_file():
                raise CheckpointError(f"no entropy weights at {Path(path).name}")
        return cls({s: Path(path) for s, path in paths.items()}, compute, alphabets)

    @property
    def paths(self) -> dict[Scenario, Path]:
        """Which file serves which scenario."""
        return dict(self._paths)

    def available(self) -> tuple[Scenario, ...]:
        """The scenarios that can be coded, by wire number."""
        return tuple(sorted(self._paths))

    def encode(self, scenario: Scenario, codes: Codes, context: CodingContext) -> bytes:
        """The stream of the M codes at `context.targets`, in raster order.

        Raises:
            TokenRangeError: a code or text id outside its alphabet.
            InvalidInputError: no model for `scenario`, or not M codes.
        """
        return self.encode_batch(scenario, [codes], [context])[0]

    def decode(self, scenario: Scenario, data: bytes, context: CodingContext) -> Codes:
        """The (M,) int32 codes of a stream; the mirror of `encode`.

        A damaged stream gives other codes or a `BadMessageError`, never anything else.
        """
        return self.decode_batch(scenario, [data], [context])[0]

    def read(self, scenario: Scenario, context: CodingContext, decoder: RangeDecoder) -> Codes:
        """The (M,) int32 codes that come next in a stream which may hold other symbols, too.

        Raises:
            BadMessageError: the stream holds no such codes.
        """
        engine = self.engine(scenario)
        return engine.read(_plans(scenario, [context], engine.config), [decoder])[0]

    def encode_batch(
        self, scenario: Scenario, codes: Sequence[Codes], contexts: Sequence[CodingContext]
    ) -> list[bytes]:
        """`encode` for several images at once; the bytes are the same as one by one."""
        return [write_stream(intervals) for intervals in self._intervals(scenario, codes, contexts)]

    def decode_batch(
        self, scenario: Scenario, streams: Sequence[bytes], contexts: Sequence[CodingContext]
    ) -> list[Codes]:
        """`decode` for several streams at once."""
        engine = self.engine(scenario)
        return engine.decode(_plans(scenario, contexts, engine.config), streams)

    def code_length(self, scenario: Scenario, codes: Codes, context: CodingContext) -> float:
        """Bits that an ideal coder would spend: -log2 of the product of all probabilities."""
        return self.code_lengths(scenario, [codes], [context])[0]

    def code_lengths(
        self, scenario: Scenario, codes: Sequence[Codes], contexts: Sequence[CodingContext]
    ) -> list[float]:
        """`code_length` for several images at once."""
        return [
            float(np.log2(intervals[..., 2] / intervals[..., 1]).sum())
            for intervals in self._intervals(scenario, codes, contexts)
        ]

    def bits_by_token(
        self, scenario: Scenario, codes: Codes, context: CodingContext
    ) -> npt.NDArray[np.float64]:
        """(M,) float64: `code_length`, token by token in raster order of the targets."""
        (intervals,) = self._intervals(scenario, [codes], [context])
        lengths = np.log2(intervals[..., 2] / intervals[..., 1])
        return np.asarray(lengths.reshape(len(codes), -1).sum(axis=1), dtype=np.float64)

    def intervals(
        self, scenario: Scenario, codes: Codes, context: CodingContext
    ) -> npt.NDArray[np.int64]:
        """(M, 2, 3) int64: start, frequency and total of the high and low part of each code."""
        (intervals,) = self._intervals(scenario, [codes], [context])
        return np.asarray(intervals, dtype=np.int64)

    @property
    def decoded_by(self) -> str:
        """What decodes, in words; why it is not the compiled decoder where it is not."""
        if self._compute in (Compute.TORCH, Compute.NUMPY):
            return str(self._compute.value)
        from shared_protocol.entropy.native import find_kernel

        found, instead = find_kernel(), "cuda" if self._compute is Compute.CUDA else "numpy"
        return f"C ({found.words})" if found.module else f"{instead}, as for C {found.words}"

    def warm_up(self) -> None:
        """Read all weights, so that no later call has to."""
        for scenario in self.available():
            self.engine(scenario)

    def engine(self, scenario: Scenario) -> Engine:
        """The model that serves `scenario`.

        Raises:
            InvalidInputError: there is none.
            CheckpointError: its file is damaged.
        """
        if scenario not in self._paths:
            raise InvalidInputError(f"this bundle has no entropy model for {scenario!r}")
        path = self._paths[scenario]
        with self._lock:
            if path not in self._engines:
                self._engines[path] = _engine(path, self._compute, self._alphabets)
            return self._engines[path]

    def _intervals(
        self, scenario: Scenario, codes: Sequence[Codes], contexts: Sequence[CodingContext]
    ) -> list[Any]:
        engine = self.engine(scenario)
        for row, context in zip(codes, contexts, strict=True):
            _check(row, context, engine.config)
        return engine.intervals(_plans(scenario, contexts, engine.config), codes)


def _engine(path: Path, compute: Compute, alphabets: tuple[int, int] | None) -> Engine:
    from shared_protocol.entropy.checkpoint import load
    from shared_protocol.entropy.engine import Engine, kernel_of

    weights = load(path)
    found = weights.config.codebook_size, weights.config.text_size
    # Rows of the text table that no id of the bundle asks for do no harm.
    if alphabets is not None and (found[0] != alphabets[0] or found[1] < alphabets[1]):
        raise CheckpointError(
            f"{path} has models of {found[0]} image codes and {found[1]} text ids, the bundle "
            f"needs {alphabets[0]}, and {alphabets[1]} at least",
            "use the models that belong to it",
        )
    if compute in (Compute.TORCH, Compute.CUDA):
        from shared_protocol.entropy.exact_torch import TorchModel

        on_gpu = compute is Compute.CUDA
        model = TorchModel(weights, "cuda" if on_gpu else "cpu")
        # A GPU's step costs as much for one token as a whole pass; the compiled steps do not.
        return Engine(model, kernel_of(weights) if on_gpu else None)
    return Engine.of(weights, compiled=compute is not Compute.NUMPY)


def _plans(
    scenario: Scenario, contexts: Sequence[CodingContext], config: EntropyConfig
) -> list[Layout]:
    from shared_protocol.entropy.scenarios import layout

    return [layout(scenario, context, config) for context in contexts]


def _check(codes: Codes, context: CodingContext, config: EntropyConfig) -> None:
    if codes.shape != (context.count,):
        raise InvalidInputError(f"{codes.shape} codes for {context.count} targets")
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >= config.codebook_size):
        raise TokenRangeError(f"an image code is outside 0..{config.codebook_size - 1}")


def write_stream(intervals: Any) -> bytes:
    """The bytes of (M, 2, 3) starts, frequencies and totals."""
    encoder = RangeEncoder()
    for start, frequency, total in intervals.reshape(-1, 3).tolist():
        encoder.encode(start, frequency, total)
    return encoder.finish()
