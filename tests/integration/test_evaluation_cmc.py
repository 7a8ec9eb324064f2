"""Cross-modality compression with models of the user's, sweeps, content kinds and scores."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import pytest
from edge_fakes import FakeBundle
from evaluation_folder import rows_of, waves
from serving_fakes import LiveServer, fake_settings

from edge_client import arguments
from edge_client.evaluation import metrics
from edge_client.evaluation.codecs import find_codec, fixed_rate
from edge_client.evaluation.context import CmcOptions, Context
from edge_client.evaluation.data import read_data
from edge_client.evaluation.evaluate import command_line, distinct, external_codecs
from edge_client.evaluation.metrics import iqa as measures
from edge_client.evaluation.pixel_loop.cmc_models import (
    CaptionCommand,
    CaptionFile,
    PaintCommand,
    Server,
)
from edge_client.evaluation.pixel_loop.cross_modality import (
    CrossModality,
    Plan,
    block_means,
    pack_blocks,
    unpack_blocks,
)
from edge_client.evaluation.sections import cmc
from edge_client.evaluation.tables import cmc_tables
from edge_client.pictures.outputs import save_picture
from shared_protocol.errors import BadMessageError, ConfigError, InvalidInputError
from shared_protocol.messages import Options

SAYS = "import sys; print('a fox of', sys.argv[1].split('/')[-1], sys.argv[2] or 'all', 'words')"
WRITES = "import sys; open(sys.argv[2], 'w').write('a   fox\\non ice')"
PAINTS = """
import sys
from PIL import Image
text, image, strength, seed, out = sys.argv[1:]
size = Image.open(image).size if image else (64, 64)
Image.new("RGB", size, (len(text), round(float(strength) * 100), int(seed))).save(out, "PNG")
"""


def command(code: str, names: str, folder: Path) -> str:
    script = folder / f"tool{abs(hash(code))}.py"
    script.write_text(code, encoding="utf-8")
    return f"{sys.executable} {script} {names}"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0), bundle=FakeBundle()) as live:
        yield live


@pytest.fixture
def context(server: LiveServer, tmp_path: Path) -> Context:
    """A picture of each kind of content."""
    for number, kind in enumerate(("NSI", "SCI", "AIGI")):
        folder = tmp_path / "data" / kind
        folder.mkdir(parents=True)
        save_picture(folder / f"{number}.png", waves(number))
    return Context(
        data=read_data(tmp_path / "data"),
        out=tmp_path / "out",
        bundle=FakeBundle(),
        server=server.url,
        steps=2,
        quiet=True,
    )


def test_commands_and_files_describe_and_paint(tmp_path: Path) -> None:
    says = CaptionCommand(command(SAYS, "{in} '{words}'", tmp_path))
    assert says.describe(waves(), "a/7.jpg", 5).text == "a fox of 7.png 5 words"
    assert says.describe(waves(), "b.jpg", 0).text == "a fox of b.png all words"
    writes = CaptionCommand(command(WRITES, "{in} {out}", tmp_path))
    assert writes.describe(waves(), "a.png", 0).text == "a fox on ice"
    paint = PaintCommand(command(PAINTS, "{text} {image} {strength} {seed} {out}", tmp_path), 9)
    assert paint.paint("four", None, 1.0, (64, 64))[0, 0].tolist() == [4, 100, 9]
    assert paint.paint("{out}", waves(), 0.5, (32, 64)).shape == (32, 64, 3)
    assert paint.paint("{out}", waves(), 0.5, (64, 64))[0, 0].tolist() == [5, 50, 9]


def test_models_that_say_or_make_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="true described no picture: it wrote nothing"):
        CaptionCommand("true {in}").describe(waves(), "a.png", 0)
    with pytest.raises(ConfigError, match="described no picture"):
        CaptionCommand("no-such-program {in}").describe(waves(), "a.png", 0)
    with pytest.raises(ConfigError, match="true made no picture"):
        PaintCommand("true {text} {out}").paint("a", None, 1.0, (64, 64))
    with pytest.raises(ConfigError, match=r"lacks \{in\}"):
        CaptionCommand("describe")
    with pytest.raises(ConfigError, match=r"lacks \{text\}"):
        PaintCommand("paint {out}")


def test_captions_come_from_json_or_lines(tmp_path: Path) -> None:
    listed, lines = tmp_path / "c.json", tmp_path / "c.txt"
    listed.write_text(json.dumps({"NSI/0.png": "a wave"}), encoding="utf-8")
    lines.write_text("1\ta wave\n2.png\tanother\n", encoding="utf-8")
    assert CaptionFile(listed).describe(waves(), "NSI/0.png", 0).text == "a wave"
    assert CaptionFile(lines).describe(waves(), "SCI/1.png", 0).text == "a wave"
    with pytest.raises(ConfigError, match=r"no caption of 9\.png"):
        CaptionFile(lines).describe(waves(), "9.png", 0)
    for content in ("", "no tab", "\udcff"):
        lines.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(ConfigError):
            CaptionFile(lines)


def test_blocks_travel_in_ten_bits(context: Context) -> None:
    means = block_means(np.tile(waves(), (4, 4, 1)))
    data = pack_blocks(means)
    assert len(data) == 20
    back = unpack_blocks(data, 256, 256)
    assert np.abs(back.astype(int) - means).max(axis=(0, 1)).tolist() <= [19, 9, 19]
    assert np.array_equal(pack_blocks(back), data)
    # 24 bits a pixel over 10 bits a block, beside a caption of as much: the paper's 1:5,000.
    assert pytest.approx(5000, rel=0.02) == 64 * 64 * 24 / (2 * 10)
    with pytest.raises(BadMessageError, match="20 bytes"):
        unpack_blocks(data, 64, 64)


def modes_of(context: Context, transport: Any) -> CrossModality:
    server = Server(context.bundle, transport, Options(steps=2))
    return CrossModality(context.bundle, find_codec("jpeg"), {"server": server}, {"server": server})


def test_strength_nought_is_the_codecs_picture_in_tokens(context: Context) -> None:
    with context.transport() as transport:
        modes = modes_of(context, transport)
        sent = modes.compress(waves(), Plan("full", strength=0.0, qp=20))
        made = modes.restore(sent, 64, 64)
        tokenizer = context.bundle.image_tokenizer()
        coded = fixed_rate(find_codec("jpeg"), waves(), 20).coded.decode()
        assert np.array_equal(made, tokenizer.detokenize(tokenizer.tokenize(coded)))
        drawn = modes.restore(modes.compress(waves(), Plan("full", strength=1.0, qp=20)), 64, 64)
        assert not np.array_equal(drawn, made)


def test_a_caption_is_cut_counted_both_ways_and_its_own_cost_is_told(context: Context) -> None:
    with context.transport() as transport:
        modes = modes_of(context, transport)
        whole = modes.compress(waves(), Plan("text"))
        short = modes.compress(waves(), Plan("text", words=1))
    said = "erutcip eht ebircsed"  # the fake model answers with the question reversed
    assert whole.characters == len(brotli.compress(said.encode(), quality=11))
    assert short.characters == len(brotli.compress(b"erutcip", quality=11))
    assert len(short.text) < len(whole.text)
    assert whole.asked > 16 + len(said)  # sixteen tokens up, the answer down


def test_a_strength_outside_of_its_range_is_refused(context: Context) -> None:
    with context.transport() as transport:
        modes = modes_of(context, transport)
        sent = modes.compress(waves(), Plan("full", strength=1.5))
        with pytest.raises(InvalidInputError, match=r"strength of 1\.5"):
            modes.restore(sent, 64, 64)


def missing(*_: object) -> Any:
    raise ConfigError("not installed")


@pytest.fixture
def equipped(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """With models of the user's, and every sweep; without the measures that take their time."""
    for name in ("st_lpips", "picture_features"):
        monkeypatch.setattr(metrics, name, missing)
    captions = tmp_path / "captions.txt"
    captions.write_text("0\ta wave\n1\ta grey wave at sea\n2\twaves\n", encoding="utf-8")
    options = CmcOptions(
        i2t=(("says", command(SAYS, "{in} '{words}'", tmp_path)),),
        t2i=(("paints", command(PAINTS, "{text} {image} {strength} {seed} {out}", tmp_path)),),
        captions=captions,
        words=(1, 2),
        strengths=(0.1, 0.9),
    )
    return replace(context, cmc=options, qp=(10, 40))


@pytest.mark.slow
def test_pairs_have_a_fixed_partner_and_settings_are_swept(equipped: Context) -> None:
    section = cmc.run(equipped, ["jpeg"])
    content = rows_of(section, "cmc-content")
    pairs = list(dict.fromkeys((row["describes"], row["paints"]) for row in content))
    assert pairs == [
        ("captions", "paints"),
        ("says", "paints"),
        ("server", "paints"),
        ("captions", "server"),
    ]
    assert {row["content"] for row in content} == {"NSI", "SCI", "AIGI"}
    names = [row["mode"] for row in rows_of(section, "cmc")]
    assert "full, by captions, to paints, 1 words" in names
    assert "pixel, by captions, to paints, strength 0.9" in names
    assert "codec alone, QP 40" in names
    improved = rows_of(section, "cmc-qp")
    assert [row["picture"] for row in improved] == ["codec", "full mode", "improves by"] * 2
    assert improved[0]["SSIM"] < improved[3]["SSIM"]
    assert improved[2]["SSIM"].endswith("%")
    plots = {plot.name for plot in section.plots}
    assert {"cmc-strength-ssim", "cmc-words-ssim", "cmc-qp-ssim", "cmc-rate-ssim"} <= plots
    scores = rows_of(section, "cmc-score")
    assert all(row["overall score"] is None for row in scores)
    assert all(isinstance(row["SSIM and sharpness"], float) for row in scores)


@pytest.mark.slow
def test_other_commands_are_asked_again_and_the_same_are_not(
    equipped: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(equipped, limit=1, qp=(), cmc=replace(equipped.cmc, words=(), strengths=()))
    first = cmc.run(few, ["jpeg"])
    size = (few.out / "cmc" / "records.jsonl").stat().st_size
    assert cmc.run(few, ["jpeg"]).tables == first.tables
    assert (few.out / "cmc" / "records.jsonl").stat().st_size == size
    other = command(PAINTS + "\n", "{text} {image} {strength} {seed} {out}", tmp_path)
    cmc.run(replace(few, cmc=replace(few.cmc, t2i=(("paints", other),))), ["jpeg"])
    assert (few.out / "cmc" / "records.jsonl").stat().st_size > size


@pytest.mark.slow
def test_topiq_makes_the_score_where_its_weights_are(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Stub:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, *pictures: Any) -> float:
            asked.append((self.name, len(pictures)))
            return 3.0 if self.name == "TOPIQ-FR" else 2.0

    monkeypatch.setattr(measures, "_measure", Stub)
    section = cmc.run(replace(context, limit=1), ["jpeg"])
    scores = rows_of(section, "cmc-score")
    assert [row["overall score"] for row in scores] == pytest.approx([8 / 3] * 3)
    assert {("TOPIQ-FR", 2), ("TOPIQ-NR", 1), ("AHIQ", 2), ("LIQE", 1)} <= set(asked)
    row = rows_of(section, "cmc-measures")[0]
    assert [row[name] for name in ("TOPIQ-FR", "TOPIQ-NR")] == [3.0, 2.0]


def test_weights_of_pyiqa_are_looked_for_and_not_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []

    def create_metric(name: str, device: str) -> Any:
        made.append(name)
        return lambda *tensors: tensors[0].mean()

    module = type(sys)("pyiqa")
    module.create_metric = create_metric  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    monkeypatch.setattr(measures, "has_module", lambda name: True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    measures._measure.cache_clear()
    try:
        assert measures.iqa("TOPIQ-NR", [waves()]) is None
        measures._measure.cache_clear()
        folder = tmp_path / "hub" / "pyiqa"
        folder.mkdir(parents=True)
        (folder / "cfanet_nr_koniq_res50-9a73138b.pth").touch()
        value = measures.iqa("TOPIQ-NR", [waves()])
    finally:
        measures._measure.cache_clear()
    assert value == pytest.approx(float(waves().mean() / 255), abs=1e-4)
    assert made == ["topiq_nr"]


def test_sharpness_falls_with_blur() -> None:
    pytest.importorskip("skimage")
    edges = np.kron(np.indices((8, 8)).sum(0) % 2 * 255, np.ones((8, 8)))
    sharp = np.repeat(edges[..., None], 3, axis=2).astype(np.uint8)
    assert measures.sharpness(sharp) > measures.sharpness(waves())
    assert 0.0 <= measures.sharpness(np.zeros((64, 64, 3), dtype=np.uint8)) <= 1.0


def test_a_mode_with_other_content_gets_no_score() -> None:
    plan = Plan("full")
    found = [{"kind": "NSI", "ssim": 0.5}, {"kind": "SCI", "ssim": None}]
    group = cmc_tables.Group(plan, found, [Path("a"), Path("b")], lambda one: waves())
    assert cmc_tables._content(group, "SSIM") is None


WORDS = ["--i2t", "me=look {in}", "--t2i", "draw {text} {out}", "--qp", "53,51,48,45"]


def test_the_options_are_read_and_told_again() -> None:
    more = ["--words", "5,10", "--strength", "0,0.5", "--external", "x", "e {in} {out}", "d", "1"]
    given = arguments.parse(["evaluate", "cmc", *WORDS, *more])
    assert given.i2t == [("me", "look {in}")]
    assert given.t2i == [("draw", "draw {text} {out}")]
    assert given.qp == [53, 51, 48, 45]
    assert (given.words, given.strength) == ([5, 10], [0.0, 0.5])
    again = command_line(given)
    assert "--qp 53,51,48,45 --words 5,10 --strength 0,0.5 --i2t 'me=look {in}'" in again
    assert "--external x 'e {in} {out}' d 1" in again
    assert arguments.parse(["evaluate", "codecs", "--qp", "paper"]).qp == ["paper"]


@pytest.mark.parametrize(
    "words",
    [["--qp", "0"], ["--qp", "x"], ["--strength", "1.2"], ["--words", ""], ["--i2t", " "]],
)
def test_options_of_other_kinds_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        arguments.parse(["evaluate", "cmc", *words])


def test_names_are_used_once() -> None:
    with pytest.raises(ConfigError, match="'server' is taken"):
        distinct([("server", "x")])
    with pytest.raises(ConfigError, match="'a' is taken"):
        external_codecs([["a", "e {in} {out}", "d {in} {out}", "1"]] * 2)
