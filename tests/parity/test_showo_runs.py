"""Whole runs of the official scripts from files and words to pictures, by their seeds alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from showo_noise import SharedGenerator
from torch import Tensor

from cloud_server.generation.backbone.checkpoint import load_showo_backbone
from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.masked_decoding import REFERENCE, cosine_masked_count, gumbel, remask
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.work import PictureResult, PictureWork
from edge_client.pictures.images import load_picture
from edge_client.pictures.masks import load_mask, token_mask
from shared_protocol.bundles.catalogue import STRIDE
from shared_protocol.tasks import Extension
from shared_protocol.tokenizers.image import NetworkTokenizer
from shared_protocol.tokenizers.load import load_network
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.tokens import ImageTokens
from shared_protocol.vocabulary import Vocabulary

SEPARATOR = " *** "


@dataclass
class Scripts:
    """What the official scripts hold: files, tokenizers, the model and its settings."""

    folder: Path
    vectors: dict[str, Tensor]
    runs: dict[str, Any]
    side: int
    tokenizer: NetworkTokenizer
    text: TextTokenizer
    engine: Engine
    generator: torch.Generator

    def start(self, run: str) -> dict[str, Any]:
        """The facts of a run, whose draws begin now."""
        facts: dict[str, Any] = self.runs[run]
        self.generator.manual_seed(facts["global_seed"])
        return facts

    def words(self, text: str) -> np.ndarray:
        return self.text.encode(text).ids.astype(np.int64)

    def picture(self, name: str) -> Any:
        return load_picture(self.folder / name, self.side * STRIDE, self.side * STRIDE)

    def codes(self, name: str) -> np.ndarray:
        return self.tokenizer.tokenize(self.picture(name).pixels).codes.astype(np.int64)

    def make(self, *requests: PictureWork) -> list[np.ndarray]:
        results = self.engine.run(requests)
        return [result.codes for result in results if isinstance(result, PictureResult)]

    def check(self, run: str, grids: list[np.ndarray]) -> None:
        """Compare tokens exactly and pictures within one level."""
        vectors = self.vectors
        tokens = vectors.get(f"{run}.final_tokens", vectors.get(f"{run}.output"))
        assert tokens is not None
        for grid, row in zip(grids, tokens, strict=True):
            assert grid.reshape(-1).tolist() == row.flatten().tolist()
        if f"{run}.images_uint8" not in vectors:
            return
        for grid, expected in zip(grids, vectors[f"{run}.images_uint8"], strict=True):
            pixels = self.tokenizer.detokenize(ImageTokens(grid, self.tokenizer.codebook_size))
            assert int((torch.from_numpy(pixels).int() - expected.int()).abs().max()) <= 1


@pytest.fixture(scope="module")
def scripts(
    golden: Path,
    manifest: dict[str, Any],
    sizes: dict[str, Any],
    vocabulary: Vocabulary,
    eot_id: int,
) -> Scripts:
    generator = torch.Generator()
    network = load_network("magvitv2", golden / "magvit_tiny" / "pytorch_model.safetensors")
    options = EngineOptions(
        eot_id,
        QuestionFrame((), ()),
        sizes["grid"],
        sizes["max_seq_length"],
        REFERENCE,
        requests_per_forward=8,
    )
    return Scripts(
        golden,
        load_file(golden / "pipeline.safetensors"),
        manifest["scalars"]["pipeline.safetensors"]["runs"]["value"],
        sizes["grid"],
        NetworkTokenizer(lambda: network, STRIDE, vocabulary.codebook_size),
        TextTokenizer.load(golden / "tokenizer" / "tokenizer.json"),
        Engine(
            load_showo_backbone(golden / "showo_tiny"),
            vocabulary,
            options,
            lambda seeds: SharedGenerator(generator, len(seeds)),
        ),
        generator,
    )


def test_prompts_to_pictures(scripts: Scripts, t2i_run: str) -> None:
    facts = scripts.start(t2i_run)
    steps = len(scripts.vectors[f"{t2i_run}.step_u"])
    requests = [
        PictureWork("t2i", scripts.words(prompt), steps=steps, guidance=facts["guidance_scale"])
        for prompt in facts["prompts"]
    ]
    scripts.check(t2i_run, scripts.make(*requests))


def test_inpainting(scripts: Scripts, inpainting_run: str) -> None:
    facts = scripts.start(inpainting_run)
    picture = scripts.picture(facts["image_path"])
    pixels = load_mask(scripts.folder / facts["inpainting_mask_path"], picture)
    request = PictureWork(
        "inpaint",
        scripts.words(facts["prompt"]),
        scripts.codes(facts["image_path"]),
        token_mask(pixels, (scripts.side, scripts.side)).flags,
        steps=facts["timesteps"],
        guidance=facts["guidance_scale"],
    )
    scripts.check(inpainting_run, scripts.make(*[request] * facts["batch_size"]))


def test_extrapolation(scripts: Scripts, extrapolation_run: str) -> None:
    facts = scripts.start(extrapolation_run)
    canvas = scripts.codes(facts["image_path"])
    added = scripts.side // 2 + facts["offset"]
    directions = facts["extra_direction"].split(SEPARATOR)
    for prompt, direction in zip(facts["prompt"].split(SEPARATOR), directions, strict=True):
        request = PictureWork(
            "outpaint",
            scripts.words(prompt),
            canvas,
            extension=Extension(**{direction: added}),
            steps=facts["timesteps"],
            guidance=facts["guidance_scale"],
        )
        (canvas,) = scripts.make(request)
    scripts.check(extrapolation_run, [canvas])


@pytest.mark.parametrize("direction", ["left", "right", "up", "down"])
@pytest.mark.parametrize("known", [1, 3])
def test_an_extension_by_more_than_half_is_the_scripts_one_window(
    scripts: Scripts, extrapolation_run: str, direction: str, known: int
) -> None:
    """As with an offset: one window of `known` old columns and all the new ones."""
    facts, side = scripts.start(extrapolation_run), scripts.side
    if known >= side:
        pytest.skip(f"no {known} columns of {side} are old and some new")
    start, added = scripts.codes(facts["image_path"]), side - known
    asked = {
        "steps": facts["timesteps"],
        "guidance": facts["guidance_scale"],
    }
    words = scripts.words(facts["prompt"].split(SEPARATOR)[0])
    extension = Extension(**{direction: added})
    (grown,) = scripts.make(PictureWork("outpaint", words, start, extension=extension, **asked))
    canvas = extension.place(start.astype(np.int32)).astype(np.int64)
    new = extension.new_positions(side, side)
    low = direction in ("left", "up")
    across = slice(0, side) if low else slice(added, added + side)
    window = (slice(None), across) if direction in ("left", "right") else (across, slice(None))
    scripts.start(extrapolation_run)
    request = PictureWork("inpaint", words, canvas[window], new[window], **asked)
    (filled,) = scripts.make(request)
    canvas[window] = filled
    assert np.array_equal(grown, canvas)


def test_directions_may_be_mixed_unlike_in_the_reference(
    scripts: Scripts, extrapolation_run: str
) -> None:
    facts = scripts.start(extrapolation_run)
    start, side = scripts.codes(facts["image_path"]), scripts.side
    request = PictureWork(
        "outpaint",
        scripts.words(facts["prompt"].split(SEPARATOR)[0]),
        start,
        extension=Extension(left=1, right=2, up=3, down=side + 1),
        steps=2,
        guidance=facts["guidance_scale"],
    )
    (grid,) = scripts.make(request)
    assert grid.shape == (2 * side + 4, side + 3)
    assert np.array_equal(grid[3 : 3 + side, 1 : 1 + side], start)
    assert grid.min() >= 0


def test_cosine_schedule_equals_the_reference(golden: Path) -> None:
    vectors = load_file(golden / "sampling.safetensors")
    names = [name for name in vectors if name.startswith("cosine_mask_len.")]
    assert names
    for name in names:
        steps, total = (int(part[1:]) for part in name.split(".")[1:])
        counts = [cosine_masked_count(step, steps, total) for step in range(steps)]
        assert counts == vectors[name].long().tolist()


def test_seeded_remasking_equals_the_reference(golden: Path, manifest: dict[str, Any]) -> None:
    vectors = load_file(golden / "sampling.safetensors")
    facts = manifest["scalars"]["sampling.safetensors"]
    seeds, temperatures = facts["topk.generator_seeds"], facts["topk.temperatures"]
    for index, (seed, temperature) in enumerate(zip(seeds, temperatures, strict=True)):
        rows, count = vectors["topk.probs"].shape
        noise = SharedGenerator(torch.Generator().manual_seed(seed), rows).uniform(count)
        assert torch.equal(noise, vectors[f"topk.u{index}"])
        confidence = vectors["topk.probs"].clamp(min=1e-20).log() + temperature * gumbel(noise)
        masked = remask(confidence, vectors["topk.mask_len"][:, 0].long())
        assert torch.equal(masked, vectors[f"topk.masking{index}"])
