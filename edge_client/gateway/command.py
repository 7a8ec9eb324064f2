"""`gateway`: serves the OpenAI API on this device until it is told to stop.

It does not print; it is given what does.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from edge_client.commands.outcome import exposed_key
from edge_client.config import Settings
from edge_client.gateway.settings import MEBIBYTE, GatewaySettings
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
    serve(wanted, settings, lambda url: say(_listening(url, settings, wanted)))


def _listening(url: str, settings: Settings, wanted: GatewaySettings) -> str:
    key = "its key" if wanted.key else "any API key"
    return f"listening on {url}\nbase_url is {url}/v1, with {key}; the cloud is {settings.server}"
