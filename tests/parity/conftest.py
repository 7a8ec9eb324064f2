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
    """Run tests that take a case, a question or a run with every one of the chosen set."""
    wanted = {"t2i_case", "mmu_case", *KINDS_OF_RUNS} & set(metafunc.fixturenames)
    if not wanted:
        return
    folder = metafunc.config.getoption("--golden", default=None) or BUNDLED
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in sorted(wanted):
        metafunc.parametrize(name, _names(name, content["scalars"]))


KINDS_OF_RUNS = ("t2i_run", "inpainting_run", "extrapolation_run", "pictured_run", "script_run")
"""Arguments of tests that take the scripts' runs: of one kind, with a picture, or all."""


def _names(wanted: str, scalars: dict[str, Any]) -> list[str]:
    if wanted == "t2i_case":
        return sorted(scalars["t2i_generate.safetensors"]["cases"]["value"])
    if wanted == "mmu_case":
        return sorted(scalars["mmu_generate.safetensors"]["cases"])
    runs = runs_of(scalars)
    if wanted == "script_run":
        return sorted(runs)
    if wanted == "pictured_run":
        return sorted(name for name, facts in runs.items() if "image_path" in facts)
    return sorted(name for name, facts in runs.items() if f"{kind_of(facts)}_run" == wanted)


def runs_of(scalars: dict[str, Any]) -> dict[str, Any]:
    """Every run of the scripts, by name."""
    found: dict[str, Any] = scalars["pipeline.safetensors"]["runs"]["value"]
    return found


def kind_of(facts: dict[str, Any]) -> str:
    """ "t2i", "inpainting" or "extrapolation", as the script calls them."""
    return str(facts.get("mode", "t2i"))


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
