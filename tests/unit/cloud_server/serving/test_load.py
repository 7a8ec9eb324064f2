"""Loading and warming, with a tiny backbone and a bundle that has no files."""

import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from serving_fakes import (
    MSGPACK,
    FakeBundle,
    FakeClassifier,
    FakeDefaults,
    NoEntropy,
    fake_settings,
)

from cloud_server.generation.backbone import registry
from cloud_server.generation.backbone.checkpoint import (
    BackboneCard,
    load_showo_backbone,
    save_builtin_backbone,
)
from cloud_server.generation.backbone.registry import BackboneKind, LoadedWeights
from cloud_server.generation.backbone.showo import ShowoBackbone, ShowoConfig, build_phi
from cloud_server.generation.masked_decoding import REFERENCE
from cloud_server.generation.work import PictureWork
from cloud_server.http.app import create_app
from cloud_server.serving import load as loading
from cloud_server.serving.batcher import batching_queue
from cloud_server.serving.load import (
    backbone_path,
    check_entropy,
    choose_device,
    load_engine,
    load_model,
    question_frame,
)
from cloud_server.serving.service import Service
from cloud_server.serving.translation import to_work
from cloud_server.settings import Settings
from shared_protocol.bundles.manifest import Typing
from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError, ConfigError, InvalidInputError
from shared_protocol.message.codec import decode_response, encode_request
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask
from shared_protocol.vocabulary import Vocabulary

WEIGHTS = Path(__file__).parents[3] / "parity" / "golden" / "showo_tiny"
VOCABULARY = Vocabulary(334, 32)


class CopyingEntropy(NoEntropy):
    """Codes are their own bytes; may be made to lie."""

    def __init__(self, lie: int = 0) -> None:
        self.warm, self._lie = False, lie

    def available(self) -> tuple[Scenario, ...]:
        return (Scenario.GENERIC, Scenario.MASKED, Scenario.ADAPTED)

    def warm_up(self) -> None:
        self.warm = True

    def encode(self, scenario: Scenario, codes: Any, context: Any) -> bytes:
        return bytes(codes.astype(np.uint8))

    def decode(self, scenario: Scenario, data: bytes, context: Any) -> Any:
        return np.frombuffer(data, dtype=np.uint8).astype(np.int32) + self._lie


class ByteTokenizer:
    """Ids are UTF-8 bytes."""

    def encode(self, text: str) -> TextTokens:
        return TextTokens(np.array(list(text.encode()), dtype=np.int32), 334)


@dataclass(frozen=True)
class TinyBundle(FakeBundle):
    name: str = "tiny"
    vocabulary: Vocabulary = VOCABULARY
    eot_id: int = 330
    entropy: Any = field(default_factory=CopyingEntropy)
    defaults: FakeDefaults = field(default_factory=lambda: FakeDefaults(steps=3))
    text_tokenizer: Any = field(default_factory=ByteTokenizer)
    folder: Path = Path("nowhere")
    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(canonical=b"{}", sha256={}, typing=Typing())
    )


BUNDLE = TinyBundle()


def test_auto_takes_the_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="cuda:2"):
        choose_device("cuda:2")


def test_weights_lie_with_the_bundle_unless_they_are_named(tmp_path):
    settings = fake_settings()
    assert backbone_path(replace(BUNDLE, name="builtin"), settings).parts[-2:] == (
        "weights",
        "builtin",
    )
    assert backbone_path(replace(BUNDLE, folder=tmp_path), settings) == tmp_path / "backbone"
    assert backbone_path(BUNDLE, replace(settings, backbone=tmp_path)) == tmp_path


def test_a_question_is_framed_by_the_ids_of_the_words_around_it():
    frame = question_frame(BUNDLE)
    assert bytes(frame.before) == b"USER: \n"
    assert bytes(frame.after) == b" ASSISTANT:"


def test_the_self_check_warms_the_models_and_gives_the_same_digest_each_time():
    entropy = CopyingEntropy()
    first = check_entropy(replace(BUNDLE, entropy=entropy))
    assert entropy.warm
    assert first["ok"] is True
    assert first == check_entropy(BUNDLE)


def test_models_that_do_not_decode_what_they_encoded_are_refused():
    with pytest.raises(CheckpointError, match="generic"):
        check_entropy(replace(BUNDLE, entropy=CopyingEntropy(lie=1)))


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_engine(BUNDLE, tmp_path / "nothing", "cpu", 1)


def test_compact_weights_of_another_bundle_are_refused(tmp_path):
    config = ShowoConfig(VOCABULARY.size, 32, 64, 1, 2)
    phi = build_phi(config)
    card = BackboneCard(config, 334, 32, 5, 16)
    save_builtin_backbone(phi.state_dict(), card, tmp_path)
    with pytest.raises(CheckpointError, match="not made for the bundle tiny"):
        load_engine(BUNDLE, tmp_path, "cpu", 1)
    save_builtin_backbone(phi.state_dict(), replace(card, side=4), tmp_path)
    load_engine(BUNDLE, tmp_path, "cpu", 1)


def test_cuda_graphs_are_refused_without_a_gpu_and_captured_with_one(tmp_path, monkeypatch):
    config = ShowoConfig(VOCABULARY.size, 32, 64, 1, 2)
    card = BackboneCard(config, 334, 32, 4, 16)
    save_builtin_backbone(build_phi(config).state_dict(), card, tmp_path)
    with pytest.raises(ConfigError, match="graphs need a GPU"):
        load_engine(BUNDLE, tmp_path, "cpu", 1, graphs=True)

    class OnGpu(ShowoBackbone):
        device = torch.device("cuda")

    made = OnGpu(build_phi(config))
    monkeypatch.setattr(loading, "GraphedBackbone", lambda backbone: ("graphed", backbone))
    assert loading.with_graphs(made) == ("graphed", made)
    with pytest.raises(ConfigError, match="have no CUDA graphs"):
        loading.with_graphs(SimpleNamespace(device=torch.device("cuda")))


def test_entropy_models_are_computed_where_the_settings_say(monkeypatch):
    assert loading.open_bundle(Settings()).compute is Compute.AUTO
    asked = Settings(entropy_device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees 0 GPUs"):
        loading.open_bundle(asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert loading.open_bundle(asked).compute is Compute.CUDA


def test_a_third_kind_of_weights_is_one_row_of_the_registry(tmp_path, monkeypatch):
    weights = tmp_path / "model.other"
    weights.write_text("weights")

    def load(path: Path, device: str, dtype: torch.dtype) -> LoadedWeights:
        assert (path, device, dtype) == (weights, "cpu", torch.float16)
        return LoadedWeights(load_showo_backbone(WEIGHTS), 345 + 32, 16)

    row = BackboneKind(
        "other", "model.other", lambda path: path == weights, load, REFERENCE, torch.float16
    )
    with pytest.raises(CheckpointError, match=r"compact: a folder.*; show-o: a file"):
        load_engine(BUNDLE, weights, "cpu", 1)
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, row])
    engine = load_engine(BUNDLE, weights, "cpu", 1)
    (made,) = engine.run([to_work(Request(Task.T2I, TextTokens([5, 6], 334)), BUNDLE)])
    assert made.codes.shape == BUNDLE.grid


@pytest.mark.parametrize(
    ("asked", "dtype", "policy"),
    [
        ({}, torch.bfloat16, "reference"),
        ({"dtype": "float32", "sampling": "standard"}, torch.float32, "standard"),
    ],
)
def test_published_weights_are_half_precision_and_decoded_as_published_unless_told(
    monkeypatch, asked, dtype, policy
):
    made = []
    monkeypatch.setattr(loading, "Engine", lambda *parts, **_: made.append(parts))
    load_engine(BUNDLE, WEIGHTS, "cpu", 1, **asked)
    ((backbone, _, options),) = made
    assert {tensor.dtype for tensor in backbone.phi.parameters()} == {dtype}
    assert options.policy.name == policy


def test_published_weights_of_another_vocabulary_are_refused():
    other = replace(BUNDLE, vocabulary=Vocabulary(334, 64))
    with pytest.raises(CheckpointError, match="not made for the bundle tiny"):
        load_engine(other, WEIGHTS, "cpu", 1)


@pytest.fixture
def tiny_settings(monkeypatch):
    monkeypatch.setattr(loading, "load_bundle", lambda name: BUNDLE)
    return fake_settings(backbone=WEIGHTS, device="cpu")


def test_everything_loaded_is_described(tiny_settings):
    model = load_model(tiny_settings)
    assert model.device.startswith("cpu")
    assert model.max_batch == 1
    assert model.scenarios == BUNDLE.entropy.available()


def requests() -> list[Request]:
    words = TextTokens(np.array([5, 6], dtype=np.int32), 334)
    image = ImageTokens(np.arange(16, dtype=np.int32).reshape(4, 4), 32)
    flags = np.zeros((4, 4), dtype=bool)
    flags[1:3, 1:3] = True
    short = Options(seed=7, max_new_tokens=3)
    return [
        Request(Task.T2I, words, options=short),
        Request(Task.INPAINT, words, image, TokenMask(flags), options=short),
        Request(Task.INPAINT, words, image, TokenMask(np.ones((4, 4), dtype=bool)), options=short),
        Request(Task.OUTPAINT, words, image, extension=Extension(left=1, down=2), options=short),
        Request(Task.VQA, words, image, options=short),
    ]


@pytest.mark.anyio
async def test_a_real_engine_serves_all_tasks_and_equal_seeds_give_equal_replies(tiny_settings):
    make_queue = partial(batching_queue, tiny_settings)
    service = Service(tiny_settings, lambda: load_model(tiny_settings), make_queue)
    transport = httpx.ASGITransport(create_app(tiny_settings, service))
    await service.start()
    await service.ready()
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for request in requests():
                path = f"/v1/{request.task.name.lower()}"
                body = encode_request(request, BUNDLE).data
                replies = [await client.post(path, content=body, headers=MSGPACK) for _ in range(2)]
                assert [reply.status_code for reply in replies] == [200, 200]
                assert replies[0].content == replies[1].content
                check_reply(request, decode_response(replies[0].content, request, BUNDLE).value)
    finally:
        await service.close(0.0)


def check_reply(request, response):
    if request.task is Task.VQA:
        assert len(response.text) <= 3
        return
    known, targets = request.known((4, 4))
    assert response.image.shape == known.shape
    assert np.array_equal(response.image.codes[~targets], known[~targets])


def test_a_bundle_with_a_neck_and_no_transformer_names_labels_and_nothing_else(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(loading, "open_neck", lambda *_: FakeClassifier(("fox", "owl")))
    monkeypatch.setattr(loading, "backbone_path", lambda *_: tmp_path / "backbone")
    model = load_model(fake_settings(device="cpu"))
    assert model.tasks == (Task.CLASSIFY,)
    work = PictureWork("t2i", np.array([5, 6]), steps=2)
    with pytest.raises(InvalidInputError, match="no transformer"):
        model.engine.run([work])


def test_a_cpu_is_described_with_its_threads_which_are_as_the_settings_say(
    tiny_settings, monkeypatch
):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert load_model(replace(tiny_settings, threads=3)).device == "cpu, 7 threads"
    assert told == [3]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a card at {device}")
    assert loading._describe("cuda:1") == "cuda:1, a card at cuda:1"


def test_weights_that_answer_from_features_need_a_neck_into_them(monkeypatch):
    made = []
    feature_answers = SimpleNamespace(answers_from_features=lambda *parts: made.append(parts) or 5)
    name = "cloud_server.generation.feature_answers"
    monkeypatch.setitem(sys.modules, name, feature_answers)
    kind = registry.kind_of(WEIGHTS)

    def load(*parts):
        return replace(kind.load(*parts), answers_from_tokens=False)

    monkeypatch.setattr(loading, "kind_of", lambda path: replace(kind, load=load))
    assert isinstance(load_engine(BUNDLE, WEIGHTS, "cpu", 1), loading.PicturesOnly)
    neck = object()
    assert load_engine(BUNDLE, WEIGHTS, "cpu", 1, neck=neck) == 5
    ((_, bundle, path, backbone, given),) = made
    assert (bundle, path, given) == (BUNDLE, WEIGHTS, neck)
    assert isinstance(backbone, ShowoBackbone)


@pytest.mark.parametrize(
    ("care", "rounds", "settled", "tries"),
    [
        (loading.Care(), 3, 4, 1),
        (loading.Care("off", "off", 2), 0, 0, 2),
        (loading.Care("5", "8"), 5, 8, 1),
    ],
)
def test_what_is_done_about_pictures_is_as_the_settings_say(care, rounds, settled, tries):
    policy = replace(REFERENCE, settle_passes=4)
    assert care.rounds(3) == rounds
    assert care.settled(policy) == replace(policy, settle_passes=settled)
    assert care.best_of == tries
