"""A running server against its own documentation: whatever is sent, the reply is documented."""

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from damage import bodies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving_fakes import MSGPACK, LiveServer, a_message, fake_settings, with_neck

from shared_protocol.errors import CODES
from shared_protocol.tasks import Task

KEY = "key"
EXAMPLES = 25
TASKS = tuple(Task)
OPERATIONS = [f"POST /v1/{task.name.lower()}" for task in TASKS]
OPERATIONS += ["GET /v1/info", "GET /metrics", "GET /healthz", "GET /readyz"]
OPERATIONS += ["GET /v1/jobs/{key}", "DELETE /v1/jobs/{key}"]
OPERATIONS += ["GET /v1/bundles/{fingerprint}", "GET /v1/bundles/{fingerprint}/{file}"]
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MESSAGES = [a_message(task, seed=1, steps=2) for task in TASKS]

BODIES = bodies(MESSAGES)
schemathesis.openapi.media_type("application/msgpack", BODIES)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(fake_settings(port=0, api_key=KEY), **with_neck()) as live:
        yield live


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_reply_is_one_that_the_documentation_describes(server, label):
    schema = schemathesis.openapi.from_url(
        f"{server.url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"}
    )
    method, path = label.split()

    @BOUNDED
    @given(case=schema[path][method].as_strategy())
    def check(case):
        # "binary" says nothing of what a message is, so most bodies are rightly refused.
        case.call_and_validate(
            headers={"Authorization": f"Bearer {KEY}"}, excluded_checks=[positive_data_acceptance]
        )

    check()


def test_the_documentation_names_every_path(server):
    schema = httpx.get(
        f"{server.url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"}
    ).json()
    found = {f"{m.upper()} {path}" for path, ways in schema["paths"].items() for m in ways}
    assert found == set(OPERATIONS)


@pytest.mark.slow
def test_no_body_is_a_fault_of_the_server(server):
    headers = {**MSGPACK, "Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=headers) as client:

        @BOUNDED
        @given(body=BODIES, task=st.sampled_from(TASKS), stream=st.booleans())
        def check(body, task, stream):
            accept = {"Accept": "application/msgpack-seq"} if stream else {}
            reply = client.post(f"/v1/{task.name.lower()}", content=body, headers=accept)
            if reply.status_code != 200:
                assert reply.status_code < 500
                assert CODES[reply.json()["code"]].http_status == reply.status_code

        check()
