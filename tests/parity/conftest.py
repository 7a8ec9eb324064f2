"""Where the golden vectors are: `pytest tests/parity --golden DIR` reads another set."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared_protocol.vocabulary import Vocabulary

BUNDLED = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", type=Path, default=None, help="folder with golden vectors")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that take a `t2i_case` with every case of the chosen set."""
    if "t2i_case" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--golden", default=None) or BUNDLED
        content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        cases = content["scalars"]["t2i_generate.safetensors"]["cases"]["value"]
        metafunc.parametrize("t2i_case", sorted(cases))


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder of golden vectors."""
    chosen: Path | None = request.config.getoption("--golden", default=None)
    return chosen or BUNDLED


@pytest.fixture(scope="session")
def manifest(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "manifest.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def sizes(manifest: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = manifest["sizes"]
    return content


@pytest.fixture(scope="session")
def vocabulary(sizes: dict[str, Any]) -> Vocabulary:
    return Vocabulary(sizes["llm_vocab_size"], sizes["codebook_size"])


@pytest.fixture(scope="session")
def eot_id(sizes: dict[str, Any]) -> int:
    return int(sizes["special_token_ids"]["<|eot|>"])
