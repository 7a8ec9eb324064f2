"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared_protocol.files import replaced, write_atomically


def _write_half(path: Path, fault: BaseException) -> None:
    with replaced(path) as file:
        file.write(b"half of the new")
        raise fault


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "naïve\n")
    write_atomically(tmp_path / "b", b"\0\1")
    assert (tmp_path / "a.txt").read_bytes() == "naïve\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\0\1"


def test_a_write_that_fails_midway_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="full"):
        _write_half(path, OSError("the disk is full"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old.bin"]


def test_an_interruption_leaves_no_debris_either(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _write_half(tmp_path / "new.bin", KeyboardInterrupt())
    assert os.listdir(tmp_path) == []


def test_permissions_stay_and_new_files_get_the_usual_ones(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"1")
    path.chmod(0o600)
    write_atomically(path, b"2")
    assert path.stat().st_mode & 0o777 == 0o600
    usual, fresh = tmp_path / "usual", tmp_path / "fresh"
    usual.touch()
    write_atomically(fresh, b"3")
    assert fresh.stat().st_mode == usual.stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"1")
    link.symlink_to(real)
    write_atomically(link, b"2")
    assert link.is_symlink()
    assert real.read_bytes() == b"2"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "nowhere" / "a", b"")
