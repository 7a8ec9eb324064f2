"""`edge-client evaluate` over real sockets: with a fake model, and once with the built-in one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_fakes import FakeBundle
from serving_fakes import FakeEngine, LiveServer, fake_settings

from edge_client import cli
from edge_client.evaluation import evaluate
from edge_client.evaluation.context import Context, Section, Table
from edge_client.evaluation.data import read_data
from edge_client.evaluation.interactions import good, request_of, run_task
from edge_client.evaluation.sections import (
    ablation,
    inpaint,
    outpaint,
    rate_control,
    t2i,
    text,
    vqa,
)
from edge_client.evaluation.tables import quality
from edge_client.pictures.outputs import save_picture
from edge_client.transport.counted_http import CountedHttp
from shared_protocol.errors import ConfigError, TransportError, UnimicError

PICTURE = np.kron(np.arange(16).reshape(4, 4) * 12, np.ones((16, 16), dtype=np.uint8))
PIXELS = np.repeat(PICTURE[..., None], 3, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def server(engine: FakeEngine) -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0), engine, bundle=FakeBundle()) as live:
        yield live


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with a case of every task each."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    for number in (1, 2):
        name = f"images/{number}.png"
        save_picture(data / name, np.roll(PIXELS, number * 16, axis=0))
        edit = {"image": name, "seed": number}
        extend, box = {"left": 1, "right": 2}, [16, 16, 16, 32]
        asked = {"answers": ["CBA."], "kind": "describe", "wording": "trained"}
        lines += [
            {"id": f"t2i-{number}", "task": "t2i", "prompt": "a fox", "seed": number},
            {"id": f"in-{number}", "task": "inpaint", "prompt": "a ball", "box": box, **edit},
            {"id": f"out-{number}", "task": "outpaint", "prompt": "sea", "extend": extend, **edit},
            {"id": f"vqa-{number}", "task": "vqa", "prompt": "abc", **edit, **asked},
        ]
    (data / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return data


@pytest.fixture
def context(
    server: LiveServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Context:
    def missing(*_: object) -> float:
        raise ConfigError("not installed")

    monkeypatch.setattr(quality.metrics, "st_lpips", missing)
    monkeypatch.setattr(quality.metrics, "picture_features", missing)
    return Context(
        data=read_data(folder),
        out=tmp_path / "out",
        bundle=FakeBundle(),
        server=server.url,
        steps=2,
        keep_ratios=(0.5,),
        quiet=True,
    )


def table(section: Section, name: str) -> list[dict[str, Any]]:
    """The rows of a table by column."""
    found: Table = next(table for table in section.tables if table.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_a_rate_table_holds_the_means_of_what_was_sent(context: Context) -> None:
    rows = table(inpaint.run(context), "inpaint-rate")
    talks = run_task(context, "inpaint")
    sizes = {(row[""], row["part"]): row["bytes"] for row in rows}
    for way in ("up", "down"):
        assert sizes[way, "all"] == np.mean([talk.bytes[way] for talk in talks])
        parts = [
            size for (w, part), size in sizes.items() if w == way and part not in ("all", "HTTP")
        ]
        assert sum(parts) == pytest.approx(sizes[way, "all"])
        assert sizes[way, "HTTP"] > sizes[way, "all"] + 50
    assert sizes["both", "all"] == sizes["up", "all"] + sizes["down", "all"]
    assert sizes["both", "all but text"] == sizes["both", "all"] - sizes["up", "text"]
    bpp = {(row[""], row["part"]): row["bpp"] for row in rows}
    assert bpp["up", "all"] == sizes["up", "all"] * 8 / 64**2


def test_http_bytes_are_those_of_the_connection(context: Context) -> None:
    handler = CountedHttp()
    with context.transport(handler) as transport:
        transport.info()
    assert handler.sent > len("GET /v1/info HTTP/1.1\r\nHost: \r\n\r\n")
    once, received = handler.sent, handler.received
    with context.transport(handler) as transport:
        transport.info()
    assert (handler.sent, handler.received) == (2 * once, 2 * received)


def test_a_second_run_asks_for_nothing_again(context: Context, engine: FakeEngine) -> None:
    first = outpaint.run(context)
    asked = len(engine.requests)
    assert outpaint.run(context) == first
    assert len(engine.requests) == asked
    lines = (context.out / "records.jsonl").read_text().splitlines()
    (context.out / "records.jsonl").write_text("\n".join(lines)[:-40])
    assert outpaint.run(context).tables[1] == first.tables[1]
    assert len(engine.requests) == asked + 1


def test_the_limit_and_the_seed_are_kept(context: Context, engine: FakeEngine) -> None:
    few = replace(context, limit=1, seed=5)
    talks = run_task(few, "t2i")
    assert [talk.case.id for talk in talks] == ["t2i-1"]
    assert engine.requests[-1].seed == 1 + 5
    assert request_of(few, talks[0].case).options.seed == 1 + 5
    assert engine.requests[-1].steps == 2


def test_results_that_fit_are_told_from_those_that_do_not(context: Context) -> None:
    for section, name in (
        (inpaint.run(context), "inpaint"),
        (outpaint.run(context), "outpaint"),
    ):
        (row,) = table(section, f"{name}-preserved")
        assert (row["interactions"], row["all identical"]) == (2, 2)
        rows = table(section, f"{name}-quality")
        same = [row for row in rows if row["result against"].startswith("tokenised original")]
        assert [row["identical"] for row in same] == [2]
    (row,) = [
        r for r in table(section, "outpaint-quality") if r["result against"][:8] == "original"
    ]
    assert row["ST-LPIPS"] is None
    assert row["Frechet, EfficientNet-Lite0"] is None


def test_answers_are_compared_as_words(context: Context) -> None:
    rows = {row["questions"]: row for row in table(vqa.run(context), "vqa-exact-match")}
    assert (rows["all"]["asked"], rows["all"]["right"]) == (2, 2)
    wrong = replace(context.data.of("vqa")[0], answers=("abc",))
    data = replace(context.data, cases=(wrong, context.data.of("vqa")[1]))
    rows = {
        r["questions"]: r for r in table(vqa.run(replace(context, data=data)), "vqa-exact-match")
    }
    assert rows["kind: describe"]["share"] == 0.5


def test_pictures_of_prompts_have_no_counterpart(context: Context) -> None:
    section = t2i.run(context)
    (row,) = table(section, "t2i-quality")
    assert (row["pictures"], row["PSNR, dB"]) == (2, "–")
    (row,) = table(section, "t2i-distribution")
    assert list(row.values()) == [2, 2, None]
    assert all(tile.path.is_file() for tiles in section.examples for tile in tiles)


def test_an_ablation_codes_the_same_tokens_under_every_allowed_model(context: Context) -> None:
    section = ablation.run(context)
    rows = {row["stream"]: row for row in table(section, "ablation-bits")}
    assert set(rows) == {
        "t2i down",
        "inpaint up",
        "inpaint down",
        "outpaint up",
        "outpaint down",
        "vqa up",
    }
    assert rows["vqa up"]["tokens"] == 2 * 16
    assert rows["vqa up"]["uniform"] == 13
    assert rows["vqa up"]["generic"] == 8  # the fake model's code of a token is one byte
    assert rows["vqa up"]["masked"] == 8
    assert rows["vqa up"]["offline only"] == "masked, text_conditioned, adapted"
    assert rows["inpaint up"]["offline only"] == "adapted"
    assert rows["inpaint up"]["tokens"] == 2 * 14
    assert rows["outpaint down"]["tokens"] == 2 * 12
    witnessed = {(r["stream"], r["model"]): r for r in table(section, "ablation-witness")}
    assert all(0 <= row["constriction"] - row["range coder"] <= 4 for row in witnessed.values())
    assert witnessed["vqa up", "generic"]["range coder"] == 16
    assert ablation.run(context).tables == section.tables
    path = context.out / "ablation" / "records.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"offline"', '"older"'), "utf-8")
    assert ablation.run(context).tables == section.tables  # what an older run did not measure


def test_texts_are_measured_against_their_characters(context: Context, tmp_path: Path) -> None:
    rows = {row["texts"]: row for row in table(text.run(context), "text-bytes")}
    assert rows["all"]["number"] == 4
    assert rows["t2i"]["UTF-8"] == 5
    assert rows["t2i"]["ids, packed"] == 1 + (5 * 9 + 7) // 8
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\n\na fox\nein Bär\n", encoding="utf-8")
    rows = {r["texts"]: r for r in table(text.run(replace(context, prompts=prompts)), "text-bytes")}
    assert rows["all"]["number"] == 2
    assert rows["all"]["UTF-8"] == (5 + 8) / 2
    with pytest.raises(ConfigError, match="cannot read"):
        text.run(replace(context, prompts=tmp_path / "none.txt"))


@pytest.mark.slow
def test_fewer_tokens_cost_fewer_bytes_and_the_edge_keeps_its_own(context: Context) -> None:
    rows = table(rate_control.run(context), "rate-control")
    by_setting = {(r["task"], r["left out first"], r["keep ratio"]): r for r in rows}
    assert len(by_setting) == len(rows) == 4 * 4 + 3
    for task in ("inpaint", "outpaint", "vqa"):
        whole = by_setting[task, "–", 1.0]
        half = by_setting[task, "cheapest", 0.5]
        assert half["image tokens"] == pytest.approx(whole["image tokens"] / 2, abs=1)
        assert whole["which are left out"] == 0 < half["which are left out"]
        assert by_setting[task, "even", 0.5]["which are left out"] == 1
        assert whole["as with all tokens"] == 1.0
    assert by_setting["vqa", "cheapest", 0.5]["answers right"] == 1.0
    assert by_setting["picture", "random", 0.5]["as with all tokens"] >= 0.5


def test_a_case_that_fails_is_kept_and_asked_again(context: Context) -> None:
    nobody = replace(context, server="http://127.0.0.1:9", timeout=0.5)
    with pytest.raises(TransportError):
        run_task(nobody, "t2i")
    failed = nobody.records(".")
    assert failed["t2i-1"]["error"]
    assert good(failed, "t2i-1") is None
    assert len(run_task(context, "t2i")) == 2


def arguments(server: str, folder: Path, out: Path, *more: str) -> list[str]:
    words = ["evaluate", *more, "--server", server, "--data", str(folder), "--out", str(out)]
    return [*words, "--steps", "2", "-q"]


@pytest.mark.slow
def test_the_command_writes_tables_plots_and_examples(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "load_bundle", lambda *_: FakeBundle())
    words = arguments(context.server, context.data.folder, context.out, "t2i", "vqa")
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "Bytes of a question" in shown
    assert cli.main(arguments(context.server, context.data.folder, context.out, "text")) == 0
    report = (context.out / "results.md").read_text(encoding="utf-8")
    for words_ in ("## Text to image", "## Visual question answering", "## Text\n", "fingerprint"):
        assert words_ in report  # the second run kept what the first one found
    assert "edge-client evaluate t2i vqa" in report
    assert "not available here" in report
    with (context.out / "results.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert {cell["section"] for cell in cells} == {"t2i", "vqa", "text"}
    (asked,) = [c for c in cells if c["label"] == "all" and c["column"] == "asked"]
    assert asked["value"] == "2"
    assert (context.out / "qualitative.png").is_file()


def test_what_one_section_cannot_do_does_not_stop_the_others(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Context) -> Section:
        raise UnimicError("the moon is in the way", "wait")

    monkeypatch.setattr(evaluate, "load_bundle", lambda *_: FakeBundle())
    monkeypatch.setattr(vqa, "run", broken)
    words = arguments(context.server, context.data.folder, context.out, "vqa", "text", "--json")
    assert cli.main(words) == cli.FAILED
    data = json.loads(capsys.readouterr().out)
    assert [section["name"] for section in data["sections"]] == ["text"]
    assert data["failures"] == ["vqa: the moon is in the way (wait)"]


def test_results_of_other_settings_are_not_mixed(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "load_bundle", lambda *_: FakeBundle())
    words = arguments(context.server, context.data.folder, context.out, "text")
    assert cli.main(words) == 0
    assert cli.main([*words, "--seed", "9"]) == cli.WRONG_INPUT
    monkeypatch.setattr(evaluate, "load_bundle", lambda *_: FakeBundle(fingerprint=bytes([7] * 32)))
    assert cli.main(words) == cli.WRONG_INPUT


@pytest.mark.slow
def test_the_built_in_bundle_evaluates_its_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "t2i inpaint outpaint vqa ablation text rate-control --spawn --limit 1 --steps 2"
    ratio = ["--keep-ratio", "0.5", "--timeout", "600", "--json"]
    assert cli.main(["evaluate", *words.split(), "--out", str(tmp_path), *ratio]) == 0
    data = json.loads(capsys.readouterr().out)
    tables = {table["name"]: table for section in data["sections"] for table in section["tables"]}
    rate = {(row[0], row[1]): row[2] for row in tables["outpaint-rate"]["rows"]}
    uniform = {(row[0], row[1]): row[4] for row in tables["outpaint-rate"]["rows"]}
    assert 0 < rate["up", "all"] < uniform["up", "all"]
    assert tables["inpaint-preserved"]["rows"][0][1] == 1
    assert (tmp_path / "qualitative.png").is_file()
