"""Captured passes: the same tokens as without, from the same memory again and again."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_backbone import (
    CODES,
    EOT,
    FRAME,
    MAX_TEXT_LEN,
    SIDE,
    VOCABULARY,
    positions,
    tiny_backbone,
)
from torch import Tensor

from cloud_server.generation.backbone import graphed
from cloud_server.generation.backbone.graphed import GraphedBackbone
from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.masked_decoding import REFERENCE, STANDARD, DecodingPolicy
from cloud_server.generation.work import AnswerResult, AnswerWork, PictureResult, PictureWork, Work

TEXT = np.array([64, 308, 306])
MASK = np.eye(SIDE, dtype=bool)


class Again:
    """Stands in for a graph: computes once more into the same tensor, from the same inputs."""

    def __init__(self) -> None:
        self.captured = self.played = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        self.captured += 1
        made = work()

        def play() -> None:
            self.played += 1
            made.copy_(work())

        return made, play


def engine_of(backbone: Backbone, rows: int, policy: DecodingPolicy = STANDARD) -> Engine:
    options = EngineOptions(EOT, FRAME, SIDE, MAX_TEXT_LEN, policy, requests_per_forward=rows)
    return Engine(backbone, VOCABULARY, options)


def tokens(engine: Engine, requests: Sequence[Work]) -> list[list[int]]:
    results = engine.run(requests)
    assert all(isinstance(each, PictureResult | AnswerResult) for each in results)
    return [
        (each.codes if isinstance(each, PictureResult) else each.text_ids).reshape(-1).tolist()
        for each in results
    ]


def t2i(seed: int, text: np.ndarray = TEXT, guidance: float = 2.0) -> PictureWork:
    return PictureWork("t2i", text, steps=4, guidance=guidance, seed=seed)


ASKED = AnswerWork(np.arange(5), CODES, max_new_tokens=9)
BATCHES: dict[str, list[Work]] = {
    "t2i": [t2i(1), t2i(2, np.arange(14)), t2i(3, np.zeros(0, dtype=np.int64))],
    "unguided": [t2i(1, guidance=0.0), t2i(2, np.arange(14), guidance=0.0)],
    "inpaint": [PictureWork("inpaint", TEXT, CODES, MASK, steps=4, seed=4)],
    "vqa": [ASKED, replace(ASKED, text_ids=np.arange(2), codes=CODES[::-1].copy())],
    "sampled": [replace(ASKED, temperature=1.0, top_k=5, seed=seed) for seed in (1, 2, 3)],
}


@pytest.mark.parametrize("policy", [STANDARD, REFERENCE], ids=lambda policy: policy.name)
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("kind", BATCHES)
def test_captured_passes_give_the_same_tokens(kind: str, rows: int, policy: DecodingPolicy) -> None:
    again = Again()
    plain = engine_of(tiny_backbone(), rows, policy)
    captured = engine_of(GraphedBackbone(tiny_backbone(), again), rows, policy)
    for _ in range(2):  # the second time in rooms that hold what the first left
        assert tokens(captured, BATCHES[kind]) == tokens(plain, BATCHES[kind])
    assert again.played > 2 * again.captured > 0


def test_a_shape_is_captured_once() -> None:
    again = Again()
    engine = engine_of(GraphedBackbone(tiny_backbone(), again), 1)
    for seed, length in enumerate((0, 3, 9, 14)):  # prompts of any length share a width
        engine.run([t2i(seed, np.arange(length))])
    assert again.captured == 1
    engine.run([ASKED])
    assert again.captured == 2
    engine.run([replace(ASKED, text_ids=np.arange(3))])
    assert again.captured == 2


def test_hidden_columns_count_for_nothing() -> None:
    plain, captured = tiny_backbone(), GraphedBackbone(tiny_backbone(), Again())
    ids = torch.arange(6)[None]
    for fill in (0.0, 7.0):
        scores = []
        for backbone in (plain, captured):
            cache = backbone.new_cache(1, 8)
            if fill:
                for held in (*cache._keys, *cache._values):
                    held[:, :, 5:] = fill
            logits = backbone.logits(ids[:, :5], None, positions(ids)[:, :5], cache=cache)
            scores.append([logits, backbone.logits(ids[:, 5:], None, ids[:, 5:], cache=cache)])
            assert len(cache) == 6
        for one, other in zip(*scores, strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_rooms_are_lent_again_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed, "IDLE_ROOMS", 2)
    backbone = GraphedBackbone(tiny_backbone(), Again())
    first = backbone.new_cache(1, 10)
    second = backbone.new_cache(1, 10)
    memory = first._keys[0].data_ptr()
    assert second._keys[0].data_ptr() != memory
    del first
    gc.collect()
    assert backbone.new_cache(1, 64)._keys[0].data_ptr() == memory
    for rows in (2, 3, 4):
        backbone.new_cache(rows, 10)
    gc.collect()
    assert [room.rows for room in backbone._idle] == [3, 4]
    assert second.rows == 1


def test_too_many_shapes_are_computed_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed, "PASSES", 1)
    again = Again()
    backbone, plain = GraphedBackbone(tiny_backbone(), again), tiny_backbone()
    caches = [backbone.new_cache(1, 20), plain.new_cache(1, 20)]
    for length in (2, 3, 2):
        ids = torch.arange(length)[None]
        found, expected = (
            each.logits(ids, None, ids + len(cache), cache=cache)
            for each, cache in zip((backbone, plain), caches, strict=True)
        )
        assert torch.allclose(found, expected, atol=1e-5)
    assert (again.captured, again.played) == (1, 2)
