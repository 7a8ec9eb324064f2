"""A structured log: every line one JSON object, whatever is logged, within the limit of the log."""

import io
import json
import logging
import re
import subprocess
import sys

import pytest
from serving_fakes import MSGPACK, FailingEngine, a_message, fake_settings, serving

from cloud_server.json_log import JsonLines
from cloud_server.log_limit import LimitedHandler
from shared_protocol.tasks import Task


def lines_of(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream():
    """What all loggers write, as JSON."""
    stream = io.StringIO()
    handler = LimitedHandler(stream, 0)
    handler.setFormatter(JsonLines())
    root, before = logging.getLogger(), logging.root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def test_no_text_ends_a_line_and_a_fault_brings_its_traceback(stream):
    logger = logging.getLogger("any.body")
    logger.warning("two\nlines\u2028 and \x00 %s %d", 'a "word"', 3)
    try:
        raise ValueError("broken\n")
    except ValueError:
        logger.exception("incident %s", "abc", extra={"request_id": "abc"})
    logging.getLogger("uvicorn.error").error("%(not)s a mapping")
    first, second, third = lines_of(stream)
    assert first["message"] == 'two\nlines\u2028 and \x00 a "word" 3'
    assert (first["level"], first["logger"]) == ("warning", "any.body")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert "request_id" not in first
    assert second["request_id"] == "abc"
    assert second["exception"].endswith("ValueError: broken\n")
    assert third["logger"] == "uvicorn.error"


def test_lines_that_are_left_out_are_told_as_a_line_like_the_others():
    stream, now = io.StringIO(), 0.0
    handler = LimitedHandler(stream, 100, lambda: now)
    handler.setFormatter(JsonLines())
    logger = logging.Logger("flood")
    logger.addHandler(handler)
    for number in range(500):
        now = number / 10
        logger.error("line %d %s", number, "x" * 100)
    found = lines_of(stream)
    told = [line["message"] for line in found if "left out" in line["message"]]
    assert told
    assert len(stream.getvalue()) < 100 * (50 + 20) + 200 * len(told)


@pytest.mark.anyio
async def test_a_request_has_one_line_with_its_name_key_task_and_seconds(stream, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("ann hush-hush\n")
    keys.chmod(0o600)
    async with serving(fake_settings(api_keys=keys)) as (client, _):
        headers = {**MSGPACK, "Authorization": "Bearer hush-hush", "X-Request-Id": "job/7.a"}
        await client.post("/v1/vqa", content=a_message(Task.VQA), headers=headers)
    (line,) = [line for line in lines_of(stream) if line.get("request_id") == "job/7.a"]
    assert (line["key"], line["task"], line["status"]) == ("ann", "vqa", 200)
    assert 0 < line["seconds"] < 10
    assert set(line["stages"]) == {"decode", "queue", "model", "encode"}
    assert "hush" not in stream.getvalue()


@pytest.mark.anyio
async def test_a_fault_is_logged_under_the_name_of_its_request(stream):
    async with serving(runner=FailingEngine(RuntimeError("broken"))) as (client, _):
        headers = {**MSGPACK, "X-Request-Id": "mine-1"}
        reply = await client.post("/v1/t2i", content=a_message(), headers=headers)
    assert reply.status_code == 500
    assert reply.json()["request_id"] == reply.headers["x-request-id"] == "mine-1"
    named = [line for line in lines_of(stream) if line.get("request_id") == "mine-1"]
    assert len(named) == 2
    assert "RuntimeError: broken" in named[0]["exception"]


def test_the_flag_makes_every_line_of_stderr_an_object():
    code = (
        "import logging, warnings; from cloud_server.cli import parse_settings, start_logging\n"
        "s = parse_settings(['--log-format', 'json'])\n"
        "start_logging(s.log_level, s.log_bytes, s.log_format)\n"
        "logging.getLogger('uvicorn.error').warning('a line of the host')\n"
        "logging.getLogger('cloud_server.x').info('a line of ours')\n"
        "warnings.warn('of a library')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["logger"] for line in found] == ["uvicorn.error", "cloud_server.x", "py.warnings"]
