"""What the doctor finds in the tables of the queue: each finding is provoked, and gone when its cause is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import Database
from rows import add_job, add_worker

from shithubd_worker.database import schema
from shithubd_worker.doctor import server
from shithubd_worker.doctor.finding import Finding, Severity

HOURS = {"fleet": 1, "host": 24, "unit": 24, "worker": 24, "kind": 3}
PAGES = {"fleet": "FleetHoldTooLong", "kind": "KindPausedTooLong"}


def found(database: Database, check: str) -> list[Finding]:
    """The findings of one check, where everything could be checked."""
    with database.connect() as connection:
        told = server.examine(connection, "public", check, lambda _: connection)
    findings = [each for each in told if isinstance(each, Finding)]
    assert findings == told
    return findings


def living(database, **columns):
    return add_worker(database, **{"schema_version": schema.newest_version(), **columns})


@pytest.mark.parametrize("scope", HOURS)
def test_a_hold_is_forgotten_after_the_time_of_its_alert(database, scope):
    target = "" if scope == "fleet" else "x"
    hold = database.value("INSERT INTO holds (scope, target, actor) VALUES (%s, %s, 'ada') RETURNING id", scope, target)
    age = "UPDATE holds SET created = now() - %s WHERE id = %s"
    database.query(age, timedelta(hours=HOURS[scope], minutes=-1), hold)
    assert found(database, "forgotten-hold") == []
    database.query(age, timedelta(hours=HOURS[scope], minutes=1), hold)
    [finding] = found(database, "forgotten-hold")
    assert (finding.page, finding.evidence["actor"]) == (PAGES.get(scope, "HoldTooLong"), "ada")
    database.query("UPDATE holds SET until = now() + interval '1 day'")
    assert bool(found(database, "forgotten-hold")) == (scope == "kind")  # as its alert: an end excuses only a drain


def test_a_ramp_in_steps_is_not_forgotten_and_one_that_stopped_is_critical(any_database):
    any_database.query(
        "INSERT INTO holds (scope, target, actor, created) VALUES ('kind', 'k', 'ada', now() - interval '9 h')"
    )
    any_database.query(
        "INSERT INTO ramps (hold_id, kind, steps, every, stop_at, began, passed_at)"
        " SELECT id, 'k', '{10,100}', 86400, 0.5, now() - interval '8 h', now() - interval '8 h' FROM holds"
    )
    assert found(any_database, "forgotten-hold") + found(any_database, "ramp-stopped") == []
    any_database.query("UPDATE ramps SET stopped_at = now(), stopped = '7 of 9 runs failed'")
    [stopped] = found(any_database, "ramp-stopped")
    assert (stopped.severity, stopped.page) == (Severity.CRITICAL, "KindRampStopped")
    assert stopped.said.endswith("7 of 9 runs failed")


def test_the_history_must_have_its_days_and_lose_old_ones(any_database):
    assert found(any_database, "history-days") == []
    day = "(now() AT TIME ZONE 'UTC')::date + {}"
    name = "'job_history_7d_' || to_char(" + day + ", 'YYYYMMDD')"
    drop = "DO $$ BEGIN EXECUTE 'DROP TABLE ' || " + name + "; END $$"
    any_database.query(drop.format(2))
    [warning] = found(any_database, "history-days")
    assert (warning.severity, warning.evidence) == (Severity.WARNING, {"days_ready": 1})
    any_database.query(drop.format(1))
    [critical] = found(any_database, "history-days")
    assert (critical.severity, critical.evidence) == (Severity.CRITICAL, {"days_ready": 0})
    any_database.query("SELECT ensure_history_v1()")
    any_database.query(
        "DO $$ BEGIN EXECUTE format('CREATE TABLE %I PARTITION OF job_history_7d FOR VALUES FROM (%L) TO (%L)', "
        + f"{name.format(-10)}, {day.format(-10)}, {day.format(-9)}); END $$"
    )
    any_database.query(
        "DO $$ BEGIN EXECUTE 'ALTER TABLE ' || " + name.format(-10) + " || ' OWNER TO shithub_owner'; END $$"
    )
    [late] = found(any_database, "history-days")
    assert (late.severity, late.page, late.evidence["days"]) == (Severity.WARNING, "HistoryRunsOut", 1)


def test_silent_workers_with_jobs_are_told_for_each_host(any_database):
    living(any_database, host="web1", pid=1)
    one, other = (add_worker(any_database, host=host, pid=2, silent=True) for host in ("web1", "web2"))
    assert found(any_database, "silent-workers") == []
    for worker in (one, other, other):
        add_job(any_database, state="processing", worker=worker)
    assert [
        (each.evidence["host"], each.evidence["leases"], each.page) for each in found(any_database, "silent-workers")
    ] == [
        ("web2", 2, "dead-host"),
        ("web1", 1, "sweep"),
    ]


def test_expired_leases_and_unhandled_kinds_are_found(any_database):
    living(any_database, kinds=["known"])
    add_job(any_database, "known")
    assert found(any_database, "expired-leases") + found(any_database, "unhandled-kinds") == []
    job = add_job(any_database, "known", "processing")
    any_database.query("UPDATE jobs SET lease_expires_at = now() - interval '3 min' WHERE id = %s", job)
    [expired] = found(any_database, "expired-leases")
    assert (expired.evidence, expired.page) == ({"jobs": 1, "kinds": ["known"]}, "ExpiredLeases")
    for kind in ("b", "a", "paused"):
        add_job(any_database, kind)
    any_database.query("INSERT INTO holds (scope, target, actor) VALUES ('kind', 'paused', 'x')")
    [unhandled] = found(any_database, "unhandled-kinds")
    assert unhandled.evidence == {"kinds": ["a", "b"]}
    any_database.query("DELETE FROM workers")
    assert found(any_database, "unhandled-kinds") == []
    [nobody] = found(any_database, "no-worker")
    assert nobody.severity is Severity.CRITICAL
    any_database.query("INSERT INTO holds (scope, target, actor) VALUES ('fleet', '', 'x')")
    assert found(any_database, "no-worker") == []


def test_no_time_in_a_table_breaks_a_check(any_database):
    worker = living(any_database)
    job = add_job(any_database, state="processing", worker=worker)
    add_job(any_database, "other")
    any_database.query("INSERT INTO holds (scope, target, actor) VALUES ('fleet', '', 'x'), ('kind', 'k', 'x')")
    any_database.query(
        "INSERT INTO ramps (hold_id, kind, canary, stop_at) SELECT id, 'k', 1, 1 FROM holds WHERE scope = 'kind'"
    )
    # These look at no row of a table, or depend on the server.
    checks = {*server.checks()} - {"missing-rights", "function-drift", "durability", "disk", "old-transaction"}
    for time in ("infinity", "-infinity", "0044-03-15 BC", "294000-01-01", "0001-01-01"):
        any_database.query("UPDATE beats SET beat_at = %s", time)
        any_database.query(
            "UPDATE jobs SET lease_expires_at = %s, leased_at = %s, run_at = %s WHERE id = %s", time, time, time, job
        )
        any_database.query("UPDATE holds SET created = %s", time)
        if "infinity" not in time:
            any_database.query("UPDATE ramps SET began = %s, stopped_at = %s, stopped = 'x'", time, time)
        for check in checks:
            found(any_database, check)
