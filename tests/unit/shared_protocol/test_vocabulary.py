from __future__ import annotations

import numpy as np
import pytest

from shared_protocol.vocabulary import Vocabulary

SHOW_O = Vocabulary(50_295, 8_192)


def test_show_o_layout_is_upstreams() -> None:
    assert (SHOW_O.pad_id, SHOW_O.soi_id, SHOW_O.eoi_id) == (50_295, 50_296, 50_297)
    assert (SHOW_O.t2i_id, SHOW_O.mmu_id) == (50_300, 50_301)
    assert (SHOW_O.image_offset, SHOW_O.mask_id, SHOW_O.size) == (50_305, 58_497, 58_498)


def test_special_ids_are_distinct_and_between_text_and_image() -> None:
    v = Vocabulary(10, 4)
    ids = [v.pad_id, v.soi_id, v.eoi_id, v.t2i_id, v.mmu_id]
    assert sorted(set(ids)) == ids
    assert v.text_size <= ids[0] <= ids[-1] < v.image_offset == v.text_size + 10


def test_codes_to_ids_and_back_is_the_identity() -> None:
    codes = np.arange(8_192)
    ids = SHOW_O.codes_to_ids(codes)
    assert ids.min() == SHOW_O.image_offset
    assert ids.max() == SHOW_O.mask_id - 1
    assert np.array_equal(SHOW_O.ids_to_codes(ids), codes)


@pytest.mark.parametrize("sizes", [(0, 8_192), (10, 1), (-1, 2)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="text_size"):
        Vocabulary(*sizes)
