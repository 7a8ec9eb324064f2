"""Reads a line: with arrow keys, history and completion where there is a terminal for it.

It does not know what the lines mean.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

Complete = Callable[[str], Sequence[str]]
"""From the line so far to what its last word could become."""


class LineEditor:
    """Reads lines from standard input.

    Args:
        complete: what TAB offers.
        earlier: lines that the arrow keys bring back, the oldest first.
    """

    def __init__(self, complete: Complete, earlier: Sequence[str] = ()) -> None:
        self._readline = _readline() if sys.stdin.isatty() else None
        self._found: Sequence[str] = ()
        self._complete = complete
        if self._readline is not None:
            self._prepare(self._readline, earlier)

    def read(self, prompt: str) -> str | None:
        """The next line; None at the end of input.

        Raises:
            KeyboardInterrupt: the user pressed Ctrl-C.
        """
        try:
            return input(prompt if sys.stdin.isatty() else "")
        except EOFError:
            return None

    def _prepare(self, readline: ModuleType, earlier: Sequence[str]) -> None:
        readline.clear_history()
        for line in earlier:
            readline.add_history(line)
        readline.set_completer_delims(" ")
        readline.set_completer(self._offer)
        readline.parse_and_bind("tab: complete")

    def _offer(self, word: str, number: int) -> str | None:
        """What readline asks for: the number-th way to complete the word."""
        if number == 0 and self._readline is not None:
            line = self._readline.get_line_buffer()[: self._readline.get_endidx()]
            self._found = self._complete(line)
        return self._found[number] if number < len(self._found) else None


def _readline() -> ModuleType | None:
    """The line editing of the platform, where there is one."""
    try:
        import readline
    except ImportError:
        return None
    return readline
