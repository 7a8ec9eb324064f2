"""Which certificates links trust.

It opens no connection.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from edge_client.config import CA_VARIABLES
from shared_protocol.errors import ConfigError
from shared_protocol.files import open_regular

_MAX_BYTES = 16 << 20
FOLDER_VARIABLE = "SSL_CERT_DIR"
ASK = "name the CA's PEM file with --ca-file, ca_file in the config file, or SSL_CERT_FILE"


def named_file() -> str | None:
    """The file of authorities that the environment names, where `--ca-file` is put, too."""
    return next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None)


def trusted() -> ssl.SSLContext:
    """The system's certificates and those of certifi, or only what the environment names.

    Raises:
        ConfigError: what it names cannot be used.
    """
    file, folder = named_file(), os.environ.get(FOLDER_VARIABLE)
    if file:
        return _from_file(file, folder)
    try:
        context = ssl.create_default_context()
        if not folder:
            import certifi

            context.load_verify_locations(certifi.where())
    except (OSError, ImportError) as error:  # also a key log that cannot be written
        fault = f"cannot read this machine's certificates: {error}"
        raise ConfigError(fault, f"check SSLKEYLOGFILE and certifi, or {ASK}") from error
    return context


def _from_file(file: str, folder: str | None) -> ssl.SSLContext:
    try:
        open_regular(Path(file), _MAX_BYTES).close()  # a pipe would be waited for
        return ssl.create_default_context(cafile=file, capath=folder or None)
    except ssl.SSLError as error:  # before OSError, which it is one of
        fault = f"the CA file {file} holds no certificate that can be read: {error.reason}"
        raise ConfigError(fault, f"it must be PEM; {ASK}") from error
    except OSError as error:
        raise ConfigError(f"cannot read the CA file {file}: {error.strerror}", ASK) from error


def distrusted(server: str, reason: str) -> tuple[str, str]:
    """Fault and remedy where the certificate of a server does not convince."""
    file = named_file()
    told = f" (only {file} is trusted)" if file else ""
    return f"cannot reach {server}: {reason}{told}", f"check --server, or {ASK}"
