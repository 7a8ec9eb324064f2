"""Loads and warms what the server serves: bundle, backbone, entropy models.

It does not know HTTP, nor when it is called; serving code sees its result behind protocols only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloud_server.generation.backbone.graphed import GraphedBackbone
from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.backbone.registry import kind_of
from cloud_server.generation.backbone.showo import ShowoBackbone
from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.masked_decoding import POLICIES, DecodingPolicy
from cloud_server.generation.mending.finishing import PriceOf
from cloud_server.generation.mending.wording import Wording
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.necks.classifier import FeatureNeck
from cloud_server.prompts.asked import Asked
from cloud_server.prompts.reader import PromptReader
from cloud_server.prompts.taught import TaughtWorld
from cloud_server.serving.admission.price import Effort
from cloud_server.serving.classifying import Classifying, named, open_neck
from cloud_server.serving.loaded_model import (
    LabelsOnly,
    LoadedModel,
    PicturesOnly,
    Runner,
    SharedFile,
)
from cloud_server.serving.translation import to_response, to_work
from cloud_server.settings import Settings
from cloud_server.start_times import timed
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.catalogue import CATALOGUE
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN, digests_of
from shared_protocol.bundles.published import find_transformer
from shared_protocol.bundles.with_entropy import with_entropy
from shared_protocol.compute import Compute
from shared_protocol.entropy.prices import CodePrices, context_of
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.message.codec import decode_request, encode_request, encode_response
from shared_protocol.messages import Options, Request
from shared_protocol.selfcheck.recorded_digests import check_probabilities
from shared_protocol.selfcheck.roundtrip import round_trip_digest
from shared_protocol.tasks import Scenario, Task
from shared_protocol.tokens import ImageTokens, TextTokens

logger = logging.getLogger(__name__)

QUESTION_BEFORE = "USER: \n"
QUESTION_AFTER = " ASSISTANT:"
_BATCH_ON_GPU = 8
_BUILTIN_BACKBONE = Path(__file__).parents[1] / "weights" / BUILTIN


def load_model(settings: Settings) -> LoadedModel:
    """Load everything that `settings` name, check the entropy models and warm all of it.

    Raises:
        ConfigError: no such bundle or device.
        CheckpointError: weights that are missing, damaged or of another shape, or a neck that
            does not fit.
    """
    device = choose_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with timed("bundle"):
        bundle = open_bundle(settings)
        files = shared_files(bundle)
    with timed("neck"):
        found = open_neck(settings, bundle, device)  # first: it is soon told that it does not fit
        neck = named(found)
    max_batch = settings.max_batch or (1 if device == "cpu" else _BATCH_ON_GPU)
    path = backbone_path(bundle, settings)
    labels_only = neck is not None and settings.backbone is None and not path.exists()
    with timed("weights"):
        engine: Runner = (
            LabelsOnly()
            if labels_only
            else load_engine(
                bundle,
                path,
                device,
                max_batch,
                dtype=settings.dtype,
                sampling=settings.sampling,
                care=Care(settings.mend, settings.settle, settings.best_of),
                graphs=settings.cuda_graphs,
                neck=found if isinstance(found, FeatureNeck) else None,
            )
        )
    with timed("check of the entropy models"):
        checked = check_entropy(bundle)
    model = LoadedModel(
        bundle=bundle,
        engine=engine if neck is None else Classifying(engine, neck),
        device=_describe(device),
        max_batch=max_batch,
        scenarios=bundle.entropy.available(),
        entropy=checked,
        manifest=bundle.manifest.canonical,
        files=files,
        typing=bundle.manifest.typing.content(),
        effort=Effort() if labels_only else effort_of(bundle, settings),
        neck=neck,
        labels_only=labels_only,
    )
    with timed("warm-up"):
        warm(model, bundle, not isinstance(engine, PicturesOnly))
    return model


def effort_of(bundle: Bundle, settings: Settings) -> Effort:
    """What the engine that `settings` ask for does about a picture besides drawing it once."""
    kind = kind_of(backbone_path(bundle, settings))
    care = Care(settings.mend, settings.settle, settings.best_of)
    policy = kind.policy if settings.sampling == "auto" else POLICIES[settings.sampling]
    return Effort(
        care.rounds(kind.mends) if kind.mends else None,
        care.settled(policy).settle_passes,
        1 if kind.mends else care.best_of,
    )


def open_bundle(settings: Settings) -> Bundle:
    """The bundle that `settings` name, with the entropy models that they name.

    Raises:
        ConfigError: no such bundle, or no GPU for the entropy models.
        CheckpointError: files of it are missing, or the entropy models are not made for it.
    """
    bundle = load_bundle(settings.bundle)
    if settings.entropy is not None:
        bundle = with_entropy(bundle, settings.entropy)
    if settings.entropy_device == "cuda":
        choose_device(settings.entropy_device)
        bundle.compute = Compute.CUDA
    return bundle


def shared_files(bundle: Bundle) -> dict[str, SharedFile]:
    """What edges may fetch, after checking their digests; raises `CheckpointError`."""
    digests = digests_of(bundle.manifest)
    return {name: SharedFile(bundle.file(name), digest) for name, digest in digests.items()}


def choose_device(wanted: str) -> str:
    """The torch device behind "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: a GPU is asked for that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if count else "cpu"
    index = int(wanted.partition(":")[2] or 0)
    if wanted != "cpu" and index >= count:
        raise ConfigError(f"device {wanted}: torch sees {count} GPUs", "use --device cpu")
    return wanted


def _describe(device: str) -> str:
    if device == "cpu":
        return f"cpu, {torch.get_num_threads()} threads"
    return f"{device}, {torch.cuda.get_device_name(device)}"


def backbone_path(bundle: Bundle, settings: Settings) -> Path:
    """Where the transformer's weights are.

    Raises:
        CheckpointError: a published bundle's are not on this machine.
    """
    if settings.backbone is not None:
        return settings.backbone
    if bundle.name == BUILTIN:
        return _BUILTIN_BACKBONE
    beside = bundle.folder / "backbone"
    if bundle.name not in CATALOGUE or beside.exists():
        return beside
    found = find_transformer(bundle.name, bundle.folder)
    if found is None:
        raise CheckpointError(
            f"the weights of {CATALOGUE[bundle.name].transformer} are not on this machine",
            f"run 'cloud-server fetch {bundle.name}', or name their folder with --backbone",
        )
    return found


@dataclass(frozen=True)
class Care:
    """What is done about pictures that are not as asked.

    Attributes:
        mend, settle, best_of: see `Settings`.
    """

    mend: str = "auto"
    settle: str = "auto"
    best_of: int = 1

    def rounds(self, usual: int) -> int:
        """How often a picture is mended at most."""
        return (
            {"auto": usual, "off": 0}[self.mend] if self.mend in ("auto", "off") else int(self.mend)
        )

    def settled(self, policy: DecodingPolicy) -> DecodingPolicy:
        """The policy with the passes that were asked for."""
        if self.settle == "auto":
            return policy
        return replace(policy, settle_passes=0 if self.settle == "off" else int(self.settle))


_USUAL_CARE = Care()


def load_engine(  # noqa: PLR0913 - what to load, and how to run it
    bundle: Bundle,
    path: Path,
    device: str,
    max_batch: int,
    *,
    dtype: str = "auto",
    sampling: str = "auto",
    care: Care = _USUAL_CARE,
    graphs: bool = False,
    neck: FeatureNeck | None = None,
) -> Runner:
    """The engine over the weights at `path`, of any kind in the registry.

    Args:
        dtype, sampling: see `Settings`.
        care: what is done about pictures that are not as asked.
        graphs: whether repeated passes are captured as CUDA graphs.
        neck: gives features of tokens to weights that answer from features.

    Raises:
        CheckpointError: no weights there, weights of another vocabulary than the bundle's, or a
            neck into another encoder than they read.
        ConfigError: graphs of a network without a GPU, or of a kind that has none.
    """
    kind = kind_of(path)
    weights = kind.load(path, device, kind.dtype if dtype == "auto" else getattr(torch, dtype))
    if not weights.fits(bundle.vocabulary, bundle.grid):
        raise CheckpointError(
            f"the backbone at {path} is not made for the bundle {bundle.name}",
            "install both again, or name another --backbone",
        )
    logger.info("weights: %s, %.3f GB on %s", kind.name, weights.size / 1e9, device)
    policy = kind.policy if sampling == "auto" else POLICIES[sampling]
    world = taught_world(bundle)
    options = EngineOptions(
        eot_id=bundle.eot_id,
        frame=question_frame(bundle),
        side=bundle.grid[0],
        max_text_len=weights.max_text_len,
        policy=care.settled(policy),
        requests_per_forward=max_batch,
        places=() if world is None else world.phrases_of_places(),
        mend=care.rounds(kind.mends),
        best_of=care.best_of,
    )
    engine = Engine(
        with_graphs(weights.backbone) if graphs else weights.backbone,
        bundle.vocabulary,
        options,
        wording=wording_of(bundle, world),
        price_of=price_of(bundle),
    )
    if weights.answers_from_tokens:
        return engine
    if neck is None:
        return PicturesOnly(engine, str(path))
    # Here, not above: it brings transformers, which takes longer to import than all of this.
    from cloud_server.generation.feature_answers import answers_from_features

    return answers_from_features(engine, bundle, path, weights.backbone, neck)


def with_graphs(backbone: Backbone) -> Backbone:
    """The backbone with its repeated passes captured.

    Raises:
        ConfigError: it is not on a GPU, or has no passes that can be captured.
    """
    if backbone.device.type != "cuda":
        raise ConfigError("CUDA graphs need a GPU", "leave out --cuda-graphs")
    if not isinstance(backbone, ShowoBackbone):
        raise ConfigError("these weights have no CUDA graphs", "leave out --cuda-graphs")
    return GraphedBackbone(backbone)


def taught_world(bundle: Bundle) -> TaughtWorld | None:
    """What the bundle's models can draw; None where the bundle does not say."""
    world = bundle.manifest.typing.world
    return None if world is None else TaughtWorld.load(bundle.file(world))


def wording_of(bundle: Bundle, world: TaughtWorld | None) -> Wording:
    """How texts become the bundle's ids, and what prompts ask for where its world is known."""
    tokenizer = bundle.text_tokenizer
    return Wording(
        lambda text: tokenizer.encode(text).ids.tolist(),
        lambda ids: tokenizer.decode(TextTokens(np.array(ids, np.int32), tokenizer.size)),
        question_frame(bundle),
        bundle.eot_id,
        None if world is None else partial(_read, PromptReader(world), world),
    )


def _read(reader: PromptReader, world: TaughtWorld, text: str) -> Asked | None:
    """What a prompt asks for, every thing by its usual name: a picture is described with those."""
    asked = reader.read(text)
    if asked is None:
        return None
    things = tuple(
        replace(thing, phrase=world.usual_phrase(thing.name) or thing.phrase)
        for thing in asked.things
    )
    return replace(asked, things=things)


def price_of(bundle: Bundle) -> PriceOf | None:
    """What image codes cost to send with the bundle's models; None where it has none."""
    models = bundle.entropy
    preferred = (Scenario.ADAPTED, Scenario.TEXT_CONDITIONED, Scenario.GENERIC)
    scenario = next((each for each in preferred if each in models.available()), None)
    if scenario is None:
        return None
    return lambda text, travels, codes: CodePrices(
        models, scenario, context_of(travels, codes, text.astype(np.int32))
    )


def question_frame(bundle: Bundle) -> QuestionFrame:
    """The ids that the model expects around a question."""
    before, after = (
        tuple(int(index) for index in bundle.text_tokenizer.encode(text).ids)
        for text in (QUESTION_BEFORE, QUESTION_AFTER)
    )
    return QuestionFrame(before, after)


def check_entropy(bundle: Bundle) -> Mapping[str, Any]:
    """Warm the entropy models and see that this machine computes what it should.

    Raises:
        CheckpointError: it decodes what it did not encode, or differs from what is recorded.
    """
    bundle.entropy.warm_up()
    check_probabilities(bundle.entropy)
    return {"ok": True, "digest": round_trip_digest(bundle)}


def warm(model: LoadedModel, bundle: Bundle, answers: bool) -> None:
    """Run a short request of each kind from end to end, so that no user waits for it.

    Args:
        model: what was loaded.
        bundle: its bundle.
        answers: whether it answers questions from tokens.
    """
    text = TextTokens(np.arange(1, 4, dtype=np.int32), bundle.vocabulary.text_size)
    codes = np.zeros(bundle.grid, dtype=np.int32)
    image = ImageTokens(codes, bundle.vocabulary.codebook_size)
    short = Options(steps=2, max_new_tokens=2)
    nothing = TextTokens(text.ids[:0], text.vocabulary_size)
    requests = [
        Request(Task.T2I, text, options=short),
        Request(Task.VQA, text, image, options=short),
        Request(Task.CLASSIFY, nothing, image, options=Options(names=True)),
    ]
    for request in requests:
        if request.task not in model.tasks or (request.task is Task.VQA and not answers):
            continue
        decoded = decode_request(encode_request(request, bundle).data, bundle).value
        result = model.engine.run([to_work(decoded, bundle)])[0]
        encode_response(to_response(decoded, result, bundle), decoded, bundle)
