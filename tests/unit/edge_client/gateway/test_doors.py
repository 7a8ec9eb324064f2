"""Who may come in, what is too much, and that every failure has OpenAI's shape."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from gateway_fakes import live_gateway

from edge_client.gateway.host import listening_on
from edge_client.gateway.settings import GatewaySettings
from shared_protocol.errors import ConfigError

ASKED = {"prompt": "x"}
GENERATE = "images/generations"


def shape(reply: httpx.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"].startswith("req_")
    return reply.status_code, error["code"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8401", "10.0.0.1", "", "a@b", "[::1", "localhost.x"]
)
def test_a_foreign_host_is_kept_out(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with live_gateway(monkeypatch) as live:
        assert shape(live.post(GENERATE, ASKED, host=host)) == (403, "foreign_host")
        assert live.cloud.asked == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:9", "LOCALHOST:8401"])
def test_names_of_this_device_come_in(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with live_gateway(monkeypatch) as live:
        assert live.post(GENERATE, ASKED, host=host).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_foreign_page_is_kept_out(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    with live_gateway(monkeypatch) as live:
        assert shape(live.post(GENERATE, ASKED, origin=origin)) == (403, "foreign_origin")
        reply = live.client.get("/v1/models", headers={"origin": origin})
        assert shape(reply) == (403, "foreign_origin")
        assert "access-control-allow-origin" not in reply.headers


def test_its_own_page_and_named_ones_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "https://app.example"
    with live_gateway(monkeypatch, allow_origins=(page,), allow_hosts=("box",)) as live:
        assert live.post(GENERATE, ASKED, origin=live.url).status_code == 200
        reply = live.post(GENERATE, ASKED, origin=page)
        assert reply.headers["access-control-allow-origin"] == page
        before = live.client.options("/v1/models", headers={"origin": page})
        assert before.status_code == 204
        assert "authorization" in before.headers["access-control-allow-headers"]
        assert live.post(GENERATE, ASKED, host="box").status_code == 200


def test_a_key_is_asked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with live_gateway(monkeypatch, key="secret") as live:
        for given in ("", "Bearer wrong", "secret", "Basic secret"):
            reply = live.post(GENERATE, ASKED, authorization=given)
            assert shape(reply) == (401, "invalid_api_key")
        reply = live.post(GENERATE, {**ASKED, "response_format": "url"},
                          authorization="Bearer secret")  # fmt: skip
        assert live.client.get(reply.json()["data"][0]["url"]).status_code == 200
        assert live.client.get("/v1/unimic/rounds").status_code == 401
        assert live.client.get("/healthz").status_code == 200


def test_bodies_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with live_gateway(monkeypatch, max_body=1000) as live:
        assert shape(live.post(GENERATE, {"prompt": "x" * 1000})) == (413, "request_too_large")

        def pieces():
            yield b'{"prompt": "' + b"x" * 2000 + b'"}'

        reply = live.client.post(f"/v1/{GENERATE}", content=pieces())
        assert shape(reply) == (413, "request_too_large")
        big = {"image": ("a.png", b"x" * 2000, "image/png")}
        assert shape(live.form("images/edits", {"prompt": "x"}, big))[0] == 413


@pytest.mark.parametrize(
    ("method", "path", "content", "kind", "found"),
    [
        ("GET", "/v1/nothing", b"", "", (404, "unknown_url")),
        ("GET", "/v1/images/generations", b"", "", (405, "unknown_url")),
        ("POST", "/v1/images/generations", b"{", "application/json", (400, "invalid_json")),
        ("POST", "/v1/images/generations", b"[1]", "application/json", (400, "invalid_json")),
        ("POST", "/v1/images/generations", b"\xff", "application/json", (400, "invalid_json")),
        ("POST", "/v1/images/generations", b'{"prompt": "\\ud800"}', "", (400, "invalid_json")),
        ("POST", "/v1/images/generations", b'{"n": NaN}', "", (400, "missing_required_parameter")),
        ("POST", "/v1/images/generations", b"[" * 100_000, "", (400, "invalid_json")),
        ("POST", "/v1/images/generations", b"x", "text/plain", (415, "unsupported_media_type")),
        ("POST", "/v1/images/edits", b"x", "multipart/form-data", (400, "invalid_form")),
        ("GET", "/v1/models/gpt-4", b"", "", (404, "model_not_found")),
        ("GET", "/v1/images/../../x/content", b"", "", (404, "unknown_url")),
    ],
)
def test_failures_have_one_shape(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    content: bytes,
    kind: str,
    found: tuple[int, str],
) -> None:
    with live_gateway(monkeypatch) as live:
        headers = {"content-type": kind} if kind else {}
        reply = live.client.request(method, path, content=content, headers=headers)
        assert shape(reply) == found


def test_what_it_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with live_gateway(monkeypatch) as live:
        models = live.client.get("/v1/models").json()["data"]
        assert [model["id"] for model in models] == ["unimic-fake"]
        assert live.client.get("/v1/models/unimic-fake").json()["object"] == "model"
        paths = live.client.get("/openapi.json").json()["paths"]
        assert "/v1/images/edits" in paths
        assert live.client.get("/healthz").json()["status"] == "ok"
        assert live.client.get("/v1/unimic/about").json()["size"] == "64x64"
        page = live.client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "wrong",
    [{"port": 70_000}, {"sessions": 0}, {"host": "0.0.0.0"}, {"key": "a\n"}, {"max_body": 0},
     {"allow_origins": ("app.example",)}, {"queue": -1}],
)  # fmt: skip
def test_settings_are_checked(wrong: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNIMIC_GATEWAY_KEY", raising=False)
    with pytest.raises(ConfigError):
        GatewaySettings(**wrong)  # type: ignore[arg-type]


def test_beyond_this_device_addresses_of_numbers_come_in_and_names_do_not() -> None:
    settings = GatewaySettings(host="0.0.0.0", key="k", allow_hosts=("box",))
    assert settings.lets_in("192.168.1.7")
    assert settings.lets_in("box")
    assert not settings.lets_in("evil.example")


def test_a_port_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edge_client import cli

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["gateway", "--port", str(port)]) == 2
    assert "--port" in capsys.readouterr().err


def test_head_and_body_of_an_answer_do_not_wait_for_each_other() -> None:
    with listening_on(GatewaySettings(port=0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
