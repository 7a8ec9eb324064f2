"""Masked decoding, answers and extrapolation against the official implementation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from cloud_server.generation.backbone.checkpoint import load_showo_backbone
from cloud_server.generation.backbone.showo import ShowoBackbone
from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.image_logits import guided_image_logits
from cloud_server.generation.masked_decoding import (
    REFERENCE,
    NoiseSource,
    RowGenerators,
    compounding_temperature,
    decode_masked,
    gumbel,
    remask,
)
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.reference_loop import PlainShowo
from cloud_server.generation.text_decoding import AnswerOptions, PictureReader, generate_text
from cloud_server.generation.work import PictureKind, PictureResult, PictureWork
from shared_protocol.tasks import Extension
from shared_protocol.vocabulary import Vocabulary
from tests.parity.showo_noise import RecordedNoise, SharedGenerator

SEPARATOR = " *** "
GUIDED_LOGIT_TOLERANCE = 1e-3  # guidance 5 amplifies 1.4e-5 of the kernels to 8e-5


@pytest.fixture(scope="module")
def backbone(golden: Path) -> ShowoBackbone:
    return load_showo_backbone(golden / "showo_tiny")


@pytest.fixture(scope="module")
def runs(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "t2i_generate.safetensors")


def _codes(ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    return torch.where(ids == vocabulary.mask_id, -1, vocabulary.ids_to_codes(ids))


def _texts(ids: Tensor, length: int, vocabulary: Vocabulary) -> list[np.ndarray]:
    """The prompts inside T2I sequences, without task token, sot and eot."""
    blocks = [
        [token for token in row if token != vocabulary.pad_id] for row in ids[:, :length].tolist()
    ]
    return [np.array(block[2:-1], dtype=np.int64) for block in blocks]


def test_remasking_equals_the_reference(golden: Path, manifest: dict[str, Any]) -> None:
    vectors = load_file(golden / "sampling.safetensors")
    facts = manifest["scalars"]["sampling.safetensors"]
    for index, temperature in enumerate(facts["topk.temperatures"]):
        noise = gumbel(vectors[f"topk.u{index}"])
        torch.testing.assert_close(noise, vectors[f"topk.gumbel{index}"])
        confidence = vectors["topk.probs"].clamp(min=1e-20).log() + temperature * noise
        masked = remask(confidence, vectors["topk.mask_len"][:, 0].long())
        assert torch.equal(masked, vectors[f"topk.masking{index}"])


def test_annealing_equals_the_reference(
    runs: dict[str, Tensor], manifest: dict[str, Any], t2i_case: str
) -> None:
    case = manifest["scalars"]["t2i_generate.safetensors"]["cases"]["value"][t2i_case]
    temperatures = [
        compounding_temperature(case["temperature"], step, case["timesteps"])
        for step in range(case["timesteps"])
    ]
    assert temperatures == runs[f"{t2i_case}.step_temperature"].tolist()


class _Trace:
    """Logits of codes that compares every step's logits with the recorded ones."""

    def __init__(self, inner: Any, expected: Tensor) -> None:
        self._inner, self._expected = inner, iter(expected)

    def __call__(self, codes: Tensor, places: Tensor) -> Tensor:
        logits: Tensor = self._inner(codes, places)
        expected = next(self._expected)[torch.arange(len(places))[:, None], places]
        torch.testing.assert_close(logits, expected, atol=GUIDED_LOGIT_TOLERANCE, rtol=1e-4)
        return logits


class _Drawing:
    """A recorded text-to-image run: what went in, each step's logits and draws, what came out."""

    def __init__(
        self, runs: dict[str, Tensor], case: Any, name: str, length: int, vocabulary: Vocabulary
    ) -> None:
        ids = runs[f"{name}.input_ids"]
        self.case, self.rows, self.tokens = case, len(ids), ids.shape[1] - length - 3
        self.texts = _texts(ids, length + 1, vocabulary)
        self.codes = _codes(ids[:, length + 2 : -1], vocabulary)
        self.logits, self.output = runs[f"{name}.step_logits"], runs[f"{name}.output"]
        self._uniforms, self._sampled = runs[f"{name}.step_u"], runs[f"{name}.step_sampled"]

    def noise(self, replayed: bool) -> NoiseSource:
        """The draws: recorded, of the run's generator, or none (the most likely codes)."""
        uniforms = iter(self._uniforms)
        if replayed:
            return RecordedNoise(uniforms, iter(self._sampled))
        if self.case["mode"] == "greedy":
            return RecordedNoise(uniforms)
        generator = torch.Generator().manual_seed(self.case["generator_seed"])
        return SharedGenerator(generator, self.rows)


@pytest.fixture
def drawing(
    runs: dict[str, Tensor],
    manifest: dict[str, Any],
    sizes: dict[str, Any],
    vocabulary: Vocabulary,
    t2i_case: str,
) -> _Drawing:
    case = manifest["scalars"]["t2i_generate.safetensors"]["cases"]["value"][t2i_case]
    return _Drawing(runs, case, t2i_case, sizes["max_seq_length"], vocabulary)


@pytest.mark.parametrize("replayed", [False, True])
def test_generation_equals_the_reference(
    backbone: ShowoBackbone,
    sizes: dict[str, Any],
    vocabulary: Vocabulary,
    eot_id: int,
    drawing: _Drawing,
    replayed: bool,
) -> None:
    logits = guided_image_logits(
        backbone,
        vocabulary,
        drawing.texts,
        guidance=[drawing.case["guidance_scale"]] * drawing.rows,
        eot_id=eot_id,
        max_text_len=sizes["max_seq_length"],
        tokens=drawing.tokens,
    )
    codes = decode_masked(
        _Trace(logits, drawing.logits),
        drawing.codes,
        steps=drawing.case["timesteps"],
        temperatures=[drawing.case["temperature"]] * drawing.rows,
        policy=REFERENCE,
        noise=drawing.noise(replayed),
    )
    assert torch.equal(codes, drawing.output)


@pytest.mark.parametrize("replayed", [False, True])
def test_plain_generation_equals_the_reference(
    backbone: ShowoBackbone,
    sizes: dict[str, Any],
    vocabulary: Vocabulary,
    eot_id: int,
    drawing: _Drawing,
    replayed: bool,
) -> None:
    codes = PlainShowo(backbone, vocabulary, eot_id, sizes["max_seq_length"]).generate(
        [text.tolist() for text in drawing.texts],
        drawing.codes,
        steps=drawing.case["timesteps"],
        guidance=drawing.case["guidance_scale"],
        temperature=drawing.case["temperature"],
        policy=REFERENCE,
        noise=drawing.noise(replayed),
    )
    assert torch.equal(codes, drawing.output)


def test_answers_equal_the_reference(
    backbone: ShowoBackbone,
    golden: Path,
    manifest: dict[str, Any],
    vocabulary: Vocabulary,
    eot_id: int,
    mmu_case: str,
) -> None:
    asked = _Question(golden, manifest, vocabulary, mmu_case)

    def answer(options: AnswerOptions) -> list[int]:
        (tokens,) = generate_text(
            PictureReader(backbone, vocabulary),
            backbone,
            vocabulary,
            codes=[asked.codes],
            questions=[asked.question],
            options=[options],
            eot_id=eot_id,
            noise=asked.noise(),
            emitted=slice(None),
        )
        return tokens

    greedily, drawn = asked.options
    assert answer(greedily) == asked.greedy
    assert answer(drawn) == asked.sampled


def test_plain_answers_equal_the_reference(
    backbone: ShowoBackbone,
    golden: Path,
    manifest: dict[str, Any],
    sizes: dict[str, Any],
    vocabulary: Vocabulary,
    eot_id: int,
    mmu_case: str,
) -> None:
    asked = _Question(golden, manifest, vocabulary, mmu_case)
    plain = PlainShowo(backbone, vocabulary, eot_id, sizes["max_seq_length"])
    answers = [
        plain.answer(asked.codes, asked.question, options, asked.noise(), slice(None))
        for options in asked.options
    ]
    assert answers == [asked.greedy, asked.sampled]


class _Question:
    """A recorded question and its answers."""

    def __init__(self, golden: Path, manifest: Any, vocabulary: Vocabulary, name: str) -> None:
        vectors = load_file(golden / "mmu_generate.safetensors")
        self._case = manifest["scalars"]["mmu_generate.safetensors"]["cases"][name]
        ids = vectors[f"{name}.ids"][0].tolist()
        end = ids.index(vocabulary.eoi_id)
        self.codes = vocabulary.ids_to_codes(np.array(ids[2:end]))
        self.question = np.array(ids[end + 2 :])
        self.greedy = vectors[f"{name}.greedy"].tolist()
        self.sampled = vectors[f"{name}.sampled"].tolist()

    @property
    def options(self) -> tuple[AnswerOptions, AnswerOptions]:
        """As many tokens as were recorded; the draws of the format: 0.7 and the best five."""
        return AnswerOptions(len(self.greedy)), AnswerOptions(len(self.sampled), 0.7, 5)

    def noise(self) -> RowGenerators:
        return RowGenerators([torch.Generator().manual_seed(self._case["sample_seed"])])


class _Pipeline:
    """The engine with replayed noise, on the runs of the official scripts."""

    def __init__(self, golden: Path, backbone: ShowoBackbone, manifest: Any, eot_id: int) -> None:
        self.vectors = load_file(golden / "pipeline.safetensors")
        self.runs = manifest["scalars"]["pipeline.safetensors"]["runs"]["value"]
        sizes = manifest["sizes"]
        self.vocabulary = Vocabulary(sizes["llm_vocab_size"], sizes["codebook_size"])
        self._tokenizer = Tokenizer.from_file(str(golden / "tokenizer" / "tokenizer.json"))
        self._backbone, self._length, self._side = backbone, sizes["max_seq_length"], sizes["grid"]
        self._options = EngineOptions(
            eot_id, QuestionFrame((), ()), self._side, self._length, REFERENCE, 0.5, 8
        )

    def text(self, run: str, row: int = 0) -> np.ndarray:
        return _texts(self.vectors[f"{run}.input_ids"], self._length + 1, self.vocabulary)[row]

    def grid(self, codes: Tensor) -> np.ndarray:
        return codes.reshape(self._side, self._side).numpy()

    def engine(self, uniforms: Sequence[Tensor], sampled: Sequence[Tensor]) -> Engine:
        noise = RecordedNoise(iter(uniforms), iter(sampled))
        return Engine(self._backbone, self.vocabulary, self._options, lambda _: noise)

    def start(self, run: str) -> np.ndarray:
        """The codes of a run's picture, recorded with it or with another run of this picture."""
        path = self.runs[run]["image_path"]
        for other in (run, *self.runs):
            codes = self.vectors.get(f"{other}.image_codes")
            if codes is not None and self.runs[other].get("image_path") == path:
                return self.grid(codes[0])
        raise AssertionError(f"no run has the codes of {path}")

    def extend(self, run: str, start: np.ndarray, extension: Extension, window: int) -> np.ndarray:
        facts = self.runs[run]
        engine = self.engine(
            [u[None] for u in self.vectors[f"{run}.step_u"][window]],
            [s[None] for s in self.vectors[f"{run}.step_sampled"][window]],
        )
        request = PictureWork(
            "outpaint",
            self.text(run),
            start,
            extension=extension,
            steps=facts["timesteps"],
            guidance=facts["guidance_scale"],
        )
        (result,) = engine.run([request])
        assert isinstance(result, PictureResult)
        return result.codes

    def extension(self, run: str, direction: str) -> Extension:
        """What a run of the script adds in one direction."""
        return Extension(**{direction: self._side // 2 + self.runs[run]["offset"]})

    def tokenise(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def request(
        self,
        run: str,
        kind: PictureKind,
        text: np.ndarray,
        codes: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> PictureWork:
        facts = self.runs[run]
        steps = len(self.vectors[f"{run}.step_u"])
        return PictureWork(kind, text, codes, mask, steps=steps, guidance=facts["guidance_scale"])

    def replay(self, run: str, requests: Sequence[PictureWork]) -> Tensor:
        """Codes (B, N) of the requests, with the run's recorded draws."""
        draws = (list(self.vectors[f"{run}.{name}"]) for name in ("step_u", "step_sampled"))
        results = self.engine(*draws).run(requests)
        grids = [result.codes for result in results if isinstance(result, PictureResult)]
        return torch.from_numpy(np.stack(grids)).flatten(1)


@pytest.fixture(scope="module")
def pipeline(
    golden: Path, backbone: ShowoBackbone, manifest: dict[str, Any], eot_id: int
) -> _Pipeline:
    return _Pipeline(golden, backbone, manifest, eot_id)


def test_extrapolations_equal_the_reference(pipeline: _Pipeline, extrapolation_run: str) -> None:
    run, grown = extrapolation_run, pipeline.start(extrapolation_run)
    directions = pipeline.runs[run]["extra_direction"].split(SEPARATOR)
    for window, direction in enumerate(directions):
        grown = pipeline.extend(run, grown, pipeline.extension(run, direction), window)
    assert np.array_equal(grown, pipeline.vectors[f"{run}.final_tokens"][0].numpy())


def test_inpaintings_equal_the_reference(pipeline: _Pipeline, inpainting_run: str) -> None:
    run = inpainting_run
    codes, masks = pipeline.vectors[f"{run}.image_codes"], pipeline.vectors[f"{run}.mask"]
    prompt = pipeline.tokenise(pipeline.runs[run]["prompt"])
    requests = [
        pipeline.request(run, "inpaint", prompt, pipeline.grid(row), pipeline.grid(mask))
        for row, mask in zip(codes, masks, strict=True)
    ]
    assert torch.equal(pipeline.replay(run, requests), pipeline.vectors[f"{run}.output"])


def test_pictures_of_prompts_equal_the_reference(pipeline: _Pipeline, t2i_run: str) -> None:
    prompts = [pipeline.tokenise(text) for text in pipeline.runs[t2i_run]["prompts"]]
    requests = [pipeline.request(t2i_run, "t2i", prompt) for prompt in prompts]
    assert torch.equal(pipeline.replay(t2i_run, requests), pipeline.vectors[f"{t2i_run}.output"])
