"""The section about necks: what travels, beside codecs, and the tables that the cloud judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation_folder import fake_context, rows_of, write_folder

from edge_client.evaluation.codecs import find_codecs
from edge_client.evaluation.context import Context
from edge_client.evaluation.sections import neck
from shared_protocol.errors import ConfigError


@pytest.fixture
def context(tmp_path: Path) -> Context:
    folder = write_folder(tmp_path / "data")
    return fake_context(folder, tmp_path / "out", "http://nowhere", codecs=("jpeg",))


def test_pictures_are_measured_as_tokens_and_at_equal_bytes_by_a_codec(context: Context) -> None:
    rows = rows_of(neck.run(context), "neck-bytes")
    methods = [row["sent as"] for row in rows]
    assert methods == [neck.method_of(ratio) for ratio in neck.RATIOS] + ["jpeg"]
    by_method = {row["sent as"]: row for row in rows}
    assert all(row["pictures"] == 2 for row in rows)
    assert by_method["tokens"]["picture bytes"] == 16  # the fakes code a token in a byte
    assert by_method["tokens, keep 0.5"]["picture bytes"] < 16
    assert by_method["jpeg"]["picture bytes"] > 0
    records = context.records(neck.NAME)
    one = records["images/1.png|tokens, keep 0.5"]
    assert len(one["codes"]) == 16
    assert len(one["dropped"]) == 8
    shown = context.folder(neck.NAME) / records["images/2.png|jpeg"]["shown"]
    assert shown.is_file()


def test_a_request_to_classify_counts_all_of_its_bytes(context: Context) -> None:
    neck.run(context)
    record = context.records(neck.NAME)["images/1.png|tokens"]
    assert record["picture_bytes"] < record["message_bytes"] < record["picture_bytes"] + 40


def test_a_second_run_measures_nothing_again(context: Context) -> None:
    first = neck.run(context)
    place = context.folder(neck.NAME) / "records.jsonl"
    before = place.read_bytes()
    assert neck.run(context).tables == first.tables
    assert place.read_bytes() == before


def test_judged_tables_are_shown_where_they_are(context: Context) -> None:
    found = neck.run(context)
    assert "neck-report" in found.notes[-1]
    judged = {
        "name": "neck-accuracy",
        "title": "Accuracy",
        "columns": ["way", "top-1"],
        "rows": [["pixels", 1.0], ["neck", 0.5]],
        "notes": ["two"],
    }
    path = context.folder(neck.NAME) / neck.JUDGED
    path.write_text(json.dumps({"tables": [judged]}))
    found = neck.run(context)
    assert rows_of(found, "neck-accuracy")[1] == {"way": "neck", "top-1": 0.5}
    assert not any("neck-report" in note for note in found.notes)


@pytest.mark.parametrize("content", ["[]", '{"tables": [{}]}', "no JSON", '{"tables": 3}'])
def test_a_judged_file_that_is_none_is_told(context: Context, content: str) -> None:
    (context.folder(neck.NAME) / neck.JUDGED).write_text(content)
    with pytest.raises(ConfigError, match="judge"):
        neck.run(context)


def test_where_vvc_is_missing_others_stand_in_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(context: Context, default: tuple[str, ...]) -> tuple[list[object], list[str]]:
        some, missing = find_codecs([name for name in default if name != "vvc"])
        return [codec for codec in some if codec.name == "jpeg"], missing

    monkeypatch.setattr(neck, "baselines", here)
    context = fake_context(write_folder(tmp_path / "data"), tmp_path / "out", "http://nowhere")
    found = neck.run(context)
    assert "VVC is not available here; in its place: jpeg." in found.notes
    assert rows_of(found, "neck-bytes")[-1]["sent as"] == "jpeg"
