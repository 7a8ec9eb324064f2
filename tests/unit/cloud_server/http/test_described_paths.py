"""What /openapi.json says of each path and each body, and what the bodies hold."""

import pytest
from pydantic import ValidationError
from serving_fakes import BUNDLE, fake_settings, serving, with_neck

from cloud_server.http.problems import ErrorBody
from cloud_server.http.routes import Health
from shared_protocol.message import bitstream
from shared_protocol.messages import MAX_GUIDANCE

pytestmark = pytest.mark.anyio
KEY = {"Authorization": "Bearer secret"}
TASK = {200, 400, 401, 409, 413, 415, 422, 429, 500, 503, 504}
STATUSES = {
    ("post", "/v1/t2i"): TASK,
    ("post", "/v1/inpaint"): TASK,
    ("post", "/v1/outpaint"): TASK,
    ("post", "/v1/vqa"): TASK,
    ("post", "/v1/classify"): TASK,
    ("get", "/v1/info"): {200, 401, 503},
    ("get", "/metrics"): {200, 401},
    ("get", "/v1/bundles/{fingerprint}"): {200, 401, 404, 422, 503},
    ("get", "/v1/bundles/{fingerprint}/{file}"): {200, 206, 304, 400, 401, 404, 416, 422, 503},
    ("get", "/v1/jobs/{key}"): {200, 202, 401, 404, 422, 503},
    ("delete", "/v1/jobs/{key}"): {204, 401, 404, 422, 503},
    ("get", "/healthz"): {200},
    ("get", "/readyz"): {200, 503},
}
WORDS = {
    400: "no UniMIC message", 401: "key is missing or wrong", 404: "nothing at this path",
    409: "different bundles", 413: "over the limit", 415: "msgpack", 422: "cannot do",
    429: "in a minute", 500: "incident number", 503: "Loading, full or stopping",
    504: "longer than the time limit",
}  # fmt: skip
OPEN = ("/healthz", "/readyz")


async def described(below=""):
    async with serving(fake_settings(api_key="secret")) as (client, _):
        client._transport.root_path = below
        return (await client.get(f"{below}/openapi.json", headers=KEY)).json()


async def test_each_path_names_every_status_that_it_may_have():
    paths = (await described())["paths"]
    found = {
        (method, path): {int(status) for status in said["responses"]}
        for path, methods in paths.items()
        for method, said in methods.items()
    }
    assert found == STATUSES
    for (method, path), statuses in STATUSES.items():
        said = paths[path][method]
        assert bool(said.get("security")) == (path not in OPEN)
        for status in statuses - {200, 202, 204, 206, 304}:
            check_failure(path, status, said["responses"][str(status)])


def check_failure(path, status, said):
    if path in OPEN or (path.startswith("/v1/bundles") and status in (400, 416)):
        return  # /readyz says its state, and a Range that makes no sense gets words
    assert said["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")
    if not (path.startswith("/v1/bundles") and status in (404, 422)):
        assert WORDS[status] in said["description"]


async def test_no_body_is_described_that_is_never_sent():
    schemas = (await described())["components"]["schemas"]
    assert set(schemas) == {
        "BundleFile", "BundleListing", "DefaultOptions", "ErrorBody", "Health", "Info", "Limits",
        "NeckInfo", "Progress",
    }  # fmt: skip
    assert schemas["ErrorBody"]["additionalProperties"] is False
    assert schemas["ErrorBody"]["required"] == ["code", "message"]
    assert schemas["ErrorBody"]["title"] == "Error"
    assert "neck" in schemas["Info"]["required"]


async def test_a_reply_names_its_headers_and_a_request_its_key():
    post = (await described())["paths"]["/v1/t2i"]["post"]
    headers = {name.lower() for name in post["responses"]["200"]["headers"]}
    limits = {f"x-ratelimit-{what}-{limit}" for what in ("limit", "remaining", "reset")
              for limit in ("requests", "tokens")}  # fmt: skip
    assert headers == {"server-timing", "x-request-id"} | limits
    (key,) = post["parameters"]
    assert (key["name"].lower(), key["in"], key["required"]) == ("idempotency-key", "header", False)
    assert key["schema"]["pattern"].endswith("$")
    assert post["requestBody"]["required"] is True


@pytest.mark.parametrize(("root", "servers"), [("", None), ("/below", [{"url": "/below"}])])
async def test_behind_a_proxy_the_description_says_where(root, servers):
    assert (await described(root)).get("servers") == servers


def test_an_error_has_no_other_fields_and_two_that_it_needs():
    ErrorBody(code="a", message="b")
    for wrong in ({"code": "a"}, {"message": "b"}, {"code": "a", "message": "b", "more": 1}):
        with pytest.raises(ValidationError):
            ErrorBody.model_validate(wrong)
    said = ErrorBody(code="a", message="b")
    assert (said.remedy, said.retry_after, said.request_id) == (None, None, None)
    with pytest.raises(ValidationError):
        Health.model_validate({"status": "odd"})


@pytest.mark.parametrize("neck", [False, True])
async def test_info_says_what_the_settings_and_the_model_are(neck):
    settings = fake_settings(
        max_steps=11, max_new_tokens=12, max_grid=13, max_body=1400, max_queue=15, max_work=16,
        request_timeout=17.5,
    )  # fmt: skip
    parts = with_neck() if neck else {}
    async with serving(settings, None, max_batch=18, **parts) as (client, _):
        info = (await client.get("/v1/info")).json()
    assert info["limits"] == {
        "steps": 11, "guidance": MAX_GUIDANCE, "text_tokens": 8, "new_tokens": 12, "grid": 13,
        "body": 1400, "queue": 15, "work": 16, "batch": 18, "request_timeout": 17.5,
    }  # fmt: skip
    assert info["defaults"] == {"steps": 5, "guidance": 2.0, "max_new_tokens": 6}
    assert (info["name"], info["protocol"]) == ("unimic", bitstream.VERSION)
    assert (info["device"], info["stub"], info["scenarios"]) == ("fake", False, [])
    assert info["fingerprint"] == BUNDLE.fingerprint.hex()
    assert ("classify" in info["tasks"]) is neck
    if neck:
        assert info["neck"]["labels"] == 1000
        assert info["neck"]["fingerprint"] == "ab" * 32
        assert len(info["neck"]["labels_fingerprint"]) == 64
    else:
        assert info["neck"] is None
