"""docs/doctor.md has each check with its runbook, each limit, and the thresholds of the code."""

from __future__ import annotations

import re

import doctor_facts
from made_pages import DOCTOR, ROOT, filled, without_words

from shithubd_worker.doctor import clock, units
from shithubd_worker.doctor.finding import Severity
from shithubd_worker.host import shipped

PAGE = DOCTOR.read_text()
ROWS = dict(re.findall(r"^\| `([a-z-]+)` \|.*\| (.+) \|$", PAGE, re.MULTILINE))


def test_the_page_has_each_check_and_each_limit():
    assert filled(PAGE, doctor_facts.MAKERS) == PAGE, "write it again with `make pages`"
    assert without_words(PAGE) == []


def test_each_check_says_how_bad_its_findings_are():
    for path in (shipped.SQL / "doctor").glob("*.sql"):
        said = {each for each in Severity if f"'{each}'" in path.read_text()}
        assert {each for each in Severity if each in ROWS[path.stem]} >= said, path.stem


def test_the_thresholds_of_the_page_are_those_of_the_code():
    assert f"{clock.NOTICE_SECONDS:.0f} s (notice) or {clock.WARNING_SECONDS:.0f} s (warning)" in ROWS["clock-skew"]
    assert f"TimeoutStopSec= below {units.STOP_SECONDS:.0f} s" in ROWS["unit-drift"]


def test_a_forgotten_hold_is_what_the_alerts_call_so():
    """One meaning: the hours of the three alerts are those of the query, for the same scopes."""
    rules = (ROOT / "runbooks/alerts.rules.yml").read_text()
    query = (shipped.SQL / "doctor/forgotten-hold.sql").read_text()
    hours = {
        name: int(re.search(rf"alert: {name}\n.*?> (\d+) \* 3600", rules, re.DOTALL)[1])  # type: ignore[index]
        for name in ("FleetHoldTooLong", "KindPausedTooLong", "HoldTooLong")
    }
    assert hours == {"FleetHoldTooLong": 1, "KindPausedTooLong": 3, "HoldTooLong": 24}
    assert [int(each) for each in re.findall(r"interval '(\d+) hours?'", query)] == [1, 3, 24]
    ready = re.search(r"alert: HistoryRunsOut\n.*?< (\d+) \* 86400", rules, re.DOTALL)
    assert ready is not None
    assert f"r.days < {ready[1]}" in (shipped.SQL / "doctor/history-days.sql").read_text()
