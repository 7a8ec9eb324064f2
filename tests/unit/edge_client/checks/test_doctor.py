"""The doctor: every fault is one line with its remedy, in time, whatever is wrong."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.checks import configuration, device, finding, holdings
from edge_client.checks.configuration import KNOWN
from edge_client.checks.finding import Finding, State, Subject, examined, ok
from edge_client.cli import main
from edge_client.commands import doctor
from shared_protocol.errors import CheckpointError

ROOT = Path(__file__).parents[4]
DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, str]]]:
    """Exit code and findings."""
    code = main(["doctor", "--json", *words])
    findings: list[dict[str, str]] = json.loads(capsys.readouterr().out)
    return code, findings


def of(findings: list[dict[str, str]], check: str) -> dict[str, str]:
    found = [finding for finding in findings if finding["check"] == check]
    assert found, [finding["check"] for finding in findings]
    return found[0]


def subject(environ: dict[str, str] | None = None) -> Subject:
    return Subject({}, environ or {}, time.monotonic() + 5)


def test_a_dead_server_is_the_one_thing_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    code, findings = told(capsys, "--server", DEAD)
    assert code == 1
    failing = [each for each in findings if each["state"] == "FAIL"]
    assert [each["check"] for each in failing] == ["connection"]
    assert "127.0.0.1 port 9: Connection refused" in failing[0]["told"]
    assert "cloud-server" in failing[0]["remedy"]
    assert {"check", "state", "told", "remedy"} == set(failing[0])


def test_people_read_one_line_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--server", DEAD]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"(ok  |warn|FAIL) [\w :]+: .", line) for line in lines[:-1])
    assert re.fullmatch(r"1 of \d+ checks failed, \d+ warn", lines[-1])


def test_a_broken_config_file_is_told_and_the_rest_is_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "unimic").mkdir()
    (tmp_path / "unimic" / "config.toml").write_text("sever = 1")
    code, findings = told(capsys)
    assert code == 1
    assert "sets 'sever'" in of(findings, "config file")["told"]
    assert of(findings, "bundle")["state"] == "ok"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--server", "host:8400"], "is no server address"),
        (["--timeout", "soon"], "the timeout is soon"),
        (["--ca-file", "/none.pem"], "there is no CA file /none.pem"),
    ],
)
def test_a_wrong_flag_is_a_finding(
    capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    code, findings = told(capsys, *words)
    assert code == 1
    assert complaint in of(findings, "settings")["told"]
    assert of(findings, "settings")["remedy"]


def test_a_variable_that_nothing_reads_is_told_with_what_was_meant() -> None:
    environ = {"UNIMIC_SEVER": "x", "unimic_bundle": "x", "UNIMIC_XYZZY": "1", "UNIMIC_CACHE": ""}
    found = [each for each in configuration.settings(subject(environ)) if each.state is State.WARN]
    assert [
        found[0].remedy,
        found[2].remedy,
    ] == ["did you mean UNIMIC_SERVER?", "did you mean UNIMIC_BUNDLE?"]
    assert "known are UNIMIC_API_KEY" in found[1].remedy
    assert "UNIMIC_CACHE set and empty" in found[3].told


def test_every_variable_that_the_sources_name_is_known() -> None:
    named = set()
    for room in ("edge_client", "shared_protocol"):
        for path in (ROOT / room).rglob("*.py"):
            named |= set(re.findall(r"\bUNIMIC_[A-Z_]+[A-Z]\b", path.read_text()))
    assert named == KNOWN


def test_a_dead_proxy_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    _, findings = told(capsys, "--server", "http://192.0.2.1:8400")
    assert "http://127.0.0.1:9 that HTTP_PROXY names is used" in of(findings, "proxy")["told"]
    assert of(findings, "connection")["state"] == "FAIL"
    assert "NO_PROXY" in of(findings, "connection")["remedy"]


def test_a_broken_ca_file_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(broken))
    _, findings = told(capsys, "--server", "https://127.0.0.1:9")
    assert of(findings, "certificates")["state"] == "FAIL"
    assert str(broken) in of(findings, "certificates")["told"]


def test_a_missing_bundle_is_told_with_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, findings = told(capsys, "--server", DEAD, "--bundle", "none")
    assert code == 1
    assert of(findings, "bundle")["state"] == "FAIL"
    assert of(findings, "bundle")["remedy"]


def test_a_damaged_file_and_other_probabilities_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise CheckpointError("it differs", "install again")

    where = subject()
    assert [each.state for each in holdings.bundle(where)] == [State.OK, State.OK]
    monkeypatch.setattr("shared_protocol.selfcheck.recorded_digests.check_probabilities", damaged)
    assert [*holdings.computation(where)][-1].state is State.FAIL
    monkeypatch.setattr("shared_protocol.bundles.bundle.Bundle.file", damaged)
    assert [*holdings.bundle(where)][-1].told == "it differs"


def test_a_folder_without_room_or_rights_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "not" / "there" / "yet"))
    assert next(iter(device.folders(subject()))).state is State.OK
    monkeypatch.setattr(device.os, "access", lambda *_: False)
    states = {each.check: each.state for each in device.folders(subject())}
    assert states["cache folder"] is State.FAIL
    assert states["current folder"] is State.WARN


def test_a_clock_that_cannot_be_right_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.time, "time", lambda: 0.0)
    assert "1970-01-01" in next(iter(device.clock(subject()))).told
    assert next(iter(device.clock(subject()))).state is State.FAIL


def test_a_terminal_without_unicode_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(device.sys, "stdout", Ascii())
    assert next(iter(device.terminal(subject()))).state is State.WARN
    wrong = [*device.terminal(subject({"UNIMIC_INLINE": "paper"}))][1]
    assert "UNIMIC_INLINE is 'paper'" in wrong.told


def test_a_silent_server_ends_with_the_time_out(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, findings = told(capsys, "--server", server, "--timeout", "3")
        assert time.monotonic() - began < 6
    assert code == 1
    assert of(findings, "server")["state"] == "FAIL"
    assert "--timeout" in of(findings, "server")["remedy"]


def test_a_check_that_hangs_or_fails_is_a_finding() -> None:
    def hangs(where: Subject) -> Iterator[Finding]:
        yield ok("a", "before")
        time.sleep(30)

    def fails(where: Subject) -> Iterator[Finding]:
        yield ok("a", str(1 // int(where.environ.get("none", 0))))

    short = Subject({}, {}, time.monotonic() + 0.1)
    assert [each.state for each in examined("a", hangs, short)] == [State.OK, State.FAIL]
    assert "this check failed: ZeroDivisionError" in examined("a", fails, short)[0].told


def test_the_lines_and_data_of_a_finding() -> None:
    found = finding.warn("a", "b", "c")
    assert found.line == "warn a: b - c"
    assert found.data == {"check": "a", "state": "warn", "told": "b", "remedy": "c"}
    assert ok("a", "b").line == "ok   a: b"
    assert "doctor" not in doctor.CHECKS
