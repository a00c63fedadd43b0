"""docs/metrics.md says what the registry says; what it has of Prometheus' own, Prometheus takes."""

from __future__ import annotations

import re
from pathlib import Path

import metrics_facts
from made_pages import METRICS, ROOT, filled, without_words
from promtool import promtool

from shithubd_worker.model import WorkerState
from shithubd_worker.settings.config import Config
from shithubd_worker.telemetry.endpoint import MOST_CLIENTS, PORT_AGAIN_SECONDS, READY
from shithubd_worker.telemetry.gauges import MOST_STRANGERS
from shithubd_worker.timing import COUNTS_FRESH_SECONDS, COUNTS_STALE_SECONDS

PAGE = METRICS.read_text()
# What a figure of ours or of the process can count. The words of each row begin with one of these.
UNITS = (
    "Kinds",
    *(
        "Attempts",
        "Bytes",
        "Connections",
        "Descriptors",
        "Holds",
        "Jobs",
        "Lease queries",
        "Leases",
        "Lines",
        "Objects",
    ),
    *("Processes", "Renewals", "Rows", "Runs", "Seconds", "Settles", "Steps", "Wake-ups", "Workers"),
    *("0 or 1", "Always 1", "A version"),
)


def test_the_page_has_the_facts_of_the_registry():
    assert filled(PAGE, metrics_facts.MAKERS) == PAGE, "write it again with `make pages`"


def test_every_metric_has_its_words_and_one_row():
    assert without_words(PAGE) == []
    shown = re.findall(r"^\| `(\w+)(?:\{[^}]*\})?` \| (?:counter|gauge|histogram) \|", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(metrics_facts.metrics())


def test_the_words_of_every_metric_begin_with_its_unit():
    words = dict(
        re.findall(r"^\| `(\w+)(?:\{[^}]*\})?` \| (?:counter|gauge|histogram) \|.*\| (.+) \|$", PAGE, re.MULTILINE)
    )
    assert words.keys() == metrics_facts.metrics().keys()
    assert [name for name, said in words.items() if not re.match(rf"({'|'.join(UNITS)})\b", said)] == []
    for name, said in words.items():
        for end, unit in (("_seconds", "Seconds"), ("_seconds_total", "Seconds"), ("_bytes", "Bytes")):
            assert not name.endswith(end) or said.startswith(unit), name


def test_the_page_links_to_every_alert():
    listed = set(re.findall(r"\[(\w+)\]\(\.\./runbooks/alerts/\1\.md\)", PAGE))
    assert len(metrics_facts.alerts()) == metrics_facts.RULES.read_text().count("- alert:")
    assert listed == metrics_facts.alerts().keys()


def test_every_metric_of_ours_has_an_alert_or_a_query():
    metrics, _, queries = PAGE.partition("## Queries")
    alone = re.findall(r"^\| `(shithub\w+)(?:\{[^}]*\})?` \| \w+ \| [^|]* \|  \|", metrics, re.MULTILINE)
    assert len(alone) > 10
    assert [name for name in alone if name not in queries] == []


def test_readyz_is_as_the_page_has_it():
    ready, busy = re.findall(r"^\| `/readyz` \| .* \| (?:200|503) \|$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", ready)) == set(READY)
    assert set(re.findall(r"`(\w+)`", busy)) == set(WorkerState) - set(READY)
    assert (ready[-5:-2], busy[-5:-2]) == ("200", "503")


def test_the_figures_of_the_page_are_those_of_the_code():
    assert f"Prometheus on `{Config().metrics.host}:{Config().metrics.port}`" in PAGE
    assert f"the last one is {COUNTS_FRESH_SECONDS:g} s old" in PAGE
    assert f"older than {COUNTS_STALE_SECONDS:g} s is left out" in PAGE
    assert f"and of {MOST_STRANGERS} others" in PAGE
    assert f"at most {MOST_CLIENTS}\nconnections" in PAGE
    assert f"tries again every {PORT_AGAIN_SECONDS:g} s" in PAGE


def test_prometheus_takes_the_configuration_of_the_page(tmp_path: Path):
    config, _ = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "alerts.rules.yml").write_text((ROOT / "runbooks/alerts.rules.yml").read_text())
    code, said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert code == 0, said
    jobs = set(re.findall(r'job="([^"]*)"', metrics_facts.RULES.read_text()))
    assert re.findall(r"job_name: (.*)", config) == [*jobs]


def test_prometheus_takes_each_query_of_the_page(tmp_path: Path):
    queries = [query.replace("\\|", "|") for query in re.findall(r"\? \| `(.*)` \|$", PAGE, re.MULTILINE)]
    assert len(queries) == PAGE.partition("## Queries")[2].count("? |")
    rules = "".join(f"      - record: q:{n}\n        expr: '{query}'\n" for n, query in enumerate(queries))
    (tmp_path / "queries.yml").write_text(f"groups:\n  - name: queries\n    rules:\n{rules}")
    code, said = promtool("check", "rules", tmp_path / "queries.yml")
    assert code == 0, said
    named = {name for query in queries for name in re.findall(r"\bshithub\w+", query)}
    assert {re.sub("_bucket$", "", name) for name in named} <= metrics_facts.metrics().keys()
