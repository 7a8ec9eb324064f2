"""The `edge-client` command: results to stdout, everything else to stderr.

The only place that prints. It does not know how a command does its work; see `commands`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_client.arguments import parse
from edge_client.config import Settings, export_ca_file, load_settings
from edge_client.task_arguments import PickedSeed
from shared_protocol.errors import (
    BadMessageError,
    CheckpointError,
    ConfigError,
    InvalidInputError,
    UnimicError,
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
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = ""
    try:
        given = parse(words)
        command = given.command
        return _run(given)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; nothing is left to be said, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except UnimicError as error:
        _show_error(error, as_json="--json" in words)
        return _exit_code(error, command)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        fault = f"this client failed: {type(error).__name__}: {error}"
        remedy = f"please report it; {DEBUG_VARIABLE}=1 shows where"
        _show_error(UnimicError(fault, remedy), as_json="--json" in words)
        return FAILED


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
    _show(outcome, given)
    sys.stdout.flush()
    return FAILED if outcome.failed else DONE


def _chat(given: argparse.Namespace, settings: Settings) -> int:
    from edge_client.commands.chat import chat

    progress = _progress(given)

    def say(line: str) -> None:
        progress.close()
        print(line, flush=True)

    def warn(line: str) -> None:
        progress.close()
        print(line, file=sys.stderr, flush=True)

    chat(given, settings, say, warn, progress if progress.shown else None)
    return DONE


def _show(outcome: Outcome, given: argparse.Namespace) -> None:
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if given.json:
        print(json.dumps(outcome.data, indent=2, ensure_ascii=False))
        return
    if given.quiet and isinstance(getattr(given, "seed", 0), PickedSeed):
        print(f"seed {given.seed}", file=sys.stderr)
    # Where standard output holds a picture, words for people go beside it.
    out = sys.stderr if outcome.aside else sys.stdout
    if outcome.result:
        print(outcome.result, file=out)
    if outcome.details and not given.quiet:
        print(f"\n{outcome.details}", file=out)


def _show_error(error: UnimicError, as_json: bool) -> None:
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error_to_wire(error)}, indent=2, ensure_ascii=False))


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
            print(f"step {done} of {total}", file=sys.stderr, flush=True)

    def item(self, number: int, count: int, name: str) -> None:
        """Print which of many begins."""
        self._tenths = 0
        print(f"{number} of {count}: {name}", file=sys.stderr, flush=True)


class _Bar(_Silence):
    """One line that is drawn over, for terminals."""

    shown = True

    def __init__(self) -> None:
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Draw the bar."""
        filled = _BAR_WIDTH * min(done, total) // total if total else 0
        bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
        print(f"\r{bar} {done}/{total}\x1b[K", end="", file=sys.stderr, flush=True)
        self._drawn = True

    def item(self, number: int, count: int, name: str) -> None:
        """Print which of many begins, on a line that stays."""
        self.close()
        print(f"{number} of {count}: {name}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clear the line."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _progress(given: argparse.Namespace) -> _Silence:
    if given.quiet or given.json:
        return _Silence()
    return _Bar() if sys.stderr.isatty() else _Lines()


if __name__ == "__main__":
    sys.exit(main())
