"""Folders of pictures and files of captions, good and bad; recipes that fit a bundle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_server.training.command import train
from cloud_server.training.recipes.entropy.any_bundle import (
    MOST_REPEATS,
    TEXT_TABLE_ENTRIES,
    fit_recipe,
)
from cloud_server.training.recipes.entropy.trainer import EntropyRecipe
from cloud_server.training.tokens.drawings import find_backbone, read_words
from cloud_server.training.tokens.folder_tokens import split_pictures
from cloud_server.training.tokens.picture_folder import (
    CaptionedPicture,
    find_pictures,
    read_captions,
    read_pixels,
)
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.catalogue import CATALOGUE
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import manifest_from
from shared_protocol.bundles.with_entropy import with_entropy
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.errors import CheckpointError, ConfigError, ImageError
from shared_protocol.selfcheck.recorded_digests import check_probabilities

TINY = Path(__file__).parents[4] / "golden" / "entropy" / "tiny.safetensors"


def published(name: str) -> Bundle:
    """A bundle of the catalogue, without its files."""
    return Bundle(Path(), manifest_from({**CATALOGUE[name].content({}), "sha256": {}}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them in a folder of its own."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.png", "sub/a.jpg"):
        Image.new("RGB", (40, 20), (200, 0, 0)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", json.dumps({"b.png": "a red car", "sub/a.jpg": ["a cat", " ", "an animal"]})),
        (
            "c.jsonl",
            '{"file_name": "b.png", "text": "a red car"}\n\n'
            '{"file": "sub/a.jpg", "caption": ["a cat", "an animal"]}\n',
        ),
        ("c.tsv", "b.png\ta red car\n./sub/a.jpg\ta cat\nsub/a.jpg\tan animal\n"),
    ],
)
def test_captions_are_read_from_three_kinds_of_files(
    folder: Path, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert find_pictures(folder, tmp_path / name) == [
        CaptionedPicture(folder / "b.png", ("a red car",)),
        CaptionedPicture(folder / "sub" / "a.jpg", ("a cat", "an animal")),
    ]


def test_captions_may_lie_beside_the_pictures(folder: Path) -> None:
    (folder / "b.txt").write_text("a red car\n\na car\n")
    captions = [picture.captions for picture in find_pictures(folder)]
    assert captions == [("a red car", "a car"), ()]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.json", "[1]", "holds no captions"),
        ("c.json", "{", "holds no captions"),
        ("c.json", '{"b.png": 3}', "neither a text nor a list"),
        ("c.jsonl", '{"file_name": "b.png"}', "line 1 has none of"),
        ("c.jsonl", "3", "holds no captions"),
        ("c.tsv", "b.png a red car", "line 1 has no TAB"),
        ("c.csv", "b.png,a red car", "no known file of captions"),
        ("c.json", '{"x.png": "?", "b.png": "a car"}', "names 1 pictures that .* such as x.png"),
    ],
)
def test_bad_captions_are_refused(
    folder: Path, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        find_pictures(folder, tmp_path / name)


def test_captions_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_captions(tmp_path / "none.json")
    (tmp_path / "latin.tsv").write_bytes(b"b.png\tcaf\xe9\n")
    with pytest.raises(ConfigError, match="holds no captions"):
        read_captions(tmp_path / "latin.tsv")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pictures under"):
        find_pictures(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        find_pictures(tmp_path / "none")
    with pytest.raises(ConfigError, match="too few"):
        split_pictures([CaptionedPicture(tmp_path)], 0)


def test_pictures_come_in_the_wanted_size_on_white(folder: Path) -> None:
    pixels = read_pixels(folder / "b.png", 16, 32)
    assert (pixels.shape, pixels.dtype) == ((16, 32, 3), np.uint8)
    assert (pixels == (200, 0, 0)).all()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "clear.png")
    assert (read_pixels(folder / "clear.png", 16, 16) == 255).all()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n half"])
def test_a_picture_that_cannot_be_read_is_named(folder: Path, content: bytes) -> None:
    (folder / "bad.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.png"):
        read_pixels(folder / "bad.png", 16, 16)


def test_held_out_pictures_are_none_of_the_others(tmp_path: Path) -> None:
    pictures = [CaptionedPicture(tmp_path / str(n)) for n in range(40)]
    split = split_pictures(pictures, 0)
    assert len(split.held_out) == 4
    assert {p.path for p in (*split.train, *split.held_out)} == {p.path for p in pictures}
    assert split_pictures(pictures, 0) == split


def test_prompts_are_the_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\n\n a dog \n")
    assert read_words(tmp_path / "prompts.txt") == ["a cat", "a dog"]
    (tmp_path / "prompts.txt").write_text("\n")
    for name in ("prompts.txt", "none.txt"):
        with pytest.raises(ConfigError):
            read_words(tmp_path / name)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_recipe_fits_published_bundles_and_keeps_the_text_table_small(name: str) -> None:
    bundle = published(name)
    recipe = fit_recipe(EntropyRecipe.load(), bundle, 1000, 100)
    config = EntropyConfig(**recipe.network)
    assert config.codebook_size == bundle.vocabulary.codebook_size
    assert config.text_size == bundle.vocabulary.text_size
    assert config.text_size * config.text_width <= TEXT_TABLE_ENTRIES
    assert config.side >= max(bundle.grid)
    tokens = recipe.batches["sequences"] * bundle.grid[0] * bundle.grid[1]
    assert tokens == EntropyRecipe.load().batches["sequences"] * 256


def test_few_drawings_get_a_small_share() -> None:
    recipe, bundle = EntropyRecipe.load(), load_bundle()
    assert fit_recipe(recipe, bundle, 1000, 0).batches["generated_share"] == 0
    few = fit_recipe(recipe, bundle, 990, 10).batches["generated_share"]
    assert few == pytest.approx(MOST_REPEATS / 100)
    many = fit_recipe(recipe, bundle, 100, 100).batches["generated_share"]
    assert many == recipe.batches["generated_share"]
    assert EntropyConfig(**fit_recipe(recipe, bundle, 1, 0).network) == EntropyConfig()


def test_models_of_another_alphabet_are_refused() -> None:
    with pytest.raises(CheckpointError, match="4096 text ids, the bundle show-o"):
        with_entropy(published("show-o"), TINY)
    with pytest.raises(CheckpointError, match="cannot read"):
        with_entropy(load_bundle(), TINY.with_name("none.safetensors"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what to learn from is not clear"),
        (["--bundle", "builtin", "--tokens", "x"], "what to learn from is not clear"),
        (["--bundle", "builtin"], "needs pictures"),
        (["--bundle", "no-such-bundle", "--images", "x"], "no bundle at"),
        (["--bundle", "builtin", "--images", "no-such-folder"], "is not a folder"),
    ],
)
def test_the_recipe_says_what_it_needs(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train(["entropy", "--out", str(tmp_path / "out"), *words])


def test_a_backbone_that_is_not_here_is_no_error_unless_it_was_named(tmp_path: Path) -> None:
    builtin = load_bundle()
    assert find_backbone(builtin, None) is not None
    stranger = Bundle(tmp_path, replace(builtin.manifest, name="theirs"))
    assert find_backbone(stranger, None) is None
    with pytest.raises(CheckpointError, match="no backbone at"):
        find_backbone(builtin, tmp_path / "none")


def test_models_for_the_builtin_bundle_without_drawings(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    words = ["--bundle", "builtin", "--images", str(folder), "--out", str(out), "--smoke"]
    with caplog.at_level("INFO"):
        assert train(["entropy", *words, "--device", "cpu", "--precision", "fp32"]) == 0
    assert "no drawings: there are neither captions nor prompts" in caplog.text
    assert not (out / "drawings").exists()
    builtin = load_bundle()
    own = with_entropy(builtin, out / "entropy.safetensors")
    check_probabilities(own.entropy)
    assert own.fingerprint != builtin.fingerprint
    assert own.manifest.files == builtin.manifest.files


def test_an_unreadable_picture_stops_the_recipe_and_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_bytes(b"no picture")
    words = ["--bundle", "builtin", "--images", str(folder), "--out", str(tmp_path / "out")]
    with pytest.raises(ImageError, match=r"bad\.png"):
        train(["entropy", *words, "--smoke", "--device", "cpu"])
