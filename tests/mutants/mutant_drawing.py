"""Draws small changes of the code, mutants, by chance from a seed: the same seed, the same mutants.

Knows sources and cosmic-ray's operators; runs no test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor

# `|` stands in annotations above all, and a decorator taken away is noticed at import: mutants of
# these say little about the tests.
LEFT_OUT = ("core/RemoveDecorator", "core/ReplaceBinaryOperator_BitOr")


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: of the file, from the project's root.
        operator: cosmic-ray's name of the kind of change.
        occurrence: number of the place, among those in the file where the operator fits.
        line: of the place, from 1.
    """

    path: str
    operator: str
    occurrence: int
    line: int

    def changed(self, source: str) -> str:
        """The file with the change made."""
        operator = plugins.get_operator(self.operator)()
        code = MutationVisitor.mutate_code(source, operator, self.occurrence)
        if code is None:
            raise ValueError(f"{self} has no place in its file: was it changed since it was drawn?")
        return str(code)


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of cosmic-ray's operators."""
    tree = get_ast(source)
    for name in sorted(plugins.operator_names()):
        kind = plugins.get_operator(name)
        if name.startswith(LEFT_OUT) or kind.arguments():
            continue
        operator = kind()
        places = (
            start[0] for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node)
        )
        for occurrence, line in enumerate(places):
            yield Mutant(path, name, occurrence, line)


def draw(root: Path, files: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """`count` mutants, each file as likely as it has lines that a mutant can change.

    Several operators fit most places, comparisons above all; a line is drawn first and one of its
    mutants then, so that a line of comparisons is not drawn ten times as often as another.

    Raises:
        ValueError: the files have fewer such lines.
    """
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for path in sorted(files):
        for mutant in mutants_of(path, (root / path).read_text(encoding="utf-8")):
            by_line.setdefault((path, mutant.line), []).append(mutant)
    if len(by_line) < count:
        raise ValueError(f"{len(by_line)} lines can be changed, fewer than {count}")
    chance = random.Random(seed)
    lines = chance.sample(sorted(by_line), count)
    return [chance.choice(by_line[line]) for line in lines]
