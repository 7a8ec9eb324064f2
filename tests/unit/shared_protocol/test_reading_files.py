"""Files that are no files, change while they are read, or have names that lead elsewhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shared_protocol.files import (
    checked_name,
    open_regular,
    read_regular,
    replaced,
    write_atomically,
)

STATUS = Path("/proc/self/status")
"""A regular file that claims to have no bytes."""


def test_a_file_of_just_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with open_regular(path) as whole, open_regular(path, 5) as limited:
        assert whole.read() == limited.read() == b"12345"
    with pytest.raises(OSError, match="over 4 bytes, the most that are read") as caught:
        read_regular(path, 4)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))


def test_a_large_limit_is_told_with_commas(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1001))
    with pytest.raises(OSError, match="over 1,000 bytes"):
        read_regular(tmp_path / "a", 1000)


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux has files of no size with content")
def test_a_file_that_hides_its_size_is_read_no_further_than_the_limit() -> None:
    assert STATUS.stat().st_size == 0
    with pytest.raises(OSError, match="over 10 bytes") as caught:
        read_regular(STATUS, 10)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(STATUS))


@pytest.mark.parametrize("kind", ["folder", "larger"])
def test_what_takes_the_place_of_a_file_before_it_is_open_is_refused_and_closed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at, taken = tmp_path / "small", tmp_path / "other"
    looked_at.write_bytes(b"1")
    if kind == "folder":
        taken.mkdir()
    else:
        taken.write_bytes(b"123")
    handles: list[int] = []
    real = os.open

    def swapped(path: Path, flags: int) -> int:
        handles.append(real(taken, os.O_RDONLY))
        return handles[-1]

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(OSError, match=r"directory|over 2 bytes"):
        open_regular(looked_at, 2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handles[0])


def test_a_name_with_a_nul_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="null") as caught:
        open_regular(tmp_path / "a\0b")
    assert caught.value.errno == errno.EINVAL


def test_a_folder_is_named_as_one(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        open_regular(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.EISDIR, str(tmp_path))


def test_devices_and_folders_are_neither_read_nor_replaced(tmp_path: Path) -> None:
    for path in (Path("/dev/null"), tmp_path):
        with pytest.raises(OSError, match="it is no regular file") as caught:
            write_atomically(path, b"x")
        assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, str(path))
    with pytest.raises(OSError, match="it is no regular file"):
        open_regular(Path("/dev/null"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_new_file_never_takes_the_place_of_another(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: str, target: Path) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "new.txt"
    write_atomically(path, "first", new=True)
    assert path.read_text() == "first"
    with pytest.raises(FileExistsError):
        write_atomically(path, "second", new=True)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["new.txt"]
    write_atomically(path, "third")
    assert path.read_text() == "third"


def test_what_is_being_written_lies_hidden_beside_its_target(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 200 + ".txt")
    with replaced(path) as file:
        (name,) = os.listdir(tmp_path)
        file.write(b"1")
    assert name.startswith("." + "n" * 32 + "-")
    assert name.endswith(".txt")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("before", "after"), [(0o751, 0o751), (0o4755, 0o755), (0o600, 0o600)])
def test_the_rights_of_a_file_stay_but_for_those_of_its_owners_programs(
    before: int, after: int, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    path.chmod(before)
    write_atomically(path, b"2")
    assert path.stat().st_mode & 0o7777 == after


def test_a_new_file_gets_the_rights_that_the_process_gives(tmp_path: Path) -> None:
    usual = os.umask(0o037)
    try:
        write_atomically(tmp_path / "a", b"1")
        assert os.umask(0o037) == 0o037
    finally:
        os.umask(usual)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "name", ["a", "a.b", "n" * 128, "é" * 64, "a b", "conf", "com", "com10", "lpt1x", "nullify.txt"]
)
def test_plain_names_are_taken(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "n" * 129, "é" * 65, None, 7, b"a"])
def test_names_of_no_or_many_bytes_are_told_so(name: object) -> None:
    with pytest.raises(ValueError, match=r"is no name of up to 128 bytes"):
        checked_name(name)
    with pytest.raises(ValueError, match=f"^'{'n' * 40}' is"):
        checked_name("n" * 500)


ODD = [
    *(f"a{sign}b" for sign in '/\\:*?"<>|'),
    ".",
    "..",
    ".a",
    "a.",
    "a ",
    "a\nb",
    "a\x1b",
    "a\ud800",
]
DEVICES = ["con", "PRN", "aux.txt", "Nul.tar.gz", "com0", "COM9.x", "lpt1", "lpt0.json"]


@pytest.mark.parametrize("name", [*ODD, *DEVICES])
def test_names_that_lead_elsewhere_hide_or_are_devices_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a plain file name"):
        checked_name(name)
