"""Every command in surroundings that nobody would choose ends in a result or in an error that says
what is wrong and what to do: never in "please report it", never in a terminal that is steered."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_client import cli

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
FAR = {"UNIMIC_SERVER": "https://127.0.0.1:9"}
WEB = {"UNIMIC_SERVER": "http://name.invalid:1"}
LONG = "/" + "x" * 300
SURROUNDINGS: dict[str, dict[str, str | None]] = {
    "nobody answers": {},
    "a SOCKS proxy": {**WEB, "ALL_PROXY": "socks5://127.0.0.1:1"},
    "a proxy of colons": {**WEB, "HTTP_PROXY": "::::"},
    "half a proxy": {**FAR, "ALL_PROXY": "http://[::1", "UNIMIC_SERVER": "https://name.invalid"},
    "a proxy port": {**WEB, "ALL_PROXY": "http://h:99999"},
    "a proxy that steers": {**WEB, "ALL_PROXY": "http://h\x1b[31m\u202e:1"},
    "NO_PROXY of a bracket": {**WEB, "NO_PROXY": "["},
    "no CA file": {**FAR, "SSL_CERT_FILE": "/nowhere.pem"},
    "a CA file of junk": {**FAR, "SSL_CERT_FILE": "JUNK"},
    "a CA folder": {**FAR, "SSL_CERT_FILE": "/"},
    "a CA pipe": {**FAR, "UNIMIC_CA_FILE": "PIPE"},
    "a CA device": {**FAR, "SSL_CERT_FILE": "/dev/zero"},
    "a key log": {**FAR, "SSLKEYLOGFILE": "/nowhere/x"},
    "a long host": {"UNIMIC_SERVER": "http://" + "a" * 70 + ".com"},
    "a host with two dots": {"UNIMIC_SERVER": "http://a..b:1"},
    "a host that steers": {"UNIMIC_SERVER": "http://\u202e\x1b[1m:1"},
    "a host of 100,000": {"UNIMIC_SERVER": "http://" + "a" * 100_000},
    "a port of eight digits": {"UNIMIC_SERVER": "http://h:99999999"},
    "a long socket file": {"UNIMIC_SERVER": f"unix:{LONG}"},
    "bare frames": {"UNIMIC_SERVER": "tcp://127.0.0.1:9"},
    "bare frames to no name": {"UNIMIC_SERVER": "tcp://" + "a" * 70 + ".invalid:9"},
    "a key of two lines": {"UNIMIC_API_KEY": "a\nb"},
    "a key of 100,000": {"UNIMIC_API_KEY": "a" * 100_000},
    "a time-out that is none": {"UNIMIC_TIMEOUT": "nan"},
    "a long bundle": {"UNIMIC_BUNDLE": "x" * 300},
    "a bundle that steers": {"UNIMIC_BUNDLE": "\x1b[31m\u202e"},
    "a long bundle folder": {"UNIMIC_BUNDLE": LONG * 20},
    "a bundle of a published name": {"UNIMIC_BUNDLE": "show-o", "UNIMIC_MODELS": "JUNK"},
    "a cache that is a file": {"UNIMIC_CACHE": "JUNK", "UNIMIC_BUNDLE": "mine"},
    "a long cache": {"UNIMIC_CACHE": LONG, "UNIMIC_BUNDLE": "mine"},
    "a history that is a file": {"UNIMIC_HISTORY": "JUNK"},
    "a long history": {"UNIMIC_HISTORY": LONG},
    "a history in /proc": {"UNIMIC_HISTORY": "/proc/none"},
    "no end of days": {"UNIMIC_HISTORY_DAYS": "1e400"},
    "another computer": {"UNIMIC_COMPUTE": "\x1b[1mq"},
    "a config in Latin-1": {"UNIMIC_CONFIG": "LATIN"},
    "a nested config": {"UNIMIC_CONFIG": "DEEP"},
    "a config pipe": {"UNIMIC_CONFIG": "PIPE"},
    "a config device": {"UNIMIC_CONFIG": "/dev/zero"},
    "a config folder": {"UNIMIC_CONFIG": "/"},
    "a long config": {"UNIMIC_CONFIG": LONG},
    "a config of a huge number": {"UNIMIC_CONFIG": "HUGE"},
    "no home": {"HOME": None, "XDG_CONFIG_HOME": None, "UNIMIC_CACHE": None},
    "a home of nothing": {"HOME": "/dev/null", "UNIMIC_CACHE": None, "UNIMIC_HISTORY": None},
    "a long home": {"HOME": LONG, "UNIMIC_CACHE": None, "UNIMIC_HISTORY": None},
    "no folder for temporary files": {"TMPDIR": "/nowhere", "TEMP": "/nowhere"},
    "pictures in lines of something": {"UNIMIC_INLINE": "\x1b[1m"},
    "a hub of junk": {"HF_ENDPOINT": "junk://\x1b"},
    "a terminal of minus five": {"COLUMNS": "-5", "LINES": "x"},
}
COMMANDS = (
    "t2i fox -o OUT.png --timeout 1",
    "vqa PICTURE what? --timeout 1 --json",
    "info --timeout 1",
    "encode PICTURE -o OUT.umic",
    "decode TOKENS -o OUT.png --json",
    "inspect TOKENS",
    "fetch --timeout 1",
    "session list",
    "session show none",
    "chat PICTURE --timeout 1",
    "again PICTURE",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / "PICTURE.png")
    (folder / "JUNK").write_text("junk")
    (folder / "LATIN").write_bytes(b'server = "\xff\xfe"')
    (folder / "DEEP").write_text("a=" + "[" * 60_000)
    (folder / "HUGE").write_text("timeout = " + "9" * 4000)
    os.mkfifo(folder / "PIPE")
    assert cli.main(["encode", str(folder / "PICTURE.png"), "-o", str(folder / "TOKENS.umic")]) == 0
    return folder


def words_of(command: str, place: Path, folder: Path) -> list[str]:
    """The words of a command, its files where they are."""
    told = command.replace("PICTURE", str(place / "PICTURE.png"))
    told = told.replace("TOKENS", str(place / "TOKENS.umic"))
    return told.replace("OUT", str(folder / "OUT")).split()


def check(code: int, out: str, err: str) -> None:
    """Raise `AssertionError` unless a command ended as it may."""
    assert "please report" not in out + err
    assert "Traceback" not in err
    assert code in (0, 1, 2)
    assert not STEERING.search(out + err)
    if code:
        assert out or err
    for line in err.splitlines():
        if line.startswith("error: "):
            assert line.endswith(")"), f"{line} names no remedy"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_every_surrounding(
    command: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failures = []
    for name, changes in SURROUNDINGS.items():
        with monkeypatch.context() as patch, open(os.devnull) as nothing:
            patch.chdir(tmp_path)
            patch.setenv("UNIMIC_SERVER", "http://127.0.0.1:9")
            patch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
            patch.setenv("UNIMIC_HISTORY", str(tmp_path / "history"))
            patch.setattr("sys.stdin", nothing)
            for variable, value in changes.items():
                local = place / value if value and value.isupper() else None
                if value is None:
                    patch.delenv(variable, raising=False)
                else:
                    patch.setenv(variable, str(local) if local and local.exists() else value)
            code = cli.main(words_of(command, place, tmp_path))
        told = capsys.readouterr()
        try:
            check(code, told.out, told.err)
        except AssertionError as error:
            failures.append(f"{name}: {code}: {error}\n{told.err[-400:]}")
    assert not failures, "\n".join(failures)


def run(words: list[str], folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    environ = {
        **os.environ,
        "UNIMIC_CACHE": str(folder / "cache"),
        "UNIMIC_SERVER": "http://127.0.0.1:9",
        "UNIMIC_HISTORY": str(folder / "history"),
    }
    return subprocess.run(
        [sys.executable, "-m", "edge_client.cli", *words],
        capture_output="stdout" not in options,
        text=True,
        timeout=120,
        check=False,
        env=environ,
        cwd=folder,
        **options,  # type: ignore[call-overload]
    )


def limited(what: int, value: int) -> Callable[[], None]:
    """Limits a child."""
    return lambda: resource.setrlimit(what, (value, value))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "value"),
    [
        (resource.RLIMIT_NOFILE, 6),
        (resource.RLIMIT_NOFILE, 12),
        (resource.RLIMIT_FSIZE, 100),
        (resource.RLIMIT_STACK, 1 << 20),
    ],
)
def test_limits_of_the_system_are_told(what: int, value: int, place: Path, tmp_path: Path) -> None:
    for command in ("encode PICTURE -o OUT.umic --durable", "info --timeout 1"):
        done = run(words_of(command, place, tmp_path), tmp_path, preexec_fn=limited(what, value))
        check(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_full_disk_leaves_the_file_that_was_there(place: Path, tmp_path: Path) -> None:
    words = words_of("encode PICTURE -o OUT.umic --durable", place, tmp_path)
    assert run(words, tmp_path).returncode == 0
    good = (tmp_path / "OUT.umic").read_bytes()
    assert len(good) > 100
    full = limited(resource.RLIMIT_FSIZE, 100)
    done = run([*words, "--force"], tmp_path, preexec_fn=full)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert (tmp_path / "OUT.umic").read_bytes() == good
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["OUT.umic"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("command", ["inspect TOKENS", "encode PICTURE -o -", "--help"])
def test_a_full_standard_output_is_a_failure_and_nothing_is_lost(
    command: str, place: Path, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        done = run(words_of(command, place, tmp_path), tmp_path, stdout=full,
                   stderr=subprocess.PIPE)  # fmt: skip
    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr
    if command == "encode PICTURE -o -":
        kept = Path(done.stderr.split("is kept in ")[1].split(")")[0])
        assert kept.read_bytes() == (place / "TOKENS.umic").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_end_no_file_of_ours(closed: str, place: Path, tmp_path: Path) -> None:
    words = words_of("encode PICTURE -o OUT.umic --durable", place, tmp_path)
    line = f'exec "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "edge_client.cli", *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == (1 if "1>" in closed else 0), done.stderr
    assert (tmp_path / "OUT.umic").read_bytes()[:4] == (place / "TOKENS.umic").read_bytes()[:4]
    assert "please report" not in done.stderr


@pytest.mark.slow
def test_a_stream_that_cannot_encode_gets_all_the_same(place: Path, tmp_path: Path) -> None:
    (tmp_path / "füchse.png").write_bytes((place / "PICTURE.png").read_bytes())
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "edge_client.cli", "encode", "füchse.png"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "f\\xfcchse.umic" in done.stdout
    assert (tmp_path / "füchse.umic").exists()


def test_a_device_is_never_replaced_by_a_file(place: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "OUT.umic")
    assert cli.main(words_of("encode PICTURE -o OUT.umic --force", place, tmp_path)) == 2
    assert (tmp_path / "OUT.umic").is_fifo()
