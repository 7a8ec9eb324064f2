"""Scores by stubbed networks, fixed settings, VQ-Kmeans and the user's own codecs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evaluation_folder import fake_context, rows_of, waves, write_folder
from serving_fakes import LiveServer, fake_settings

from edge_client.evaluation import metrics
from edge_client.evaluation.baselines import PAPER, baselines, fixed_settings
from edge_client.evaluation.codecs import add_codec, encode, find_codec
from edge_client.evaluation.codecs.external import ExternalCodec
from edge_client.evaluation.codecs.vq_kmeans import VqKmeans, clusters
from edge_client.evaluation.context import Context
from edge_client.evaluation.conversations import Line
from edge_client.evaluation.interactions import case_mask
from edge_client.evaluation.metrics import optional
from edge_client.evaluation.sections import (
    codecs,
    inpaint,
    outpaint,
    rate_control,
    sessions,
    t2i,
)
from edge_client.evaluation.tables import output
from edge_client.evaluation.tables.results import Table
from shared_protocol.errors import BadMessageError, ConfigError
from shared_protocol.tasks import Task
from shared_protocol.tokens import ImageTokens

PROGRAM = """
import sys, shutil
from PIL import Image
verb, source, target, *rate = sys.argv[1:]
if verb == "encode":
    Image.open(source).save(target, "JPEG", quality=int(rate[0][1:]))
else:
    Image.open(source).save(target, "PNG")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    from edge_fakes import FakeBundle

    with LiveServer(fake_settings(port=0), bundle=FakeBundle()) as live:
        yield live


@pytest.fixture
def context(server: LiveServer, tmp_path: Path) -> Context:
    return fake_context(write_folder(tmp_path / "data"), tmp_path / "out", server.url)


class StubClip:
    """A picture's vector is its mean colour, a text's the grey of its length."""

    def pictures(self, pictures: list[np.ndarray]) -> np.ndarray:
        return self._unit([pixels.reshape(-1, 3).mean(axis=0) for pixels in pictures])

    def texts(self, texts: list[str]) -> np.ndarray:
        return self._unit([[len(text), 1.0, 1.0] for text in texts])

    def _unit(self, rows: Any) -> np.ndarray:
        found = np.array(rows, dtype=np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network, those that are not on this machine and the slow ones, as arithmetic."""

    def inception(batch: Any) -> list[Any]:
        return [batch.mean(dim=(2, 3), keepdim=True)]

    monkeypatch.setattr(optional, "_clip", StubClip)
    monkeypatch.setattr(optional, "_lpips", lambda: lambda one, other: (one - other).abs().mean())
    monkeypatch.setattr(optional, "_inception", lambda: inception)
    monkeypatch.setattr(metrics, "st_lpips", lambda one, other: float(np.abs(one - other).mean()))
    monkeypatch.setattr(
        metrics, "picture_features", lambda all_: np.array([p.mean(axis=(0, 1)) for p in all_])
    )


@pytest.fixture
def program(tmp_path: Path) -> ExternalCodec:
    script = tmp_path / "codec.py"
    script.write_text(PROGRAM, encoding="utf-8")
    run = f"{sys.executable} {script}"
    encoder, decoder = f"{run} encode {{in}} {{out}} {{rate}}", f"{run} decode {{in}} {{out}}"
    return ExternalCodec("mine", encoder, decoder, ["q5", "q90"])


@pytest.mark.usefixtures("stubbed")
def test_networks_that_are_there_fill_the_quality_tables(context: Context) -> None:
    (row,) = rows_of(t2i.run(context), "t2i-quality")
    assert all(isinstance(row[name], float) for name in ("CLIP-T", "FID, Inception"))
    whole, part, *_ = rows_of(inpaint.run(context), "inpaint-quality")
    assert isinstance(whole["FID, Inception"], float)
    assert isinstance(whole["LPIPS"], float)
    assert (whole["R-CLIP-I"], part["CLIP-I"]) == ("–", "–")
    assert isinstance(part["R-CLIP-I"], float)
    assert isinstance(part["LPIPS"], float)
    canvas, *_ = rows_of(outpaint.run(context), "outpaint-quality")
    assert all(isinstance(canvas[name], float) for name in ("CLIP-T", "FID, Inception"))


@pytest.mark.usefixtures("stubbed")
def test_a_part_is_compared_without_the_rest() -> None:
    first, second = waves(1), waves(1)
    second[:32] = 255
    lower = np.zeros((64, 64), dtype=bool)
    lower[32:] = True
    assert optional.r_clip_i([first], [second], [lower]) == pytest.approx(1.0)
    colour = second.copy()
    colour[32:] = (255, 0, 0)
    changed = optional.r_clip_i([first], [colour], [lower])
    assert changed is not None
    assert changed < 0.99


@pytest.mark.slow
@pytest.mark.usefixtures("stubbed")
def test_networks_that_are_there_fill_the_tables_of_codecs(
    context: Context, program: ExternalCodec
) -> None:
    section = codecs.run(replace(context, external=(program,), qp=(PAPER, 40)), ["jpeg", "hevc"])
    for task in ("t2i", "inpaint", "outpaint"):
        rows = {row["method"]: row for row in rows_of(section, f"codecs-{task}")}
        tokens, jpeg, own = rows["tokens"], rows["jpeg"], rows["mine"]
        assert tokens["LPIPS down"] == 0.0
        assert jpeg["LPIPS down"] > 0.0
        for row in (tokens, jpeg, own):
            assert all(isinstance(row[name], float) for name in ("FID", "CLIP-T"))
        if task == "inpaint":
            assert jpeg["LPIPS up"] > 0
            assert isinstance(jpeg["R-CLIP-I"], float)
        assert {"hevc, section VI-A", "hevc at QP 40"} <= set(rows)
        fixed = rows["hevc, section VI-A"]["bpp down"]
        assert fixed < rows["hevc at QP 40"]["bpp down"]
    answers = {row["method"]: row for row in rows_of(section, "codecs-vqa")}
    assert all(isinstance(answers["tokens"][name], float) for name in ("BLEU-4", "CIDEr-D"))
    figures = sorted(path.name for path in (context.out / "codecs" / "figures").iterdir())
    assert figures[0] == "inpaint-1.png"
    assert len(figures) == 8
    stages = context.out / "codecs" / "pictures" / "jpeg"
    assert (stages / "inpaint-1.cloud-rec.png").is_file()
    assert (stages / "inpaint-1.cloud-gen.png").is_file()


def test_a_mask_file_is_repainted_in_its_own_shape(context: Context) -> None:
    boxed, masked = context.data.of("inpaint")
    for case, count in ((boxed, 2), (masked, 3)):
        mask = case_mask(context, case)
        assert mask is not None
        assert mask.count == count
    kept = {row["interactions"]: row for row in rows_of(inpaint.run(context), "inpaint-preserved")}
    assert kept[2]["all identical"] == 2


class Cube:
    """A tokenizer of 13 bits whose token is the grey of its patch in Gray code."""

    stride = 16
    codebook_size = 8192
    computed_by = "a fake"

    def tokenize(self, pixels: np.ndarray) -> ImageTokens:
        height, width = pixels.shape[0] // 16, pixels.shape[1] // 16
        grey = pixels.reshape(height, 16, width, 16, 3).mean(axis=(1, 3, 4)).astype(np.int32)
        return ImageTokens((grey * 32) ^ (grey * 16), 8192)

    def detokenize(self, tokens: ImageTokens) -> np.ndarray:
        grey = np.clip(tokens.codes // 32, 0, 255)
        return np.repeat(np.kron(grey, np.ones((16, 16), int))[..., None], 3, 2).astype(np.uint8)


def test_vq_kmeans_codes_indices_of_a_clustered_codebook() -> None:
    pytest.importorskip("scipy")
    codec = VqKmeans(Cube())
    for entries, bits in ((256, 8), (2048, 11)):
        coded = encode(codec, waves(), entries)
        assert coded.picture_bytes == (16 * bits + 7) // 8
        of_code, code_of = clusters(8192, entries)
        expected = code_of[of_code[Cube().tokenize(waves()).codes]]
        assert np.array_equal(coded.decode(), Cube().detokenize(ImageTokens(expected, 8192)))
        # Every entry stands for codes around it: no cluster's corner is farther than its spread.
        far = [bin(int(a) ^ int(code_of[c])).count("1") for a, c in enumerate(of_code)]
        assert max(far) <= 13 - bits + 3
    odd = encode(codec, waves()[:50, :40], 256)
    assert odd.picture_bytes == 4 * 3  # the tokens that cover it
    assert odd.decode().shape == (50, 40, 3)
    whole = encode(codec, waves(), 256).decode()
    assert np.array_equal(odd.decode()[:48, :32], whole[:48, :32])
    for broken in (b"", b"x" * 9, coded.payload[:-1], coded.payload + b"x"):
        with pytest.raises(BadMessageError):
            codec.decode(broken)


def test_a_codec_of_the_users_is_coded_and_decoded_by_its_commands(program: ExternalCodec) -> None:
    coarse, fine = (encode(program, waves(), setting) for setting in program.settings)
    assert coarse.picture_bytes < fine.picture_bytes
    assert np.abs(fine.decode().astype(int) - waves()).max() < 20
    with pytest.raises(BadMessageError, match="no mine"):
        program.decode(b"nothing")
    add_codec(program)
    assert find_codec("mine/2").name == "mine/2"


@pytest.mark.parametrize(
    ("encoder", "decoder", "fault"),
    [
        ("run {in} {out}", "run {in} {out}", "lacks {rate}"),
        ("run {in} {out} {rate}", "run {in}", "lacks {out}"),
        ("run '{in} {out} {rate}", "run {in} {out}", "quotation"),
        ("", "run {in} {out}", "lacks"),
    ],
)
def test_templates_that_lack_a_name_are_refused(encoder: str, decoder: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        ExternalCodec("mine", encoder, decoder, ["1", "2"])


def test_a_program_that_fails_says_why() -> None:
    missing = ExternalCodec("mine", "no-such-program {in} {out}", "true {in} {out}", ["1"])
    with pytest.raises(ConfigError, match="no-such-program"):
        missing.encode(waves(), 0)
    silent = ExternalCodec("mine", "true {in} {out}", "true {in} {out}", ["1"])
    with pytest.raises(ConfigError, match="wrote no"):
        silent.encode(waves(), 0)
    with pytest.raises(ConfigError, match="cannot be called"):
        add_codec(ExternalCodec("hevc", "true {in} {out}", "true {in} {out}", ["1"]))


def test_settings_of_the_paper_are_found_for_each_codec_and_task(context: Context) -> None:
    named = {
        name: SimpleNamespace(name=name, settings=range(70)) for name in ("hevc", "vvc", "jpeg")
    }
    assert fixed_settings(named["vvc"], "inpaint", PAPER) == (52, 69)
    assert fixed_settings(named["hevc"], "outpaint", PAPER) == (47, 46)
    assert fixed_settings(named["vvc"], "vqa", 48) == (48, 48)
    assert fixed_settings(named["jpeg"], "vqa", 48) is None
    words = ["msillm_vlov1_1", "msillm_quality_1"]
    own = ExternalCodec("ms-illm", "run {in} {out} {rate}", "run {in} {out}", words)
    assert fixed_settings(own, "inpaint", PAPER) == (1, 0)
    found, _ = baselines(replace(context, external=(own,)), ["bpg"])
    assert [codec.name for codec in found][1:] == ["ms-illm"]


def test_every_cell_that_is_missing_names_its_file(tmp_path: Path) -> None:
    columns = ("method", "ST-LPIPS up", "LPIPS up", "CLIP-T", "FID", "Frechet")
    table = Table("t", "T", columns, (("jpeg", None, None, None, None, None),))
    (line,) = [line for line in output._markdown_table(table) if "jpeg" in line]
    for file in ("alex_shift", "alexnet-owt", "model.safetensors", "pt_inception", "efficientnet"):
        assert f"not available here: {file}" in line
    assert len(output.missing_notes(table)) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("stubbed")
def test_what_inpaintings_show_is_drawn_by_rate_beside_codecs(context: Context) -> None:
    run = replace(context, keep_ratios=(1.0, 0.5), codecs=("jpeg", "vq-kmeans"))
    section = rate_control.run(run)
    rows = rows_of(section, "rate-control-semantics")
    methods = {row["method"] for row in rows}
    assert {"tokens, all sent", "tokens, even first", "jpeg", "vq-kmeans"} <= methods
    for row in rows:
        assert all(isinstance(row[name], float) for name in ("CLIP-T", "CLIP-I", "FID"))
    sent = {row["method"]: row["bpp total"] for row in rows if row["setting"] == 1.0}
    half = [row["bpp total"] for row in rows if row["setting"] == 0.5 and "tokens" in row["method"]]
    assert all(size < sent["tokens, all sent"] for size in half)
    plots = {plot.name: plot for plot in section.plots}
    for name in ("clip-t", "clip-i", "fid"):
        labels = [series.label for series in plots[f"rate-control-{name}"].series]
        assert {"jpeg", "vq-kmeans"} <= set(labels)
    size = (context.out / "rate-control" / "codecs.jsonl").stat().st_size
    assert rate_control.run(run).tables == section.tables
    assert (context.out / "rate-control" / "codecs.jsonl").stat().st_size == size


@pytest.mark.slow
def test_unscripted_conversations_are_counted(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "EIGHT_TURNS", (Line(Task.VQA, "abc"),) * 2)
    section = sessions.run(replace(context, limit=1, codecs=("jpeg",)))
    islands, session = rows_of(section, "sessions-unscripted")
    assert (islands["method"], session["method"]) == ("islands", "session")
    for row in (islands, session):
        assert row["turns"] == row["inpaintings"] + row["outpaintings"] + row["questions"] == 24
        assert row["undone"] > 0
        assert row["tokens outside the edits"] > 100
        assert row["of them changed"] == 0
    assert session["payload up"] < islands["payload up"]
    kinds = [row["conversation"] for row in rows_of(section, "sessions")]
    assert "unscripted" in kinds
    jpeg = [row for row in rows_of(section, "sessions") if row["method"] == "jpeg"]
    assert all(row["wire up"] == "–" for row in jpeg)
