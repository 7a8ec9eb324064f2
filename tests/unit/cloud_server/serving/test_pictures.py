"""The store of pictures: found by their owner only, bounded by bytes and by time."""

import numpy as np

from cloud_server.serving.pictures import PictureStore
from shared_protocol.session.state import KnownPicture
from shared_protocol.tokens import KnownTokens


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def picture(number: int) -> KnownPicture:
    codes = np.full((16, 16), number, dtype=np.int32)
    return KnownPicture(KnownTokens(codes, np.ones((16, 16), dtype=bool)))


SIZE = 512 + 256 * 5


def test_a_picture_is_found_by_its_owner_and_by_nobody_else():
    store = PictureStore(1 << 20, 1 << 20, 60.0)
    store.put("ann", picture(1))
    assert store.get("ann", picture(1).name) is not None
    assert store.get("bob", picture(1).name) is None
    assert store.get("ann", picture(2).name) is None


def test_an_owner_pushes_out_only_pictures_of_his_own():
    store = PictureStore(3 * SIZE, 100 * SIZE, 60.0)
    store.put("ann", picture(0))
    for number in range(5):
        store.put("bob", picture(number))
    assert store.get("ann", picture(0).name) is not None
    found = [store.get("bob", picture(number).name) is not None for number in range(5)]
    assert found == [False, False, True, True, True]


def test_all_owners_together_stay_below_the_total():
    store = PictureStore(3 * SIZE, 10 * SIZE, 60.0)
    for owner in range(50):
        store.put(f"session {owner}", picture(owner))
    assert len(store) == 10
    assert store.size == 10 * SIZE


def test_a_picture_lives_for_a_while_after_its_last_use():
    clock = Clock()
    store = PictureStore(1 << 20, 1 << 20, 60.0, clock)
    store.put("ann", picture(1))
    store.put("ann", picture(2))
    clock.now = 50.0
    assert store.get("ann", picture(1).name) is not None
    clock.now = 70.0
    assert store.get("ann", picture(2).name) is None
    assert store.get("ann", picture(1).name) is not None
    clock.now = 200.0
    assert store.get("ann", picture(1).name) is None
    assert (len(store), store.size) == (0, 0)


def test_putting_a_picture_twice_counts_it_once():
    store = PictureStore(1 << 20, 1 << 20, 60.0)
    store.put("ann", picture(1))
    store.put("ann", picture(1))
    assert (len(store), store.size) == (1, SIZE)
    store.clear()
    assert (len(store), store.size) == (0, 0)
