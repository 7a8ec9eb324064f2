"""Checks of what was set: config file, environment, proxies, certificate authorities.

They do not know who answers at the server's address.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from edge_client.checks.finding import Finding, Subject, fail, failed, ok, warn
from edge_client.config import CONFIG_VARIABLE, ENVIRONMENT, config_path, load_settings
from edge_client.gateway.settings import KEY_VARIABLE
from shared_protocol.errors import ConfigError

_PREFIX = "UNIMIC_"
KNOWN = frozenset(
    {
        *ENVIRONMENT.values(),
        CONFIG_VARIABLE,
        KEY_VARIABLE,
        "UNIMIC_CACHE",
        "UNIMIC_CLIP",
        "UNIMIC_DEBUG",
        "UNIMIC_HISTORY",
        "UNIMIC_INLINE",
        "UNIMIC_MODELS",
        "UNIMIC_TRACE",
    }
)
"""Every variable of ours that something reads."""
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", ENVIRONMENT["ca_file"])
_SHORT_S = 10.0


def settings(subject: Subject) -> Iterator[Finding]:
    """The config file, the environment, and all of them together with the flags."""
    path = config_path(subject.environ)
    places = (CONFIG_VARIABLE, "XDG_CONFIG_HOME")
    alone = {name: subject.environ[name] for name in places if name in subject.environ}
    try:
        load_settings({}, alone)
    except ConfigError as error:
        yield failed("config file", error)
        return
    yield ok("config file", str(path) if path.is_file() else f"there is none at {path}")
    yield from _variables(subject)
    try:
        subject.settings = load_settings(subject.flags, subject.environ)
    except ConfigError as error:
        yield failed("settings", error)
        return
    told = f"server {subject.settings.server}, bundle {subject.settings.bundle}"
    seconds = subject.settings.timeout
    if seconds < _SHORT_S:
        remedy = "a picture may take longer: give --timeout 2m"
        yield warn("settings", f"{told}, time-out {seconds:g} s", remedy)
    else:
        yield ok("settings", f"{told}, time-out {seconds:g} s")


def _variables(subject: Subject) -> Iterator[Finding]:
    ours = sorted(name for name in subject.environ if name.upper().startswith(_PREFIX))
    unknown = [name for name in ours if name not in KNOWN]
    for name in unknown:
        near = difflib.get_close_matches(name.upper(), KNOWN, 1, 0.7)
        remedy = f"did you mean {near[0]}?" if near else f"unset it; known are {_listed(KNOWN)}"
        yield warn("environment", f"nothing reads {name}", remedy)
    empty = [name for name in ours if name in KNOWN and not subject.environ[name]]
    if empty:
        told = f"{_listed(empty)} set and empty, which counts as not set"
        yield warn("environment", told, "unset what is not meant")
    if not unknown and not empty:
        yield ok("environment", _listed(ours) or f"no {_PREFIX} variable is set")


def _listed(names: list[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names))


def proxies(subject: Subject) -> Iterator[Finding]:
    """Which proxy stands before the server."""
    if subject.settings is None:
        return
    from edge_client.transport.proxies import proxy_for

    server = subject.settings.server
    named = sorted(name for name in subject.environ if name.lower() in _PROXIES)
    if not named or not server.startswith("http"):
        told = f"{_listed(named)} set, and not used for {server}" if named else "none is named"
        yield ok("proxy", told)
        return
    try:
        proxy = proxy_for(server)
    except ConfigError as error:
        yield failed("proxy", error)
        return
    if proxy is None:
        yield ok("proxy", f"{_listed(named)} set, and not used for {server}")
    else:
        yield ok("proxy", f"{proxy.told} is used for {server}")


def authorities(subject: Subject) -> Iterator[Finding]:
    """Whose certificates are trusted."""
    named = [name for name in _AUTHORITIES if subject.environ.get(name)]
    file = None if subject.settings is None else subject.settings.ca_file
    server = "" if subject.settings is None else subject.settings.server
    if not named and file is None and not server.startswith(("https:", "tls:")):
        yield ok("certificates", "not needed for this server")
        return
    from edge_client.transport.certificates import trusted

    try:
        count = len(trusted().get_ca_certs())
    except ConfigError as error:
        yield failed("certificates", error)
        return
    told = f"{count} authorities" if file is None else f"{count} authorities, of {file}"
    if named and file is None:
        told = f"{told}, by {_listed(named)}"
    if count or subject.environ.get("SSL_CERT_DIR"):
        yield ok("certificates", told)
    else:
        yield fail("certificates", told, "name a PEM file with --ca-file, or pip install certifi")
