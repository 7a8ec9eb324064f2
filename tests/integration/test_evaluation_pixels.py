"""The pixel pipeline and its sections over real sockets; model and tokenizer are fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
from edge_fakes import FakeBundle
from serving_fakes import LiveServer, fake_settings

from edge_client.evaluation.codecs import find_codec, match_rate
from edge_client.evaluation.context import Context, Section, Table
from edge_client.evaluation.data import read_data
from edge_client.evaluation.exchanges import exchange
from edge_client.evaluation.pixel_loop.client import PixelClient
from edge_client.evaluation.pixel_loop.cross_modality import CrossModality, block_means, remasked
from edge_client.evaluation.pixel_loop.editing import edit_mask, untouched
from edge_client.evaluation.pixel_loop.gateway import Made, PixelGateway
from edge_client.evaluation.pixel_loop.message import (
    PixelRequest,
    pack_answer,
    pack_request,
    unpack_answer,
    unpack_request,
)
from edge_client.evaluation.sections import cmc, codecs, rounds
from edge_client.pictures.outputs import save_picture
from edge_client.transport.http import HttpTransport
from shared_protocol.errors import (
    BadMessageError,
    ConfigError,
    ImageError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    UnimicError,
)
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import TokenMask

BUNDLE = FakeBundle()
HOLE = TokenMask(np.arange(16).reshape(4, 4) == 5)


def picture(seed: int = 0) -> np.ndarray:
    """(64, 64, 3) uint8: slow waves of grey."""
    y, x = np.mgrid[:64, :64] / 20.0
    grey = np.rint(120 + 60 * np.sin(x + seed) + 50 * np.cos(y)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0), bundle=FakeBundle()) as live:
        yield live


@pytest.fixture
def context(server: LiveServer, tmp_path: Path) -> Context:
    """Two pictures with a case of every task each."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in (1, 2):
        name = f"images/{number}.png"
        save_picture(folder / name, picture(number))
        shared: dict[str, Any] = {"seed": number}
        lines += [
            {"id": f"t2i-{number}", "task": "t2i", "prompt": "a fox", **shared},
            {
                "id": f"inpaint-{number}",
                "task": "inpaint",
                "prompt": "a ball",
                "image": name,
                "box": [16, 16, 16, 32],
                **shared,
            },
            {
                "id": f"outpaint-{number}",
                "task": "outpaint",
                "prompt": "a beach",
                "image": name,
                "extend": {"left": 1, "right": 2},
                **shared,
            },
            {
                "id": f"vqa-{number}",
                "task": "vqa",
                "prompt": "abc",
                "image": name,
                "answers": ["cba"],
                **shared,
            },
        ]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return Context(
        data=read_data(folder),
        out=tmp_path / "out",
        bundle=FakeBundle(),
        server=server.url,
        steps=2,
        quiet=True,
    )


def rows(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def table(section: Section, name: str) -> list[dict[str, Any]]:
    return next(rows(one) for one in section.tables if one.name == name)


def text(words: str) -> Any:
    return BUNDLE.text_tokenizer.encode(words)


@pytest.mark.parametrize(
    "request_",
    [
        PixelRequest(text("a fox")),
        PixelRequest(text("a ball"), b"\xff\xd8", HOLE, options=Options(steps=3, seed=9)),
        PixelRequest(text("a hole"), b"y", edit_mask((4, 4), 1)),  # its mask takes no byte at all
        PixelRequest(text("x"), b"y" * 300, extension=Extension(left=2, down=1)),
    ],
)
def test_pixel_requests_come_back_and_their_parts_add_up(request_: PixelRequest) -> None:
    body, parts = pack_request(request_, BUNDLE)
    back = unpack_request(body, BUNDLE)
    assert (back.text, back.picture, back.mask) == (request_.text, request_.picture, request_.mask)
    assert (back.extension, back.options) == (request_.extension, request_.options)
    assert parts.total == len(body)
    assert parts.picture == len(request_.picture)
    assert parts.framing < 20


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93\x01\x02\x03",
        msgpack.packb([9, b"", None, None, None, 0, b""]),
        msgpack.packb([0, "text", None, None, None, 0, b""]),
        msgpack.packb([0, b"", None, 1, None, 0, b""]),
    ],
)
def test_bodies_that_are_no_pixel_request_are_refused(body: bytes) -> None:
    with pytest.raises(BadMessageError):
        unpack_request(body, BUNDLE)


def test_answers_in_words_come_back() -> None:
    body = pack_answer(text("two balloons"), BUNDLE)
    assert unpack_answer(body, BUNDLE) == text("two balloons")
    for broken in (b"", b"\x09abc"):
        with pytest.raises(BadMessageError):
            unpack_answer(broken, BUNDLE)


def gateway_of(server: LiveServer, made: list[Made]) -> PixelGateway:
    return PixelGateway(BUNDLE, lambda: HttpTransport(server.url), made.append)


def test_the_gateway_shows_the_server_what_the_codec_left(server: LiveServer) -> None:
    made: list[Made] = []
    coded = match_rate(find_codec("jpeg"), picture(), 300).coded
    request = PixelRequest(text("a ball"), coded.payload, HOLE, options=Options(seed=4))
    with gateway_of(server, made) as gateway, PixelClient(gateway.url, BUNDLE) as client:
        done = client.ask(Task.INPAINT, request, "jpeg", 200.0)
    assert np.array_equal(made[0].received, coded.decode())
    outside = np.kron(HOLE.flags, np.ones((16, 16))) == 0
    expected = BUNDLE.image_tokenizer().detokenize(
        BUNDLE.image_tokenizer().tokenize(coded.decode())
    )
    assert np.array_equal(made[0].pixels[outside], expected[outside])
    assert made[0].match is not None
    assert np.array_equal(done.pixels, made[0].match.coded.decode())
    assert done.down == len(made[0].match.coded.payload)
    assert done.up.picture == len(coded.payload)


def test_every_byte_of_the_pixel_hop_is_counted(server: LiveServer) -> None:
    coded = find_codec("jpeg").encode(picture(), 50)
    with gateway_of(server, []) as gateway, PixelClient(gateway.url, BUNDLE) as client:
        done = client.ask(Task.VQA, PixelRequest(text("abc"), coded), "jpeg")
    assert done.answer == "cba"
    assert done.wire_up > done.up.total > len(coded)
    assert done.wire_down > done.down > 3


def test_a_shrunk_picture_goes_up_and_comes_back_in_full_size(server: LiveServer) -> None:
    coded = match_rate(find_codec("jpeg"), picture(), 20, shrink=True).coded
    assert coded.codec.name.startswith("jpeg/")
    request = PixelRequest(text("a beach"), coded.payload, extension=Extension(right=4))
    with gateway_of(server, []) as gateway, PixelClient(gateway.url, BUNDLE) as client:
        done = client.ask(Task.OUTPAINT, request, coded.codec.name, 20.0)
    assert done.pixels is not None
    assert done.pixels.shape == (64, 128, 3)


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("store?codec=jpeg&target=9", None, NotFoundError),
        ("t2i?codec=gif&target=9", None, ConfigError),
        ("t2i?codec=jpeg&target=many", None, InvalidInputError),
        ("t2i?codec=jpeg&target=0", None, InvalidInputError),
        ("t2i?codec=jpeg&target=9", b"nothing", BadMessageError),
        ("vqa?codec=jpeg&target=9", None, InvalidInputError),
    ],
)
def test_the_gateway_answers_with_typed_errors(
    server: LiveServer, path: str, body: bytes | None, error: type[UnimicError]
) -> None:
    whole = pack_request(PixelRequest(text("a fox")), BUNDLE)[0]
    with gateway_of(server, []) as gateway:
        reply = httpx.post(f"{gateway.url}/v1/{path}", content=whole if body is None else body)
    assert reply.status_code == error.http_status
    assert reply.json()["code"] in {cls.code for cls in [error, *error.__subclasses__()]}


@pytest.mark.slow
def test_codecs_compares_every_task_at_the_rate_of_tokens(context: Context) -> None:
    section = codecs.run(context, ["jpeg"])
    for task in ("t2i", "inpaint", "outpaint", "vqa"):
        tokens, jpeg = table(section, f"codecs-{task}")
        assert (tokens["method"], jpeg["method"]) == ("tokens", "jpeg")
        assert tokens["cases"] == jpeg["cases"] == 2
        if task == "vqa":
            assert tokens["exact match"] == jpeg["exact match"] == 1.0
        else:
            assert tokens["PSNR down, dB"] == "lossless"
            assert 10 < jpeg["PSNR down, dB"] < 60
        if task in ("inpaint", "outpaint"):
            assert 10 < jpeg["PSNR kept, dB"] < 60
            assert 10 < tokens["PSNR up, dB"] < 60
    least = table(section, "codecs-least")
    assert {row["way"] for row in least} == {"up", "down"}
    assert all(row["least bytes at full size"] > 0 for row in least)


@pytest.mark.slow
def test_codecs_measures_nothing_twice(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    first = codecs.run(replace(context, limit=1), ["jpeg"])
    records = (context.out / "codecs" / "records.jsonl").read_text(encoding="utf-8")
    monkeypatch.setattr(codecs, "by_tokens", None)
    monkeypatch.setattr(codecs, "by_codec", None)
    monkeypatch.setattr("edge_client.evaluation.tables.rate_curves.encode", None)
    assert codecs.run(replace(context, limit=1), ["jpeg"]) == first
    assert (context.out / "codecs" / "records.jsonl").read_text(encoding="utf-8") == records


def test_codecs_names_what_is_not_available(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "baselines", lambda context, names: ([], ["vvc"]))
    section = codecs.run(replace(context, limit=1), ["vvc"])
    assert section.notes == ("The codec vvc is not available here.",)
    assert [row["method"] for row in table(section, "codecs-inpaint")] == ["tokens"]


def test_rounds_leave_tokens_as_they_are_and_wear_pixels_down(context: Context) -> None:
    section = rounds.run(context, ["jpeg"], rounds=3, multiples=[5])
    found = table(section, "rounds")
    tokens = [row for row in found if row["method"] == "tokens"]
    jpeg = [row for row in found if row["method"] == "jpeg x5"]
    assert [row["round"] for row in tokens] == [row["round"] for row in jpeg] == [1, 2, 3]
    assert {row["tokens unchanged, share"] for row in tokens} == {1.0}
    assert tokens[-1]["PSNR against round 1, dB"] == "lossless"
    assert len({row["PSNR against the source, dB"] for row in tokens}) == 1
    assert jpeg[-1]["tokens unchanged, share"] < 1.0
    psnr = next(plot for plot in section.plots if plot.name == "rounds-psnr")
    assert [series.label for series in psnr.series] == ["tokens", "jpeg x5"]


@pytest.mark.slow
def test_rounds_go_on_where_they_stopped(context: Context) -> None:
    one = replace(context, limit=1)
    whole = rounds.run(replace(one, out=context.out / "whole"), ["jpeg"], 3, [5])
    rounds.run(one, ["jpeg"], 2, [5])
    assert rounds.run(one, ["jpeg"], 3, [5]).tables == whole.tables


def test_a_token_that_changes_outside_an_edit_is_an_error(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddled(*words: Any) -> Any:
        done = exchange(*words)
        codes = np.array(done.response.image.codes)
        codes[3, 3] += 1
        image = replace(done.response.image, codes=codes)
        return replace(done, response=replace(done.response, image=image))

    monkeypatch.setattr("edge_client.evaluation.pixel_loop.editing.exchange", meddled)
    with pytest.raises(InternalError, match="1 tokens outside the edit of round 1"):
        rounds.run(context, [], rounds=1)


def test_edits_stay_inside_the_part_that_is_not_scored() -> None:
    for number in range(1, 9):
        assert not (edit_mask((16, 16), number).flags & untouched((16, 16), 0)).any()
    assert untouched((16, 16), 3).sum() == 16 * 16 - 11 * 11


@pytest.mark.slow
def test_cmc_runs_every_mode_and_counts_what_travels(context: Context) -> None:
    section = cmc.run(context, ["jpeg"])
    found = {row["mode"]: row for row in table(section, "cmc")}
    assert list(found) == ["text", "pixel", "image", "full", "codec alone", "tokens"]
    assert all(row["pictures"] == 2 for row in found.values())
    assert found["text"]["picture bytes"] == 0
    assert found["pixel"]["picture bytes"] == 2  # ten bits
    assert found["image"]["text bytes"] == 0
    assert found["full"]["text bytes"] == found["text"]["text bytes"] > 0
    assert found["full"]["picture bytes"] == found["codec alone"]["picture bytes"]
    assert all(row["PSNR, dB"] == "lossless" or row["PSNR, dB"] > 5 for row in found.values())
    assert found["tokens"]["PSNR, dB"] > found["text"]["PSNR, dB"]


def test_cmc_measures_nothing_twice(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cmc.run(replace(context, limit=1), ["jpeg"])
    monkeypatch.setattr(CrossModality, "compress", None)
    assert cmc.run(replace(context, limit=1), ["jpeg"]) == first


def test_cmc_without_any_codec_says_so(context: Context) -> None:
    with pytest.raises(ConfigError, match="none of nothing is available"):
        cmc.run(context, ["nothing"])


def test_block_means_are_those_of_the_blocks() -> None:
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, 64:] = 200
    pixels[:32, 64:, 1] = 100
    assert block_means(pixels).tolist() == [[[0, 0, 0], [200, 150, 200]]]
    with pytest.raises(ImageError, match="60x64"):
        block_means(pixels[:60, :64])


def test_the_share_that_is_masked_anew_follows_the_strength() -> None:
    tokens = BUNDLE.image_tokenizer().tokenize(picture())
    assert [remasked(tokens, share, 3).count for share in (1.0, 0.5, 0.01)] == [16, 8, 1]
    assert remasked(tokens, 0.5, 3) == remasked(tokens, 0.5, 3)
    assert remasked(tokens, 0.5, 3) != remasked(tokens, 0.5, 4)
