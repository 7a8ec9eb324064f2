"""Checks of the way to the server, from its name to a conversation; the first that fails ends them.

They do not know what a conversation is about.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from urllib.parse import urlsplit

from edge_client.checks.finding import Finding, Subject, fail, failed, ok, warn
from edge_client.config import Settings
from edge_client.transport.base import within
from shared_protocol.errors import UnimicError, printable

_PORTS = {"http": 80, "https": 443}
_POST = ("http", "https", "unix")
_NAMES = ("name", "version", "bundle", "device")


def server(subject: Subject) -> Iterator[Finding]:
    """Everything between here and a turn of a conversation."""
    settings = subject.settings
    if settings is None:
        return
    scheme = settings.server.partition(":")[0]
    if scheme == "exec":
        yield ok("server", "a program carries the conversation, and is started for it")
    else:
        for finding in _connected(subject, settings):
            yield finding
            if finding.remedy:
                return
    if scheme in _POST:
        try:
            yield from _asked(subject, settings)
        except UnimicError as error:
            yield failed("server", error)
            return
    yield from _conversation(subject, settings)


def _connected(subject: Subject, settings: Settings) -> Iterator[Finding]:
    """The name and the port, of the proxy where there is one."""
    place, target = _first_hop(settings)
    if place is None:
        from edge_client.transport.stream_links import connected

        try:
            connected(target, subject.left()).close()
        except OSError as error:
            remedy = f"start it with cloud-server --unix {target}, or check --server"
            yield fail("connection", f"{settings.server}: {_words(error)}", remedy)
            return
        yield ok("connection", f"{target} takes connections")
        return
    host, port = place
    try:
        found = within(
            subject.left(),
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM),
            lambda late: None,
        )
    except (OSError, UnicodeError) as error:
        yield fail("name", f"{target} is not found: {_words(error)}", "check --server, or the DNS")
        return
    yield ok("name", f"{target} is {found[0][4][0]}")
    try:
        left = subject.left()
        open_ = partial(socket.create_connection, place, left)
        within(left, open_, socket.socket.close).close()
    except OSError as error:
        remedy = "start it with cloud-server, check --server, or ask who runs the firewall"
        if target != host:
            remedy = "start it, correct or unset that variable, or name the server in NO_PROXY"
        yield fail("connection", f"{target} port {port}: {_words(error)}", remedy)
        return
    yield ok("connection", f"{target} takes connections on port {port}")
    if target == host and settings.server.startswith(("https:", "tls:")):
        yield from _encrypted(subject, settings, place)


def _encrypted(subject: Subject, settings: Settings, place: tuple[str, int]) -> Iterator[Finding]:
    """The certificate."""
    import ssl

    from edge_client.transport.certificates import distrusted, trusted

    try:
        with (
            socket.create_connection(place, subject.left()) as plain,
            trusted().wrap_socket(plain, server_hostname=place[0]) as link,
        ):
            until = (link.getpeercert() or {}).get("notAfter", "")
            yield ok("TLS", f"{link.version()}, the certificate is valid until {until}")
    except ssl.SSLCertVerificationError as error:
        yield fail("TLS", *distrusted(settings.server, printable(str(error), 200)))
    except OSError as error:
        told = f"{settings.server} does not speak TLS: {_words(error)}"
        yield fail("TLS", told, "write http:// or tcp:// if it speaks plain, or check --server")


def _first_hop(settings: Settings) -> tuple[tuple[str, int] | None, str]:
    """(host, port) of what is connected to, and what it is called; None for a socket file."""
    from edge_client.transport.proxies import proxy_for

    if settings.server.startswith("unix:"):
        return None, settings.server.removeprefix("unix:")
    proxy = proxy_for(settings.server) if settings.server.startswith("http") else None
    parts = urlsplit(settings.server if proxy is None else proxy.url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 1080)
    return (host, port), host if proxy is None else f"the proxy {proxy.told}"


def _asked(subject: Subject, settings: Settings) -> Iterator[Finding]:
    """Who answers, whether the key is taken, and how fast."""
    from edge_client.arguments import version
    from edge_client.transport.http import HttpTransport

    began = time.monotonic()
    with HttpTransport(settings.server, settings.api_key, subject.left()) as transport:
        info = transport.info()
    milliseconds = 1000 * (time.monotonic() - began)
    if info.get("name") != "unimic":
        told = f"{settings.server} answers in JSON, and is no UniMIC server"
        yield fail("server", told, "check --server")
        return
    subject.info = info
    said = ", ".join(f"{name} {printable(str(info.get(name)), 40)}" for name in _NAMES)
    yield ok("server", f"{said}; it answered in {milliseconds:.0f} ms")
    yield ok("key", "accepted" if settings.api_key else "none is asked for")
    theirs = str(info.get("version"))
    if theirs != version():
        told = f"{version()} here, {printable(theirs, 40)} at the server"
        yield warn("version", told, "install the same release on both ends")
    limit = (info.get("limits") or {}).get("request_timeout")
    if isinstance(limit, (int, float)) and settings.timeout < limit:
        told = f"{settings.timeout:g} s here, while the server works up to {limit:g} s"
        yield warn("time-out", told, f"give --timeout {limit:g} for slow work")


def _conversation(subject: Subject, settings: Settings) -> Iterator[Finding]:
    """Whether a conversation opens."""
    if subject.bundle is None:
        return
    from edge_client.exchange.conversation import Conversation
    from edge_client.transport.base import NoSessionsError
    from edge_client.transport.links import KEY_IN_HELLO, NAMES, open_link

    scheme = settings.server.partition(":")[0]
    talk = Conversation(
        subject.bundle,
        lambda left: open_link(settings.server, settings.api_key, left),
        key=settings.api_key if scheme in KEY_IN_HELLO else None,
    )
    with closing(talk):
        try:
            talk.ready_link(subject.left())
        except NoSessionsError as error:
            if scheme in _POST:
                remedy = f"single messages get through, and cost more: {error.remedy}"
                yield warn("conversation", error.message, remedy)
                return
            yield failed("conversation", error)
            return
        except UnimicError as error:
            yield failed("conversation", error)
            return
    yield ok("conversation", f"opens over {NAMES[scheme]}")


def _words(error: OSError | UnicodeError) -> str:
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__, 200)
