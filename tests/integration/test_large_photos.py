"""Photos of 24.5 megapixels are edited in full size within the memory that is promised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MOST_MIB = 450
# A cloud inside of the edge's process would count as the edge's memory: only what an edge does with
# a photo is run, from the opened file to the saved result, with the built-in tokenizer.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from edge_client.pictures.edits import Look, Wish, for_inpainting, for_outpainting
from edge_client.pictures.mask_files import draw_shapes, parse_shape
from edge_client.pictures.outputs import destination, save_source
from edge_client.pictures.pasting import inpainted, outpainted
from edge_client.pictures.sources import open_source
from shared_protocol.bundles.find import load_bundle
from shared_protocol.message.picture_file import write_picture
from shared_protocol.tokens import ImageTokens

task, path, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
bundle = load_bundle()
tokenizer = bundle.image_tokenizer()
source = open_source(path, bundle, whole=True)
if task == "inpaint":
    mask = draw_shapes([parse_shape("box", "400,400,3000,3000")], source.name, source.size)
    picture, flags, _ = for_inpainting(source, mask, Look())
    tokens = tokenizer.tokenize(picture.pixels)
    write_picture(tokens, bundle)  # loads the entropy models, as sending does
    geometry = picture.geometry
    step = inpainted(tokenizer.detokenize(tokens), picture, mask, flags)
else:
    grown = for_outpainting(source, Wish({"right": "25%"}), Look())
    tokens = tokenizer.tokenize(grown.picture.pixels)
    write_picture(tokens, bundle)
    tokens = ImageTokens(grown.extension.place(tokens.codes), 8192)
    step, geometry = outpainted(
        tokenizer.detokenize(tokens), grown.picture, grown.extension, bundle.stride
    )
save_source(destination(out, out), source.edited(step, tokens, geometry))
status = Path("/proc/self/status").read_text()  # of this program alone, unlike getrusage's peak
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def photo(folder: Path, kind: str) -> Path:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8))
    image = small.resize((6000, 4083), Image.Resampling.BICUBIC)
    path = folder / f"photo.{'jpg' if kind in ('jpg', 'turned', 'CMYK') else 'png'}"
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    if kind in ("RGBA", "CMYK"):
        image = image.convert(kind)
    if kind == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    options = {"compress_level": 1} if path.suffix == ".png" else {"exif": exif}
    image.save(path, **options)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "task"), [("turned", "inpaint"), ("RGBA", "inpaint"), ("CMYK", "outpaint")]
)
def test_a_photo_of_24_and_a_half_megapixels_is_edited_within_the_budget(
    tmp_path: Path, kind: str, task: str
) -> None:
    path, out = photo(tmp_path, kind), tmp_path / "out.png"
    words = [sys.executable, "-c", PROGRAM, task, str(path), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    print(f"{kind} {task}: {float(done.stdout):.0f} MiB")
    assert float(done.stdout) < MOST_MIB
    with Image.open(out) as image:
        upright = (4083, 6000) if kind == "turned" else (6000, 4083)
        assert image.height == upright[1]
        assert image.width >= upright[0]
