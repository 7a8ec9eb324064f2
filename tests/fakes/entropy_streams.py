"""The tiny shipped weights, and ways to draw streams for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.scenarios import layout
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes

GOLDEN = Path(__file__).parents[1] / "golden" / "entropy"
TINY = GOLDEN / "tiny.safetensors"
SCENARIOS = [scenario for scenario in Scenario if scenario is not Scenario.UNIFORM]
BUILTIN = Path(__file__).parents[2] / "shared_protocol" / "weights" / "builtin"


def draw_stream(seed: int, height: int = 6, width: int = 7) -> tuple[Codes, CodingContext]:
    """Codes and a context with targets, known codes, holes and text, some of them empty."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.0, 0.3, 0.7, 1.0], p=[0.05, 0.3, 0.35, 0.3])
    targets = rng.random((height, width)) < share
    known = ~targets & (rng.random((height, width)) < 0.6)
    codes = rng.integers(0, 8192, (height, width)).astype(np.int32)
    text = rng.integers(0, 4096, int(rng.integers(0, 9))).astype(np.int32)
    context = CodingContext(targets, known, np.where(known, codes, 0).astype(np.int32), text)
    return codes[targets], context


def draw_plans(engine: Engine, scenario: Scenario, seeds: range) -> tuple[list, list]:
    """Layouts and codes of several streams of different lengths."""
    pairs = [draw_stream(seed, 4 + seed % 3, 5 + seed % 2) for seed in seeds]
    plans = [layout(scenario, context, engine.config) for _, context in pairs]
    return plans, [codes for codes, _ in pairs]
