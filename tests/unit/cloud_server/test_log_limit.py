"""A log grows by a bounded number of bytes, and tells how many lines are missing."""

import io
import logging

from cloud_server.log_limit import LimitedHandler


def test_a_flood_of_lines_is_cut_and_counted():
    stream, now = io.StringIO(), 0.0
    handler = LimitedHandler(stream, 1000, lambda: now)
    logger = logging.Logger("flood")
    logger.addHandler(handler)
    for number in range(60_000):
        now = number / 1000
        logger.error("line %d %s", number, "x" * 100)
    now += 60.0
    logger.error("the last")
    said = stream.getvalue()
    assert len(said) < 60 * 1000 + 20 * 1000 + 2000
    assert "lines of log were left out" in said
    assert said.rstrip().endswith("the last")


def test_without_a_limit_every_line_is_written():
    stream = io.StringIO()
    logger = logging.Logger("all")
    logger.addHandler(LimitedHandler(stream, 0))
    for number in range(5000):
        logger.error("line %d", number)
    assert len(stream.getvalue().splitlines()) == 5000
