"""Every stored input of every fuzz target is read again: refused or accepted, and nothing else."""

from contextlib import closing

import catalogue
import pytest
from oracle import Finding, Judge
from targets.target import Target

from shared_protocol.errors import BadMessageError

MOST_BYTES = 500_000
FILES = [path for path in catalogue.CORPUS.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_stored_inputs_and_seeds_are_no_findings(name, tmp_path):
    target = catalogue.target_named(name)
    judge = Judge(target, target.prepare(tmp_path))
    inputs = [*target.seeds(), *catalogue.stored(name)]
    with closing(judge):
        found = {finding.name: finding.detail for data in inputs if (finding := judge(data))}
    assert not found
    assert judge.accepted, "no input was accepted: the target tests refusals only"


def test_the_corpus_is_small_and_names_targets_only():
    assert {path.parent.name for path in FILES} <= set(catalogue.NAMES)
    assert sum(path.stat().st_size for path in FILES) < MOST_BYTES
    for name in catalogue.NAMES:
        stored = catalogue.stored(name)
        assert len(stored) == len(set(stored)), f"{name} holds an input twice"


def judged(read, data=b"", **limits) -> Finding | None:
    target = Target("try", lambda folder: read, list, (), (BadMessageError,), **limits)
    return Judge(target, read)(data)


def refuse(data):
    raise BadMessageError("no")


def test_a_typed_refusal_is_no_finding_and_any_other_error_is_one():
    assert judged(refuse) is None
    assert judged(len) is None
    found = judged(lambda data: data[7])
    assert (found.kind, found.where) == ("IndexError", "")


def test_an_error_is_placed_where_the_project_raised_it():
    from shared_protocol.coding.bits import pack_bits

    found = judged(lambda data: pack_bits(None, 1))
    assert found.where.startswith("shared_protocol/coding/bits.py:")


def test_too_much_time_and_too_much_memory_are_findings():
    assert judged(lambda data: sum(range(3_000_000)), seconds=0.001).kind == "slow"
    found = judged(lambda data: bytearray(b"x") * (300 << 20), megabytes=64)
    assert found.kind == "memory"
