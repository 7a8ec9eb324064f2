"""The deployment of Ray Serve, without Ray: what it is told, and the application of a replica."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import yaml
from serving_fakes import fake_model

from cloud_server.cli import parse_settings
from cloud_server.scale import HA_PROXY, Replica, Replicas, deployment_options, read_arguments
from shared_protocol.errors import ConfigError
from shared_protocol.session.paths import ROUTE_HEADER

DOCKER = Path(__file__).parents[3] / "docker"


def test_arguments_are_flags_of_the_server_and_numbers_of_replicas() -> None:
    replicas, words = read_arguments(
        {"min_replicas": "2", "max_replicas": 8, "gpus": 0.5, "max_batch": 4, "bundle": "show-o"}
    )
    assert replicas == Replicas(2, 8, gpus=0.5)
    settings = parse_settings(words)
    assert (settings.max_batch, settings.bundle) == (4, "show-o")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"cuda-graphs": True}, ("cuda_graphs", True)),
        ({"cuda_graphs": "false"}, ("cuda_graphs", False)),
        ({"mend": False}, ("mend", "off")),  # YAML's bare off
        ({"settle": "off"}, ("settle", "off")),
        ({"bundle": "-strange"}, ("bundle", "-strange")),
    ],
)
def test_switches_and_yaml_are_understood(
    args: dict[str, object], expected: tuple[str, object]
) -> None:
    name, value = expected
    assert getattr(parse_settings(read_arguments(args)[1]), name) == value


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({"port": "1"}, "port is not for a replica"),
        ({"ready_file": "x"}, "ready_file is not for a replica"),
        ({"tls-cert": "x"}, "tls-cert is not for a replica"),
        ({"api_key": "secret"}, "dashboard"),
        ({"gpus": "two"}, "gpus is 'two'"),
        ({"max_replicas": "1.5"}, "max_replicas is '1.5'"),
        ({"min_replicas": "5"}, "min_replicas is 5, max_replicas 4"),
        ({"min_replicas": "0"}, "min_replicas is 0"),
        ({"target": "0"}, "target is 0"),
        ({"cpus": "nan"}, "cpus is nan"),
        ({"cuda-graphs": "yes"}, "use true or false"),
    ],
)
def test_what_a_replica_cannot_have_is_refused_by_name(
    args: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_arguments(args)
    assert "secret" not in str(caught.value)


def test_ray_refuses_nobody_that_the_server_would_let_in_and_waits_for_what_runs() -> None:
    settings = parse_settings(["--max-sessions=7", "--shutdown-timeout=40"])
    options = deployment_options(Replicas(1, 3, target=5), settings, {})
    assert options["max_ongoing_requests"] == 7 + settings.max_inflight
    assert options["graceful_shutdown_timeout_s"] > 40
    assert options["autoscaling_config"]["target_ongoing_requests"] == 5
    assert "ConsistentHashRouter" in options["request_router_config"]["request_router_class"]
    ha = deployment_options(Replicas(), settings, {HA_PROXY: "1"})
    assert "request_router_config" not in ha


def test_a_replica_is_there_once_its_model_is_and_ends_with_its_lifetime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()

    def load(settings: object) -> object:
        assert gate.wait(20)
        return fake_model()

    monkeypatch.setattr("cloud_server.serving.load.load_model", load)
    application = Replica(["--log-level=error"]).__serve_build_asgi_app__()

    async def live() -> tuple[bool, bool]:
        lifetime = application.router.lifespan_context(application)
        starting = asyncio.create_task(lifetime.__aenter__())
        await asyncio.sleep(0.05)
        early = starting.done()
        gate.set()
        await starting
        await lifetime.__aexit__(None, None, None)
        return early, starting.done()

    assert asyncio.run(live()) == (False, True)


def test_a_model_that_cannot_be_loaded_keeps_a_replica_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(settings: object) -> object:
        raise ConfigError("no such bundle")

    monkeypatch.setattr("cloud_server.serving.load.load_model", load)
    application = Replica([]).__serve_build_asgi_app__()

    async def live() -> None:
        async with application.router.lifespan_context(application):
            pytest.fail("it started")

    with pytest.raises(ConfigError, match="no such bundle"):
        asyncio.run(live())


def test_what_kuberay_deploys_can_be_read() -> None:
    service = yaml.safe_load((DOCKER / "rayservice.yaml").read_text(encoding="utf-8"))["spec"]
    config = yaml.safe_load(service["serveConfigV2"])
    (application,) = config["applications"]
    assert application["import_path"] == "cloud_server.scale:app"
    replicas, words = read_arguments(application["args"])
    settings = parse_settings(words)
    (workers,) = service["rayClusterConfig"]["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (2, replicas.max_replicas)
    pod = workers["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > settings.shutdown_timeout + 5
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == replicas.gpus
    (head,) = service["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
    said = {each["name"]: each.get("value") for each in head["env"]}
    assert said["RAY_SERVE_SESSION_ID_HEADER_KEY"] == ROUTE_HEADER.lower()
    assert said["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"] == f"hdr({ROUTE_HEADER.lower()})"
    assert head["env"] == pod["containers"][0]["env"]
    pins = (DOCKER / "constraints.txt").read_text()
    assert f"\nray=={service['rayClusterConfig']['rayVersion']}\n" in pins
