"""A socket file: private, taken over from the dead, never from the living, gone at the end."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from cloud_server.links.connections import ListeningSocket
from cloud_server.links.unix_socket import UnixSocket
from shared_protocol.errors import ConfigError


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o007, 0o660), (0o000, 0o660)])
def test_others_may_never_connect_and_the_group_as_the_umask_says(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        made = UnixSocket(tmp_path / "a.sock", 1)
        assert os.umask(umask) == umask, "it is as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.path.stat().st_mode) == mode
    made.remove()
    assert not made.path.exists()


def test_a_socket_of_a_living_server_is_refused_and_stays(tmp_path: Path) -> None:
    first = UnixSocket(tmp_path / "a.sock", 1)
    with pytest.raises(ConfigError, match=r"another server listens on .*--unix"):
        UnixSocket(first.path, 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(first.path))
    first.remove()


def test_a_socket_of_a_dead_server_is_taken_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))
    second = UnixSocket(tmp_path / "a.sock", 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(second.path))
    second.remove()


def test_the_file_of_another_server_is_not_removed(tmp_path: Path) -> None:
    first = UnixSocket(tmp_path / "a.sock", 1)
    first.path.unlink()
    second = UnixSocket(tmp_path / "a.sock", 1)
    first.remove()
    assert second.path.exists()
    second.remove()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    with pytest.raises(ConfigError, match="is no socket"):
        UnixSocket(kept, 1)
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "complaint"), [("none/a.sock", "no folder"), ("x" * 120, "about 100 are the limit")]
)
def test_a_place_that_cannot_be_is_told_with_its_remedy(
    tmp_path: Path, name: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        UnixSocket(tmp_path / name, 1)
    assert caught.value.remedy


def test_it_is_called_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = UnixSocket(Path("a.sock"), 1)
    assert made.url == f"unix:{tmp_path}/a.sock"
    made.remove()
    made.remove()


def test_a_socket_that_does_not_refuse_may_be_alive_and_stays(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "a.sock"))
        with pytest.raises(ConfigError, match="another server listens"):
            UnixSocket(tmp_path / "a.sock", 1)
    assert (tmp_path / "a.sock").exists()


def denied(*_: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("step", ["lstat", "unlink", "bind"])
def test_what_the_system_denies_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))
    if step == "bind":
        monkeypatch.setattr(ListeningSocket, "bind", denied)
    else:
        monkeypatch.setattr(Path, step, denied)
    umask = os.umask(0o022)
    with pytest.raises(ConfigError, match=r"a\.sock: Permission denied") as caught:
        UnixSocket(tmp_path / "a.sock", 1)
    assert os.umask(umask) == 0o022
    assert caught.value.remedy == f"see that you may write into {tmp_path}"


def test_a_place_below_a_file_is_told_with_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Not a directory") as caught:
        UnixSocket(tmp_path / "file" / "a.sock", 1)
    assert caught.value.remedy == "name another file with --unix"
