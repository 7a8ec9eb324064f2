"""`edge-client chat`: lines of a person become turns of a session.

It does not print and does not read: it is given a line and says what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_client.pictures.outputs import check_output
from edge_client.session.picture import Answer, Picture
from edge_client.session.session import Session
from shared_protocol.errors import InvalidInputError
from shared_protocol.labels import USUAL_TOP

HELP = """Plain words are a question about the current picture. Commands:
  /open FILE               another picture, or a .umic file
  /new PROMPT              make a picture
  /inpaint X,Y,W,H PROMPT  repaint a box of the picture, in its pixels; no prompt removes it
  /outpaint SIDE N PROMPT  continue it by N token columns or rows, or 25% or 64px of the picture;
                           SIDE is left, right, up or down, or N is a shape: /outpaint to 16:9
  /classify [N]            the N likeliest labels of the picture
  /back                    the picture before
  /save FILE               write the current picture
  /history                 what was said
  /cost                    bytes by turn
  /help, /quit"""
SIDES = ("left", "right", "up", "down")
_NEEDS_MEMORY = re.compile(
    r"\b(it|its|he|she|they|them|that|this|those|these|again|before)\b", re.IGNORECASE
)
_COUNT = re.compile(r"\d+(px|%)?|\d+(\.\d+)?[:x]\d+(\.\d+)?")
_BOX = re.compile(r"(-?\d+),(-?\d+),(\d+),(\d+)$")


@dataclass(frozen=True)
class Said:
    """What a line brought.

    Args:
        text: for the person.
        picture: to be shown, if the line made or opened one.
        data: for machines.
        cost: what the turn cost, in words; "" where nothing travelled.
        warnings: what the person should know.
        over: whether the conversation is over.
    """

    text: str
    picture: Picture | None = None
    data: dict[str, Any] | None = None
    cost: str = ""
    warnings: tuple[str, ...] = ()
    over: bool = False


class Chat:
    """Turns lines into turns.

    Args:
        session: holds the conversation.
        free_name: from a name to one that no file has; pictures are saved as they come.
        options: seed, steps, guidance and mending of pictures.
    """

    def __init__(
        self, session: Session, free_name: Callable[[str], Path], options: dict[str, Any]
    ) -> None:
        self._session = session
        self._free_name = free_name
        self._options = options
        self._told_of_memory = False
        self._commands: dict[str, Callable[[str], Said]] = {
            "/open": self._open,
            "/new": self._new,
            "/inpaint": self._inpaint,
            "/outpaint": self._outpaint,
            "/classify": self._classify,
            "/back": self._back,
            "/save": self._save,
            "/history": self._history,
            "/cost": self._cost,
            "/help": self._help,
            "/quit": self._quit,
        }

    def take(self, line: str) -> Said:
        """Do what a line says.

        Raises:
            UnimicError: it cannot be done, or the cloud would not.
        """
        words = line.strip()
        if not words.startswith("/"):
            return self._ask(words)
        name, _, rest = words.partition(" ")
        if name not in self._commands:
            raise InvalidInputError(f"there is no command {name}", "see /help")
        return self._commands[name](rest.strip())

    def complete(self, line: str) -> Sequence[str]:
        """What the last word of an unfinished line could become."""
        head, _, word = line.rpartition(" ")
        if not head:
            return [f"{name} " for name in self._commands if name.startswith(word)]
        if head.startswith(("/open", "/save")):
            return sorted(_files(word))
        if head == "/outpaint":
            return [f"{side} " for side in (*SIDES, "to") if side.startswith(word)]
        return []

    # Commands ------------------------------------------------------------------------------------

    def _ask(self, question: str) -> Said:
        answer = self._current().ask(question, seed=self._options["seed"])
        warnings = answer.warnings
        if _NEEDS_MEMORY.search(question) and not self._told_of_memory:
            self._told_of_memory = True
            note = "each question is answered from the picture alone: the model remembers no words"
            warnings = (*warnings, note)
        shown = "".join(char if char.isprintable() else " " for char in answer)
        return Said(shown, None, {"answer": shown, **_cost(answer)}, str(answer.cost), warnings)

    def _open(self, path: str) -> Said:
        picture = self._session.open(_needed(path, "/open FILE"))
        text = f"{picture.name}, {picture.size[0]}x{picture.size[1]}"
        return Said(text, picture, {"open": path}, warnings=picture.warnings)

    def _new(self, prompt: str) -> Said:
        return self._made(self._session.new(_needed(prompt, "/new PROMPT"), **self._options))

    def _inpaint(self, rest: str) -> Said:
        where, _, prompt = rest.partition(" ")
        box = _BOX.match(where)
        usage = "/inpaint X,Y,W,H PROMPT"
        if box is None:
            raise InvalidInputError(f"{where!r} is no box", f"write {usage}")
        x, y, width, height = (int(number) for number in box.groups())
        picture = self._current()
        return self._made(picture.inpaint((x, y, width, height), prompt.strip(), **self._options))

    def _outpaint(self, rest: str) -> Said:
        side, count, prompt = (*rest.split(None, 2), "", "", "")[:3]
        usage = "/outpaint SIDE N PROMPT"
        if side not in (*SIDES, "to") or not _COUNT.fullmatch(count):
            raise InvalidInputError(f"{side} {count} is no side and number", f"write {usage}")
        sides: dict[str, Any] = {side: count}
        return self._made(self._current().outpaint(prompt, **sides, **self._options))

    def _classify(self, count: str) -> Said:
        if count and not count.isdecimal():
            raise InvalidInputError(f"{count!r} is no number", "write /classify, or /classify 10")
        seed = self._options["seed"]
        labels = self._current().classify(int(count) if count else USUAL_TOP, seed=seed)
        data = {"labels": [asdict(label) for label in labels.labels], **_cost(labels)}
        return Said(str(labels), None, data, str(labels.cost), labels.warnings)

    def _back(self, rest: str) -> Said:
        picture = self._session.back()
        return Said(f"back to: {picture.name}", picture, {"back": picture.name})

    def _save(self, path: str) -> Said:
        target = Path(_needed(path, "/save FILE"))
        check_output(target)
        written = [str(each) for each in self._current().save(target)]
        return Said(", ".join(written), None, {"saved": written})

    def _history(self, rest: str) -> Said:
        lines = [
            f"{number:3}  {turn.task:8} {turn.text}"
            + (f" -> {turn.result}" if isinstance(turn.result, Answer) else "")
            for number, turn in enumerate(self._session.history, 1)
        ]
        return Said("\n".join(lines) or "nothing was said yet", None, {"history": lines})

    def _cost(self, rest: str) -> Said:
        return Said(str(self._session.cost), None, {"cost": str(self._session.cost)})

    def _help(self, rest: str) -> Said:
        return Said(HELP, None, {"help": HELP})

    def _quit(self, rest: str) -> Said:
        return Said("", over=True)

    # ---------------------------------------------------------------------------------------------

    def _current(self) -> Picture:
        picture = self._session.picture
        if picture is None:
            raise InvalidInputError("there is no picture yet", "/open FILE or /new PROMPT")
        return picture

    def _made(self, picture: Picture) -> Said:
        written = picture.save(self._free_name("chat.png"))
        assert picture.cost is not None, "it was made by a turn"
        data = {"output": str(written[0]), **_cost(picture)}
        return Said(str(written[0]), picture, data, str(picture.cost), picture.warnings)


def _needed(text: str, usage: str) -> str:
    if not text:
        raise InvalidInputError("something is missing", f"write {usage}")
    return text


def _cost(turn: Picture | Answer) -> dict[str, Any]:
    cost = turn.cost
    assert cost is not None, "asked of what a turn made"
    return {
        "payload": [cost.payload_up, cost.payload_down],
        "wire": [cost.all_up, cost.all_down],
        "seconds": round(cost.seconds, 3),
    }


def _files(start: str) -> Iterator[str]:
    path = Path(start)
    folder, stem = (path, "") if start.endswith("/") else (path.parent, path.name)
    if not folder.is_dir():
        return
    for each in folder.iterdir():
        if each.name.startswith(stem) and not each.name.startswith("."):
            yield f"{each}/" if each.is_dir() else f"{each} "
