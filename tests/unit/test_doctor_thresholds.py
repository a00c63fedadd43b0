"""The doctor's limits agree with what they rest on, and its queries use them all."""

from __future__ import annotations

import re

from shithubd_worker.doctor.limits import LIMITS, filled
from shithubd_worker.host import shipped

QUERIES = sorted((shipped.SQL / "doctor").glob("*.sql"))
# psql's variables: not a cast (::text), and not a time (12:00).
NAMED = re.compile(r"(?<![:\w]):([a-z]\w+)")


def without_comments(text):
    return re.sub(r"--[^\n]*", "", text)


def test_each_limit_is_used_and_each_name_is_a_limit():
    named = {name for path in QUERIES for name in NAMED.findall(without_comments(path.read_text()))}
    assert named == set(LIMITS)


def test_a_limit_replaces_its_name_alone():
    assert filled("x::many < :many AND y >= :many_more", {"many": 1, "many_more": 0.5}) == "x::many < 1 AND y >= 0.5"


def test_dead_rows_are_many_when_the_alert_says_so():
    rules = (shipped.RUNBOOKS / "alerts.rules.yml").read_text()
    rule = rules[rules.index("alert: XminHeldBack") :][:200]
    assert f"> {LIMITS['many_dead_rows']:.0e}".replace("+0", "") in rule
    assert f"for: {LIMITS['unvacuumed_seconds'] / 60:.0f}m" in rule


def test_notifications_are_a_finding_as_soon_as_workers_are_not_woken():
    wakes = (shipped.SQL / "functions" / "wake" / "wakes_come_v1.sql").read_text()
    assert f"pg_notification_queue_usage() < {LIMITS['notify_part']}" in wakes


def test_the_worse_limit_is_the_larger_one():
    pairs = (
        ("many_dead_rows", "too_many_dead_rows"),
        ("much_wal_bytes", "too_much_wal_bytes"),
        ("notify_part", "notify_full_part"),
        ("used_part", "used_up_part"),
        ("unfrozen", "too_unfrozen"),
    )
    assert [pair for pair in pairs if LIMITS[pair[0]] >= LIMITS[pair[1]]] == []


def test_each_query_says_what_it_looks_for():
    assert [path.name for path in QUERIES if not re.match(r"-- [A-Z][^\n]{15}", path.read_text())] == []
