"""Real clients of OpenAI's API against a gateway and the built-in server; prints a table.

Run by `make test-clients`; README.md beside this file has more. Environments are kept below the
folder that the first argument names, each with what its row of `CLIENTS` installs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pictures

from edge_client.report import table
from edge_client.spawn import program, spawned_server

HERE = Path(__file__).parent
_CLIENT_S = 900
_READY_S = 60


class Client(NamedTuple):
    """One client: the folder of its environment, what is installed there, the script."""

    name: str
    packages: tuple[str, ...]
    script: str


CLIENTS = (
    Client("openai3", ("openai>=3,<4", "pillow"), "openai_python.py"),
    Client("openai2", ("openai>=2,<3", "pillow"), "openai_python.py"),
    Client("litellm", ("litellm", "pillow"), "litellm_python.py"),
    Client("langchain", ("langchain-openai", "pillow"), "langchain_python.py"),
    Client("llamaindex", ("llama-index-llms-openai-like", "pillow"), "llamaindex_python.py"),
    Client("llm", ("llm", "pillow"), "llm_command.py"),
    Client("openai-node", ("openai",), "openai_node.mjs"),
    Client("ai-sdk", ("ai", "@ai-sdk/openai"), "ai_sdk.mjs"),
)


def main(where: Path, wanted: list[str]) -> int:
    """Run those that are wanted, or all; 1 if anything went wrong."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder)) as address:
        for client in CLIENTS:
            if not wanted or client.name in wanted:
                rows += run(client, where, address, Path(folder))
    print(table(["client", "step", "", "told", "s"], rows, left=4))
    return int(any(row[2] == "FAILED" for row in rows))


def run(client: Client, where: Path, address: str, folder: Path) -> list[list[str]]:
    """The rows of one client."""
    node = client.script.endswith(".mjs")
    if node and (shutil.which("npm") is None or shutil.which("node") is None):
        return [[client.name, "", "skipped", "there is no npm here", ""]]
    home = where / client.name
    command = with_npm(home, client) if node else with_pip(home, client)
    for name, data in (("photo.png", pictures.photo()), ("mask.png", pictures.mask())):
        (folder / name).write_bytes(data)
    command += [str(HERE / client.script), address]
    command += [str(folder / "photo.png"), str(folder / "mask.png")] if node else []
    rows, started = [], time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("{"):
            continue
        told = json.loads(line)
        took, started = time.monotonic() - started, time.monotonic()
        mark = "ok" if told["ok"] else "FAILED"
        rows.append([client.name, told["step"], mark, told["told"], f"{took:.1f}"])
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    _, errors = process.communicate(timeout=_CLIENT_S)
    if process.returncode != 0:
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        print(errors, file=sys.stderr)
        rows.append([client.name, "end", "FAILED", last[:100], ""])
    return rows


def with_pip(home: Path, client: Client) -> list[str]:
    """Python of an environment that has the packages."""
    python = home / "bin" / "python"
    if not (home / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *client.packages], check=True)
        (home / "done").touch()
    return [str(python)]


def with_npm(home: Path, client: Client) -> list[str]:
    """Node, in a folder that has the packages."""
    if not (home / "done").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--silent", *client.packages], cwd=home, check=True)
        (home / "done").touch()
    return ["node"]


@contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """A gateway in front of a built-in server, both on free ports."""
    ready = folder / "gateway"
    with spawned_server(folder / "server.log") as server:
        command = program("edge-client", "edge_client.cli")
        command += ["gateway", "--port", "0", "--ready-file", str(ready), "--timeout", "300"]
        environment = {**os.environ, "UNIMIC_SERVER": server.url}
        with (folder / "gateway.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _READY_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((folder / "gateway.log").read_text())
                time.sleep(0.1)
            yield ready.read_text().strip()
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
