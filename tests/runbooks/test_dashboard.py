"""The dashboard and a real scrape: a real worker, a real Prometheus, and every query that Grafana would send."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import dashboard
import prometheus
import pytest
from conftest import Database, Door, WorkerProcess, eventually
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import timeseries
from page import RUNBOOKS
from prometheus import Prometheus
from promql import metrics_of, selections_of
from test_alert_rules import ALERTS

from shithubd_worker.host import cgroup

BOARD: dict[str, Any] = json.loads((RUNBOOKS / "dashboard.json").read_text())
GRAPHS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
HOLDS = [annotation["expr"] for annotation in BOARD["annotations"]["list"]]
# The values that Grafana uses for variables when the reader has chosen nothing.
CHOSEN = {"$instance": ".*", "$kind": ".*", "$__rate_interval": "5s"}

every_graph = pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph["title"])


def sent(expr: str) -> str:
    """An expression as Grafana sends it."""
    for variable, value in CHOSEN.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr
    return expr


def queries() -> Iterator[tuple[str, set[str]]]:
    """All queries: the expression, and the labels in the names of its series."""
    for graph in GRAPHS:
        for target in graph["targets"]:
            if "_unit_memory_" in target["expr"] and cgroup.memory() is None:
                continue  # in a container that hides its cgroup
            yield sent(target["expr"]), set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    yield from ((sent(expr), set()) for expr in HOLDS)


def test_it_is_what_its_script_writes() -> None:
    assert (RUNBOOKS / "dashboard.json").read_text() == dashboard.build(), "make dashboard"


def test_each_field_is_one_that_grafana_publishes() -> None:
    """The types of Grafana's SDK read the file, and write it again. A field that they don't know would be missing."""
    register_default_plugins()  # how a panel's options and queries are read
    read = models.Dashboard.from_json(BOARD)
    again = json.loads(JSONEncoder().encode(read))
    board = copy.deepcopy(BOARD)
    for annotation in board["annotations"]["list"]:
        assert annotation.pop("titleFormat")  # Grafana's code has it, but no published type
    assert again == board
    assert {type(panel.options) for panel in read.panels or () if panel.type_val != "row"} == {timeseries.Options}


def test_it_has_a_row_for_each_question() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Are users waiting?", "Why?", "Until when?"]
    assert BOARD["uid"] == "shithubd-worker"
    assert set(VARIABLES) == {"datasource", "instance", "kind"}


@every_graph
def test_a_graph_says_what_it_shows_and_in_which_unit(graph: dict[str, Any]) -> None:
    assert graph["description"].endswith(".")
    assert graph["fieldConfig"]["defaults"]["unit"] in {"s", "short", "ops", "percentunit", "bytes"}
    assert graph["datasource"]["uid"] == "$datasource"
    assert all(target["legendFormat"] for target in graph["targets"])


def test_every_graph_leads_to_the_pages_of_its_alerts_and_every_alert_has_its_graph() -> None:
    assert all(graph["links"] for graph in GRAPHS)
    linked = {link["title"]: link["url"] for graph in GRAPHS for link in graph["links"]}
    assert linked == {name: rule.annotations["runbook_url"] for name, rule in ALERTS.items()}
    assert all((RUNBOOKS / "alerts" / f"{alert}.md").is_file() for alert in linked)


def number(text: str) -> float:
    """The value of `600`, `3 * 3600` or `1024 ^ 3`."""
    left, operator, right = (*text.split(), "*", "1")[:3]
    return float(left) ** float(right) if operator == "^" else float(left) * float(right)


def need_prometheus() -> None:
    if why := prometheus.missing():
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)


@every_graph
def test_a_threshold_is_that_of_the_first_alert(graph: dict[str, Any]) -> None:
    if thresholds := graph["fieldConfig"]["defaults"].get("thresholds"):
        expr = ALERTS[graph["links"][0]["title"]].expr
        compared = {number(text) for text in re.findall(r"[<>=] ([\d.e]+(?: [*^] [\d.]+)?)", expr)}
        assert thresholds["steps"][1]["value"] in compared


def test_every_query_shows_what_happened(
    database: Database, start_worker: Callable[..., WorkerProcess], door: Door
) -> None:
    """Jobs have ended in each way; one runs, one is paused, and many have an unknown kind. Then no graph is empty."""
    need_prometheus()
    kinds = ("test.ok", "test.fails", "test.waits")
    worker = start_worker("--metrics", "127.0.0.1:0", *(word for kind in kinds for word in ("--kind", kind)))
    database.query("INSERT INTO jobs (kind) SELECT 'nobody.knows' FROM generate_series(1, 5000)")
    database.query("INSERT INTO jobs (kind, state) VALUES ('paused.kind', 'paused')")
    database.query("SELECT pause_kind_v1('paused.kind'), drain_v1('host', 'another')")
    database.query("SELECT ramp_kind_v1('ramped.kind', NULL, '{10,100}', 3600)")
    with Prometheus({"web1": worker.metrics_url.removeprefix("http://")}, "250ms") as server:
        eventually(lambda: server.query('up{instance="web1"} == 1'), "a scrape")  # what happens now makes rates
        database.query("INSERT INTO jobs (kind) VALUES ('test.ok'), ('test.fails')")
        database.query("""INSERT INTO jobs (kind, payload) VALUES ('test.fails', '{"how": "permanent"}')""")
        enqueue = "INSERT INTO jobs (kind, payload) VALUES ('test.waits', jsonb_build_object('door', %s::text))"
        database.query(enqueue, door.path)
        empty = dict(queries())

        def still_empty() -> dict[str, set[str]]:
            database.query("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE kind = 'nobody.knows' LIMIT 10)")
            # Each scrape must count again, not one in 10 s.
            database.query(
                "UPDATE queue_counts SET counted_at = counted_at - interval '15 s', claimed_at = '-infinity'"
            )
            for expr, labels in list(empty.items()):
                if found := server.query(expr):
                    assert all(labels <= set(series["metric"]) for series in found), expr
                    del empty[expr]
            return empty

        needs_an_idle_worker = next(expr for expr in empty if "unless" in expr)
        eventually(lambda: set(still_empty()) <= {needs_an_idle_worker}, f"data, all but {needs_an_idle_worker!r}")
        door.open()
        eventually(lambda: not still_empty(), "data in every graph")
        for expr, _ in queries():
            for metric in metrics_of(expr):
                assert server.query(metric), metric
            for metric, label, value in selections_of(expr):
                assert server.query(f'{metric}{{{label}!="", {label}=~"{value}"}}'), (metric, label, value)
        for variable in VARIABLES.values():
            for metric, label in re.findall(r"label_values\((\w+), (\w+)\)", variable["query"]):
                assert server.query(f'{metric}{{{label}!=""}}'), variable


def test_an_invalid_query_and_an_empty_answer_are_found() -> None:
    need_prometheus()
    with Prometheus({}, "1s") as server:
        with pytest.raises(ValueError, match="parse error"):
            server.query("max by (kind")
        assert server.query("no_such_metric") == []
