"""Pictures of a hundred megapixels, and of as many as are taken, stay within the memory budget."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import huge_pictures
import picture_memory
import pytest
from huge_pictures import PICTURES

from edge_client.pictures.opening import MEMORY_MIB

SIDE = 10_000
SLOW_TO_WRITE = ("webp animated", "avif rgba", "gif animated", "avif")


def written(name: str, side: int, folder: Path) -> Path:
    """A picture of side x side pixels; another process holds them."""
    path = folder / f"picture.{PICTURES[name][0]}"
    words = [sys.executable, huge_pictures.__file__, name, str(path), str(side)]
    subprocess.run(words, check=True, timeout=120)
    return path


def used(what: str, path: Path, folder: Path) -> tuple[float, str]:
    """The most memory that it took, in MiB, and what came of it."""
    words = [sys.executable, picture_memory.__file__, what, str(path), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    peak, told = json.loads(done.stdout.splitlines()[-1])
    return float(peak), str(told)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PICTURES if name not in SLOW_TO_WRITE])
def test_a_picture_is_read_or_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    side = SIDE if name.startswith(("png", "jpeg", "tiff", "bmp", "p")) else SIDE // 2
    peak, told = used("view", written(name, side, tmp_path), tmp_path)
    assert peak < MEMORY_MIB
    limit = re.search(r"over the ([\d,]+) pixels of such a .* in 450 MiB .*scale", told)
    if limit is None:
        return
    assert peak < 150, "what is refused is not decoded first"
    # The largest that is taken.
    most = math.isqrt(int(limit[1].replace(",", ""))) - 8
    peak, told = used("view", written(name, most, tmp_path), tmp_path)
    assert "memory" not in told
    assert peak < MEMORY_MIB


@pytest.mark.slow
@pytest.mark.parametrize("what", ["edit", "mask"])
@pytest.mark.parametrize("name", ["png rgba", "png 16-bit grey", "jpeg cmyk", "tiff of floats"])
def test_edits_and_masks_have_the_same_budget(name: str, what: str, tmp_path: Path) -> None:
    peak, _ = used(what, written(name, 4550, tmp_path), tmp_path)
    assert peak < MEMORY_MIB


@pytest.mark.slow
def test_a_file_whose_tags_take_the_memory_is_refused(tmp_path: Path) -> None:
    count, size = 2000, 4_000_000
    data = bytearray(b"II*\0\x08\0\0\0" + count.to_bytes(2, "little"))
    for tag in range(count):
        data += (40_000 + tag).to_bytes(2, "little") + (1).to_bytes(2, "little")
        data += size.to_bytes(4, "little") + (8).to_bytes(4, "little")
    path = tmp_path / "tags.tif"
    path.write_bytes(bytes(data) + bytes(size))
    peak, told = used("view", path, tmp_path)
    assert told.startswith("ImageError")
    assert peak < MEMORY_MIB
