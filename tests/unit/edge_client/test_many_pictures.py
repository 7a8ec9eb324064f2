"""Many pictures at once, standard input and output, seeds, sizes, and results made again."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from terminal import Terminal, leave_home

from shared_protocol.errors import OverloadedError

BOX = ("--box", "8,8,40,40")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    leave_home(monkeypatch, tmp_path)
    return Terminal(monkeypatch, capsys)


def photo(path: str, size: tuple[int, int] = (120, 120), seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(0, 150, (size[1], size[0], 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return Path(path)


def size(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_several_pictures_take_seeds_in_a_row_and_one_sheet(run: Terminal) -> None:
    code, out, _ = run("t2i", "a fox", "-n", "4", "--seed", "5", "-o", "fox.png")
    assert code == 0
    names = [f"fox-{number}.png" for number in range(1, 5)]
    assert out.splitlines()[:5] == [*names, "fox-sheet.png"]
    assert [request.options.seed for request in run.cloud.requests] == [5, 6, 7, 8]
    assert "seeds 5, 6, 7, 8" in out
    assert size("fox-sheet.png")[0] > 4 * 256
    data = json.loads(run("t2i", "a fox", "-n", "2", "--json")[1])
    assert [each["seed"] for each in data["results"]] == [0, 1]
    assert data["sheet"] == "t2i-sheet.png"


def test_a_folder_is_done_one_by_one_and_an_interrupted_run_goes_on(run: Terminal) -> None:
    for number in range(3):
        photo(f"in/{number}.jpg", seed=number)
    photo("in/bad.png").write_bytes(b"no picture")
    Path("in/notes.txt").write_text("not for us")
    run.cloud.faults = []
    code, out, err = run("inpaint", "in", "a fox", *BOX)
    assert code == 1, "one of them could not be done"
    done = [f"in-inpaint/{number}-inpaint.png" for number in range(3)]
    assert out.splitlines()[:3] == done
    assert "bad.png is a text file, not a picture" in err
    assert "2 of 4: in-inpaint/1-inpaint.png" in err
    Path(done[1]).unlink()
    sent = len(run.cloud.messages)
    Path("in/bad.png").unlink()
    code, out, _ = run("inpaint", "in", "a fox", *BOX)
    assert (code, out.splitlines()[0]) == (0, done[1])
    assert "2 were there already" in out
    assert len(run.cloud.messages) == sent + 1


def test_a_service_that_fails_ends_the_run_and_keeps_what_is_done(run: Terminal) -> None:
    for number in range(3):
        photo(f"in/{number}.png")
    sent = run.cloud.exchange
    run.cloud.exchange = lambda *given: (  # type: ignore[method-assign]
        sent(*given) if len(run.cloud.requests) < 2 else (_ for _ in ()).throw(OverloadedError("x"))
    )
    assert run("inpaint", "in", "a fox", *BOX, "--out-dir", "out")[0] == 1
    assert sorted(path.name for path in Path("out").glob("*.png")) == [
        "0-inpaint.png",
        "1-inpaint.png",
    ]


def test_patterns_masks_in_a_folder_and_files_that_differ_by_suffix(run: Terminal) -> None:
    photo("in/a.png"), photo("in/a.jpg"), photo("in/b.png")
    for name in ("a", "b"):
        mask = Image.new("L", (120, 120))
        mask.paste(255, (0, 0, 60, 60) if name == "a" else (60, 60, 120, 120))
        Path("masks").mkdir(exist_ok=True)
        mask.save(f"masks/{name}.png")
    code, out, _ = run("inpaint", "in/*", "a fox", "--mask", "masks", "--out-dir", "out")
    assert code == 0
    assert out.splitlines()[:3] == [
        "out/a.jpg-inpaint.png", "out/a.png-inpaint.png", "out/b-inpaint.png"
    ]  # fmt: skip
    assert run.cloud.requests[0].mask.flags[0, 0]
    assert run.cloud.requests[2].mask.flags[3, 3]
    assert "no picture fits 'none/*.png'" in run("inpaint", "none/*.png", "a", *BOX)[2]
    photo("in/c.png")
    code, _, err = run("inpaint", "in/c.png", "a", "--mask", "masks")
    assert (code, "there is no mask for c.png in masks" in err) == (2, True)
    assert "do not fit into one.png" in run("inpaint", "in", "a", *BOX, "-o", "one.png")[2]


def test_questions_about_a_folder_are_kept_and_not_asked_again(run: Terminal) -> None:
    photo("in/a.png"), photo("in/b.png")
    words = ("vqa", "in", "what?", "how many?", "--out-dir", "answers")
    code, out, _ = run(*words)
    assert code == 0
    assert out.splitlines() == [
        f"in/{name}.png: two red balloons; two red balloons" for name in "ab"
    ]
    sent = len(run.cloud.messages)
    assert run(*words)[1] == out
    assert len(run.cloud.messages) == sent
    assert len(json.loads(run("vqa", "in", "what?", "--json")[1])["results"]) == 2


def test_a_picture_comes_in_by_a_pipe_and_goes_out_by_one(
    run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photo("a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, out, _ = run("inpaint", "-", "a fox", *BOX, "-o", "b.png")
    assert (code, out.splitlines()[0]) == (0, "b.png")
    assert "standard input 120x120" in out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a fox on a beach\n")))
    assert run("t2i", "-")[0] == 0
    assert bytes(run.cloud.requests[-1].text.ids.tolist()) == b"a fox on a beach"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input is empty" in run("vqa", "-", "what?")[2]
    run("encode", "a.png")
    tokens = Path("a.umic").read_bytes()
    for command, told in (("decode", "stdin.png"), ("inspect", "picture of 4x4 tokens")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(tokens)))
        assert run(command, "-")[1].startswith(told)
    mask = Image.new("L", (120, 120))
    mask.paste(255, (20, 20, 80, 80))
    mask.save("mask.png")
    data = Path("mask.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("inpaint", "a.png", "a fox", "--mask", "-", "-o", "c.png")[0] == 0
    assert run.cloud.requests[-1].mask.count == 4
    assert "cannot both come from" in run("inpaint", "-", "-", *BOX)[2]


def test_standard_output_holds_the_picture_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)

    class Binary(Terminal):
        def __call__(self, *words: str) -> Any:
            from edge_client import cli

            return cli.main(words), *capsysbinary.readouterr()

    run = Binary(monkeypatch, capsysbinary)  # type: ignore[arg-type]
    code, out, err = run("t2i", "a fox", "-o", "-", "--format", "webp")
    with Image.open(io.BytesIO(out)) as image:
        assert (code, image.format, image.size) == (0, "WEBP", (64, 64))
    assert b"seed 0" in err
    photo("a.png")
    code, out, _ = run("encode", "a.png", "-o", "-")
    assert (code, out[:4]) == (0, b"UMIC")
    assert list(tmp_path.glob("*.umic")) == []


def test_a_picked_seed_is_always_told(run: Terminal) -> None:
    for flag in ("random", "-1"):
        code, out, err = run("t2i", "a fox", "--seed", flag, "-q")
        seed = run.cloud.requests[-1].options.seed
        assert (code, err) == (0, f"seed {seed}\n")
        with Image.open(out.strip()) as image:
            assert image.text["seed"] == str(seed)
    assert run("t2i", "a fox", "-q")[2] == ""


def test_a_negative_prompt_is_sent_and_refused_where_nothing_guides(run: Terminal) -> None:
    assert run("t2i", "a fox", "--negative", "a tree")[0] == 0
    assert bytes(run.cloud.requests[0].negative.ids.tolist()) == b"a tree"
    photo("a.png")
    assert run("outpaint", "a.png", "--right", "1", "--negative", "a tree")[0] == 0
    assert run.cloud.requests[1].negative is not None
    code, _, err = run("t2i", "a fox", "--negative", "a tree", "--guidance", "0")
    assert (code, "guidance is 0" in err) == (2, True)
    code, _, err = run("t2i", "a fox", "--negative", "x" * 41)
    assert (code, "the negative prompt has 41 tokens, at most 40 fit" in err) == (2, True)


def test_size_and_format_change_the_result_only(run: Terminal) -> None:
    assert run("t2i", "a fox", "--size", "200", "-o", "a.png")[0] == 0
    assert size("a.png") == (200, 200)
    photo("wide.png", (240, 120))
    run("inpaint", "wide.png", "a", *BOX, "--size", "80", "--format", "jpg")
    assert size("wide-inpaint.jpg") == (80, 40)
    run("inpaint", "wide.png", "a", *BOX, "--size", "50x60", "-o", "b.webp")
    assert size("b.webp") == (50, 60)
    assert "is no size" in run("t2i", "a", "--size", "large")[2]
    assert "use 1 to 8192" in run("t2i", "a", "--size", "9000")[2]
    assert not Path("a.umic").exists(), "other pixels than the tokens'"


def test_an_input_is_not_overwritten(run: Terminal) -> None:
    before = photo("a.png").read_bytes()
    code, _, err = run("inpaint", "a.png", "a fox", *BOX, "-o", "a.png")
    assert (code, run.cloud.messages) == (2, [])
    assert "a.png is what is read, and would be overwritten (name another file" in err
    assert Path("a.png").read_bytes() == before
    assert run("inpaint", "a.png", "a fox", *BOX, "-o", "a.png", "--force")[0] == 0
    assert Path("a.png").read_bytes() != before
    run("encode", "a.png", "-o", "x.umic")
    assert "is what is read" in run("encode", "x.umic", "-o", "x.umic")[2]


def test_a_result_says_how_it_was_made_and_keeps_secrets(run: Terminal) -> None:
    photo("in/a.png")
    run("inpaint", "in/a.png", "ein Füchslein", *BOX, "--seed", "9", "--api-key", "secret",
        "--server", "https://example.org", "-o", "b.png")  # fmt: skip
    with Image.open("b.png") as image:
        text = dict(image.text)
    assert (text["prompt"], text["seed"]) == ("ein Füchslein", "9")
    assert (
        text["command"] == "edge-client inpaint --seed 9 --box=8,8,40,40 -- a.png 'ein Füchslein'"
    )
    assert text["bytes"].endswith(" down")
    assert not any("secret" in value or "example.org" in value for value in text.values())
    run("inpaint", "in/a.png", "x", *BOX, "-o", "c.png", "--no-metadata", "--no-tokens")
    with Image.open("c.png") as image:
        assert image.text == {}


@pytest.mark.parametrize(
    "words",
    [
        ("t2i", "a fox", "--negative", "a tree, 'text'"),
        ("t2i", "--", "-1 fox, 'quoted' \"twice\""),
        ("inpaint", "in/a.png", "a fox", *BOX, "--edge", "3", "--invert-mask"),
        ("inpaint", "in/a.png", "--mask", "in/mask.png", "--ellipse", "60,60,50,50", "--native"),
        ("inpaint", "in/a.png", "a", "--polygon", "0,0 90,0 50,90", "--around", "--margin", "0.2"),
        ("outpaint", "in/a.png", "a wood", "--left", "25%", "--up", "40px"),
        ("outpaint", "in/a.png", "--to", "2:1", "--size", "99"),
        ("inpaint", "in/a.png", "a fox", *BOX, "--keep-ratio", "0.5", "--steps", "3"),
    ],
)
def test_a_result_is_made_again_and_is_identical(run: Terminal, words: tuple[str, ...]) -> None:
    photo("in/a.png")
    mask = Image.new("L", (120, 120))
    mask.paste(255, (20, 20, 80, 80))
    mask.save("in/mask.png")
    assert run(*words[:1], "--seed", "7", "-o", "out.png", *words[1:])[0] == 0
    asked = run.cloud.requests[-1]
    photo_moved = Path("in/out.png")
    Path("out.png").rename(photo_moved)
    code, out, err = run("again", "in/out.png")
    assert (code, out.splitlines()[0]) == (0, "identical to in/out.png"), err
    again = run.cloud.requests[-1]
    assert (again.task, again.text, again.options) == (asked.task, asked.text, asked.options)
    assert again.negative == asked.negative
    assert not Path("in/out-again.png").exists()
    told = json.loads(run("again", "in/out.png", "--json")[1])
    assert (told["identical"], told["output"]) == (True, None)


def test_a_result_that_comes_out_otherwise_is_kept_and_told(run: Terminal) -> None:
    run("t2i", "a fox", "-o", "out.png")
    run.cloud.painted = 100
    code, out, err = run("again", "out.png")
    assert code == 1
    assert out.startswith("differs from out.png in 16 tokens: out-again.png")
    assert "the server's model" in err
    assert Path("out-again.png").exists()


def test_what_cannot_be_made_again_says_why(run: Terminal) -> None:
    photo("a.png")
    assert "does not say how it was made" in run("again", "a.png")[2]
    run("inpaint", "a.png", "a fox", *BOX, "-o", "b.png")
    photo("a.png", seed=9)
    assert "a.png is not the a.png that the result was made from" in run("again", "b.png")[2]
    Path("a.png").unlink()
    assert (
        "was made from a.png, which is not here (name it with --image)" in run("again", "b.png")[2]
    )
    photo("moved.png")
    assert run("again", "b.png", "--image", "moved.png")[1].startswith("identical to b.png")
    assert "there is no file none.png" in run("again", "none.png")[2]


def test_a_told_command_runs_nothing_but_a_task(run: Terminal) -> None:
    from edge_client.pictures.outputs import destination, save_source
    from edge_client.pictures.sources import of_tokens
    from shared_protocol.tokens import ImageTokens

    made = of_tokens(ImageTokens(np.zeros((4, 4), np.int32), 8192), run.cloud.bundle, "x")
    for command in ("edge-client fetch", "rm -rf /", "edge-client t2i", "edge-client t2i 'a"):
        path = Path("evil.png")
        target = destination(path, path, force=True)
        save_source(target, made, tokens=False, made={"command": command})
        code, _, err = run("again", "evil.png")
        assert (code, "cannot be followed" in err) == (2, True)
    assert run.cloud.messages == []


def test_addresses_and_the_clipboard_are_refused_with_a_remedy(run: Terminal) -> None:
    assert "download the picture first" in run("vqa", "https://example.org/a.png", "what?")[2]
    assert "the clipboard is not read" in run("vqa", "clipboard", "what?")[2]
