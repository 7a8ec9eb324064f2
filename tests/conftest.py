"""Makes the shared fakes importable and runs async tests on asyncio."""

import sys
from pathlib import Path

import pytest

_FAKES = str(Path(__file__).parent / "fakes")
if _FAKES not in sys.path:
    sys.path.insert(0, _FAKES)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
