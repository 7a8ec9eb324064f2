"""Finds the function of a command; its module is imported only when the command is run.

It does not know what a command does. A new command is one row here and one in `arguments`.
"""

from __future__ import annotations

import importlib
from argparse import Namespace

from edge_client.commands.outcome import Outcome
from edge_client.config import Settings
from shared_protocol.messages import OnStep

COMMANDS = {
    "t2i": "runs:pictures",
    "inpaint": "runs:pictures",
    "outpaint": "runs:pictures",
    "vqa": "looking.questions:questions",
    "classify": "looking.classify:classify",
    "again": "again:again",
    "session": "sessions:session",
    "encode": "files:encode",
    "decode": "files:decode",
    "inspect": "files:inspect",
    "info": "server:info",
    "fetch": "server:fetch",
    "doctor": "doctor:doctor",
    "evaluate": "evaluate:evaluate",
}
"""Command to module and function of this folder."""


def run(given: Namespace, settings: Settings, on_step: OnStep | None = None) -> Outcome:
    """Run the command that `given` names.

    Raises:
        UnimicError: it could not be done.
    """
    module, _, function = COMMANDS[given.command].partition(":")
    command = getattr(importlib.import_module(f"edge_client.commands.{module}"), function)
    outcome: Outcome = command(given, settings, on_step)
    return outcome
