"""The `edge-client` command: results to stdout, everything else to stderr.

Whatever happens ends here in an exit code and, where it failed, in one line that says what and what
to do. It does not know how a command does its work; see `commands`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_client.arguments import parse
from edge_client.config import Settings, export_ca_file, load_settings
from edge_client.task_arguments import PickedSeed
from edge_client.terminal import output
from edge_client.terminal.output import OutputError
from shared_protocol.errors import (
    BadMessageError,
    CheckpointError,
    ConfigError,
    InvalidInputError,
    UnimicError,
    as_typed,
    error_to_wire,
)

if TYPE_CHECKING:
    import argparse

    from edge_client.commands.outcome import Outcome

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
DEBUG_VARIABLE = "UNIMIC_DEBUG"
_FILE_COMMANDS = ("decode", "inspect")
_BAR_WIDTH = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    output.prepare()
    try:
        return _main(sys.argv[1:] if arguments is None else list(arguments))
    finally:
        output.silence()


def _main(words: Sequence[str]) -> int:
    command = ""
    try:
        given = _parsed(words)
        command = given.command
        return _run(given)
    except KeyboardInterrupt:
        output.tell("\ninterrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return DONE  # the reader of our output has gone: nothing is left to be said
    except UnimicError as error:
        _show_error(error, "--json" in words)
        return _exit_code(error, command)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        found = as_typed(error) or _unknown(error)
        _show_error(found, "--json" in words)
        return _exit_code(found, command)


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    try:
        return parse(words)
    except SystemExit:  # help was written, or was to be
        output.flush()
        raise


def _unknown(error: Exception) -> UnimicError:
    fault = f"this client failed: {type(error).__name__}: {error}"
    return UnimicError(fault, f"please report it; {DEBUG_VARIABLE}=1 shows where")


def _run(given: argparse.Namespace) -> int:
    # `doctor` reads the settings itself: what is wrong with them is what it is asked for.
    settings = Settings() if given.command == "doctor" else load_settings(vars(given), os.environ)
    export_ca_file(settings)
    if given.command == "chat" or getattr(given, "what", "") == "resume":
        return _chat(given, settings)
    if given.command in ("gateway", "ui"):
        from edge_client.gateway.command import gateway

        gateway(given, settings, lambda line: print(line, flush=True))
        return DONE
    from edge_client.commands.dispatch import run  # after parsing: help needs nothing of it

    progress = _progress(given)
    try:
        outcome = run(given, settings, progress if progress.shown else None)
    finally:
        progress.close()
    try:
        _show(outcome, given)
    except OutputError:
        if outcome.result:
            output.tell(f"what standard output did not take:\n{outcome.result}")
        raise
    return FAILED if outcome.failed else DONE


def _chat(given: argparse.Namespace, settings: Settings) -> int:
    from edge_client.commands.chat import chat

    progress = _progress(given)

    def warn(line: str) -> None:
        progress.close()
        output.tell(line)

    chat(given, settings, progress.close, warn, progress if progress.shown else None)
    return DONE


def _show(outcome: Outcome, given: argparse.Namespace) -> None:
    for warning in outcome.warnings:
        output.tell(f"warning: {warning}")
    if given.json:
        output.say_json(outcome.data)
        return
    if given.quiet and isinstance(getattr(given, "seed", 0), PickedSeed):
        output.tell(f"seed {given.seed}")
    # Where standard output holds a picture, words for people go beside it.
    show = output.tell if outcome.aside else output.say
    if outcome.result:
        show(outcome.result)
    if outcome.details and not given.quiet:
        show(f"\n{outcome.details}")


def _show_error(error: UnimicError, as_json: bool) -> None:
    message = " ".join(str(error).split())
    output.tell(f"error: {message}")
    if as_json and not isinstance(error, OutputError):
        try:
            output.say_json({"error": error_to_wire(error)})
        except (OSError, OutputError):
            return  # standard error has it


def _exit_code(error: UnimicError, command: str) -> int:
    """2 for what the user gave, 1 for what the service or the installation did."""
    if isinstance(error, CheckpointError):
        return FAILED
    if isinstance(error, (InvalidInputError, ConfigError)):
        return WRONG_INPUT
    from_file = command in _FILE_COMMANDS and isinstance(error, BadMessageError)
    return WRONG_INPUT if from_file else FAILED


class _Silence:
    """Progress that nobody sees."""

    shown = False

    def __call__(self, done: int, total: int) -> None:
        """Take note of nothing."""

    def item(self, number: int, count: int, name: str) -> None:
        """Take note of nothing: the next of many begins."""

    def close(self) -> None:
        """Leave nothing behind."""


class _Lines(_Silence):
    """About ten plain lines, for logs."""

    shown = True

    def __init__(self) -> None:
        self._tenths = 0

    def __call__(self, done: int, total: int) -> None:
        """Print a line for every tenth of the way."""
        tenth = done * 10 // total if total else 0
        if done and (tenth > self._tenths or done == total):
            self._tenths = tenth
            output.tell(f"step {done} of {total}")

    def item(self, number: int, count: int, name: str) -> None:
        """Print which of many begins."""
        self._tenths = 0
        output.tell(f"{number} of {count}: {name}")


class _Bar(_Silence):
    """One line that is drawn over, for terminals."""

    shown = True

    def __init__(self) -> None:
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Draw the bar."""
        filled = _BAR_WIDTH * min(done, total) // total if total else 0
        bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
        output.redraw(f"{bar} {done}/{total}")
        self._drawn = True

    def item(self, number: int, count: int, name: str) -> None:
        """Print which of many begins, on a line that stays."""
        self.close()
        output.tell(f"{number} of {count}: {name}")

    def close(self) -> None:
        """Clear the line."""
        if self._drawn:
            output.redraw("")


def _progress(given: argparse.Namespace) -> _Silence:
    if given.quiet or given.json:
        return _Silence()
    return _Bar() if output.can_redraw() else _Lines()


if __name__ == "__main__":
    sys.exit(main())
