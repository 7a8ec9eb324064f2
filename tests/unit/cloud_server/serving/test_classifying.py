"""Classifying in a server: the neck that it holds, the work beside the engine's, the answers."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import numpy as np
import pytest
from serving_fakes import (
    BUNDLE,
    MSGPACK,
    STREAM,
    FakeClassifier,
    FakeEngine,
    GatedEngine,
    a_message,
    a_request,
    fake_settings,
    image,
    message,
    opened,
    serving,
    text,
    with_neck,
)

from cloud_server.generation.work import FILL_STEPS, ClassifyWork, LabelsResult, PictureWork
from cloud_server.necks import load as necks
from cloud_server.serving.admission.price import Effort, price_of
from cloud_server.serving.classifying import Classifying, named, open_neck
from cloud_server.serving.translation import batch_key, expected_steps
from cloud_server.settings import Settings
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import CheckpointError, ConfigError, InternalError, InvalidInputError
from shared_protocol.labels import LabelSet
from shared_protocol.message.codec import decode_response
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task
from shared_protocol.tokens import TokenMask

FEW = FakeClassifier(("fox", "hat", "sun"))
NAMED = Options(names=True)
CODES = image().codes.astype(np.int64)
GAPS = np.zeros((4, 4), dtype=bool)
GAPS[0, 1] = True


def runner(classifier: Any = FEW, inner: Any = None) -> Classifying:
    neck = named(classifier)
    assert neck is not None
    return Classifying(inner or FakeEngine(), neck)


# ---- work ------------------------------------------------------------------------------------


def test_the_likeliest_labels_come_first_with_their_names() -> None:
    (result,) = runner().run([ClassifyWork(CODES, top=2)])
    assert isinstance(result, LabelsResult)
    first = int(CODES.sum()) % 3
    ranking = result.ranking
    assert ranking.of == LabelSet.of(FEW.labels)
    assert ranking.numbers == (first, (first + 1) % 3)
    assert ranking.names == tuple(FEW.labels[number] for number in ranking.numbers)
    assert abs(ranking.probabilities[0] - 4 / 7) < 0.0125


def test_more_labels_than_there_are_give_all_of_them_and_equal_ones_keep_their_order() -> None:
    class Level(FakeClassifier):
        def classify(self, tokens: np.ndarray) -> np.ndarray:
            return np.full((len(tokens), len(self.labels)), 0.25, dtype=np.float32)

    (result,) = runner(Level("abcd")).run([ClassifyWork(CODES, top=255)])
    assert isinstance(result, LabelsResult)
    assert result.ranking.names == ("a", "b", "c", "d")


def test_a_batch_is_one_pass_whatever_it_asks_for() -> None:
    classifier = FakeClassifier("abc")
    work = [ClassifyWork(CODES, top=1), ClassifyWork(CODES + 1, top=3)]
    results = runner(classifier).run(work)
    assert [len(r.ranking.numbers) for r in results if isinstance(r, LabelsResult)] == [1, 3]
    assert [tokens.shape for tokens in classifier.seen] == [(2, 16)]
    one, two = a_request(Task.CLASSIFY), a_request(Task.CLASSIFY, top=9)
    assert batch_key(one, BUNDLE) == batch_key(two, BUNDLE)
    assert batch_key(one, BUNDLE) != batch_key(a_request(Task.VQA), BUNDLE)


def test_gaps_are_filled_by_the_engine_before_the_neck_looks() -> None:
    classifier, inner, steps = FakeClassifier("abc"), FakeEngine(), []
    work = [ClassifyWork(CODES, 1, seed=7, missing=GAPS), ClassifyWork(CODES, 1)]
    runner(classifier, inner).run(work, lambda *step: steps.append(step))
    (fill,) = inner.requests
    assert isinstance(fill, PictureWork)
    assert (fill.kind, fill.steps, fill.guidance, fill.seed) == ("inpaint", FILL_STEPS, 0.0, 7)
    assert len(fill.text_ids) == 0
    (tokens,) = classifier.seen
    assert tokens[0, 1] == (1 + 7) % 64
    assert np.array_equal(tokens[1], CODES.reshape(-1))
    assert {total for _, total in steps} == {FILL_STEPS + 1}
    assert [done for done, _ in steps] == list(range(1, FILL_STEPS + 2))


def test_other_work_is_the_engines() -> None:
    inner = FakeEngine()
    work = PictureWork("t2i", np.zeros(1, np.int64), grid=(4, 4), steps=2)
    runner(inner=inner).run([work])
    assert inner.requests == [work]


@pytest.mark.parametrize("rows", [np.full((1, 3), np.nan, np.float32), np.ones((1, 2), np.float32)])
def test_a_neck_that_gives_no_probabilities_is_a_fault(rows: np.ndarray) -> None:
    broken = SimpleNamespace(labels=FEW.labels, fingerprint="", classify=lambda tokens: rows)
    with pytest.raises(InternalError, match="no numbers"):
        runner(broken).run([ClassifyWork(CODES, top=1)])


def test_the_price_is_a_pass_over_the_picture_and_the_filling_of_its_gaps() -> None:
    whole = a_request(Task.CLASSIFY)
    gappy = Request(Task.CLASSIFY, text(), image(), dropped=TokenMask(GAPS))
    assert price_of(whole, BUNDLE, Effort()) == 16
    assert price_of(gappy, BUNDLE, Effort()) == 16 * (1 + FILL_STEPS)
    assert (expected_steps(whole, BUNDLE), expected_steps(gappy, BUNDLE)) == (1, FILL_STEPS + 1)


# ---- the neck of a server ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "said"), [((), "0 labels"), (("a", "a"), "twice"), (("x" * 201,), "201 characters")]
)
def test_a_neck_whose_labels_cannot_be_keeps_a_server_from_starting(
    labels: tuple[str, ...], said: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"the neck abab.* has .*{said}"):
        named(FakeClassifier(labels))


def test_a_neck_that_is_not_there_is_named_with_what_makes_one(tmp_path: Path) -> None:
    settings = Settings(neck=tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match=r"no neck at .*none\.safetensors .*train neck"):
        open_neck(settings, load_bundle(), "cpu")


def test_the_neck_that_is_named_goes_before_the_one_that_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str, str]] = []

    def load(path: Path, *, tokenizer_fingerprint: str, device: str) -> FakeClassifier:
        asked.append((path, tokenizer_fingerprint, device))
        return FakeClassifier("abc")

    own, shipped = tmp_path / "own", tmp_path / "shipped"
    own.touch()
    monkeypatch.setattr(necks, "load_neck", load)
    monkeypatch.setattr(necks, "SHIPPED", shipped)
    bundle = load_bundle()
    assert open_neck(Settings(), bundle, "cpu") is None
    shipped.touch()
    neck = named(open_neck(Settings(), bundle, "cpu"))
    assert neck is not None
    assert neck.labels == LabelSet.of("abc")
    open_neck(Settings(neck=own), bundle, "cuda:1")
    tokenizer = bundle.tokenizer_fingerprint.hex()
    assert asked == [(shipped, tokenizer, "cpu"), (own, tokenizer, "cuda:1")]


def test_a_neck_without_labels_names_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").touch()
    features = SimpleNamespace(fingerprint="00", features=lambda tokens: tokens)
    monkeypatch.setattr(necks, "load_neck", lambda path, **_: features)
    found = open_neck(Settings(neck=tmp_path / "own"), load_bundle(), "cpu")
    assert found is features
    assert named(found) is None


# ---- over HTTP -------------------------------------------------------------------------------

PATH = "/v1/classify"


@pytest.mark.anyio
async def test_labels_come_back_with_their_names_where_they_are_asked_for() -> None:
    classifier = FakeClassifier()
    async with serving(**with_neck(classifier)) as (client, _):
        named_request = a_request(Task.CLASSIFY, names=True, top=3)
        reply = await client.post(PATH, content=message(named_request), headers=MSGPACK)
        first = decode_response(reply.content, named_request, BUNDLE).value.labels
        held = Request(Task.CLASSIFY, text(), image(), held=LabelSet.of(classifier.labels))
        reply = await client.post(PATH, content=message(held), headers=MSGPACK)
        second = decode_response(reply.content, held, BUNDLE).value.labels
        info = (await client.get("/v1/info")).json()
    assert first is not None
    assert second is not None
    assert first.names == tuple(classifier.labels[number] for number in first.numbers)
    assert second.numbers[:3] == first.numbers
    assert len(reply.content) == 12 + 12
    assert info["neck"] == {
        "fingerprint": classifier.fingerprint,
        "labels": 1000,
        "labels_fingerprint": first.of.fingerprint.hex(),
    }
    assert "classify" in info["tasks"]


@pytest.mark.anyio
async def test_a_server_without_a_neck_says_so_before_it_reads_the_picture() -> None:
    async with serving() as (client, _):
        reply = await client.post(PATH, content=a_message(Task.CLASSIFY), headers=MSGPACK)
        info = (await client.get("/v1/info")).json()
        damaged = bytearray(a_message(Task.CLASSIFY))
        damaged[-1] ^= 1
        early = await client.post(PATH, content=bytes(damaged), headers=MSGPACK)
    assert reply.status_code == early.status_code == 422
    assert reply.json()["code"] == early.json()["code"] == "invalid_input"
    assert "holds no neck with labels" in reply.json()["message"]
    assert "--neck" in reply.json()["remedy"]
    assert info["neck"] is None
    assert "classify" not in info["tasks"]


@pytest.mark.anyio
async def test_a_stream_reports_progress_and_metrics_count_labels() -> None:
    gappy = Request(Task.CLASSIFY, text(), image(), dropped=TokenMask(GAPS), options=NAMED)
    async with serving(**with_neck()) as (client, _):
        reply = await client.post(PATH, content=message(gappy), headers=STREAM)
        metrics = (await client.get("/metrics")).text
    events = list(msgpack.Unpacker(io.BytesIO(reply.content), strict_map_key=False))
    assert events[0] == [0, FILL_STEPS + 1]
    assert events[-1].code == 0x55
    assert 'unimic_requests_total{status="200",task="classify"} 1.0' in metrics
    (line,) = [x for x in metrics.splitlines() if 'direction="down",part="labels"' in x and "#" not
               in x and "total" in x]  # fmt: skip
    assert float(line.split()[-1]) > 30


@pytest.mark.anyio
async def test_a_retry_with_the_same_key_gets_the_same_labels_and_costs_no_pass() -> None:
    classifier = FakeClassifier()
    headers = {**MSGPACK, "Idempotency-Key": "k"}
    async with serving(**with_neck(classifier)) as (client, _):
        one = a_message(Task.CLASSIFY)
        first = await client.post(PATH, content=one, headers=headers)
        with_names = await client.post(
            PATH, content=a_message(Task.CLASSIFY, names=True), headers=headers
        )
        job = await client.get("/v1/jobs/k")
        other = await client.post(PATH, content=a_message(Task.CLASSIFY, top=9), headers=headers)
    assert len(classifier.seen) == 1
    assert first.status_code == with_names.status_code == 200
    assert len(with_names.content) > len(first.content)
    assert job.content == with_names.content
    assert other.status_code == 422


@pytest.mark.anyio
async def test_requests_to_classify_wait_together_and_share_a_pass() -> None:
    classifier, engine = FakeClassifier(), GatedEngine()
    async with serving(**with_neck(classifier, engine), max_batch=4) as (client, service):
        with opened(engine.gate):
            busy = asyncio.create_task(client.post("/v1/t2i", content=a_message(), headers=MSGPACK))
            await asyncio.to_thread(engine.started.wait, 10)
            asked = [
                asyncio.create_task(
                    client.post(PATH, content=a_message(Task.CLASSIFY, top=k), headers=MSGPACK)
                )
                for k in (1, 2, 3)
            ]
            while service.queue_depth < 3:
                await asyncio.sleep(0.005)
        replies = await asyncio.gather(busy, *asked)
    assert {reply.status_code for reply in replies} == {200}
    assert [len(tokens) for tokens in classifier.seen] == [3]


@pytest.mark.anyio
async def test_a_picture_of_another_grid_is_refused_with_the_grid_that_is_read() -> None:
    wide = Request(Task.CLASSIFY, text(), image(4, 6))
    async with serving(fake_settings(), **with_neck()) as (client, _):
        reply = await client.post(PATH, content=message(wide), headers=MSGPACK)
        path = await client.post("/v1/vqa", content=a_message(Task.CLASSIFY), headers=MSGPACK)
    assert "classify came with a picture of 4x6" in reply.json()["message"]
    assert "4x4" in reply.json()["remedy"]
    assert "/v1/classify" in path.json()["remedy"]


def test_work_that_names_no_label_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="top must be at least 1"):
        ClassifyWork(CODES, top=0)
