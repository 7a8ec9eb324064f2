"""`gateway` and `ui`: serve the OpenAI API, and a page, on this device until they are told to stop.

It does not print; it is given what does.
"""

from __future__ import annotations

import tempfile
import threading
import webbrowser
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_client.commands.outcome import exposed_key
from edge_client.config import Settings
from edge_client.gateway.settings import MEBIBYTE, GatewaySettings
from edge_client.spawn import spawned_server
from shared_protocol.errors import ConfigError

_NEEDED = ("multipart", "python_multipart", "starlette", "uvicorn")


def gateway(given: Namespace, settings: Settings, say: Callable[[str], None]) -> None:
    """Serve.

    Args:
        given: the command line.
        settings: whom to talk to.
        say: told where it listens.

    Raises:
        ConfigError: a setting that cannot be used, or the extra is not installed.
    """
    wanted = GatewaySettings(
        host=given.host,
        port=given.port,
        ready_file=given.ready_file,
        key=given.key or None,
        allow_fetch=given.allow_fetch,
        allow_hosts=tuple(given.allow_host),
        allow_origins=tuple(given.allow_origin),
        sessions=given.sessions,
        queue=given.queue,
        max_body=given.max_body * MEBIBYTE,
        no_key=given.no_key,
    )
    try:
        import python_multipart  # noqa: F401 - starlette needs it for forms

        from edge_client.gateway.host import serve
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise ConfigError(
            f"the gateway needs {error.name}", "pip install 'unimic[gateway]'"
        ) from None
    for warning in exposed_key(settings):
        say(f"warning: {warning}")
    with ExitStack() as stack:
        if getattr(given, "spawn", False):
            say("starting a server on this machine…")
            settings = replace(settings, server=_spawned(stack, settings.bundle))
        serve(wanted, settings, lambda url: _announce(url, settings, wanted, given, say))


def _spawned(stack: ExitStack, bundle: str) -> str:
    """The address of a server that runs until the stack is left."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return stack.enter_context(spawned_server(Path(folder) / "server.log", bundle)).url


def _announce(
    url: str,
    settings: Settings,
    wanted: GatewaySettings,
    given: Namespace,
    say: Callable[[str], None],
) -> None:
    key = "its key" if wanted.key else "any API key"
    say(f"listening on {url}")
    say(f"base_url is {url}/v1, with {key}; the cloud is {settings.server}")
    if given.command == "ui":
        say(f"the page is {url}/")
        if not given.no_open:
            # A browser may keep whoever starts it waiting.
            threading.Thread(target=open_page, args=(f"{url}/",), daemon=True).start()


def open_page(url: str) -> bool:
    """Show a page in the user's browser, unless that would be one inside of this terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if type(browser) is webbrowser.GenericBrowser:
        return False
    return browser.open(url)
