"""The report about a neck: marks by hand, ways that agree where they must, tables from records."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_necks import NAMES, neck_content

from cloud_server.necks.neck_file import NeckFile, write_neck_file
from cloud_server.necks.networks import NeckSizes
from cloud_server.training.benchmark import neck_report
from cloud_server.training.benchmark.macs import macs_of, parameters_used
from cloud_server.training.benchmark.neck_measures import DECODED, NECK, PIXELS, POST, Models, marks
from cloud_server.training.recipes.neck.students import UNet
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import CheckpointError, ConfigError

SIDE = 256


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A neck with random weights for the built-in tokenizer."""
    file = tmp_path / "neck.safetensors"
    write_neck_file(file, neck_content(load_bundle().tokenizer_fingerprint.hex()))
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    for number, picture in enumerate(noise):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


def arguments(*flags: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    neck_report.add_arguments(parser)
    return parser.parse_args([str(flag) for flag in flags])


def test_marks_by_hand() -> None:
    ranks = np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]])
    truth = [{0}, {0, 1}, {1, 2}, {1}]
    reference = np.array([[0, 2, 1], [0, 1, 2], [2, 1, 0], [1, 0, 2]])
    found = marks(ranks, truth, reference)
    assert found.count == 4
    assert found.top1 == 0.5
    assert found.top2 == 0.5
    assert found.top5 == 1.0
    assert found.agreement == 0.5


def test_operations_and_parameters_of_a_layer_by_hand() -> None:
    layer = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert macs_of(lambda: layer(torch.zeros(1, 3, 10, 10))) == 3 * 8 * 9 * 100
    both = torch.nn.ModuleList([layer, torch.nn.Linear(4, 4)])
    assert parameters_used(lambda: layer(torch.zeros(1, 3, 4, 4)), both) == 3 * 8 * 9 + 8


def models(path: Path) -> Models:
    return neck_report.open_models(
        neck_report.read_neck_file(path), arguments("--neck", path), load_bundle()
    )


def test_a_neck_costs_less_than_a_fifth_of_decoding_first(path: Path) -> None:
    costs = models(path).costs((16, 16))
    assert costs[NECK][0] < 0.2 * costs[DECODED][0]
    assert costs[NECK][1] < costs[DECODED][1]
    assert costs[PIXELS][0] < costs[DECODED][0]


def test_an_untrained_baseline_sees_what_decoding_first_sees(path: Path) -> None:
    plain = models(path)
    ways = Models(plain.encoder, plain.neck, plain.tokenizer, UNet().eval()).ways()
    codes = torch.from_numpy(np.random.default_rng(2).integers(0, 8192, (1, 16, 16)))
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(ways[POST](codes, pixels), ways[DECODED](codes, pixels))


@pytest.mark.slow
def test_photographs_are_judged_by_what_their_pixels_give(
    path: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "post.pt"
    torch.save(UNet().state_dict(), weights)
    flags = ("--neck", path, "--images", photos, "--out", tmp_path / "out")
    flags += (
        "--post-processing",
        weights,
        "--compare",
        f"same={path}",
        "--compare",
        f"same={path}",
    )
    assert neck_report.run(arguments(*flags)) == 0
    told = json.loads((tmp_path / "out" / neck_report.JUDGED).read_text())["tables"]
    rows = {row[0]: dict(zip(told[0]["columns"], row, strict=True)) for row in told[0]["rows"]}
    assert list(rows) == [PIXELS, DECODED, POST, NECK]
    assert rows[PIXELS]["top-1"] == rows[PIXELS]["as pixels"] == 1.0
    assert rows[DECODED]["of decoding first"] == 1.0
    compared = dict(zip(told[1]["columns"], told[1]["rows"][0], strict=True))
    assert compared["seeds"] == 2
    assert compared["top-1, mean"] == rows[NECK]["top-1"]
    assert compared["kMAC a pixel"] == pytest.approx(rows[NECK]["kMAC a pixel"])
    assert "2 photographs of photos" in capsys.readouterr().out


@pytest.mark.slow
def test_what_an_edge_client_sent_is_judged(path: Path, photos: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    (records / "pictures").mkdir(parents=True)
    lines = []
    codes = np.random.default_rng(4).integers(0, 8192, 256).tolist()
    for name in ("0.png", "1.png"):
        with Image.open(photos / name) as opened:
            opened.save(records / "pictures" / name)
        shared = {"picture": name, "picture_bytes": 30}
        tokens = {"codes": codes, "dropped": []}
        some = {"codes": codes, "dropped": [3, 4], "picture_bytes": 20}
        lines += [
            {"id": f"{name}|tokens", "method": "tokens", **shared, **tokens},
            {"id": f"{name}|fewer", "method": "tokens, keep 0.5", **shared, **some},
            {"id": f"{name}|vvc", "method": "vvc", **shared, "shown": f"pictures/{name}"},
        ]
    (records / "records.jsonl").write_text("\n".join(map(json.dumps, lines)))
    neck_report.run(arguments("--neck", path, "--records", records, "--data", photos))
    (told,) = json.loads((records / neck_report.JUDGED).read_text())["tables"]
    rows = {row[0]: dict(zip(told["columns"], row, strict=True)) for row in told["rows"]}
    both = (NECK, DECODED)
    names = {f"{sent}: {way}" for sent in ("tokens", "tokens, keep 0.5") for way in both}
    assert rows.keys() == {PIXELS, "vvc", *names}
    assert rows["vvc"]["as pixels"] == 1.0  # the codec's picture is the picture here
    assert rows[f"tokens, keep 0.5: {NECK}"]["picture bytes"] == 20


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "nothing to judge"),
        (("--records", "somewhere"), "--records without --data"),
    ],
)
def test_flags_that_ask_for_nothing_are_refused(
    path: Path, flags: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        neck_report.run(arguments("--neck", path, *flags))


def test_files_that_do_not_belong_together_are_refused(
    path: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="NAME=FILE"):
        neck_report.run(arguments("--neck", path, "--images", photos, "--compare", "x"))
    with pytest.raises(ConfigError, match="no records"):
        neck_report.run(arguments("--neck", path, "--records", tmp_path, "--data", photos))
    other = tmp_path / "other.safetensors"
    content = neck_content()
    assert isinstance(content, NeckFile)
    assert content.sizes == NeckSizes("conv", 128, blocks=1)
    assert content.labels == NAMES
    write_neck_file(other, content)
    with pytest.raises(CheckpointError, match="another image tokenizer"):
        neck_report.run(arguments("--neck", other, "--images", photos))
