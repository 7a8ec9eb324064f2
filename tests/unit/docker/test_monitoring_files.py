"""Dashboard, alert rules and scrape settings against the metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql import named_in
from serving_fakes import MSGPACK, a_message, fake_settings, serving

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
BOARD = DOCKER / "grafana" / "unimic.json"
ALERTS = DOCKER / "prometheus" / "alerts.yml"
OF_THE_SCRAPER = {"job", "instance"}
VARIABLES = {"$__rate_interval": "5m", "$job": "unimic"}


def board_expressions() -> list[tuple[str, str]]:
    """Each expression of the dashboard with the legend of what it gives."""
    board = json.loads(BOARD.read_text())
    found = [(t["expr"], t["legendFormat"]) for p in board["panels"] for t in p["targets"]]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            inside = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert inside, "a query of a variable"
            found.append((f"sum by ({inside[2]}) ({inside[1]})", ""))
    return found


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]


def all_expressions() -> list[tuple[str, str]]:
    told = [(rule["expr"], " ".join(rule["annotations"].values())) for rule in rules()]
    shown = [(expr, re.sub(r"\{\{ *\$labels\.(\w+) *\}\}", r"{{\1}}", text)) for expr, text in told]
    return board_expressions() + shown


async def metrics_of_a_server(keys: Path) -> dict[str, set[str]]:
    """Name of every series that a server shows after some requests, with its labels."""
    keys.write_text("ann key-a requests=2\n")
    keys.chmod(0o600)
    async with serving(fake_settings(api_keys=keys)) as (client, _):
        headers = {**MSGPACK, "Authorization": "Bearer key-a"}
        for _number in range(3):
            await client.post("/v1/t2i", content=a_message(), headers=headers)
        text = (await client.get("/metrics", headers=headers)).text
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.anyio
async def test_every_series_and_label_that_is_named_exists(tmp_path: Path) -> None:
    known = await metrics_of_a_server(tmp_path / "keys")
    for expression, legend in all_expressions():
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        named = named_in(expression)
        assert named.series, expression
        labels: set[str] = set(OF_THE_SCRAPER)
        for name, matched in named.series:
            assert name in known, f"{name} of {expression}"
            assert set(matched) <= known[name] | OF_THE_SCRAPER, expression
            labels |= known[name]
        assert named.grouped <= labels, expression
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        kept = named.grouped if "sum" in expression else labels
        assert shown <= kept, f"{legend!r} of {expression}"


@pytest.mark.anyio
async def test_every_metric_is_on_the_dashboard(tmp_path: Path) -> None:
    known = await metrics_of_a_server(tmp_path / "keys")
    shown = {
        name
        for expression, _ in board_expressions()
        for name, _ in named_in(expression.replace("[$__rate_interval]", "[5m]")).series
    }
    ends = ("_created", "_bucket", "_sum", "_count")
    plain = {name for name in known if name.startswith("unimic_") and not name.endswith(ends)}
    assert plain - shown == set()


def test_the_parser_tells_series_from_all_else() -> None:
    found = named_in(
        'sum by (a, b) (rate(x_total{c="{y}", d=~"z(1)"}[5m] offset 1h)) / on (a) group_left(e) '
        "ignoring_not{f!='g'} > bool 1e3 and absent(h:i) # j{k='l'}\n or vector(5m) * inf"
    )
    assert found.series == [
        ("x_total", ("c", "d")),
        ("ignoring_not", ("f",)),
        ("h:i", ()),
    ]
    assert found.grouped == {"a", "b", "e"}
    assert named_in("sum(m) without (l)").grouped == {"l"}
    assert named_in('{__name__="m", l="x"}').series == [("m", ("l",))]
    for bad in ("sum(m", "m}", "a ; b", "{l=''", "m{l='x)"):
        with pytest.raises(ValueError):
            named_in(bad)


def test_alerts_are_whole() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) > 4
    for rule in rules():
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]
        assert re.search(r"[<>=]=? ?[\d.]+$", rule["expr"].strip()), "an alert compares"


def test_panels_do_not_lie_on_each_other() -> None:
    board = json.loads(BOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not taken & cells
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_monitoring_scrapes_the_cloud_of_compose_and_mounts_what_is_there() -> None:
    extra = yaml.safe_load((DOCKER / "monitoring.yaml").read_text())["services"]
    cloud = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["cloud"]
    (scrape,) = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())[
        "scrape_configs"
    ]
    assert scrape["job_name"] == "unimic"
    port = cloud["ports"][0].rpartition(":")[2]
    assert scrape["static_configs"] == [{"targets": [f"cloud:{port}"]}]
    for service in extra.values():
        assert service["profiles"] == ["monitoring"]
        for volume in service["volumes"]:
            assert (DOCKER / volume.split(":")[0]).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
