"""What every test may use."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full-size",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="serve Show-o in full size with random weights from here (3.3 GB, written if absent)",
    )


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"
