"""Alarms, dashboard and runbook, held against what /metrics really tells: every name, every label, every alarm's section."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service import duties, steps, workers
from service.bootstrap import Factory
from service.steps import Progress
from service.workers import SignOfLife
from tests import factories
from tests.clients import api_client

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "label-factory.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0][
    "rules"
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{f"{panel['title']}: {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
}
FROM_PROMETHEUS = {"up": {"job", "instance"}}
FROM_SCRAPE = {"job", "instance"}


@pytest.fixture
def told(factory: Factory) -> dict[str, set[str]]:
    """Sample name -> its labels, of a factory in which everything has happened once."""
    with factory.work() as work:
        workers.beat(work, SignOfLife("host:1", "host", ["gpu"], "cpu", 1, 2, 3))
        for name in (duties.COLLECT, duties.BACKUP):
            duties.note_done(work, name)
    factories.run_to_end(factory, factories.make_job(factory).id)
    factories.make_job(factory)
    step = factories.must_claim(factory)
    with factory.work() as work:
        steps.heartbeat(work, step.id, step.token, progress=Progress(1, 2, "images", rate=1.0))
    found: dict[str, set[str]] = defaultdict(set)
    with api_client(factory, raise_server_exceptions=True) as client:
        client.get("/v1/jobs")
        for family in text_string_to_metric_families(client.get("/metrics").text):
            for sample in family.samples:
                found[sample.name] |= set(sample.labels)
    return {**found, **FROM_PROMETHEUS}


def selectors(expression: Any) -> Iterator[Any]:
    """Every metric that an expression asks for."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    elif isinstance(expression, promql_parser.MatrixSelector):
        yield expression.vector_selector
    elif isinstance(expression, promql_parser.BinaryExpr):
        yield from selectors(expression.lhs)
        yield from selectors(expression.rhs)
    elif isinstance(expression, promql_parser.Call):
        for argument in expression.args:
            yield from selectors(argument)
    elif isinstance(expression, promql_parser.AggregateExpr | promql_parser.ParenExpr):
        yield from selectors(expression.expr)
    else:
        assert isinstance(expression, promql_parser.NumberLiteral | promql_parser.StringLiteral), type(expression)


def groupings(query: str) -> set[str]:
    """Labels after `by` and `on`."""
    lists = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
    return {label.strip() for found in lists for label in found.split(",") if label.strip()}


def test_every_query_asks_for_what_is_told(told: dict[str, set[str]]) -> None:
    for place, query in QUERIES.items():
        known: set[str] = set(FROM_SCRAPE)
        for selector in selectors(promql_parser.parse(query)):
            assert selector.name in told, (place, selector.name)
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= told[selector.name] | FROM_SCRAPE, (place, selector.name, labels)
            known |= told[selector.name]
        assert groupings(query) <= known, place


def test_instances_of_one_factory_are_never_added_up(told: dict[str, set[str]]) -> None:
    """Each API process tells the same factory: what is not within max or min counts it once per process."""
    for place, query in QUERIES.items():
        for name in re.findall(r"label_factory_\w+", query):
            wrapped = re.search(rf"(max|min)( by \([^)]*\))? ?\((rate|increase|delta)?\(?{name}|absent\({name}", query)
            assert wrapped, (place, name)


def test_the_runbook_has_a_section_for_every_alarm_and_no_other() -> None:
    alarms = RUNBOOK.partition("## Alarms")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", alarms, re.MULTILINE) == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in groupings(rule["expr"]), rule["alert"]


def test_the_runbook_tells_every_metric_and_no_other(told: dict[str, set[str]]) -> None:
    suffixes = re.compile(r"_(bucket|sum|count)$")
    ours = {suffixes.sub("", name) for name in told if name.startswith(("label_factory_", "http_"))}
    ours = {name for name in ours if not name.endswith("_created") and f"{name}_total" not in ours}
    table = RUNBOOK.partition("## Metrics")[2].partition("\n## ")[0]
    assert set(re.findall(r"`((?:label_factory|http)_\w+)`", table)) == ours
    for line in re.findall(r"^\| `.*$", table, re.MULTILINE):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        names = re.findall(r"`((?:label_factory|http)_\w+)`", cells[0])
        samples = [name for name in told for known in names if name in (known, f"{known}_bucket")]
        labels = set().union(*(told[name] for name in samples)) - {"le"}
        assert set(cells[1].split(", ")) - {""} == labels, names


def test_links_of_the_runbook_lead_somewhere() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^##+ (.+)$", RUNBOOK, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOK):
        path, _, anchor = target.partition("#")
        assert (ROOT / "docs" / path).exists() if path else anchor in headings, target


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["uid"] == "label-factory"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in PANELS:
        assert panel["datasource"]["uid"].strip("${}") in variables
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    cells = [(panel["gridPos"]["y"] + y, panel["gridPos"]["x"] + x) for panel in PANELS for x, y in area(panel)]
    assert len(cells) == len(set(cells)), "panels lie on each other"


def area(panel: dict[str, Any]) -> Iterator[tuple[int, int]]:
    for x in range(panel["gridPos"]["w"]):
        for y in range(panel["gridPos"]["h"]):
            yield x, y


def test_compose_gives_prometheus_and_grafana_what_they_read() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert scrape["job_name"] == "label-factory", "the alarms ask for this job"
    (key,) = services["prometheus"]["configs"]
    assert scrape["authorization"]["credentials_file"] == key["target"]
    assert compose["configs"][key["source"]]["content"].startswith("${METRICS_KEY")
    host, port = scrape["static_configs"][0]["targets"][0].split(":")
    assert port in services[host]["command"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in services["prometheus"]["volumes"]}
    assert config["rule_files"] == ["/etc/prometheus/alerts.yml"]
    assert (ROOT / mounted["/etc/prometheus"] / "alerts.yml").exists()
    grafana = services["grafana"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in grafana["volumes"]}
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert json.loads((ROOT / mounted[home]).read_text()) == DASHBOARD
    provisioning = ROOT / mounted["/etc/grafana/provisioning"]
    provider = yaml.safe_load((provisioning / "dashboards" / "label-factory.yml").read_text())["providers"][0]
    assert home.startswith(provider["options"]["path"])
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
