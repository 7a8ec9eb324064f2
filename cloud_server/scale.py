"""The server as replicas of Ray Serve: `serve run cloud_server.scale:app bundle=show-o gpus=1`.

It does not know how a request is served: each replica is `create_app` over a service of its own,
and no replica knows of another. Ray is imported only when the application is built; the extra
`unimic[scale]` brings it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from cloud_server.cli import load_served, parse_settings, start_logging
from cloud_server.settings import Settings
from shared_protocol.errors import ConfigError

HA_PROXY = "RAY_SERVE_ENABLE_HA_PROXY"
"""Ray's variable for its proxy in C, which routes by itself; docker/rayservice.yaml has how."""
_ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
_OF_RAY = ("host", "port", "unix", "tcp", "tls-cert", "tls-key", "root-path", "ready-file")
_LAST_REPLIES_S = 5.0
_DRAIN_LOOK_S = 0.5
_DEFAULTS = Settings()


@dataclass(frozen=True)
class Replicas:
    """How many replicas, and what each gets.

    Args:
        min_replicas: always there.
        max_replicas: at most.
        target: requests being served and conversations being open, of one replica, that the number
            of replicas aims at; Ray counts both alike, so that what holds conversations needs
            hundreds, see notes/scale.md.
        cpus: processors of a replica, for Ray's placing.
        gpus: GPUs of a replica, or a fraction of one; without any it sees none.

    Raises:
        ConfigError: a value that cannot be.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    target: float = 64.0
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            told = f"min_replicas is {self.min_replicas}, max_replicas {self.max_replicas}"
            raise ConfigError(told, "use 1 <= min_replicas <= max_replicas")
        for name in ("target", "cpus", "gpus"):
            if not 0 <= getattr(self, name) < 1e6 or (name == "target" and self.target == 0):
                raise ConfigError(f"{name} is {getattr(self, name)}", "use a number above 0")


def app(args: dict[str, str]) -> Any:
    """The application for `serve run`, `serve deploy` and KubeRay.

    Args:
        args: fields of `Replicas`, and flags of `cloud-server` without their dashes in front, such
            as {"max_replicas": "8", "bundle": "show-o", "max-batch": "8", "cuda-graphs": "true"}.
            Keys come from the environment of the replicas, UNIMIC_API_KEY, or from files there.

    Raises:
        ConfigError: one that a replica cannot have, or a value that cannot be.
    """
    from ray import serve

    replicas, words = read_arguments(args)
    settings = parse_settings(words)
    deployment = serve.deployment(serve.ingress()(Replica))
    return deployment.options(**deployment_options(replicas, settings, os.environ)).bind(words)


def read_arguments(args: Mapping[str, object]) -> tuple[Replicas, list[str]]:
    """What is for Ray, and the words for `cloud-server`.

    >>> read_arguments({"max_replicas": "8", "bundle": "show-o", "cuda_graphs": "true"})[1]
    ['--bundle=show-o', '--cuda-graphs']

    Raises:
        ConfigError: a flag that is Ray's to decide, a key, or no number where one has to be.
    """
    known = {field.name: type(field.default) for field in fields(Replicas)}
    given: dict[str, Any] = {}
    words: list[str] = []
    for name, value in args.items():
        flag = name.replace("_", "-")
        if name in known:
            given[name] = _number(name, value, known[name])
        elif flag in _OF_RAY:
            raise ConfigError(
                f"{name} is not for a replica: Ray Serve listens in its place",
                "set http_options and route_prefix in Serve's own configuration",
            )
        elif flag == "api-key":
            raise ConfigError(
                "a key in the arguments would be shown on Ray's dashboard",
                "put it into UNIMIC_API_KEY of the replicas, or name a file with api-key-file",
            )
        else:
            words += _words(flag, value)
    return Replicas(**given), words


def _words(flag: str, value: object) -> list[str]:
    """A flag as `cloud-server` takes it; YAML reads a bare off as false."""
    said = str(value).lower()
    if isinstance(getattr(_DEFAULTS, flag.replace("-", "_"), None), bool):
        if said not in ("true", "false"):
            raise ConfigError(f"{flag} is {value!r}", "use true or false")
        return [f"--{flag}"] if said == "true" else []
    return [f"--{flag}={'off' if value is False else value}"]


def _number(name: str, value: object, kind: type) -> Any:
    try:
        return kind(str(value))
    except ValueError:
        raise ConfigError(f"{name} is {value!r}", f"use {kind.__name__}") from None


def deployment_options(
    replicas: Replicas, settings: Settings, environment: Mapping[str, str]
) -> dict[str, Any]:
    """What Ray Serve is told of the deployment.

    Who may come in, and how many, is the server's own to decide: it knows keys and prices.
    """
    options: dict[str, Any] = {
        "name": "unimic",
        "max_ongoing_requests": settings.max_sessions + settings.max_inflight,
        "autoscaling_config": {
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.target,
        },
        "ray_actor_options": {"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        "graceful_shutdown_timeout_s": settings.shutdown_timeout + _LAST_REPLIES_S,
        "graceful_shutdown_wait_loop_s": _DRAIN_LOOK_S,
    }
    if environment.get(HA_PROXY) != "1":  # Ray refuses a router of one's own there
        options["request_router_config"] = {"request_router_class": _ROUTER}
    return options


class Replica:
    """One server among several; Ray Serve makes it, asks for its application and ends it.

    Args:
        words: flags of `cloud-server`, read in the environment of the replica.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def __serve_build_asgi_app__(self) -> Any:
        """The application; it has started once its model is loaded, so that nobody meets it before.

        Ray waits for what runs before it ends a replica, which ends the application's lifetime.
        """
        from cloud_server.http.app import create_app
        from cloud_server.serving.batcher import batching_queue
        from cloud_server.serving.service import Service

        settings = parse_settings(self._words)
        start_logging(settings.log_level, settings.log_bytes, settings.log_format)
        service = Service(
            settings, partial(load_served, settings), partial(batching_queue, settings)
        )
        application = create_app(settings, service)
        inner = application.router.lifespan_context

        @asynccontextmanager
        async def loaded(found: Any) -> AsyncIterator[Any]:
            async with inner(found) as state:
                await service.ready()
                yield state

        application.router.lifespan_context = loaded
        return application
