"""A cache folder with drawn shapes for sprites, so that scenes need no network."""

from pathlib import Path

import pytest

from cloud_server.training.scenes.stand_ins import write_stand_ins
from cloud_server.training.scenes.world import World


@pytest.fixture(scope="session")
def sprite_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For reading only."""
    folder = tmp_path_factory.mktemp("cache")
    world = World.load(None)
    assert write_stand_ins(folder, world) == len(world.sprites)
    return folder
