"""Results on disk: there after a restart, bounded, and nobody else's to read."""

import sqlite3
import stat

import numpy as np
import pytest

from cloud_server.generation.work import AnswerResult, LabelsResult, PictureResult
from cloud_server.serving.results.store import FILE, ResultStore
from shared_protocol.errors import ConfigError
from shared_protocol.labels import LabelSet, Ranking

pytestmark = pytest.mark.anyio
PICTURE = PictureResult(np.arange(12, dtype=np.int64).reshape(3, 4))
LABELS = LabelsResult(Ranking(LabelSet(b"s" * 32, 9), (8, 3), (50, 3), ("fox", "hat")))
ANSWER = AnswerResult(np.array([5, 6, 7], dtype=np.int64), True)


def store(folder, now=lambda: 1000.0, fingerprint=b"f" * 32, most=100_000):
    return ResultStore(folder, fingerprint, most, 60.0, now)


def key(name, digest=b"d" * 32):
    return name, digest


async def test_a_result_is_there_after_a_restart_even_without_a_proper_end(tmp_path):
    first = store(tmp_path / "r")
    first.put(key("one"), PICTURE)
    first.put(key("two"), ANSWER)
    first.put(key("three"), LABELS)
    await first.get(key("one"))  # it is written in order: both are there now
    second = store(tmp_path / "r")
    picture, answer = await second.get(key("one")), await second.get(key("two"))
    assert np.array_equal(picture.codes, PICTURE.codes)
    assert (answer.text_ids.tolist(), answer.finished) == ([5, 6, 7], True)
    assert await second.get(key("three")) == LABELS
    assert await second.get(key("one", b"e" * 32)) is None
    await second.close()
    await first.close()


async def test_results_of_another_bundle_are_not_found(tmp_path):
    first = store(tmp_path / "r")
    first.put(key("one"), PICTURE)
    await first.close()
    other = store(tmp_path / "r", fingerprint=b"g" * 32)
    assert await other.get(key("one")) is None
    await other.close()


async def test_results_expire_and_the_oldest_go_first(tmp_path):
    now = 1000.0
    kept = store(tmp_path / "r", lambda: now, most=500)
    for number in range(20):
        now += 1.0
        kept.put(key(str(number)), PICTURE)
        await kept.get(key(str(number)))
    assert await kept.get(key("0")) is None
    assert await kept.get(key("19")) is not None
    now += 61.0
    assert await kept.get(key("19")) is None
    await kept.close()


async def test_what_is_forgotten_is_gone(tmp_path):
    kept = store(tmp_path / "r")
    kept.put(key("one"), PICTURE)
    kept.forget(key("one"))
    assert await kept.get(key("one")) is None
    await kept.close()


async def test_nobody_else_may_read_it_and_no_key_is_in_it(tmp_path):
    kept = store(tmp_path / "r")
    kept.put(key("secret-name"), PICTURE)
    await kept.close()
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "r" / FILE).stat().st_mode) == 0o600
    assert all(b"secret-name" not in file.read_bytes() for file in (tmp_path / "r").iterdir())
    (tmp_path / "r").chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        store(tmp_path / "r")


async def test_a_file_that_is_no_store_is_named_with_a_remedy(tmp_path):
    (tmp_path / "r").mkdir(mode=0o700)
    (tmp_path / "r" / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match="cannot keep results"):
        store(tmp_path / "r")


async def test_the_folders_above_are_made_and_are_the_users_alone(tmp_path):
    kept = store(tmp_path / "a" / "b" / "r")
    assert stat.S_IMODE((tmp_path / "a" / "b" / "r").stat().st_mode) == 0o700
    kept.put(key("one"), ANSWER)
    assert (await kept.get(key("one"))).finished
    await kept.close()


async def test_the_very_first_failure_of_a_disk_is_told(tmp_path, caplog):
    kept = store(tmp_path / "r")
    with sqlite3.connect(tmp_path / "r" / FILE) as other:
        other.execute("drop table results")
    assert await kept.get(key("one")) is None
    assert await kept.get(key("two")) is None
    assert caplog.text.count("results are not kept on disk") == 1
    await kept.close()


async def test_a_disk_that_fails_costs_no_request(tmp_path, caplog):
    kept = store(tmp_path / "r")
    await kept._begin(kept._base.execute, "drop table results")
    kept.put(key("one"), PICTURE)
    assert await kept.get(key("one")) is None
    assert caplog.text.count("results are not kept on disk") == 1
    await kept.close()
