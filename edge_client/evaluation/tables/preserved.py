"""The table of how many interactions left the tokens alone that they were not asked to change.

It does not compare tokens: a record says whether all the known ones came back as they were sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_client.evaluation.interactions import Talk
from edge_client.evaluation.metrics import wilson
from edge_client.evaluation.tables.results import Table

COLUMNS = ("interactions", "all identical", "share [95 % interval]")


def preserved_table(
    name: str, title: str, talks: Sequence[Talk], notes: Sequence[str] = ()
) -> Table:
    """Count, and share with Wilson's interval, of the interactions that changed no known token.

    Args:
        name, title: of the table.
        talks: at least one, of a task that sends a picture and gets one back.
        notes: below the table.
    """
    kept = sum(talk.record.known_unchanged is True for talk in talks)
    share = str(wilson(kept, len(talks)))
    return Table(name, title, COLUMNS, ((len(talks), kept, share),), tuple(notes))
