"""A model over CLIP features answers from tokens, over HTTP and in sessions, as in one process.

Everything has random weights: a neck, a CLIP of four layers, and a transformer of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edge_fakes import FakeBundle
from safetensors.torch import save_file
from serving_fakes import FakeEngine, LiveServer, fake_settings
from tiny_clip import CLIP_WIDTH, save_tiny_clip
from torch import nn

from cloud_server.generation.backbone.clip import QUESTION, SYSTEM_PROMPT, ClipAnswerer
from cloud_server.generation.backbone.showo import ShowoBackbone, ShowoConfig, build_phi
from cloud_server.generation.feature_answers import FeatureAnswers, answers_from_features
from cloud_server.generation.work import AnswerResult, AnswerWork
from cloud_server.necks.clip_encoder import ClipEncoder
from cloud_server.necks.from_tokens import TokenFeatures
from cloud_server.necks.networks import NeckSizes, build_neck
from edge_client.client import EdgeClient
from edge_client.exchange.best import BestExchange
from edge_client.transport.http import HttpTransport
from shared_protocol.errors import CheckpointError
from shared_protocol.messages import Options
from shared_protocol.tokens import TextTokens

BUNDLE = FakeBundle()
LENGTH = 12
PICTURE = np.kron(
    np.random.default_rng(3).integers(0, 256, (4, 4, 1), dtype=np.uint8), np.ones((16, 16, 3))
).astype(np.uint8)


@dataclass(frozen=True)
class Parts:
    """What answers, and the pieces that it is made of."""

    engine: FeatureAnswers
    neck: TokenFeatures
    answerer: ClipAnswerer


def tiny_neck(folder: Path) -> TokenFeatures:
    torch.manual_seed(1)
    bits = int(np.log2(BUNDLE.vocabulary.codebook_size))
    neck = build_neck(NeckSizes("vit", CLIP_WIDTH, side=4, heads=2, bits=bits)).eval()
    with torch.no_grad():
        for weight in neck.project.parameters():  # type: ignore[union-attr]
            weight.mul_(30)  # so that the tokens matter more than their places
    return TokenFeatures(neck, ClipEncoder.load(folder), "ab" * 32, bits)


def write_projector(path: Path, hidden: int, width: int = CLIP_WIDTH) -> Path:
    torch.manual_seed(2)
    layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
    state = {f"mm_projector.{name}": t * 9 for name, t in layers.state_dict().items()}
    save_file(state, path)
    return path


def backbone(vocabulary: int, hidden: int = 32) -> ShowoBackbone:
    torch.manual_seed(3)
    config = ShowoConfig(vocabulary, hidden, 64, layers=2, heads=2, max_positions=512)
    phi = build_phi(config)
    with torch.no_grad():
        for weight in phi.parameters():
            if weight.ndim == 2:
                weight.mul_(8)  # so that what is read matters
        phi.lm_head.bias.fill_(-1e6)
        phi.lm_head.bias[65:91] = 0  # answers are letters
    return ShowoBackbone(phi)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    neck = tiny_neck(save_tiny_clip(folder / "clip"))
    weights = backbone(BUNDLE.vocabulary.size)
    path = write_projector(folder / "showo.safetensors", 32)
    engine = answers_from_features(FakeEngine(), BUNDLE, path, weights, neck)  # type: ignore[arg-type]
    return Parts(engine, neck, engine._answerer)


def in_process(parts: Parts, question: str) -> str:
    """Neck, then answerer, without a message or a server."""
    codes = BUNDLE.image_tokenizer().tokenize(PICTURE).codes.reshape(1, -1).astype(np.int64)
    before, after = QUESTION.split("{}")
    words = [ids(text) for text in (SYSTEM_PROMPT, before, question, after)]
    system, framed = words[0], [*words[1], *words[2], *words[3]]
    found = parts.answerer.answer(parts.neck.features(codes)[0], system, framed, LENGTH)
    kept = [index for index in found if index != BUNDLE.eot_id]
    known = [index for index in kept if index < BUNDLE.vocabulary.text_size]
    size = BUNDLE.vocabulary.text_size
    return BUNDLE.text_tokenizer.decode(TextTokens(np.array(known, np.int32), size))


def ids(text: str) -> list[int]:
    return [int(index) for index in BUNDLE.text_tokenizer.encode(text).ids]


@pytest.fixture(scope="module")
def server(parts: Parts) -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0), parts.engine, bundle=BUNDLE) as live:
        yield live


def ask(client: EdgeClient, question: str) -> Any:
    return client.vqa(PICTURE, question, Options(max_new_tokens=LENGTH)).answer


def test_answers_over_http_and_in_sessions_equal_those_in_one_process(
    parts: Parts, server: LiveServer
) -> None:
    wanted = [in_process(parts, question) for question in ("abc", "what is it")]
    assert all(wanted)
    with HttpTransport(server.url) as transport:
        client = EdgeClient(BUNDLE, transport)  # type: ignore[arg-type]
        assert [ask(client, question) for question in ("abc", "what is it")] == wanted
    exchange = BestExchange(BUNDLE, server.url)  # type: ignore[arg-type]
    try:
        client = EdgeClient(BUNDLE, exchange)  # type: ignore[arg-type]
        assert [ask(client, question) for question in ("abc", "what is it")] == wanted
    finally:
        exchange.close()


def test_answers_are_of_the_picture(parts: Parts) -> None:
    codes = BUNDLE.image_tokenizer().tokenize(PICTURE).codes
    works = [AnswerWork(np.array(ids("abc")), grid, LENGTH) for grid in (codes, codes % 16)]
    one, other = parts.engine.run(works)
    assert isinstance(one, AnswerResult)
    assert isinstance(other, AnswerResult)
    assert one.text_ids.tolist() != other.text_ids.tolist()


def test_pictures_are_made_by_the_engine(server: LiveServer) -> None:
    with HttpTransport(server.url) as transport:
        client = EdgeClient(BUNDLE, transport)  # type: ignore[arg-type]
        assert client.t2i("a fox", Options(steps=2)).pixels is not None


def test_what_is_missing_is_made_up_before_the_answer(parts: Parts) -> None:
    codes = BUNDLE.image_tokenizer().tokenize(PICTURE).codes
    missing = np.zeros((4, 4), dtype=bool)
    missing[1] = True
    work = AnswerWork(np.array(ids("abc")), codes, LENGTH, seed=4, missing=missing)
    filled = np.where(missing, (np.arange(16).reshape(4, 4) + 4) % 64, codes)  # what fakes paint
    whole = AnswerWork(np.array(ids("abc")), filled, LENGTH)
    found, wanted = parts.engine.run([work])[0], parts.engine.run([whole])[0]
    assert isinstance(found, AnswerResult)
    assert isinstance(wanted, AnswerResult)
    assert found.text_ids.tolist() == wanted.text_ids.tolist()


def test_a_neck_into_another_encoder_is_told(parts: Parts, tmp_path: Path) -> None:
    path = write_projector(tmp_path / "showo.safetensors", 32, width=24)
    weights = backbone(BUNDLE.vocabulary.size)
    with pytest.raises(CheckpointError, match="24 channels, the neck gives 16"):
        answers_from_features(FakeEngine(), BUNDLE, path, weights, parts.neck)  # type: ignore[arg-type]
