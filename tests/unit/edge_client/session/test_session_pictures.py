"""Pictures of a session in full size: photos that are edited, grown, asked about and saved."""

from __future__ import annotations

import os
from pathlib import Path

import certifi
import numpy as np
import pytest
from edge_fakes import FakeBundle, FakeCloud
from PIL import Image
from terminal import cloud_of_sessions

from edge_client import Session
from shared_protocol.errors import ImageError, InvalidInputError, MaskError
from shared_protocol.tokens import TokenMask


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCloud:
    monkeypatch.chdir(tmp_path)
    return cloud_of_sessions(monkeypatch, FakeBundle())


def noise(size: tuple[int, int] = (400, 300)) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)


def test_a_photo_comes_back_in_its_own_size_after_every_edit(cloud: FakeCloud) -> None:
    Image.fromarray(noise()).save("photo.png")
    with Session("http://h") as session:
        photo = session.open("photo.png")
        assert photo.size == (400, 300)
        assert "25% of photo.png" in photo.warnings[0]
        assert "--fit pad" in photo.warnings[0]
        once = photo.inpaint((100, 80, 90, 90))
        twice = once.inpaint((0, 200, 90, 90), "a ball")
        far = twice.inpaint((310, 10, 80, 80), "a ball", around=0.5)
    before, after = noise().astype(int), far.full.astype(int)
    assert after.shape == before.shape
    for x, y in ((145, 125), (45, 245), (350, 50)):
        assert abs(after[y, x] - 200).max() <= 33
    assert np.array_equal(after[150:190, 250:280], before[150:190, 250:280])
    # The first crop shows both masks of the middle; the others made the model look elsewhere.
    assert [request.image is not None for request in cloud.requests] == [True] * 3
    assert photo.full.tobytes() == noise().tobytes(), "pictures never change"


def test_saving_writes_full_size_and_the_models_own_if_asked(cloud: FakeCloud) -> None:
    Image.fromarray(noise()).save("photo.png")
    with Session("http://h") as session:
        made = session.open("photo.png").inpaint((100, 80, 90, 90), "a ball")
        assert [path.name for path in made.save("a.png")] == ["a.png", "a.umic"]
        made.save("native.png", native=True)
        again = session.open("a.png")
        with pytest.raises(ImageError, match="is what is read"):
            made.save("photo.png", force=False)
    assert again.tokens == made.tokens
    with Image.open("a.png") as image:
        assert image.size == (400, 300)
    with Image.open("native.png") as image:
        assert image.size == (64, 64)


def test_a_photo_grows_by_shares_pixels_and_shapes(cloud: FakeCloud) -> None:
    with Session("http://h") as session:
        photo = session.open(noise())
        assert photo.outpaint("a wood", right="25%").size == (400 + 160, 300)
        assert photo.outpaint("a wood", up=1, down="10px").size == (400, 300 + 2 * 75)
        wide = photo.outpaint("a wood", to="2:1").outpaint("a wood", to="3:1")
        assert wide.size[1] == 300
        assert wide.size[0] / 300 == pytest.approx(3, rel=0.1)
        with pytest.raises(InvalidInputError, match="cannot extend"):
            photo.outpaint("a wood")
        with pytest.raises(InvalidInputError, match="no amount"):
            photo.outpaint("a wood", left="a bit")


def test_questions_see_the_whole_photo_again_after_a_closer_look(cloud: FakeCloud) -> None:
    with Session("http://h") as session:
        photo = session.open(noise((300, 300)))
        close = photo.inpaint((100, 100, 60, 60), "a ball", around=0.2)
        close.ask("what is it?")
    seen = cloud.requests[-1].image
    assert seen.shape == (4, 4)
    assert seen.codes.max() < 200, "the ball is a small part of what is seen"


def test_parts_can_be_named_in_every_way(cloud: FakeCloud, tmp_path: Path) -> None:
    flags = np.zeros((4, 4), dtype=bool)
    flags[1, 2] = True
    drawn = np.zeros((300, 300), dtype=np.uint8)
    drawn[80:140, 160:220] = 255
    Image.fromarray(drawn).save("mask.png")
    with Session("http://h") as session:
        photo = session.open(noise((300, 300)))
        for where in (TokenMask(flags), drawn, drawn > 0, "mask.png", (160, 80, 60, 60)):
            after = photo.inpaint(where, "a ball").full.astype(int)
            assert abs(after[110, 190] - 200).max() <= 33, where
        with pytest.raises(MaskError, match=r"shape \(9, 9\)"):
            photo.inpaint(drawn[:9, :9], "a ball")


@pytest.mark.parametrize("pixels", [noise()[..., 0], noise()[..., :2], noise().astype(float)])
def test_arrays_that_are_no_pictures_are_named(cloud: FakeCloud, pixels: np.ndarray) -> None:
    with Session("http://h") as session, pytest.raises(InvalidInputError, match="uint8 of shape"):
        session.open(pixels)


def test_a_ca_file_of_the_config_file_holds_for_programs_too(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(f'ca_file = "{certifi.where()}"')
    monkeypatch.setenv("UNIMIC_CONFIG", str(tmp_path / "config.toml"))
    for name in ("SSL_CERT_FILE", "UNIMIC_CA_FILE"):
        monkeypatch.setenv(name, "")  # so that what is set here ends with the test
    with Session("http://h"):
        assert os.environ["SSL_CERT_FILE"] == certifi.where()
