"""The neck that ships with the built-in bundle, on pictures that come along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cloud_server.necks.classifier import Classifier
from cloud_server.necks.load import SHIPPED, load_neck
from cloud_server.necks.neck_file import ENCODER, read_neck_file
from cloud_server.training.benchmark.judge_model import SHIPPED as JUDGE
from cloud_server.training.benchmark.judge_model import Judge
from cloud_server.training.scenes.world import World
from edge_client.evaluation.data import SAMPLES
from edge_client.pictures.images import load_picture
from shared_protocol.bundles.find import load_bundle
from shared_protocol.cases import load_cases

MOST_BYTES = 1_500_000


def test_it_is_small_and_names_the_things_of_the_world() -> None:
    assert SHIPPED.stat().st_size < MOST_BYTES
    content = read_neck_file(SHIPPED)
    assert content.labels == World.load().names
    assert content.tokenizer == load_bundle().tokenizer_fingerprint.hex()
    assert content.notes["recipe"].startswith("progressive")


def test_its_encoder_is_not_the_judge() -> None:
    judge = Judge.load(JUDGE).net.state_dict()
    own = read_neck_file(SHIPPED).part(ENCODER)
    assert own.keys() == judge.keys()
    weights = [name for name in own if name.endswith("layers.2.weight")]
    assert weights
    assert not any(torch.allclose(own[name], judge[name], atol=0.05) for name in weights)


@pytest.mark.slow
def test_it_names_what_the_pictures_show() -> None:
    bundle = load_bundle()
    neck = load_neck(SHIPPED, tokenizer_fingerprint=bundle.tokenizer_fingerprint.hex())
    assert isinstance(neck, Classifier)
    shown = {
        case.image: {str(thing[0]) for thing in case.truth["objects"]}
        for case in load_cases(SAMPLES)
        if case.task == "vqa" and case.image is not None
    }
    assert len(shown) >= 8
    pictures = [load_picture(SAMPLES / name, 256, 256).pixels for name in shown]
    tokenizer = bundle.image_tokenizer()
    tokens = np.stack([tokenizer.tokenize(pixels).codes.reshape(-1) for pixels in pictures])
    found = neck.classify(tokens.astype(np.int64))
    for row, names in zip(found, shown.values(), strict=True):
        best = [neck.labels[place] for place in np.argsort(-row)[: len(names)]]
        assert set(best) == names
        assert np.sort(row)[-len(names)] > 0.5 / len(names)
