"""What every test may use."""

from pathlib import Path

import pytest

collect_ignore_glob = ["conftest.py", "**/conftest.py"]
"""Looked through for doctests, two files of this name would be taken for one module."""

collect_ignore = ["clients", "mutants"]
"""Programs with environments of their own, which are no tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full-size",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="serve Show-o in full size with random weights from here (3.3 GB, written if absent)",
    )
    parser.addoption(
        "--fuzz-scale",
        type=int,
        default=1,
        metavar="N",
        help="N times as many damaged frames (20: a million of the toy bundle)",
    )


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def sprite_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with drawn shapes for sprites, so that scenes need no network; only read."""
    from cloud_server.training.scenes.stand_ins import write_stand_ins
    from cloud_server.training.scenes.world import World

    folder = tmp_path_factory.mktemp("cache")
    world = World.load(None)
    assert write_stand_ins(folder, world) == len(world.sprites)
    return folder
