"""Which certificates links trust.

It opens nothing.
"""

from __future__ import annotations

import os
import ssl


def trusted() -> ssl.SSLContext:
    """The system's certificates and those of certifi; SSL_CERT_FILE in place of certifi's."""
    context = ssl.create_default_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
