"""The neighbour stem: what each image token is told, on whole grids, windows and other tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.generation.backbone.checkpoint import (
    BackboneCard,
    load_builtin_backbone,
    save_builtin_backbone,
)
from cloud_server.generation.backbone.showo import (
    FIRST,
    NeighbourStem,
    ShowoConfig,
    build_phi,
    build_stem,
)
from cloud_server.generation.image_logits import guided_image_logits
from cloud_server.generation.prompting import codes_to_input_ids, t2i_mask, t2i_sequence
from shared_protocol.errors import CheckpointError

CODES, OFFSET, SIDE = 32, 20, 4
ABSENT = CODES + 1
LOGIT_TOLERANCE = 1e-4  # float32 sums in another order


@pytest.fixture
def stem() -> NeighbourStem:
    """A stem whose output is its eight table rows themselves: width 1, row r holds r."""
    stem = NeighbourStem(CODES, OFFSET, 1, 8, SIDE, max_positions=64)
    with torch.no_grad():
        stem.table.weight.copy_(torch.arange(CODES + 2.0)[:, None])
        stem.join.weight.copy_(torch.eye(8))
    return stem


def _grid(start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A token before, a 4x4 image of codes 0..15, a token after: ids and positions (1, 18)."""
    ids = torch.tensor([[3, *(OFFSET + code for code in range(16)), 4]])
    return ids, torch.arange(18)[None] + start - 1


@pytest.mark.parametrize("start", [FIRST, FIRST + 4 * SIDE], ids=["question", "picture"])
def test_middle_token_is_told_its_eight_neighbours(stem: NeighbourStem, start: int) -> None:
    told = stem(*_grid(start))[0, 1 + 5]  # code 5: row 1, column 1
    assert told.tolist() == [0, 1, 2, 4, 6, 8, 9, 10]


@pytest.mark.parametrize("start", [FIRST, FIRST + 4 * SIDE], ids=["question", "picture"])
def test_corner_tokens_see_nothing_beyond_the_grid(stem: NeighbourStem, start: int) -> None:
    told = stem(*_grid(start))[0]
    assert told[1].tolist() == [ABSENT] * 4 + [1, ABSENT, 4, 5]
    assert told[16].tolist() == [10, 11, ABSENT, 14, ABSENT, ABSENT, ABSENT, ABSENT]


def test_tokens_that_are_not_of_the_image_are_told_nothing(stem: NeighbourStem) -> None:
    told = stem(*_grid(FIRST))[0]
    assert told[0].abs().sum() == 0
    assert told[17].abs().sum() == 0


def test_masked_neighbour_reads_as_masked(stem: NeighbourStem) -> None:
    ids, positions = _grid(FIRST)
    ids[0, 1 + 4] = OFFSET + CODES
    assert stem(ids, positions)[0, 1 + 5][3] == CODES


def test_window_of_a_grid_is_told_what_is_there_and_no_more(stem: NeighbourStem) -> None:
    ids, positions = _grid(FIRST)
    window = [1 + code for code in (5, 6, 9, 10)]
    told = stem(ids[:, window], positions[:, window])[0]
    assert told[0].tolist() == [ABSENT] * 4 + [6, ABSENT, 9, 10]


def _card(stem_width: int) -> BackboneCard:
    config = ShowoConfig(
        vocab_size=OFFSET + CODES + 1, hidden_size=32, intermediate_size=64, layers=1, heads=2,
        max_positions=64, stem_width=stem_width, stem_codes=CODES, stem_side=SIDE,
    )  # fmt: skip
    return BackboneCard(config, OFFSET - 10, CODES, SIDE, 4 * SIDE)


def _save_with_stem(card: BackboneCard, folder: Path) -> None:
    """Random weights of a transformer and of a stem that says something."""
    phi, stem = build_phi(card.config), build_stem(card.config)
    assert stem is not None
    torch.nn.init.normal_(stem.join.weight)
    state = phi.state_dict() | {f"stem.{k}": v for k, v in stem.state_dict().items()}
    save_builtin_backbone(state, card, folder)


def test_backbone_with_a_stem_survives_saving_and_uses_it(tmp_path: Path) -> None:
    _save_with_stem(_card(stem_width=4), tmp_path)
    backbone = load_builtin_backbone(tmp_path).backbone
    ids, positions = _grid(FIRST)
    allow = torch.ones(1, 1, 18, 18, dtype=torch.bool)
    before = backbone.logits(ids, allow, positions)
    changed = ids.clone()
    changed[0, 1], changed[0, 2] = ids[0, 2], ids[0, 1]
    assert not torch.allclose(before[0, 8], backbone.logits(changed, allow, positions)[0, 8])


def test_checkpoint_without_the_stem_that_its_card_names_is_refused(tmp_path: Path) -> None:
    card = _card(stem_width=4)
    save_builtin_backbone(build_phi(card.config).state_dict(), card, tmp_path)
    with pytest.raises(CheckpointError, match=r"stem\."):
        load_builtin_backbone(tmp_path)


def test_cached_prompt_gives_the_logits_of_the_whole_sequence(tmp_path: Path) -> None:
    card = _card(stem_width=4)
    _save_with_stem(card, tmp_path)
    backbone, vocabulary = load_builtin_backbone(tmp_path).backbone, card.vocabulary
    text, codes = np.array([3, 4, 5]), torch.arange(16)[None] % CODES
    codes[0, 5:9] = -1
    cached = guided_image_logits(
        backbone,
        vocabulary,
        [text],
        guidance=[0.0],
        eot_id=0,
        max_text_len=card.max_text_len,
        tokens=16,
    )(codes, torch.arange(16)[None])
    ids = t2i_sequence(
        [text.tolist()],
        codes_to_input_ids(codes, vocabulary),
        vocabulary,
        eot_id=0,
        max_text_len=card.max_text_len,
    )
    whole = backbone.logits(ids, t2i_mask(ids, vocabulary), torch.arange(ids.shape[1])[None])
    image = whole[:, -17:-1, vocabulary.image_offset : vocabulary.mask_id]
    torch.testing.assert_close(cached, image, atol=LOGIT_TOLERANCE, rtol=0)
