"""Batches of the unified transformer: packing is exact and positions are those of serving."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from cloud_server.generation.backbone.showo import ShowoBackbone, ShowoConfig, build_phi
from cloud_server.generation.prompting import mmu_mask, mmu_sequence, t2i_mask, t2i_sequence
from cloud_server.training.recipes.backbone.batch_maker import IGNORED, BatchMaker
from cloud_server.training.recipes.backbone.data_config import DataConfig
from cloud_server.training.recipes.backbone.network import CodeTable, TrainedBackbone
from cloud_server.training.recipes.backbone.word_coder import END_OF_TEXT, WordCoder
from cloud_server.training.scenes.language import QA
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from cloud_server.training.tokens.easy_vqa import QuestionedImage
from cloud_server.training.tokens.scene_tokens import TokenisedScene
from shared_protocol.vocabulary import Vocabulary

TOLERANCE = 1e-4  # the same sums in another order, float32
CODES = 8192
SCENE = Scene((PlacedSprite("fox", 0, 16, 96), PlacedSprite("car", 144, 160, 96)), "beach_night")


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> WordCoder:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["what is at the left? a fox USER: ASSISTANT:"], trainer)
    path = tmp_path_factory.mktemp("text") / "tokenizer.json"
    tokenizer.save(str(path))
    return WordCoder(path)


@pytest.fixture(scope="module")
def maker(coder: WordCoder) -> BatchMaker:
    return BatchMaker(DataConfig(dropout=0.0), Vocabulary(coder.size, CODES), coder, World.load())


@pytest.fixture(scope="module")
def net(maker: BatchMaker) -> TrainedBackbone:
    torch.manual_seed(0)
    config = ShowoConfig(maker.vocabulary.size, 32, 64, 3, 2, 1024)
    return TrainedBackbone(config, maker.vocabulary, maker.probe_classes, 1)


@pytest.fixture(scope="module")
def served(net: TrainedBackbone, maker: BatchMaker) -> ShowoBackbone:
    phi = build_phi(ShowoConfig(maker.vocabulary.size, 32, 64, 3, 2, 1024))
    phi.load_state_dict(net.plain_state())
    return ShowoBackbone(phi)


def _item(seed: int) -> TokenisedScene:
    codes = np.random.default_rng(seed).integers(0, CODES, (16, 16)).astype(np.uint16)
    return TokenisedScene(SCENE, codes)


def _positions(ids: torch.Tensor) -> torch.Tensor:
    return torch.arange(ids.shape[1]).expand_as(ids)


def test_packed_answers_are_trained_as_they_are_served(
    maker: BatchMaker, net: TrainedBackbone, served: ShowoBackbone
) -> None:
    items = [_item(1), _item(2)]
    asked = [
        [QA("what is this?", "a fox", "identity"), QA("is it day?", "no", "time")],
        [QA("how many objects are there?", "two", "count")],
    ]
    turns = [maker.turns(qas) for qas in asked]
    batch = maker.mmu_batch(items, [maker.grid.full()] * 2, turns, np.random.default_rng(0))
    with torch.no_grad():
        losses, _, _ = net.losses(batch)
    expected: list[torch.Tensor] = []
    for item, row in zip(items, turns, strict=True):
        for turn in row:
            framed = np.array(turn.prompt[1:])
            prompt = mmu_sequence(
                item.codes.astype(np.int64), framed, maker.vocabulary, eot_id=maker.coder.eot_id
            )
            ids = torch.tensor([prompt + list(turn.answer)])
            logits = served.logits(
                ids,
                mmu_mask(ids, maker.vocabulary),
                _positions(ids),
                columns=slice(0, maker.vocabulary.image_offset),
            )
            scores = logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            expected.append(-scores.gather(1, torch.tensor(turn.answer)[:, None])[:, 0])
    torch.testing.assert_close(losses, torch.cat(expected), atol=TOLERANCE, rtol=1e-4)
    assert batch.groups.unique().tolist() == [0, 1, 2]


def test_masked_images_are_trained_as_they_are_served(
    maker: BatchMaker, net: TrainedBackbone, served: ShowoBackbone
) -> None:
    items = [_item(3), _item(4)]
    batch = maker.t2i(items, np.random.default_rng(0), False)
    with torch.no_grad():
        losses, _, _ = net.losses(batch)
    length = batch.ids.shape[1] - 258
    texts = [
        [token for token in row.tolist() if token != maker.vocabulary.pad_id][2:-1]
        for row in batch.ids[:, :length]
    ]
    ids = t2i_sequence(
        texts,
        batch.ids[:, length + 1 : -1],
        maker.vocabulary,
        eot_id=maker.coder.eot_id,
        max_text_len=maker.max_text_len,
    )
    offset = maker.vocabulary.image_offset
    logits = served.logits(
        ids, t2i_mask(ids, maker.vocabulary), _positions(ids), columns=slice(offset, offset + CODES)
    )
    rows = batch.rows // batch.ids.shape[1]
    places = batch.rows % batch.ids.shape[1] + ids.shape[1] - batch.ids.shape[1]
    scores = logits[rows, places].log_softmax(-1)
    expected = -scores.gather(1, (batch.targets - offset)[:, None])[:, 0]
    torch.testing.assert_close(losses, expected, atol=TOLERANCE, rtol=1e-4)


def test_targets_of_masked_images_are_their_codes(maker: BatchMaker) -> None:
    item = _item(5)
    batch = maker.t2i([item], np.random.default_rng(1), False)
    start = batch.ids.shape[1] - 257
    cells = batch.rows - start
    expected = item.codes.reshape(-1)[cells.numpy()].astype(np.int64)
    assert (batch.targets - maker.vocabulary.image_offset).tolist() == expected.tolist()
    assert (batch.ids[0, batch.rows] == maker.vocabulary.mask_id).all()


@pytest.mark.parametrize("seed", range(5))
def test_windows_keep_true_positions_and_whole_objects(maker: BatchMaker, seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = maker.grid.window_around(SCENE, 8, rng)
    assert maker.grid.inside(SCENE, part).objects
    item = _item(6)
    batch = maker.mmu([item], rng, True)
    offset = maker.vocabulary.image_offset
    for token, place in zip(batch.ids[0, 2:66], batch.positions[0, 2:66], strict=True):
        assert int(token) - offset == int(item.codes.reshape(-1)[int(place) - 2])


def test_answers_of_packed_rows_fall_on_answer_tokens_only(maker: BatchMaker) -> None:
    (turn,) = maker.turns([QA("what is this?", "a fox", "identity")])
    batch = maker.mmu_batch([_item(7)], [maker.grid.full()], [[turn]], np.random.default_rng(0))
    assert batch.targets.tolist() == list(turn.answer)
    assert (batch.ids[0, batch.rows[0]]) == turn.prompt[-1]
    assert IGNORED not in batch.targets.tolist()


def test_truth_names_what_each_token_shows(maker: BatchMaker) -> None:
    truth = maker.grid.truth(SCENE)
    names = maker.world.names
    assert truth[1, 0].tolist() == [names.index("fox"), 0, 1, 0]
    assert truth[15, 14].tolist() == [names.index("car"), 35, 15, 14]
    assert (truth[..., 0] == names.index("fox")).sum() == 36
    assert truth[0, 0, 0] >= len(names)


def test_code_tables_have_the_right_size() -> None:
    for codes in (32, 200, 8192):
        assert CodeTable(codes, 4, 0.02)().shape == (codes, 4)


def test_questions_about_a_bare_picture_give_the_same_targets_as_about_a_scene(
    maker: BatchMaker, net: TrainedBackbone
) -> None:
    codes = np.arange(256, dtype=np.uint16).reshape(16, 16)
    asked = (QA("what is this?", "a fox", "identity"),)
    rng = np.random.default_rng(0)
    item = TokenisedScene(SCENE, codes)
    scene = maker.mmu_batch([item], [maker.grid.full()], [maker.turns(asked)], rng)
    bare = maker.questioned([QuestionedImage(codes, asked)], rng)
    assert torch.equal(bare.ids, scene.ids)
    assert torch.equal(bare.targets, scene.targets)
    assert len(scene.probe_rows) > 0
    assert len(bare.probe_rows) == len(bare.said.rows) == len(bare.naming.rows) == 0
    with torch.no_grad():
        loss, _, auxiliary = net.losses(bare)
        assert torch.allclose(loss, net.losses(scene)[0], atol=TOLERANCE)
    assert auxiliary.item() == 0.0


def test_every_question_weighs_the_same_however_long_its_answer(maker: BatchMaker) -> None:
    asked = (QA("where?", "at the top left", "where"), QA("who?", "a fox", "identity"))
    item = QuestionedImage(np.zeros((16, 16), dtype=np.uint16), asked)
    batch = maker.questioned([item, item], np.random.default_rng(0))
    sums = torch.zeros(4).index_add(0, batch.groups, batch.weights)
    assert torch.allclose(sums, torch.ones(4))


def test_half_drawn_pictures_hide_whole_objects_and_show_background(
    coder: WordCoder, maker: BatchMaker
) -> None:
    half_drawn = BatchMaker(
        DataConfig(unbegun_share=1.0, dropout=0.0), maker.vocabulary, coder, maker.world
    )
    codes = np.ones((16, 16), dtype=np.uint16)
    boxes = [maker.grid.box(thing.x, thing.y, thing.size) for thing in SCENE.objects]
    wholly_hidden, background_shown = 0, 0
    for seed in range(40):
        batch = half_drawn.t2i([TokenisedScene(SCENE, codes)], np.random.default_rng(seed), False)
        image = batch.ids[0, -257:-1].reshape(16, 16)
        hidden = image == maker.vocabulary.mask_id
        wholly_hidden += any(bool(hidden[box].all()) for box in boxes)
        for box in boxes:
            hidden[box] = True
        background_shown += not bool(hidden.all())
    assert wholly_hidden == 40
    assert background_shown >= 35


def test_every_token_of_a_half_drawn_picture_counts_alike(
    coder: WordCoder, maker: BatchMaker
) -> None:
    shares = DataConfig(unbegun_share=1.0, finished_share=0.5, background_weight=0.1)
    half_drawn = BatchMaker(shares, maker.vocabulary, coder, maker.world)
    item = TokenisedScene(SCENE, np.ones((16, 16), dtype=np.uint16))
    batch = half_drawn.t2i([item] * 4, np.random.default_rng(0), False)
    hidden = int((batch.ids == maker.vocabulary.mask_id).sum())
    assert len(batch.targets) == hidden > 0
    assert torch.equal(batch.weights, torch.ones(hidden))
