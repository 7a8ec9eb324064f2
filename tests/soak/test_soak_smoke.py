"""The soak in small: a few messages of every kind, and half a minute's worth of clients."""

import threading

import coders
import pytest
import service
from round_trips import Kind, checked
from tally import Memory, Tally


def test_messages_of_every_kind_come_back_and_are_counted():
    found = [
        coders.run_kind("toy", place, 24, 5, (0, 1))
        for place in range(len(coders.ways_of("toy", 5)))
    ]
    assert all(row.messages >= 24 and not row.faults for row in found)
    wanted = {"message generic", "conversation", "text", "mask", "labels", "picture file"}
    assert wanted <= {row.kind for row in found}


def test_what_does_not_come_back_is_a_fault():
    def lost(number):
        raise AssertionError("other symbols")

    assert "other symbols" in checked(Kind("bad", 1, lost), 3)
    assert checked(Kind("odd", 1, lambda number: f"text {number}"), 3) == "text 3"


def test_a_tally_adds_up_what_many_threads_note():
    tally = Tally()

    def many():
        for _ in range(500):
            tally.note("good", "asked")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.note("good", "lost", "broke")
    assert (tally.total("asked"), tally.total("lost")) == (2_000, 1)
    assert any("broke" in line for line in tally.lines())


def test_memory_of_a_process_that_is_gone_is_not_looked_at():
    memory = Memory()
    memory.look(2**22 + 1)
    assert (memory.first, memory.most) == (0, 0)


@pytest.mark.slow
def test_good_clients_get_their_answers_beside_bad_ones(tmp_path):
    keys = tmp_path / "keys"
    service.write_keys(keys)
    soak = service.Soak(5.0, 60.0, False, ["--api-keys", str(keys)], 3, ("t2i 1", "vqa"))
    soak.run()
    assert soak.tally.total("wrong") == 0, soak.report()
    assert soak.tally.counts["good messages"]["answered"], soak.report()
    assert soak.tally.counts["over limit"]["refused"], soak.report()
    assert soak.tally.counts["hostile"]["refused"], soak.report()
