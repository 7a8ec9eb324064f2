"""Results go where they were told, whole, and never over what nobody named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_fakes import FakeBundle
from PIL import Image

from edge_client.pictures.carried_tokens import beside
from edge_client.pictures.outputs import (
    Saved,
    destination,
    file_destination,
    free_name,
    save_bytes,
    save_source,
)
from edge_client.pictures.sources import Source, of_tokens
from shared_protocol.errors import ImageError
from shared_protocol.tokens import ImageTokens

BUNDLE = FakeBundle()


def source(grey: int = 90) -> Source:
    return of_tokens(ImageTokens(np.full((4, 4), grey, dtype=np.int32), 8192), BUNDLE, "made")


def written(path: Path, **options: object) -> Saved:
    return save_source(destination(path, path), source(), **options)  # type: ignore[arg-type]


def test_an_input_is_never_overwritten_unless_forced(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    link = tmp_path / "link.png"
    link.symlink_to(photo)
    for target in (photo, link, tmp_path / "." / "photo.png"):
        with pytest.raises(ImageError, match=r"is what is read.*-o, or add --force"):
            destination(target, target, [photo])
    assert destination(photo, photo, [photo], force=True).path == photo


def test_a_file_that_another_program_makes_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    named, unnamed = destination(path, path), destination(None, path)
    path.write_text("another program's")
    told = save_source(named, source())
    assert told.path == tmp_path / "a-2.png"
    assert "was made or changed by another program meanwhile" in told.warnings[0]
    assert save_source(unnamed, source()).path == tmp_path / "a-3.png"
    assert path.read_text() == "another program's"


def test_a_named_file_is_replaced_but_not_after_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    target = destination(path, path)
    assert save_source(target, source()).path == path
    path.write_text("again")
    target = destination(path, path)
    path.unlink()
    path.write_text("another's")
    assert save_source(target, source()).path != path
    forced = destination(path, path, force=True)
    assert save_source(forced, source()).path == path


def test_a_token_file_of_another_picture_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.umic").write_bytes(b"the user's own")
    told = written(tmp_path / "a.png")
    assert told.tokens is None
    assert "a.umic is left alone" in told.warnings[0]
    assert (tmp_path / "a.umic").read_bytes() == b"the user's own"
    assert written(tmp_path / "b.png").tokens == tmp_path / "b.umic"
    again = written(tmp_path / "b.png")
    assert (again.tokens, again.warnings) == (tmp_path / "b.umic", ())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    written(path, tokens=False)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ImageError, match=r"cannot write .*a\.png: No space left"):
        written(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == before


def test_free_names_count_on(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert free_name(path) == path
    beside(path).touch()
    assert free_name(path, ".umic") == tmp_path / "a-2.png"


@pytest.mark.parametrize("name", ["a.txt", "a", "a.png/b.png"])
def test_what_cannot_be_written_is_said_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError):
        destination(tmp_path / name, Path("x.png"))
    with pytest.raises(ImageError, match="over 240 bytes"):
        destination(tmp_path / f"{'n' * 300}.png", Path("x.png"))
    with pytest.raises(ImageError, match="do not go together"):
        destination(tmp_path / "a.png", Path("x.png"), kind="jpg")


@pytest.mark.parametrize(("kind", "suffix"), [("jpg", ".jpg"), ("webp", ".webp"), (None, ".png")])
def test_the_format_decides_the_suffix(tmp_path: Path, kind: str | None, suffix: str) -> None:
    target = destination(None, tmp_path / "a.png", kind=kind)
    assert save_source(target, source()).path == tmp_path / f"a{suffix}"


def test_modes_that_a_format_cannot_hold_are_noted(tmp_path: Path) -> None:
    from edge_client.pictures.opening import Photo
    from edge_client.pictures.outputs import writable

    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    flat, notes = writable(clear, "JPEG")
    assert (flat.getpixel((3, 3)), notes) == (
        (255, 255, 255),
        ["JPEG holds no transparency: it is laid on white"],
    )
    deep = Image.fromarray(np.full((8, 8), 51400, dtype=np.uint16))
    grey, notes = writable(deep, "JPEG")
    assert (grey.mode, grey.getpixel((0, 0))) == ("L", 200)
    assert "16-bit grey becomes 8-bit" in notes[0]
    assert writable(deep, "PNG") == (deep, [])
    assert Photo("a", clear, clear.size).stored == (8, 8)


def test_text_chunks_say_how_it_was_made_and_can_be_left_out(tmp_path: Path) -> None:
    made = {"prompt": "ein Füchslein", "seed": "7"}
    written(tmp_path / "a.png", made=made)
    with Image.open(tmp_path / "a.png") as image:
        assert {key: image.text[key] for key in made} == made
    written(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.text == {}


def test_other_files_are_kept_as_carefully(tmp_path: Path) -> None:
    path = tmp_path / "a.umic"
    assert save_bytes(file_destination(path, path), b"1") == (path, [])
    target = file_destination(None, path)
    assert target.path == tmp_path / "a-2.umic"
    with pytest.raises(ImageError, match="is what is read"):
        file_destination(path, path, [path])


def test_many_processes_share_a_folder_without_losing_one(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from shared_protocol.files import write_atomically
for number in range(50):
    while True:
        free = next(n for n in range(999) if not Path(f"{n}").exists())
        try:
            write_atomically(Path(f"{free}"), sys.argv[1], new=True)
            break
        except FileExistsError:
            pass
"""
    running = [subprocess.Popen([sys.executable, "-c", code, name], cwd=tmp_path) for name in "abc"]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    found = sorted(path.read_text() for path in tmp_path.iterdir())
    assert found == sorted("abc" * 50)
