"""The command line of `edge-client`: commands, arguments, help.

It does not know what the commands do; importing it is cheap, so that help answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from edge_client.addresses import DEFAULT_SERVER
from edge_client.config import ENVIRONMENT
from edge_client.evaluation.arguments import add_evaluate
from edge_client.gateway.settings import (
    DEFAULT_HOST,
    DEFAULT_MAX_BODY,
    DEFAULT_PORT,
    DEFAULT_QUEUE,
    DEFAULT_SESSIONS,
    KEY_VARIABLE,
)
from edge_client.task_arguments import (
    add_again,
    add_classify,
    add_files,
    add_inpaint,
    add_outpaint,
    add_sampling,
    add_t2i,
    add_vqa,
    check,
    joined_negatives,
    positive,
)
from edge_client.terminal.output import say
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
    add_classify(add("classify", "name what a picture shows"))
    add_again(add("again", "make a result again, and tell whether it is identical"))
    _add_chat(add("chat", "ask about a picture and change it, turn by turn"))
    _add_session(add("session", "list, show, resume, delete or export what chats have kept"))
    add_files(
        add("encode", "turn a picture into a .umic file of a few hundred bytes"),
        add("decode", "turn a .umic file back into a picture"),
        add("inspect", "show what a .umic file or a message is made of"),
    )
    _add_gateway(add("gateway", "serve the OpenAI API on this device; only tokens leave it"))
    _add_ui(add("ui", "open a page in the browser: draw, repaint, extend, ask, see the bytes"))
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
        help="auto, numpy, onnx, torch or cuda (tried with entropy models only) [auto]",
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


def _add_gateway(parser: argparse.ArgumentParser) -> None:
    parser.description = """Serve the OpenAI API on this device. Point an application's base_url at
the address that is printed, with /v1 behind it: pictures, edits and questions about pictures work
as usual, and only entropy-coded tokens leave the device."""
    parser.epilog = f"""Example: edge-client gateway --server https://host, and for the application
OPENAI_BASE_URL=http://{DEFAULT_HOST}:{DEFAULT_PORT}/v1 OPENAI_API_KEY=none. Needs
pip install 'unimic[gateway]'."""
    where = parser.add_argument_group("where it listens")
    where.add_argument(
        "--host",
        default=DEFAULT_HOST,
        help=f"address; any but this device needs --key [{DEFAULT_HOST}]",
    )
    where.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"0 takes a free one [{DEFAULT_PORT}]"
    )
    where.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="written with the address once it answers"
    )
    who = parser.add_argument_group("who may use it", "no web page but its own, unless named here")
    who.add_argument(
        "--key",
        metavar="KEY",
        help=f"what applications send as their API key; better in {KEY_VARIABLE}, which other "
        "users cannot see [none is asked for]",
    )
    who.add_argument(
        "--no-key",
        action="store_true",
        help="ask for none on any address: for a container whose port only this device reaches",
    )
    who.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name of this device, as applications write it; may be repeated",
    )
    who.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web page that may use it, as https://host:port; may be repeated",
    )
    who.add_argument(
        "--allow-fetch",
        action="store_true",
        help="get pictures from public http and https addresses that a request names",
    )
    much = parser.add_argument_group("how much")
    much.add_argument(
        "--sessions",
        type=positive,
        default=DEFAULT_SESSIONS,
        metavar="N",
        help=f"most conversations with the cloud at once [{DEFAULT_SESSIONS}]",
    )
    much.add_argument(
        "--queue",
        type=int,
        default=DEFAULT_QUEUE,
        metavar="N",
        help=f"most requests that wait for one; more are refused [{DEFAULT_QUEUE}]",
    )
    much.add_argument(
        "--max-body",
        type=positive,
        default=DEFAULT_MAX_BODY,
        metavar="MIB",
        help=f"largest request [{DEFAULT_MAX_BODY}]",
    )


def _add_ui(parser: argparse.ArgumentParser) -> None:
    _add_gateway(parser)
    parser.description = """Open a page in the browser on which one draws a mask, extends a picture,
asks about it, goes back to earlier rounds and sees the bytes of every turn. It comes from this
device, as all of 'edge-client gateway' does beside it: only entropy-coded tokens leave it."""
    parser.epilog = """Example: edge-client ui --server https://host. Without a server at hand:
edge-client ui --spawn. Needs pip install 'unimic[gateway]'."""
    page = parser.add_argument_group("page")
    page.add_argument("--no-open", action="store_true", help="only print where the page is")
    page.add_argument(
        "--spawn", action="store_true", help="start a server of its own on this machine"
    )


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
    parser.add_argument(
        "--as",
        dest="called",
        metavar="NAME",
        help="what the server's bundle is called here [as there, unless that is another's name]",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="let the server's bundle replace another of its name [it gets a name of its own]",
    )


class _Version(argparse.Action):
    """Prints the installed version, which is looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print it and leave."""
        say(f"edge-client {version()}")
        parser.exit()


def version() -> str:
    """The installed version."""
    from importlib import metadata

    try:
        return metadata.version("unimic")
    except metadata.PackageNotFoundError:
        return "(not installed)"
