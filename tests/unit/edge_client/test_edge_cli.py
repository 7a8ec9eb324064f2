"""The command line as a user meets it, up to the network; exit codes, streams and speed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_fakes import ANSWER, FailingCloud, FakeBundle, FakeCloud, FakeWords
from PIL import Image
from terminal import Terminal, leave_home

from edge_client import cli
from edge_client.pictures.outputs import save_picture
from shared_protocol.errors import BundleMismatchError, ConfigError, OverloadedError, PromptError
from shared_protocol.message.bitstream import VERSION
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import Request
from shared_protocol.tasks import Extension, Task

Runner = Any


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    leave_home(monkeypatch, tmp_path)
    save_picture(tmp_path / "photo.png", np.full((128, 160, 3), 77, dtype=np.uint8))
    mask = Image.new("L", (160, 128))
    mask.paste(255, (48, 0, 112, 64))
    mask.save(tmp_path / "mask.png")
    return Terminal(monkeypatch, capsys)


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_t2i_prints_the_path_and_then_the_table(run: Runner) -> None:
    code, out, err = run("t2i", "a fox", "--seed", "3")
    assert (code, out.splitlines()[0]) == (0, "t2i.png")
    assert size("t2i.png") == (64, 64)
    assert "server queue" in out
    assert err == "step 1 of 1\n"
    assert run.cloud.requests[0].options.seed == 3


def test_results_get_a_new_name_unless_one_is_given(run: Runner) -> None:
    assert run("t2i", "a fox")[1].startswith("t2i.png\n")
    assert run("t2i", "a fox")[1].startswith("t2i-2.png\n")
    assert run("t2i", "a fox", "-o", "t2i.png")[1].startswith("t2i.png\n")


@pytest.mark.parametrize(
    "words",
    [
        ["inpaint", "photo.png", "--mask", "mask.png", "a ball"],
        ["inpaint", "--mask", "mask.png", "photo.png", "a ball"],
        ["--quiet", "inpaint", "photo.png", "a ball", "--mask", "mask.png"],
        ["inpaint", "photo.png", "--box", "48,0,64,64", "a ball"],
        ["inpaint", "photo.png", "--box", "48,0,32,64", "a ball", "--box=80,0,32,64"],
    ],
)
def test_inpaint_takes_its_words_in_any_order(run: Runner, words: list[str]) -> None:
    code, out, _ = run(*words)
    assert (code, out.splitlines()[0]) == (0, "photo-inpaint.png")
    mask = run.cloud.requests[0].mask
    assert mask.flags.tolist() == [[False, True, True, False]] * 2 + [[False] * 4] * 2


def test_what_was_done_to_the_photo_is_said(run: Runner) -> None:
    out = run("inpaint", "photo.png", "--mask", "mask.png", "a ball")[1]
    assert "photo.png 160x128, resized and centre-cropped to 64x64" in out
    assert "mask: 4 of 16 tokens are repainted" in out


def test_the_photos_own_pixels_stay_outside_of_the_soft_edge(run: Runner) -> None:
    noise = np.random.default_rng(0).integers(0, 150, (300, 400, 3), dtype=np.uint8)
    save_picture(Path("noise.png"), noise)
    code, out, _ = run("inpaint", "noise.png", "a", "--box", "60,10,100,100", "-o", "out.png")
    assert code == 0
    assert "25% of the photo lies outside of what the model sees, and stays as it is" in out
    result = np.asarray(Image.open("out.png"))
    edge = 300 / 64 * 8
    changed = np.argwhere((result != noise).any(axis=2))
    assert changed.min(axis=0).tolist() >= [0, 60 - edge]
    assert changed[:, 0].max() < 110 + edge
    assert changed[:, 1].max() < 160 + edge
    assert (result[40:80, 90:130] != noise[40:80, 90:130]).mean() > 0.9
    run("inpaint", "noise.png", "a", "--box", "60,10,100,100", "--native", "-o", "native.png")
    assert size("native.png") == (64, 64)


def test_outpaint_takes_any_combination_of_sides(run: Runner) -> None:
    code, out, _ = run("outpaint", "photo.png", "a beach", "--left", "2", "--up", "1", "--down=3")
    assert code == 0
    assert size(out.splitlines()[0]) == (160 + 2 * 32, 128 + 4 * 32)
    run("outpaint", "photo.png", "a beach", "--left", "2", "--native", "-o", "native.png")
    assert size("native.png") == (7 * 16, 4 * 16)
    assert run.cloud.requests[0].extension == Extension(2, 0, 1, 3)


def test_vqa_prints_the_answer_first_and_alone_when_quiet(run: Runner) -> None:
    assert run("vqa", "photo.png", "how many?")[1].splitlines()[0] == ANSWER
    code, out, err = run("vqa", "photo.png", "how many?", "-q")
    assert (code, out) == (0, f"{ANSWER}\n")
    assert err.startswith("warning: 20% of photo.png (4 of 20 tokens) lies outside the part")
    assert "--fit pad" in err
    assert run("vqa", "photo.png", "how many?", "-q", "--fit", "pad")[2] == ""
    assert run.cloud.requests[0].task is Task.VQA


def test_json_is_all_that_stdout_holds(run: Runner) -> None:
    code, out, err = run("--json", "t2i", "a fox")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert data["output"] == "t2i.png"
    assert data["uplink"]["bytes"]["total"] > 0
    assert json.loads(run("vqa", "photo.png", "how many?", "--json")[1])["answer"] == ANSWER


def test_an_error_is_one_line_and_under_json_an_object_too(run: Runner) -> None:
    code, out, err = run("t2i", "", "--json")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("error: the prompt is empty (")
    assert json.loads(out)["error"]["code"] == PromptError.code


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["t2i"], "required: prompt"),
        (["t2i", "a", "--steps", "x"], "invalid int value"),
        (["t2i", "a", "--steps", "0"], "steps is 0 (use 1..100)"),
        (["t2i", "a", "--seed", "-2"], "seed is -2"),
        (["t2i", "a", "--guidance", "nan"], "guidance is nan"),
        (["t2i", "a", "-o", "a.txt"], "cannot save a picture as 'a.txt'"),
        (["t2i", "a", "-o", "no/a.png"], "cannot write into no"),
        (["t2i", "a", "--server", "nowhere"], "'nowhere' is no server address"),
        (["t2i", "x" * 41], "the prompt has 41 tokens, at most 40 fit"),
        (["inpaint", "photo.png", "a"], "nothing says what is to be repainted"),
        (["inpaint", "photo.png", "a", "--box", "1,2,3"], "'1,2,3' is no box"),
        (["inpaint", "photo.png", "a", "--box", "500,0,9,9"], "photo.png is 160x128"),
        (["inpaint", "photo.png", "a", "--box", "9,9,0,3"], "the box 9,9,0,3 covers nothing"),
        (["inpaint", "none.png", "a", "--box", "0,0,3,3"], "there is no file none.png"),
        (["outpaint", "photo.png", "a"], "cannot extend by 0, 0, 0, 0 tokens"),
        (["outpaint", "photo.png", "a", "--left", "-1"], "--left -1 is no amount"),
        (
            ["outpaint", "photo.png", "a", "--left", "63"],
            "68x4 tokens, each 32x32 pixels of the photo",
        ),
        (["vqa", "photo.png", " "], "the question is empty"),
        (["inspect", "none.umic"], "cannot read none.umic"),
        (["inspect", "photo.png"], "a UniMIC message does not start with 0x89"),
        (["decode", "photo.png"], "the bytes are not a UniMIC picture file"),
        (["t2i", "a fox", "--compute", "tpu"], "nothing computes with 'tpu'"),
    ],
)
def test_wrong_input_is_named_in_one_line_with_exit_code_2(
    run: Runner, words: list[str], complaint: str
) -> None:
    code, out, err = run(*words)
    assert complaint in err
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert run.cloud.messages == []


def test_a_failing_service_gives_exit_code_1(run: Runner) -> None:
    run.served = FailingCloud(FakeBundle(), lambda: OverloadedError("the queue is full", "wait"))
    assert run("t2i", "a fox") == (1, "", "error: the queue is full (wait)\n")
    run.served = FailingCloud(FakeBundle(), lambda: BundleMismatchError("other"))
    assert run("t2i", "a fox")[0] == 1
    assert not Path("t2i.png").exists()


def test_an_interruption_exits_with_130_and_no_traceback(run: Runner) -> None:
    run.served = FailingCloud(FakeBundle(), KeyboardInterrupt)  # type: ignore[arg-type]
    assert run("t2i", "a fox") == (130, "", "\ninterrupted\n")


def test_a_fault_of_our_own_is_one_line_as_well(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    run.served = FailingCloud(FakeBundle(), lambda: ZeroDivisionError("1/0"))  # type: ignore[arg-type, return-value]
    code, out, err = run("t2i", "a fox")
    assert (code, out) == (1, "")
    assert err.startswith("error: this client failed: ZeroDivisionError: 1/0 (please report it")
    assert err.count("\n") == 1


def test_a_disagreement_is_warned_of_and_the_result_still_comes(run: Runner) -> None:
    run.served = FakeCloud(FakeBundle(entropy_key=3))
    code, out, err = run("t2i", "a fox", "-q")
    assert (code, out) == (0, "t2i.png\n")
    assert err.startswith("warning: this end could not decode")


def test_thin_strokes_that_vanish_are_warned_of(run: Runner) -> None:
    mask = Image.new("L", (160, 128))
    mask.paste(255, (16, 0, 48, 32))
    mask.paste(255, (16, 124, 140, 128))
    mask.save("mask.png")
    code, _, err = run("inpaint", "photo.png", "a", "--mask", "mask.png", "-q")
    assert code == 0
    assert "of the mask is too thin for the token grid" in err


def test_settings_reach_the_transport(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMIC_SERVER", "http://env:1")
    monkeypatch.setenv("UNIMIC_API_KEY", "k")
    run("t2i", "a fox", "--timeout", "9")
    run("t2i", "a fox", "--server", "http://flag:2/")
    assert run.opened == [("http://env:1", "k", 9.0), ("http://flag:2", "k", 120.0)]


def test_a_key_that_would_travel_in_the_clear_is_warned_of(run: Runner) -> None:
    words = ["t2i", "a fox", "-q", "--api-key", "k", "--server"]
    assert "travels unencrypted to http://h.org" in run(*words, "http://h.org")[2]
    assert run(*words, "https://h.org")[2] == run(*words, "http://127.0.0.1:1")[2] == ""


def test_an_answer_cannot_steer_the_terminal(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_fakes.ANSWER", "\x1b[2Jred")
    assert run("vqa", "photo.png", "what?", "-q")[1] == " [2Jred\n"


def test_encode_decode_and_inspect_round_trip_a_photo(run: Runner) -> None:
    code, out, _ = run("encode", "photo.png")
    assert (code, out.splitlines()[0]) == (0, "photo.umic")
    assert "bits per image token" in out
    assert "bytes instead of the file's" in out
    code, out, _ = run("decode", "photo.umic", "-o", "back.png")
    assert (code, out.splitlines()[0]) == (0, "back.png")
    assert (np.asarray(Image.open("back.png")) == 77).all()
    code, out, _ = run("inspect", "photo.umic", "--json")
    data = json.loads(out)
    assert data["bytes"]["total"] == Path("photo.umic").stat().st_size
    assert (data["grid"], data["metadata"]) == ([4, 4], {})


def test_a_described_file_says_where_it_comes_from(run: Runner) -> None:
    run("encode", "photo.png", "--describe", "--durable")
    code, out, _ = run("inspect", "photo.umic", "--json")
    data = json.loads(out)
    assert (code, data["entropy_model"]) == (0, None)
    said = data["metadata"]
    assert said["photo_sha256"] == hashlib.sha256(Path("photo.png").read_bytes()).hexdigest()
    assert (said["photo_size"], said["resized"], said["corner"]) == ([160, 128], [80, 64], [8, 0])
    code, out, _ = run("decode", "photo.umic", "-o", "back.png")
    assert "photo_sha256" in out


def test_inspect_shows_messages_too_and_decode_says_that_they_are_none_of_its(
    run: Runner,
) -> None:
    request = Request(Task.T2I, FakeWords().encode("a fox"))
    Path("a.msg").write_bytes(encode_request(request, FakeBundle()).data)
    code, out, _ = run("inspect", "a.msg")
    assert code == 0
    assert out.startswith("t2i uplink, format version 2")
    code, _, err = run("decode", "a.msg")
    assert code == 2
    assert "encode the picture again" in err


def test_a_damaged_file_is_wrong_input(run: Runner) -> None:
    run("encode", "photo.png")
    Path("cut.umic").write_bytes(Path("photo.umic").read_bytes()[:-1])
    for command in ("decode", "inspect"):
        code, _, err = run(command, "cut.umic")
        assert code == 2
        assert "ends too early" in err


def info(bundle: FakeBundle, **changes: Any) -> dict[str, Any]:
    from shared_protocol.selfcheck.roundtrip import round_trip_digest

    entropy = {"ok": True, "digest": round_trip_digest(bundle)}
    said = {"protocol": VERSION, "fingerprint": bundle.fingerprint.hex(), "entropy": entropy}
    return {"name": "unimic", "limits": {"steps": 100}, **said, **changes}


def test_info_says_that_both_ends_agree(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.cloud, "info", lambda: info(FakeBundle()))
    code, out, err = run("info")
    assert (code, err) == (0, "")
    assert out.count(" yes") == 3
    assert "steps 100" in out
    assert "this device" in out
    assert "entropy decoder" in out
    device = json.loads(run("info", "--json")[1])["device"]
    assert device["compute"] == "auto"
    assert device["entropy decoder"] == device["image tokenizer"] == "a fake"


@pytest.mark.parametrize(
    ("bundle", "complaint"),
    [
        (FakeBundle(fingerprint=b"x" * 32), "bundle fingerprint differs: install the same"),
        (FakeBundle(entropy_key=1), "entropy self-check differs: one end computes wrongly"),
    ],
)
def test_info_fails_and_says_why_when_the_ends_differ(
    run: Runner, monkeypatch: pytest.MonkeyPatch, bundle: FakeBundle, complaint: str
) -> None:
    monkeypatch.setattr(run.cloud, "info", lambda: info(bundle))
    code, out, err = run("info")
    assert code == 1
    assert " NO" in out
    assert complaint in err
    assert json.loads(run("info", "--json")[1])["agree"] is False


def test_a_faulty_config_file_is_wrong_input(run: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "unimic"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("nonsense")
    code, _, err = run("t2i", "a fox")
    assert code == 2
    assert "config.toml" in err
    assert ConfigError.code


def test_a_reader_that_hangs_up_is_no_error(run: Runner) -> None:
    run("encode", "photo.png", "-o", "a.umic")
    root = Path(cli.__file__).parents[1]
    command = f"{sys.executable} -m edge_client.cli inspect a.umic | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, env={"PYTHONPATH": str(root)}, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["vqa", "photo.png", "how many?"], 8),
        (["outpaint", "photo.png", "a wood", "--left", "1"], 10),
        (["inpaint", "photo.png", "a ball", "--mask", "mask.png"], 6),
    ],
)
def test_fewer_tokens_are_sent_if_asked_and_the_saving_is_said(
    run: Runner, words: list[str], left_out: int
) -> None:
    code, out, _ = run(*words, "--keep-ratio", "0.5")
    assert code == 0
    assert run.cloud.requests[0].dropped.count == left_out
    size = len(run.cloud.messages[0])
    assert f"{left_out} of {run.cloud.requests[0].dropped.flags.size} tokens are not sent" in out
    assert f"are not sent: {size} bytes up, " in out
    assert "dropped tokens" in out


def test_a_size_that_cannot_be_reached_is_the_users_to_change(run: Runner) -> None:
    code, _, err = run("vqa", "photo.png", "how many?", "--target-bytes", "9")
    assert code == cli.WRONG_INPUT
    assert "the smallest found has" in err
    assert not run.cloud.requests
