"""Rows of pictures that the network drew itself."""

import numpy as np
import pytest
import torch

from cloud_server.training.recipes.backbone import kept_rows
from cloud_server.training.recipes.backbone.batch_maker import BatchMaker
from cloud_server.training.recipes.backbone.data_config import DataConfig
from cloud_server.training.recipes.backbone.kept_rows import hidden_of_kept
from cloud_server.training.recipes.backbone.word_coder import WordCoder
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from cloud_server.training.tokens.kept_pictures import KeptPicture
from cloud_server.training.tokens.scene_tokens import TokenisedScene
from shared_protocol.bundles.find import load_bundle
from shared_protocol.vocabulary import Vocabulary

SCENE = Scene((PlacedSprite("fox", 0, 16, 96), PlacedSprite("car", 144, 160, 96)), "beach_night")
CODES = np.random.default_rng(0).integers(0, 8192, (16, 16))
ORDER = np.arange(256, dtype=np.uint8).reshape(16, 16) // 16


def _kept(draft: np.ndarray = CODES) -> KeptPicture:
    return KeptPicture(SCENE, "", CODES, ORDER, draft)


@pytest.fixture(scope="module")
def maker() -> BatchMaker:
    coder = WordCoder(load_bundle().path("text_tokenizer"))
    config = DataConfig(dropout=0.0, background_weight=0.5)
    return BatchMaker(config, Vocabulary(coder.size, 8192), coder, World.load())


def _is_path(hidden: np.ndarray) -> bool:
    """Whether all that is hidden was drawn after all that is seen."""
    seen = ORDER[~hidden]
    return not len(seen) or bool(seen.max() < ORDER[hidden].min())


def test_half_of_the_masks_follow_the_order_of_drawing() -> None:
    rng = np.random.default_rng(0)
    masks = [hidden_of_kept(_kept(), rng) for _ in range(200)]
    assert all(mask.shape == (16, 16) and mask.any() for mask in masks)
    paths = sum(_is_path(mask) for mask in masks)
    assert 70 <= paths <= 130
    counts = {int(mask.sum()) for mask in masks if _is_path(mask)}
    assert {16, 256} <= counts, "from the last step to the first"


def test_what_was_mended_is_never_seen_on_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "PATH_SHARE", 1.0)
    draft = CODES.copy()
    draft[0] += 1  # the row that was drawn first
    rng = np.random.default_rng(0)
    masks = [hidden_of_kept(_kept(draft), rng) for _ in range(40)]
    assert all(mask[0].all() for mask in masks)
    assert not all(mask[1].any() for mask in masks)


def test_a_picture_without_an_order_is_hidden_as_a_whole_on_a_path() -> None:
    bare = KeptPicture(SCENE, "", CODES, np.zeros((16, 16), np.uint8), CODES)
    rng = np.random.default_rng(0)
    assert any(hidden_of_kept(bare, rng).all() for _ in range(20))


def test_every_hidden_token_of_a_kept_picture_is_a_target_of_weight_one(maker: BatchMaker) -> None:
    item = TokenisedScene(SCENE, CODES.astype(np.uint16))
    batch = maker.t2i([item], np.random.default_rng(1), False, [_kept()] * 3)
    assert batch.ids.shape[0] == 4
    length = batch.ids.shape[1]
    own = batch.rows >= length
    image = batch.ids[1:, -257:-1]
    hidden = image == maker.vocabulary.mask_id
    assert int(own.sum()) == int(hidden.sum())
    assert torch.equal(batch.weights[own], torch.ones(int(own.sum())))
    cells = batch.rows[own] % length - (length - 257)
    wanted = torch.from_numpy(CODES.reshape(-1))[cells] + maker.vocabulary.image_offset
    assert torch.equal(batch.targets[own], wanted)
    assert torch.equal(
        image[~hidden],
        (torch.from_numpy(CODES.reshape(-1)).repeat(3, 1) + maker.vocabulary.image_offset)[~hidden],
    )


def test_nothing_is_probed_where_the_places_are_not_known(maker: BatchMaker) -> None:
    item = TokenisedScene(SCENE, CODES.astype(np.uint16))
    batch = maker.t2i([item], np.random.default_rng(1), False, [_kept()])
    assert len(batch.probe_rows) > 0
    assert bool((batch.probe_rows < batch.ids.shape[1]).all())


def test_batches_without_kept_pictures_are_what_they_were(maker: BatchMaker) -> None:
    item = TokenisedScene(SCENE, CODES.astype(np.uint16))
    plain = maker.t2i([item], np.random.default_rng(2), False)
    none = maker.t2i([item], np.random.default_rng(2), False, [])
    assert torch.equal(plain.ids, none.ids)
    assert torch.equal(plain.rows, none.rows)
