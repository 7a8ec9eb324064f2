"""What the documents name exists: files, folders, modules and make targets."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "shared_protocol").rglob("*.md"),
    *(ROOT / "cloud_server" / "notes").glob("*.md"),
    *(ROOT / "tests" / "parity").glob("*.md"),
]
TOP = ("shared_protocol/", "edge_client/", "cloud_server/", "tests/", "docker/")
CREATED = {"shared_protocol/session/"}
"""Named as the place of what does not exist yet."""
LEFT_BEHIND = "CHANGELOG.md"
"""Also names modules by what they were called before."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_links_and_modules_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    paths = [p for p in re.findall(r"`([\w./-]+)`", text) if p.startswith(TOP) and "…" not in p]
    missing = [path for path in paths if path not in CREATED and not (ROOT / path).exists()]
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    missing += [link for link in links if not (document.parent / link).exists()]
    if document.name != LEFT_BEHIND:
        modules = re.findall(
            r"python -m ((?:cloud_server|edge_client|shared_protocol)[\w.]*)", text
        )
        missing += [module for module in modules if find_spec(module) is None]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(document: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"(?:`|^)make ([\w-]+)", document.read_text(encoding="utf-8"), re.M)
    assert [target for target in named if target not in targets] == []
