"""The table of `--timings`."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serving_fakes import LONG_S

from cloud_server.start_times import StartTimes

ROOT = Path(__file__).parents[3]


def test_the_parts_of_a_table_add_up():
    times = StartTimes(time.monotonic() - 1.0)
    with times("bundle"):
        time.sleep(0.05)
    with pytest.raises(ValueError), times("weights"):
        raise ValueError
    rows = dict(re.findall(r"^(.*?) +([\d.]+) s$", times.table(), re.M))
    assert list(rows) == [
        "interpreter and flags", "bundle", "weights", "listening, and all else", "ready"
    ]  # fmt: skip
    *parts, total = map(float, rows.values())
    assert total == pytest.approx(sum(parts), abs=0.03)
    assert float(rows["interpreter and flags"]) == pytest.approx(1.0, abs=0.02)
    assert float(rows["bundle"]) >= 0.05


def test_a_process_knows_when_it_began():
    code = (
        "import time; time.sleep(0.3)\n"
        "from cloud_server.start_times import StartTimes\n"
        "print(StartTimes().table())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert float(done.stdout.split()[3]) >= 0.3


@pytest.mark.slow
def test_a_server_prints_its_table_once_it_listens():
    command = [sys.executable, "-m", "cloud_server.cli", "--stub", "--port", "0", "--timings"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        until = time.monotonic() + LONG_S
        lines = []
        assert running.stdout is not None
        while not lines or not lines[-1].startswith("ready"):
            assert time.monotonic() < until
            lines.append(running.stdout.readline())
        running.terminate()
    assert lines[0].startswith("listening on http://")
    assert [line.partition("  ")[0] for line in lines[1:4]] == [
        "interpreter and flags", "import of the server", "stub"
    ]  # fmt: skip
