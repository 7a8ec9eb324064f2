"""The modules that are served against transformers' own, and what loading them imports."""

import subprocess
import sys

import numpy as np
import torch

from cloud_server.generation.backbone.phi import Phi
from cloud_server.generation.backbone.showo import (
    ShowoBackbone,
    ShowoConfig,
    build_phi,
    build_stem,
    whole_phi,
)
from cloud_server.generation.work import AnswerWork, PictureWork, phases_told
from cloud_server.serving.load import backbone_path, load_engine
from cloud_server.settings import Settings
from shared_protocol.bundles.find import load_bundle

CONFIG = ShowoConfig(
    300, 64, 96, 3, 4, 128, partial_rotary_factor=0.4, rope_theta=500.0, stem_width=0
)


def test_the_names_and_shapes_of_weights_are_those_of_transformers() -> None:
    ours, theirs = Phi(CONFIG).state_dict(), build_phi(CONFIG).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_both_give_the_same_scores_to_the_last_bit_in_the_fast_path() -> None:
    torch.manual_seed(4)
    phi = Phi(CONFIG)
    for tensor in phi.parameters():
        torch.nn.init.normal_(tensor, std=0.3)
    ids = torch.randint(0, 300, (2, 21))
    places = torch.arange(21).expand(2, -1)
    whole = whole_phi(phi)
    with torch.inference_mode():
        ours = ShowoBackbone(phi).logits(ids, None, places)
        theirs = ShowoBackbone(whole).logits(ids, None, places)
        allow = torch.ones(2, 1, 21, 21, dtype=torch.bool)
        plain = whole(input_ids=ids, attention_mask=allow, position_ids=places).logits
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(ours, plain, atol=2e-4, rtol=1e-4)
    assert whole.lm_head.weight.data_ptr() == phi.lm_head.weight.data_ptr(), "weights are shared"


def test_without_memory_nothing_is_drawn_and_with_it_the_same_as_ever() -> None:
    config = ShowoConfig(300, 64, 96, 1, 4, 128, stem_width=4, stem_codes=50)
    with torch.device("meta"):
        phi, stem = Phi(config), build_stem(config)
    assert stem is not None
    assert phi.lm_head.weight.is_meta
    assert stem.table.weight.is_meta
    assert not phi.model.rotary_emb.inv_freq.is_meta
    torch.manual_seed(1)
    stem = build_stem(config)
    assert stem is not None
    assert 0.3 < float(stem.table.weight.detach().std()) < 0.7
    assert float(stem.join.weight.detach().abs().max()) == 0.0


def test_loading_what_is_served_imports_neither_transformers_nor_a_compiler() -> None:
    code = (
        "import sys\n"
        "from cloud_server.serving.load import backbone_path, load_engine\n"
        "from cloud_server.settings import Settings\n"
        "from shared_protocol.bundles.find import load_bundle\n"
        "bundle = load_bundle()\n"
        "load_engine(bundle, backbone_path(bundle, Settings()), 'cpu', 1)\n"
        "assert not {'transformers', 'torch._dynamo', 'sympy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_engine_says_what_it_begins() -> None:
    bundle = load_bundle()
    engine = load_engine(bundle, backbone_path(bundle, Settings()), "cpu", 1)
    ids = bundle.text_tokenizer.encode("two foxes on a beach").ids.astype(np.int64)
    told: list[str] = []
    with phases_told(told.append):
        engine.run([PictureWork("t2i", ids, grid=(16, 16), steps=2, mend=1)])
    engine.run([PictureWork("t2i", ids, grid=(16, 16), steps=1, mend=0)])
    assert told == ["prompt", "generate", "mend", "settle"]
    told.clear()
    with phases_told(told.append):
        engine.run([AnswerWork(ids, np.zeros((16, 16), np.int64), max_new_tokens=1)])
    assert told == ["prompt", "generate"]
