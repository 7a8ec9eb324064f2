"""The command line of `edge-client`: commands, arguments, help.

It does not know what the commands do; importing it is cheap, so that help answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from edge_client.addresses import DEFAULT_SERVER
from edge_client.config import ENVIRONMENT
from edge_client.evaluation.arguments import add_evaluate
from edge_client.task_arguments import (
    add_again,
    add_files,
    add_inpaint,
    add_outpaint,
    add_sampling,
    add_t2i,
    add_vqa,
    check,
    joined_negatives,
)
from shared_protocol.errors import ConfigError

_DESCRIPTION = """Create, edit, extend and ask about pictures with a cloud model. Tokens travel
instead of pixels: a picture costs a few hundred bytes."""
_EPILOG = f"""Settings come from flags, then the environment ({", ".join(ENVIRONMENT.values())}),
then ~/.config/unimic/config.toml, then defaults. Exit codes: 0 done, 1 the service failed, or
not all was done, 2 the input or a setting is wrong, 130 interrupted."""


class _Parser(argparse.ArgumentParser):
    """Usage errors in the form of all other errors."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, f"see '{self.prog} --help'")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; `command` names the command.

    Raises:
        ConfigError: it cannot be understood.
        SystemExit: help or version was asked for.
    """
    parser = _build()
    given, rest = parser.parse_known_args(joined_negatives(list(arguments)))
    # argparse gives an optional word up once an option stands before it.
    if getattr(given, "prompt", None) == "" and len(rest) == 1 and rest[0][:1] != "-":
        given.prompt, rest = rest[0], []
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for name in ("json", "quiet"):
        setattr(given, name, getattr(given, name, False))
    if given.command == "session" and (given.name is None) != (given.what == "list"):
        verb = "takes no name" if given.what == "list" else "needs the name of a conversation"
        raise ConfigError(f"session {given.what} {verb}", "see 'edge-client session list'")
    check(given)
    return given


def _build() -> _Parser:
    common = _common()
    parser = _Parser(
        prog="edge-client",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=help_, description=help_, parents=[common], allow_abbrev=False
        )

    add_t2i(add("t2i", "make a picture from a prompt"))
    add_inpaint(add("inpaint", "repaint the masked part of a picture"))
    add_outpaint(add("outpaint", "continue a picture beyond its edges"))
    add_vqa(add("vqa", "answer a question about a picture"))
    add_again(add("again", "make a result again, and tell whether it is identical"))
    _add_chat(add("chat", "ask about a picture and change it, turn by turn"))
    _add_session(add("session", "list, show, resume, delete or export what chats have kept"))
    add_files(
        add("encode", "turn a picture into a .umic file of a few hundred bytes"),
        add("decode", "turn a .umic file back into a picture"),
        add("inspect", "show what a .umic file or a message is made of"),
    )
    add("info", "show what the server serves and whether both ends agree")
    add("doctor", "check this device, the settings and the way to the server, line by line")
    _add_fetch(add("fetch", "get the bundle that the server holds, or a published one"))
    add_evaluate(add("evaluate", "run the four tasks over the wire and print tables of results"))
    return parser


def _common() -> _Parser:
    """Options of every command, before or after its name (hence no defaults here)."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--server",
        metavar="URL",
        help=f"cloud server: http, https, tcp, tls, unix:FILE or exec:COMMAND [{DEFAULT_SERVER}]",
    )
    group.add_argument(
        "--api-key", metavar="KEY", help="better in UNIMIC_API_KEY, which other users cannot see"
    )
    group.add_argument("--bundle", metavar="NAME", help="bundle name or folder [builtin]")
    group.add_argument(
        "--compute",
        metavar="WHAT",
        help="auto, numpy, onnx, torch or cuda (which nobody has run yet) [auto]",
    )
    group.add_argument(
        "--timeout", metavar="S", help="for one interaction in all: seconds, or 90s, 2m, 1h [120]"
    )
    group.add_argument(
        "--ca-file", metavar="FILE", help="PEM file of the authorities to trust, and no others"
    )
    group.add_argument("--json", action="store_true", help="print JSON and nothing else")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress and no table, only the result"
    )
    return parser


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, nargs="?", help="a picture, or a .umic file")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument(
        "--name", help="keep the conversation under this name, or go on with it [the day's next]"
    )
    kept.add_argument("--no-history", action="store_true", help="keep nothing on this device")
    add_sampling(parser)


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("list", "show", "resume", "delete", "export"))
    parser.add_argument("name", nargs="?", help="of a conversation, as 'list' shows it")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for 'export' [NAME]")
    parser.add_argument(
        "--older-than",
        type=float,
        metavar="DAYS",
        help="for 'list': first delete those that were not used for so long",
    )
    add_sampling(parser)
    parser.set_defaults(image=None, no_history=False)


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        help="show-o or show-o-512: tokenizers from the hub [the server's bundle, from the server]",
    )


class _Version(argparse.Action):
    """Prints the installed version, which is looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print it and leave."""
        sys.stdout.write(f"edge-client {version()}\n")
        parser.exit()


def version() -> str:
    """The installed version."""
    from importlib import metadata

    try:
        return metadata.version("unimic")
    except metadata.PackageNotFoundError:
        return "(not installed)"
