"""HTTP.md against the constants and errors that it specifies."""

import re
from pathlib import Path

import pytest

from shared_protocol import errors
from shared_protocol.http import contract
from shared_protocol.http.reply_stream import STAGES
from shared_protocol.session.paths import ROUTE_HEADER, route_of
from shared_protocol.tasks import TABLE

SPECIFICATION = Path(contract.__file__).with_name("HTTP.md").read_text()
NOT_SENT = {"bad_config", "bad_checkpoint", "labels_mismatch", "transport", "server_timeout"}
UNKNOWN = {"error", "service_failed"}


def test_error_table_is_the_one_of_the_code():
    said = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", SPECIFICATION, re.M))
    held = {code: str(cls.http_status) for code, cls in errors.CODES.items()}
    assert said == {c: s for c, s in held.items() if c not in NOT_SENT | UNKNOWN}
    assert all(f"`{code}`" in SPECIFICATION for code in NOT_SENT | UNKNOWN)


NAMES = [
    value
    for name, value in vars(contract).items()
    if name.isupper() and isinstance(value, str) and not name.startswith("_")
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_contract_is_specified(name):
    assert name in SPECIFICATION or name.removesuffix("{1,200}") in SPECIFICATION


def test_every_task_path_and_stage_is_specified():
    assert all(f"`{contract.task_path(task)}`" in SPECIFICATION for task in TABLE)
    assert all(f"`{stage}`" in SPECIFICATION for stage in STAGES)
    assert f"{contract.MAX_REPLY_BYTES:,} bytes" in SPECIFICATION


@pytest.mark.parametrize("package", ["cloud_server", "edge_client", "shared_protocol"])
def test_no_name_of_the_contract_is_written_twice(package):
    root = Path(__file__).resolve().parents[4] / package
    for path in root.rglob("*.py"):
        if path.name == "contract.py":
            continue
        code = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
        found = [name for name in NAMES if f'"{name}"' in code or f"'{name}'" in code]
        assert not found, f"{path} writes out {found}; import them from http.contract"


def test_what_tells_conversations_apart_is_the_one_of_the_code() -> None:
    assert f"`{ROUTE_HEADER}`: {len(route_of(b''))} hexadecimal digits" in SPECIFICATION
