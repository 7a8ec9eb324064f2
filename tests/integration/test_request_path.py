"""Through how many of the project's files one request passes: `pytest -s` prints them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from serving_fakes import LiveServer, fake_settings

from cloud_server.serving.load import load_model
from edge_client.client import EdgeClient
from edge_client.exchange.best import BestExchange
from edge_client.transport.schemes import open_transport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.messages import Options
from shared_protocol.tasks import Task

ROOT = Path(__file__).parents[2]
PACKAGES = ("cloud_server", "edge_client", "shared_protocol")
# Reading the prompt, laying it out and mending the picture is work of its own with files of its
# own: it is counted apart, so that it hides no growth of the plain path. Every path asks whether
# somebody traces the interaction (exchange/tracing) and names the request (http/problems).
MOST_FILES = {
    ("a single message", "off"): 65,
    ("a turn of a conversation", "off"): 68,
    ("a single message", "auto"): 83,
}
LONGEST_FILE = 400


class Profile:
    """Notes the project's files in which a function runs, in every thread, while it is open."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.recording = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if self.recording and event == "call" and code.co_name != "<module>":
            path = Path(code.co_filename)
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
                name = path.relative_to(ROOT).as_posix()
                self.files[name] = self.files.get(name, 0) + 1


def files_of(kind: str, mend: str, ask: Callable[[EdgeClient], object]) -> dict[str, int]:
    """The files that a request passes, edge and cloud in one process, all of it warm."""
    profile = Profile()
    settings = fake_settings(port=0, device="cpu", mend=mend, settle=mend)
    model = load_model(settings)
    changes = {name: getattr(model, name) for name in model.__dataclass_fields__}
    threading.setprofile(profile)
    try:
        with LiveServer(settings, **changes) as server, open_transport(server.url) as transport:
            bundle = load_bundle()
            exchange = BestExchange(bundle, server.url)
            single = kind == "a single message"
            client = EdgeClient(bundle, transport if single else exchange)
            ask(client)
            sys.setprofile(profile)
            profile.recording = True
            ask(client)
            profile.recording = False
            sys.setprofile(None)
            exchange.close()
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
    return profile.files


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mend"), MOST_FILES)
def test_one_request_passes_few_files(kind: str, mend: str) -> None:
    files = files_of(kind, mend, lambda client: client.t2i("a fox on a beach", Options(steps=2)))
    head = f"{len(files)} files of the project run for one {Task.T2I.slug} request as {kind}"
    print(f"\n{head}, mend {mend}:")
    for name, calls in sorted(files.items()):
        print(f"  {calls:6}  {name}")
    assert any(name.startswith("cloud_server/generation/") for name in files), "both ends ran"
    assert len(files) <= MOST_FILES[kind, mend]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_too_long_to_be_read_at_once(package: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert {path.name: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_folder_has_more_modules_than_one_can_oversee() -> None:
    free = ("training", "evaluation")
    folders = [path for name in PACKAGES for path in [ROOT / name, *(ROOT / name).rglob("*/")]]
    counts = {
        folder.relative_to(ROOT).as_posix(): len(list(folder.glob("[!_]*.py")))
        for folder in folders
        if folder.is_dir() and not any(part in free for part in folder.parts)
    }
    assert {name: count for name, count in counts.items() if count > 12} == {}
