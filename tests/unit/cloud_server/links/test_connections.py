"""How many connections there may be, and which goes for another."""

import pytest

from cloud_server.links.connections import LOCAL, Connections, address_of
from cloud_server.settings import Settings


class Transport:
    def __init__(self):
        self.aborted = False

    def abort(self):
        self.aborted = True


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.1", 7), "192.0.2.1"),
        (("::ffff:192.0.2.1", 7, 0, 0), "192.0.2.1"),
        (("2001:db8::5", 7, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 7, 0, 0), "fe80::/64"),
        (("testclient", 7), "testclient"),
        ("", LOCAL),
        (None, LOCAL),
    ],
)
def test_who_is_told_apart(peer, address):
    assert address_of(peer) == address


def test_the_connection_that_has_waited_longest_goes_for_a_new_one_of_its_address():
    every = Connections(10, 3)
    first, second, third, other = (Transport() for _ in range(4))
    for each in (first, second, third):
        assert every.admit(each, "a")
    assert every.admit(other, "b")
    every.working(first)
    assert every.admit(Transport(), "a")
    assert [each.aborted for each in (first, second, third, other)] == [False, True, False, False]
    assert len(every) == 4


def test_connections_that_work_are_left_alone_and_the_new_one_is_refused():
    every = Connections(10, 2)
    for each in (Transport(), Transport()):
        every.admit(each, "a")
        every.working(each)
    assert not every.admit(Transport(), "a")
    assert every.admit(Transport(), "b")


def test_when_all_are_taken_the_address_with_most_gives_one_up():
    every = Connections(4, 4)
    many, one = [Transport() for _ in range(3)], Transport()
    for each in many:
        every.admit(each, "a")
    every.admit(one, "b")
    assert every.admit(Transport(), "c")
    assert many[0].aborted
    assert not one.aborted


def test_what_is_gone_is_counted_out():
    every = Connections(10, 1)
    first = Transport()
    every.admit(first, "a")
    every.gone(first)
    every.gone(first)
    assert len(every) == 0
    assert every.admit(Transport(), "a")


def test_the_numbers_follow_from_the_limit_of_files(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    few = Connections.of(Settings())
    assert (few._most, few._most_of_one) == (144, 108)
    chosen = Connections.of(Settings(max_connections=50, max_per_address=7))
    assert (chosen._most, chosen._most_of_one) == (50, 7)


def test_when_all_are_taken_by_work_nobody_is_closed_until_one_waits_again():
    every = Connections(2, 2)
    first, second = Transport(), Transport()
    for each in (first, second):
        assert every.admit(each, "a")
        every.working(each)
    assert not every.admit(Transport(), "b")
    assert len(every) == 2
    every.waiting(second)
    assert every.admit(Transport(), "b")
    assert (first.aborted, second.aborted, len(every)) == (False, True, 2)


def test_an_address_that_is_gone_is_not_counted_among_those_with_most():
    every = Connections(2, 2)
    gone, one, two = (Transport() for _ in range(3))
    every.admit(gone, "a")
    every.gone(gone)
    every.waiting(gone)
    every.working(gone)
    assert every.admit(one, "b")
    assert every.admit(two, "c")
    assert every.admit(Transport(), "d")
    assert [each.aborted for each in (one, two)] == [True, False]


@pytest.mark.parametrize(
    ("files", "most", "of_one"),
    [(0, 8, 6), (120, 8, 6), (121, 9, 6), (4207, 4095, 3071), (4208, 4096, 3072),
     (10**6, 4096, 3072), (None, 4096, 3072)],
)  # fmt: skip
def test_files_bound_the_number_between_few_and_many(monkeypatch, files, most, of_one):
    import resource

    limit = resource.RLIM_INFINITY if files is None else files
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, resource.RLIM_INFINITY))
    found = Connections.of(Settings())
    assert (found._most, found._most_of_one) == (most, of_one)
    alone = Connections.of(Settings(max_connections=1))
    assert (alone._most, alone._most_of_one) == (1, 1)
