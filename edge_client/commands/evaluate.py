"""`evaluate`: runs sections of the evaluation and gives back their tables.

It does not print, and is one of the two places that import the evaluation.
"""

from __future__ import annotations

from argparse import Namespace

from edge_client.commands.outcome import Outcome
from edge_client.config import Settings
from shared_protocol.messages import OnStep


def evaluate(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Run the sections that the command line names."""
    from edge_client.evaluation.evaluate import run_sections
    from edge_client.evaluation.tables.output import as_data, terminal

    done = run_sections(given, settings)
    data = {
        "output": str(done.out / "results.md"),
        "sections": [as_data(section) for section in done.sections],
        "failures": list(done.failures),
    }
    return Outcome(
        "\n\n".join([*map(terminal, done.sections), str(done.out / "results.md")]),
        data,
        warnings=(*done.failures, *done.warnings),
        failed=bool(done.failures),
    )
