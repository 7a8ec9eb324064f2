"""What the edge's commands import: budgets by names of modules, never by time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICTURE = str(ROOT / "edge_client" / "samples" / "scene1.webp")
HTTP = {
    "websockets",
    "httpx",
    "httpcore",
    "h11",
    "anyio",
    "sniffio",
    "idna",
    "certifi",
    "typing_extensions",
}
HTTP |= {"click", "rich", "pygments", "markdown_it", "mdurl"}
"""httpx, with what it imports for a command of its own where other packages have brought it."""
WORDS = {"tokenizers"}
PICTURES = {"PIL", "safetensors"}
CODING = {"numpy", "msgpack"}
TEXT = {"brotli", "_brotli"}
ASK = ["--server", "http://127.0.0.1:9", "--timeout", "0.1"]

BUDGETS: dict[str, tuple[list[str], set[str], set[str]]] = {
    "--help": (["--help"], set(), {"shared_protocol.messages", "shared_protocol.tasks"}),
    "inpaint --help": (["inpaint", "--help"], set(), {"shared_protocol.messages"}),
    "--version": (["--version"], set(), {"shared_protocol.messages"}),
    "inspect": (["inspect", "a.umic"], CODING, {"shared_protocol.entropy", "PIL"}),
    "encode": (["encode", PICTURE, "-o", "b.umic"], CODING | PICTURES, {"ssl", "http.client"}),
    "decode": (["decode", "a.umic", "-o", "a.png"], CODING | PICTURES, {"ssl", "http.client"}),
    "t2i": (
        ["t2i", "a fox", *ASK],
        CODING | TEXT | WORDS | HTTP,
        {"shared_protocol.entropy.engine", "shared_protocol.tokenizers.load", "PIL", "safetensors"},
    ),
    "vqa": (
        ["vqa", PICTURE, "how many?", *ASK],
        CODING | TEXT | WORDS | HTTP | PICTURES,
        {"PIL.EpsImagePlugin"},
    ),
    "inpaint": (
        ["inpaint", PICTURE, "--box", "0,0,64,64", "a fox", *ASK],
        CODING | TEXT | WORDS | HTTP | PICTURES,
        {"PIL.EpsImagePlugin"},
    ),
}
"""Command to its words, the packages that it may import, and modules that it must not."""

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from edge_client.cli import main
try:
    main(sys.argv[2:])
except SystemExit:
    pass
site = [name for name, module in sys.modules.items()
        if "site-packages" in (getattr(module, "__file__", None) or "")]
print(json.dumps({"site": site, "all": list(sys.modules)}), file=sys.stderr)
"""


def imported(words: list[str], folder: Path) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ROOT, *words], cwd=folder, capture_output=True, text=True
    )
    found: dict[str, list[str]] = json.loads(done.stderr.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("startup")
    imported(["encode", PICTURE, "-o", "a.umic"], place)
    assert (place / "a.umic").is_file()
    return place


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(name, marks=[] if name in ("inpaint --help", "inspect") else pytest.mark.slow)
        for name in BUDGETS
    ],
)
def test_a_command_imports_what_it_needs_and_no_more(command: str, folder: Path) -> None:
    words, allowed, forbidden = BUDGETS[command]
    found = imported(words, folder)
    packages = {name.partition(".")[0] for name in found["site"]}
    # Path hooks and compiled helpers of other packages that an environment loads by itself.
    packages -= {"_distutils_hack"}
    packages = {name for name in packages if not name.startswith("__editable__")}
    assert packages - allowed - {"shared_protocol", "edge_client"} == set()
    assert forbidden & set(found["all"]) == set()
