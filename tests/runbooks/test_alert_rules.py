"""The alerts compared with their own tests, their pages, and what a worker really exports. Needs no server."""

from __future__ import annotations

import re
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from metrics_facts import OLDEST_HOLDS, RAMPS
from page import RUNBOOKS, Page
from promql import metrics_of, selections_of
from promtool import promtool

from shithubd_worker.telemetry.gauges import QueueCollector
from shithubd_worker.telemetry.metrics import Metrics

RULES = RUNBOOKS / "alerts.rules.yml"
TESTS = RUNBOOKS / "alerts.test.yml"
PAGES = {path.stem: path for path in sorted((RUNBOOKS / "alerts").glob("*.md"))}
HEADINGS = [
    "What it means",
    "Is it real?",
    "Stop the damage",
    "Find the cause",
    "Mend it",
    "Is it over?",
    "Undo",
    "The rule",
]

# The two files have one plain shape, so that no library is needed to read them. promtool counts the rules, too, so a
# test fails if a rule has another shape.
_RULE = re.compile(
    r"(?P<comment>(?:^ {6}#.*\n)*)"
    r"^ {6}- alert: (?P<name>\w+)\n"
    r"^ {8}expr: \|\n(?P<expr>(?:^ {10}.*\n)+)"
    r"^ {8}for: (?P<wait>\w+)\n"
    r"^ {8}labels:\n^ {10}severity: (?P<severity>\w+)\n"
    r"^ {8}annotations:\n(?P<annotations>(?:^ {10}\w+: .*\n)+)",
    re.MULTILINE,
)
_CASE = re.compile(r'^  - name: "(?P<name>.*)"\n(?P<rest>(?:^(?!  - ).*\n)*)', re.MULTILINE)
_LOOK = re.compile(
    r"eval_time: (?P<minute>\d+)m\n +alertname: (?P<alert>\w+)\n +exp_alerts:(?P<silent> \[\])?$", re.MULTILINE
)

# The labels that Prometheus adds to each sample.
THEIRS = {"job", "instance"}

# No worker can export this: node_exporter's sample of a failed unit. One rule needs it.
# tests/systemd/test_units_config.py compares it with a real one.
OF_OTHERS = {
    "WorkerUnitFailed": {"node_systemd_unit_state": [{"name": "shithubd-worker.service", "state": "failed"}]},
}

# What queue_gauges_v1 answers, for one kind that has everything.
ANSWER: dict[str, Any] = {
    "age": 1.0,
    "counted_at": time.time(),
    "kinds": [
        {
            "kind": "search.reindex",
            **dict.fromkeys(("queued", "processing", "paused", "failed", "runnable", "held", "expired", "workers"), 1),
            "oldest_seconds": 1.0,
            "capped": [],
            "kinds": 1,
        }
    ],
    "paused": {"search.reindex": time.time()},
    "paused_more": 0,
    "holds": {"fleet": 1},
    "oldest_holds": OLDEST_HOLDS,
    "ramps": RAMPS,
    "workers": {"idle": 1},
    "history_days": 14,
    "schema": 2,
    "dead_rows": 1,
    "returned": [],
}


@dataclass(frozen=True)
class Rule:
    """One alert of the rules."""

    name: str
    comment: str
    expr: str
    wait: str
    severity: str
    annotations: dict[str, str]


@dataclass(frozen=True)
class Case:
    """One case of the rules' tests: its name, and for each alert whether it fires, in the order of time."""

    name: str
    fires: dict[str, list[bool]]


def read_rules() -> dict[str, Rule]:
    found = {}
    for match in _RULE.finditer(RULES.read_text()):
        annotations = dict(line.strip().split(": ", 1) for line in match["annotations"].splitlines())
        annotations = {name: text.strip('"') for name, text in annotations.items()}
        expr = textwrap.dedent(match["expr"]).strip()
        found[match["name"]] = Rule(
            match["name"], match["comment"], expr, match["wait"], match["severity"], annotations
        )
    return found


def read_cases() -> list[Case]:
    found = []
    for match in _CASE.finditer(TESTS.read_text()):
        fires: dict[str, list[bool]] = {}
        minutes = []
        for look in _LOOK.finditer(match["rest"]):
            minutes.append(int(look["minute"]))
            fires.setdefault(look["alert"], []).append(look["silent"] is None)
        assert minutes == sorted(minutes), f"{match['name']}: not in the order of time"
        found.append(Case(match["name"], fires))
    return found


ALERTS = read_rules()
CASES = read_cases()
every_alert = pytest.mark.parametrize("rule", ALERTS.values(), ids=list(ALERTS))


def cases_of(rule: Rule) -> list[Case]:
    return [case for case in CASES if rule.name in case.fires]


def test_promtool_finds_no_fault_in_the_rules() -> None:
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert code == 0, said
    assert f"SUCCESS: {len(ALERTS)} rules found" in said  # so none has escaped the tests below


def test_the_page_of_metrics_adds_an_objective_that_the_rules_read(tmp_path: Path) -> None:
    page = (RUNBOOKS.parent / "docs/metrics.md").read_text()
    [text] = re.findall(r"^```yaml\n(groups:.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "objectives.yml").write_text(text)
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "objectives.yml")
    assert code == 0, said
    [record] = re.findall(r"record: (\w+)", text)
    assert record in ALERTS["QueueOldestAgeHigh"].expr


def apart(directory: Path, rules: str) -> list[Path]:
    """The cases of each alert, in a file of their own with its rule alone. promtool evaluates all rules of a file in
    each minute of each case, so the whole takes seven times as long."""
    found = []
    for rule in _RULE.finditer(rules):
        name = rule["name"]
        (directory / f"{name}.rules.yml").write_text(f"groups:\n  - name: {name}\n    rules:\n{rule[0]}")
        cases = "".join(case[0] for case in _CASE.finditer(TESTS.read_text()) if case["name"].startswith(f"{name} "))
        text = f"rule_files: [{name}.rules.yml]\nevaluation_interval: 1m\ntests:\n{cases}"
        found.append(directory / f"{name}.test.yml")
        found[-1].write_text(text)
    return found


def test_the_rules_do_what_their_tests_say(tmp_path: Path) -> None:
    files = apart(tmp_path, RULES.read_text())
    code, said = promtool("test", "rules", *files)
    assert code == 0, said
    assert said.count("SUCCESS") == len(ALERTS)
    assert (
        sum(path.read_text().count("- name: ") for path in files) == TESTS.read_text().count("- name: ") == len(CASES)
    )


@pytest.mark.long
def test_the_rules_do_it_in_one_file_too() -> None:
    code, said = promtool("test", "rules", TESTS)
    assert code == 0, said


def test_their_tests_would_notice_alerts_that_fire_a_minute_later(tmp_path: Path) -> None:
    def later(match: re.Match[str]) -> str:
        return f"for: {int(match[1]) * (60 if match[2] == 'h' else 1) + 1}m\n"

    files = apart(tmp_path, re.sub(r"for: (\d+)([mh])\n", later, RULES.read_text()))
    code, said = promtool("test", "rules", *files)
    assert code == 1
    assert set(re.findall(r"alertname: (\w+), time:", said)) == set(ALERTS)


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert set(PAGES) == set(ALERTS)


@every_alert
def test_it_says_what_it_is_about_and_where_its_page_is(rule: Rule) -> None:
    assert rule.severity in ("page", "ticket")
    assert rule.comment, "a comment above it says why this expression, and why this threshold"
    assert set(rule.annotations) == {"summary", "description", "runbook", "runbook_url"}
    summary = rule.annotations["summary"]
    assert "$value" in summary
    assert summary.endswith(".")
    assert ". " not in summary, "one sentence"
    assert rule.annotations["description"].endswith(".")
    assert rule.annotations["runbook"] == f"shithubd-worker runbook {rule.name}"
    assert rule.annotations["runbook_url"].endswith(f"/runbooks/alerts/{rule.name}.md")


@every_alert
def test_it_is_tested_for_firing_for_not_firing_and_for_resolving(rule: Rule) -> None:
    looks = [case.fires[rule.name] for case in cases_of(rule)]
    assert any(True in fires for fires in looks), "fires"
    assert any(True not in fires for fires in looks), "doesn't fire: a near miss"
    assert any(True in fires and not fires[-1] for fires in looks), "fires, and resolves"
    assert all(case.name.startswith(f"{rule.name} ") for case in cases_of(rule))


def test_the_tests_name_no_alert_that_is_not_there() -> None:
    assert {name for case in CASES for name in case.fires} == set(ALERTS)


@every_alert
def test_a_drain_or_a_pause_wakes_nobody(rule: Rule) -> None:
    if rule.severity == "page":
        quiet = [case.name for case in cases_of(rule) if "doesn't fire" in case.name]
        assert any(word in name for name in quiet for word in ("drained", "paused")), quiet


@every_alert
def test_its_page_shows_its_expression(rule: Rule) -> None:
    assert [b.text for b in Page(PAGES[rule.name]).blocks if b.language == "promql"] == [rule.expr]


@pytest.mark.parametrize("path", PAGES.values(), ids=list(PAGES))
def test_every_page_has_the_same_sections_in_the_same_order(path: Path) -> None:
    title, _, users, first, wake, gap = path.read_text().splitlines()[:6]
    assert title == f"# {path.stem}"
    assert users.endswith(".")
    assert first.startswith("First: ")
    assert wake.startswith("Wake ")
    assert gap == ""
    assert re.findall(r"^## (.*)$", path.read_text(), re.MULTILINE) == HEADINGS
    cause = path.read_text().split("## Find the cause")[1].split("## Mend it")[0]
    assert len(re.findall(r"^- If ", cause, re.MULTILINE)) >= 2, "branches"


def test_the_readme_explains_the_sections_of_a_page() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert rows == ["section", "the first lines", *HEADINGS]


def samples() -> dict[str, list[dict[str, str]]]:
    """What a worker's endpoint shows: the labels of each of its samples, by name."""

    class Answered(QueueCollector):
        def _read(self) -> dict[str, Any]:
            return ANSWER

    def no_database() -> Any:
        raise AssertionError("nobody asks the database here")

    registry = Metrics(["search.reindex"], "web1:4711", {"search.reindex": 60.0}).registry
    registry.register(Answered(no_database, "public", ["search.reindex"]))
    found: dict[str, list[dict[str, str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.fixture(scope="module")
def exported() -> dict[str, list[dict[str, str]]]:
    return samples()


@every_alert
def test_a_worker_exports_every_metric_that_it_uses(rule: Rule, exported: dict[str, list[dict[str, str]]]) -> None:
    used = metrics_of(rule.expr)
    assert used
    assert used - set(exported) - set(OF_OTHERS.get(rule.name, {})) <= {"up"}


@every_alert
def test_a_worker_exports_every_label_that_it_selects(rule: Rule, exported: dict[str, list[dict[str, str]]]) -> None:
    shown = exported | OF_OTHERS.get(rule.name, {})
    for metric, label, value in selections_of(rule.expr):
        if label not in THEIRS:
            assert any(re.fullmatch(value, labels.get(label, "")) for labels in shown[metric]), (metric, label, value)
    known = {label for metric in metrics_of(rule.expr) - {"up"} for labels in shown[metric] for label in labels}
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", rule.expr))))
    assert grouped <= known | THEIRS


def test_a_metric_that_does_not_exist_is_found() -> None:
    expr = 'max by (kind) (no_such_metric{state="held"}) > 5 unless on (job) up{job="x"} == 0'
    assert metrics_of(expr) == {"no_such_metric", "up"}
