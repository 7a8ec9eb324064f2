from __future__ import annotations

import math

import numpy as np
import pytest

from cloud_server.training.recipes import mask_prior
from cloud_server.training.recipes.mask_prior import KINDS, draw
from cloud_server.training.recipes.text import tokenizer as text_tokenizer
from cloud_server.training.recipes.text.prior import Rows, build_prior
from cloud_server.training.recipes.text.tokenizer import DEFAULT_CONFIG, TextConfig, train_tokenizer
from shared_protocol.coding.mask_codec import encode_mask
from shared_protocol.coding.text_codec import TextCoder, decode_text, encode_text
from shared_protocol.tokenizers.text import TextTokenizer

END = 0


def rows(count: int = 200) -> Rows:
    """Texts in which 1 is followed by 2, and (1, 2) by 3 or the end."""
    sequences = [[1, 2, 3, END] if n % 4 else [1, 2, END] for n in range(count)]
    return Rows(sequences, [1.0] * count)


def test_a_prior_learns_what_follows_what() -> None:
    prior = build_prior([rows()], size=10, end_id=END, entries=100)
    after_one_two = prior.frequencies([1, 2])
    share = after_one_two / after_one_two.sum()
    assert int(prior.frequencies([]).argmax()) == 1
    assert int(prior.frequencies([1]).argmax()) == 2
    assert share[3] == pytest.approx(0.75, abs=0.1)
    assert share[END] == pytest.approx(0.25, abs=0.1)


def test_pieces_from_the_middle_of_texts_say_nothing_about_how_texts_start() -> None:
    pieces = Rows([[5, 6]], [1000.0], opens=False)
    prior = build_prior([rows(), pieces], size=10, end_id=END, entries=100)
    assert int(prior.frequencies([]).argmax()) == 1
    assert int(prior.frequencies([5]).argmax()) == 6


def test_a_prior_keeps_no_more_entries_than_asked() -> None:
    prior = build_prior([rows()], size=10, end_id=END, entries=2)
    assert sum(len(table.successors) for table in prior.tables) <= 2


def test_texts_like_those_that_were_counted_take_few_bytes() -> None:
    prior = build_prior([rows()], size=10, end_id=END, entries=100)
    ids = np.array([1, 2, 3], dtype=np.int32)
    coder, data = encode_text(ids, 10, prior)
    assert (coder, len(data)) == (TextCoder.PRIOR, 1)
    assert np.array_equal(decode_text(data, coder, 10, prior), ids)


def test_a_tokenizer_has_the_size_asked_for_and_common_words_are_one_id() -> None:
    texts = [(" lighthouse", 50), ("a lighthouse on a hill", 10), ("é 42", 3)]
    tokenizer = TextTokenizer(train_tokenizer(texts, 280))
    assert tokenizer.size <= 280
    assert len(tokenizer.encode(" lighthouse")) == 1
    assert tokenizer.decode(tokenizer.encode("日本 42")) == "日本 42"


def test_the_shipped_recipe_reads_its_config() -> None:
    config = TextConfig.load(DEFAULT_CONFIG)
    assert config.vocabulary_size == 4_096
    assert config.prior.entries > 0


def test_the_recipes_can_be_called_from_the_command_line() -> None:
    import argparse

    for module in (mask_prior, text_tokenizer):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        assert parser.parse_args([]).output.name == "builtin"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mask_selects_some_but_not_all(kind: str) -> None:
    rng = np.random.default_rng(5)
    shares = [draw(kind, rng, 20, 12).mean() for _ in range(20)]
    assert all(share > 0 for share in shares)
    assert 0 < np.mean(shares) < 0.6


def test_a_mask_prior_of_a_few_masks_beats_none() -> None:
    prior = mask_prior.make_prior(60, seed=3)
    rng = np.random.default_rng(4)
    masks = [draw("object", rng) for _ in range(10)]
    trained = sum(len(encode_mask(mask, prior)) for mask in masks)
    assert trained < sum(len(encode_mask(mask)) for mask in masks)
    assert math.isfinite(trained)
