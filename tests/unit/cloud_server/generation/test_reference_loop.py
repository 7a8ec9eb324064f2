"""The engine gives, token for token, what Show-o's plain loops give, in float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_backbone import (
    BUILTIN,
    CODES,
    EOT,
    FRAME,
    MAX_TEXT_LEN,
    SIDE,
    VOCABULARY,
    WEIGHTS,
    tiny_backbone,
)

from cloud_server.generation.backbone.checkpoint import load_builtin_backbone, load_showo_backbone
from cloud_server.generation.backbone.showo import ShowoBackbone, ShowoConfig, build_phi, build_stem
from cloud_server.generation.canvases import window_seed
from cloud_server.generation.engine import Engine, EngineOptions, seeded_noise
from cloud_server.generation.masked_decoding import POLICIES, REFERENCE, DecodingPolicy
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.reference_loop import MultinomialNoise, PlainShowo
from cloud_server.generation.text_decoding import AnswerOptions
from cloud_server.generation.windows import UNKNOWN, plan_windows
from cloud_server.generation.work import AnswerResult, AnswerWork, PictureResult, PictureWork
from shared_protocol.tasks import Extension

TEXT = np.array([64, 308, 306])
LONG = np.arange(MAX_TEXT_LEN + 9)
STEPS = 5


def _with_stem() -> ShowoBackbone:
    """A backbone with a stem that matters: what stands around a token changes its logits."""
    config = ShowoConfig(
        vocab_size=VOCABULARY.size, hidden_size=32, intermediate_size=64, layers=2, heads=2,
        max_positions=64, stem_width=8, stem_codes=VOCABULARY.codebook_size, stem_side=SIDE,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(4)
        phi, stem = build_phi(config), build_stem(config)
        assert stem is not None
        for weights in (stem.join.weight, phi.lm_head.weight, phi.model.embed_tokens.weight):
            torch.nn.init.normal_(weights, std=0.5)
    return ShowoBackbone(phi, stem)


BACKBONES = {"plain": tiny_backbone, "stem": _with_stem}


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> ShowoBackbone:
    return BACKBONES[request.param]()


@pytest.fixture(params=POLICIES.values(), ids=POLICIES.keys())
def policy(request: pytest.FixtureRequest) -> DecodingPolicy:
    chosen: DecodingPolicy = request.param
    return replace(chosen, settle_passes=0)


def _plain(backbone: ShowoBackbone) -> PlainShowo:
    return PlainShowo(backbone, VOCABULARY, EOT, MAX_TEXT_LEN)


def _engine(backbone: ShowoBackbone, policy: DecodingPolicy, per_forward: int = 1) -> Engine:
    options = EngineOptions(
        EOT, FRAME, SIDE, MAX_TEXT_LEN, policy, requests_per_forward=per_forward
    )
    return Engine(backbone, VOCABULARY, options)


def _codes(engine: Engine, requests: list[PictureWork]) -> list[np.ndarray]:
    results = engine.run(requests)
    return [result.codes for result in results if isinstance(result, PictureResult)]


def _plain_codes(plain: PlainShowo, request: PictureWork, policy: DecodingPolicy) -> np.ndarray:
    """Window by window, one after the other."""
    canvas = np.full((SIDE, SIDE), UNKNOWN)
    if request.codes is not None:
        canvas = np.where(request.mask, UNKNOWN, request.codes)
        if request.extension is not None:
            canvas = request.extension.place(request.codes.astype(np.int32), UNKNOWN)
    canvas = canvas.astype(np.int64)
    for index, window in enumerate(plan_windows(canvas == UNKNOWN, SIDE)):
        filled = plain.generate(
            [request.text_ids.tolist()],
            torch.from_numpy(canvas[window.area].reshape(1, -1)),
            steps=request.steps,
            guidance=request.guidance,
            temperature=request.temperature,
            policy=policy,
            noise=seeded_noise([window_seed(request.seed, index)]),
        )
        canvas[window.area] = filled.reshape(SIDE, SIDE).numpy()
    return canvas


MASK = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3 > 0
REQUESTS = {
    "t2i": [
        PictureWork("t2i", TEXT, steps=STEPS, guidance=0.0, seed=1),
        PictureWork("t2i", LONG, steps=STEPS, guidance=3.0, seed=2),
        PictureWork("t2i", TEXT[:0], steps=STEPS, guidance=1.5, seed=3),
    ],
    "inpaint": [
        PictureWork("inpaint", TEXT, CODES, MASK, steps=STEPS, guidance=2.0, seed=4),
        PictureWork("inpaint", LONG, CODES, ~MASK, steps=STEPS, guidance=0.0, seed=5),
        PictureWork("inpaint", TEXT, CODES, CODES == 7, steps=STEPS, seed=6),
    ],
    "outpaint": [
        PictureWork("outpaint", TEXT, CODES, extension=extension, steps=STEPS, seed=7)
        for extension in (Extension(left=2, right=2), Extension(up=5), Extension(1, 2, 3, 1))
    ],
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_pictures_equal_those_of_the_plain_loop(
    backbone: ShowoBackbone, policy: DecodingPolicy, kind: str
) -> None:
    plain, requests = _plain(backbone), REQUESTS[kind]
    drawn = _codes(_engine(backbone, policy), requests)
    for request, codes in zip(requests, drawn, strict=True):
        assert np.array_equal(codes, _plain_codes(plain, request, policy))


@pytest.mark.parametrize("kind", REQUESTS)
def test_pictures_of_shared_passes_equal_those_of_the_plain_loop(
    backbone: ShowoBackbone, policy: DecodingPolicy, kind: str
) -> None:
    plain, requests = _plain(backbone), REQUESTS[kind]
    drawn = _codes(_engine(backbone, policy, per_forward=8), requests)
    for request, codes in zip(requests, drawn, strict=True):
        assert np.array_equal(codes, _plain_codes(plain, request, policy))


def test_reference_pictures_equal_those_drawn_by_torch_multinomial(backbone: ShowoBackbone) -> None:
    (request,) = REQUESTS["t2i"][1:2]
    expected = _plain(backbone).generate(
        [request.text_ids.tolist()],
        torch.full((1, SIDE * SIDE), UNKNOWN),
        steps=STEPS,
        guidance=request.guidance,
        temperature=request.temperature,
        policy=REFERENCE,
        noise=MultinomialNoise([torch.Generator().manual_seed(request.seed)]),
    )
    (codes,) = _codes(_engine(backbone, REFERENCE), [request])
    assert codes.reshape(-1).tolist() == expected[0].tolist()


@pytest.mark.parametrize("per_forward", [1, 8])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_equal_those_of_the_plain_loop(
    backbone: ShowoBackbone, temperature: float, per_forward: int
) -> None:
    plain = _plain(backbone)
    requests = [
        AnswerWork(np.arange(3 + row), codes, 9 - row, temperature, top_k=20, seed=row)
        for row, codes in enumerate((CODES, CODES[::-1].copy(), CODES))
    ]
    results = _engine(backbone, REFERENCE, per_forward).run(requests)
    for request, result in zip(requests, results, strict=True):
        expected = plain.answer(
            request.codes,
            FRAME.wrap(request.text_ids),
            AnswerOptions(request.max_new_tokens, temperature, 20),
            seeded_noise([request.seed]),
            slice(0, VOCABULARY.text_size),
        )
        assert isinstance(result, AnswerResult)
        kept = expected[:-1] if expected[-1] == EOT else expected
        assert result.text_ids.tolist() == kept


def test_second_question_about_a_picture_is_answered_like_a_first_one(
    backbone: ShowoBackbone,
) -> None:
    engine = _engine(backbone, REFERENCE)
    asked = [AnswerWork(np.arange(4 + row), CODES, 8) for row in range(3)]
    together = [engine.run([request])[0] for request in asked]
    for request, again in zip(asked, together, strict=True):
        (alone,) = _engine(backbone, REFERENCE).run([request])
        assert isinstance(alone, AnswerResult)
        assert isinstance(again, AnswerResult)
        assert np.array_equal(alone.text_ids, again.text_ids)


def test_weights_in_bfloat16_draw_and_answer() -> None:
    backbone = load_showo_backbone(WEIGHTS, dtype=torch.bfloat16)
    engine = _engine(backbone, REFERENCE)
    (drawn,) = _codes(engine, REQUESTS["t2i"][1:2])
    assert drawn.min() >= 0
    (answer,) = engine.run([AnswerWork(TEXT, drawn, 6)])
    assert isinstance(answer, AnswerResult)
    assert len(answer.text_ids) > 0


@pytest.mark.slow
def test_builtin_model_draws_and_answers_like_the_plain_loop(policy: DecodingPolicy) -> None:
    if not any(BUILTIN.glob("backbone*.safetensors")):
        pytest.skip("no built-in weights in this checkout")
    loaded = load_builtin_backbone(BUILTIN)
    card, frame = loaded.card, QuestionFrame((5, 6), (7,))
    plain = PlainShowo(loaded.backbone, card.vocabulary, 0, card.max_text_len)
    options = EngineOptions(0, frame, card.side, card.max_text_len, policy)
    engine = Engine(loaded.backbone, card.vocabulary, options)
    request = PictureWork("t2i", np.arange(90, 99), steps=3, guidance=3.0, seed=5)
    (drawn,) = _codes(engine, [request])
    expected = plain.generate(
        [request.text_ids.tolist()],
        torch.full((1, card.side**2), UNKNOWN),
        steps=3,
        guidance=3.0,
        temperature=1.0,
        policy=policy,
        noise=seeded_noise([5]),
    )
    assert drawn.reshape(-1).tolist() == expected[0].tolist()
    (answer,) = engine.run([AnswerWork(np.arange(90, 99), drawn, 5)])
    assert isinstance(answer, AnswerResult)
    said = plain.answer(
        drawn,
        frame.wrap(np.arange(90, 99)),
        AnswerOptions(5),
        seeded_noise([0]),
        slice(0, card.vocabulary.text_size),
    )
    assert answer.text_ids.tolist() == [token for token in said if token != 0]
