"""`chat` and `session resume`: reads lines, takes them to a session, says what came of them.

Lines go through `terminal.output`.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from edge_client.commands.outcome import exposed_key
from edge_client.config import Settings
from edge_client.pictures.outputs import free_name
from edge_client.session.chat import HELP, Chat, Said
from edge_client.session.history import expire, folder
from edge_client.session.session import Session
from edge_client.terminal.inline_pictures import detect, show
from edge_client.terminal.line_editor import LineEditor
from edge_client.terminal.output import can_redraw, draw, is_terminal, json_shown, say
from shared_protocol.errors import UnimicError, error_to_wire
from shared_protocol.messages import OnStep

Say = Callable[[str], None]
Close = Callable[[], None]
_PROMPT = "> "
_ALL_REPORTS, _FEW_REPORTS = 15, 4


def chat(
    given: Namespace, settings: Settings, close: Close, warn: Say, on_step: OnStep | None
) -> None:
    """Hold a conversation until its end.

    Args:
        given: the command line.
        settings: whom to talk to.
        close: ends a line of progress; called before anything is said.
        warn: told everything else.
        on_step: told progress.

    Raises:
        UnimicError: it cannot begin.
    """
    history = None if given.no_history else (given.name or True)
    if history is not None:
        expire(folder(), settings.history_days)
    with Session(
        settings.server,
        api_key=settings.api_key,
        bundle=settings.bundle,
        timeout=settings.timeout,
        compute=settings.compute,
        on_step=on_step,
        reports=_ALL_REPORTS if can_redraw() else _FEW_REPORTS,
        history=history,
    ) as session:
        _Talk(given, session, close, warn).run([*exposed_key(settings)])


class _Talk:
    """One conversation at a terminal."""

    def __init__(self, given: Namespace, session: Session, close: Close, warn: Say) -> None:
        self._given = given
        self._session = session
        self._close = close
        self._warn = warn
        self._inline = detect(os.environ, is_terminal())
        options = {
            "seed": given.seed,
            "steps": given.steps,
            "guidance": given.guidance,
            "mend": given.mend,
            "negative": given.negative,
        }
        self._chat = Chat(session, lambda name: free_name(Path(name), ".umic"), options)

    def run(self, warnings: list[str]) -> None:
        """Read and answer until the end of input."""
        for warning in warnings:
            self._warn(f"warning: {warning}")
        self._begin()
        lines = LineEditor(self._chat.complete, [turn.text for turn in self._session.history])
        while True:
            try:
                line = lines.read(_PROMPT)
            except KeyboardInterrupt:
                self._warn("\n/quit or the end of input ends the conversation")
                continue
            if line is None or not self._take(line):
                return

    def _begin(self) -> None:
        image: Path | None = self._given.image
        if image is not None:
            self._do(lambda: self._chat.take(f"/open {image}"), fatal=True)
        elif not self._session.history:
            self._tell(Said(HELP))
        if self._session.name is not None and not self._given.quiet:
            self._warn(f"kept as {self._session.name}; --no-history keeps nothing")

    def _take(self, line: str) -> bool:
        """Whether the conversation goes on after a line."""
        return not line.strip() or self._do(lambda: self._chat.take(line))

    def _do(self, work: Callable[[], Said], fatal: bool = False) -> bool:
        """Whether the conversation goes on."""
        try:
            said = work()
        except KeyboardInterrupt:
            self._warn("\ncancelled")
            return True
        except UnimicError as error:
            if fatal:
                raise
            if self._given.json:
                self._say(json_shown({"error": error_to_wire(error)}, one_line=True))
            self._warn(f"error: {error}")
            return True
        if not said.over:
            self._tell(said)
        return not said.over

    def _tell(self, said: Said) -> None:
        for warning in said.warnings:
            self._warn(f"warning: {warning}")
        if self._given.json:
            self._say(json_shown(said.data or {"text": said.text}, one_line=True))
            return
        if said.picture is not None and self._inline is not None:
            self._close()
            draw(show(said.picture.thumbnail(), self._inline).rstrip("\n"))
        cost = f"  ({said.cost})" if said.cost and not self._given.quiet else ""
        self._say(said.text + cost)

    def _say(self, line: str) -> None:
        self._close()
        say(line)
