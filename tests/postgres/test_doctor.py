"""doctor as an operator sees it: on a healthy queue, on none, on a damaged one, for each role, behind a pooler."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import nursery
import psycopg
import pytest
from commands import Command
from conftest import PATIENCE, Database
from rows import add_job, add_worker

from shithubd_worker.database import schema
from shithubd_worker.doctor import clock, examination, query, server
from shithubd_worker.doctor.finding import PAGES, Severity
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_DATABASE, EXIT_OK, EXIT_USAGE

# Its checks do not depend on which server the tests have.
OURS = (
    *("schema-version", "schema-parts", "function-drift", "missing-rights", "clock-skew", "forgotten-hold"),
    *("ramp-stopped", "history-days", "no-worker", "silent-workers", "expired-leases", "unhandled-kinds"),
    "mixed-releases",
)
HOUR = timedelta(hours=1)


@pytest.fixture(name="doctor")
def examined(database):
    """Run checks of a database. Returns what --json prints, and holds that the exit code fits."""

    def run(*names, on=database):
        done = nursery.run(["doctor", *(names or OURS), "--json"], env=on.environment(), cwd="/", timeout=PATIENCE)
        told = json.loads(done.stdout)
        bad = any(each["severity"] != "notice" for each in told["findings"])
        assert (done.returncode, done.stderr) == (EXIT_CHECK_SAYS_NO if bad else EXIT_OK, "")
        return told

    return run


def add_living(database: Database, **columns):
    """A worker of this release that lives."""
    return add_worker(database, **{"schema_version": schema.newest_version(), **columns})


def names(told):
    return [each["name"] for each in told["findings"]]


def found(told):
    """The one finding, without its times."""
    [finding] = told["findings"]
    return finding


def test_a_healthy_queue_has_no_finding_and_everything_is_checked(any_database, doctor):
    add_living(any_database)
    told = doctor(on=any_database)
    assert (told["findings"], told["unchecked"], told["checks"]) == ([], [], len(OURS))
    assert datetime.fromisoformat(told["at"]).utcoffset() == timedelta(0)


def test_a_finding_is_shown_with_its_evidence_its_time_and_its_page(database):
    command = Command(database)
    add_living(database, kinds=["known"])
    database.query(
        "INSERT INTO holds (scope, target, actor, reason, created) VALUES ('fleet', '', 'ada', 'disk', now() - %s)",
        2 * HOUR,
    )
    add_job(database, "unknown")
    said = command("doctor", "unhandled-kinds", "forgotten-hold", "no-worker", code=EXIT_CHECK_SAYS_NO).stdout
    lines = said.splitlines()
    assert lines[0] == "warning: the whole fleet is drained since 2 h ago"
    assert {"  actor: ada", "  reason: disk", "  what to do: shithubd-worker runbook FleetHoldTooLong"} <= {*lines}
    assert any(line.startswith("  since: 20") and line.endswith(" UTC, 2 h ago") for line in lines)
    assert "  kinds: unknown" in lines
    assert lines[-1] == "3 checks: 2 findings"


def test_the_worst_comes_first_and_a_notice_is_no_reason_for_a_bad_exit_code(database, doctor):
    for version in ("1.0", "2.0"):
        add_living(database, pid=int(float(version)), version=version)
    told = doctor("mixed-releases")
    assert [(each["name"], each["severity"]) for each in told["findings"]] == [("mixed-releases", "notice")]
    database.query("DELETE FROM workers")
    add_job(database)
    add_job(database, state="processing", worker=add_living(database, silent=True))
    assert names(doctor("silent-workers", "no-worker")) == ["no-worker", "silent-workers"]


def test_an_unknown_check_is_refused_in_one_line(database):
    assert "did you mean bloat?" in Command(database).refused("doctor", "bloot", code=EXIT_USAGE)


@pytest.mark.parametrize(
    ("damage", "severity", "says"),
    [
        ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "critical", "run `shithubd-worker migrate`"),
        ("UPDATE worker_schema SET version = version + 1", "critical", "install the newer release"),
        ("UPDATE worker_schema SET version = version - 1", "critical", "run `shithubd-worker migrate`"),
        ("DROP TABLE beats CASCADE", "critical", "half-migrated"),
        ("DELETE FROM worker_schema", "critical", "half-migrated"),
    ],
)
def test_a_schema_that_commands_refuse_is_a_finding_and_the_other_checks_go_on(
    database, doctor, damage, severity, says
):
    database.query(damage)
    told = doctor()
    [finding] = [each for each in told["findings"] if each["name"] == "schema-version"]
    assert (finding["severity"], finding["page"]) == (severity, "schema-drift")
    assert says in finding["said"]
    unchecked = {each["name"] for each in told["unchecked"]}
    assert {"function-drift", "schema-parts"} <= unchecked
    assert not unchecked & {"clock-skew", "schema-version"}


def test_missing_changed_and_foreign_functions_are_told_apart(any_database, doctor):
    for statement in (
        "DROP FUNCTION ensure_history_v1",
        "CREATE OR REPLACE FUNCTION schema_key_v1() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION readable_v1 RESET search_path",
        "ALTER FUNCTION change_jobs_v1 SECURITY INVOKER",
        "CREATE FUNCTION lives_v1(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ):
        any_database.query(statement)
    told = doctor("function-drift", on=any_database)
    assert [(each["severity"], each["evidence"]) for each in told["findings"]] == [
        ("critical", {"missing": ["ensure_history_v1"]}),
        ("warning", {"changed": ["change_jobs_v1", "readable_v1", "schema_key_v1"]}),
        ("warning", {"others": ["function lives_v1(text)"]}),
    ]


def test_the_functions_of_another_release_are_a_notice(database, doctor):
    database.query("UPDATE worker_schema SET functions = 'another'")
    database.query("CREATE OR REPLACE FUNCTION schema_key_v1() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    finding = found(doctor("function-drift"))
    assert (finding["severity"], finding["evidence"]) == ("notice", {"different": 1})


def test_lost_indexes_constraints_and_triggers_are_found(any_database, doctor):
    any_database.query("DROP INDEX jobs_queue")
    any_database.query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jobs_leases'::regclass")
    any_database.query("ALTER TABLE jobs DROP CONSTRAINT jobs_state_is_known, DISABLE TRIGGER jobs_enqueued")
    told = doctor("schema-parts", on=any_database)
    assert [each["evidence"] for each in told["findings"]] == [
        {"indexes": ["jobs_leases", "jobs_queue"]},
        {"constraints": ["jobs_state_is_known"]},
        {"triggers": ["jobs_enqueued"]},
    ]


def test_what_roles_lack_and_what_they_have_too_much_is_found(any_database, doctor):
    any_database.query(
        "REVOKE DELETE ON jobs FROM shithub_worker; REVOKE SELECT (id) ON jobs FROM shithub_enqueue;"
        " REVOKE EXECUTE ON FUNCTION status_v1 FROM shithub_metrics; REVOKE USAGE ON SCHEMA public FROM PUBLIC;"
        " GRANT SELECT (payload) ON jobs TO shithub_metrics; GRANT UPDATE ON beats TO PUBLIC;"
        " GRANT CREATE ON SCHEMA public TO shithub_enqueue; GRANT EXECUTE ON FUNCTION idle_kinds_v1 TO PUBLIC"
    )
    told = doctor("missing-rights", on=any_database)
    assert [(each["severity"], each["said"].split(" lacks")[0], each["evidence"]) for each in told["findings"]] == [
        ("critical", "role shithub_worker", {"lacks": ["DELETE on jobs"]}),
        ("warning", "role shithub_enqueue", {"lacks": ["SELECT on jobs (id)"]}),
        ("warning", "role shithub_metrics", {"lacks": ["EXECUTE on status_v1"]}),
        (
            "warning",
            "the queue's roles, or PUBLIC, have 4 right(s) that they should not have",
            {
                "too_much": [
                    "CREATE on SCHEMA public to shithub_enqueue",
                    "EXECUTE on FUNCTION public.idle_kinds_v1() to PUBLIC",
                    "SELECT (payload) on TABLE public.jobs to shithub_metrics",
                    "UPDATE on TABLE public.beats to PUBLIC",
                ]
            },
        ),
    ]


def test_a_login_that_a_worker_uses_and_that_lacks_a_right_is_critical(database, login, doctor):
    url = login("shithub_metrics")
    with psycopg.connect(url, application_name="shithubd-worker") as connection:
        finding = found(doctor("missing-rights"))
        assert connection.info.user in finding["said"]
    assert finding["severity"] == "critical"
    assert "EXECUTE on lease_v1" in finding["evidence"]["lacks"]


def test_each_role_gets_what_it_may_see_and_is_told_what_it_lacks(database, login):
    add_living(database)
    for role in ("shithub_migrate", "shithub_worker", "shithub_enqueue", "shithub_operator", "shithub_metrics", ""):
        told = Command(database).json("doctor", *OURS, "--database-url", login(role))
        assert told["findings"] == [], role
        enough = role in ("shithub_operator", "shithub_metrics", "shithub_worker")
        assert (told["unchecked"] == []) == enough, (role, told["unchecked"])
        assert all("GRANT shithub_metrics TO " in each["why"] for each in told["unchecked"]), told["unchecked"]


def test_a_lock_or_a_slow_check_hides_no_other_check(database, doctor):
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE holds IN ACCESS EXCLUSIVE MODE")
        told = doctor()
    assert {each["name"] for each in told["unchecked"]} == {
        "forgotten-hold",
        "no-worker",
        "ramp-stopped",
        "unhandled-kinds",
    }
    assert all("somebody holds a lock on the queue" in each["why"] for each in told["unchecked"])


def test_no_function_of_a_stranger_runs_with_the_askers_rights(database):
    """PostgreSQL prefers a function with better fitting arguments to its own."""
    database.query(
        "CREATE FUNCTION format(text, name, bigint) RETURNS text LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'with the rights of %', current_user; END $$"
    )
    with pytest.raises(psycopg.errors.RaiseException):
        database.query("SELECT format('the table %%s has %%s dead rows', relname, 1::bigint) FROM pg_class")
    limits = ("--limit", "many_dead_rows=0", "--limit", "unvacuumed_seconds=0")
    told = Command(database).json("doctor", "bloat", *limits, code=EXIT_CHECK_SAYS_NO)
    assert "the table jobs has 0 dead rows that no vacuum has removed" in {each["said"] for each in told["findings"]}
    assert told["unchecked"] == []


def test_without_a_database_the_host_is_still_examined_and_the_code_is_75(database):
    url = "postgresql://nobody@127.0.0.1:1/none"
    done = Command(database)("doctor", "--json", "--database-url", url, code=EXIT_DATABASE)
    told = json.loads(done.stdout)
    assert {each["name"] for each in told["unchecked"]} == {*examination.every()} - {*examination.OF_HOST}
    assert len(done.stderr.splitlines()) == 1
    assert "can't be reached" in done.stderr
    assert Command(database)("doctor", "unit-drift", "--database-url", url).stdout == "1 check: 0 findings\n"


def test_it_works_through_a_pooler_with_one_session(any_database, pooler):
    add_living(any_database)
    behind = pooler(any_database)
    assert Command(behind).json("doctor", *OURS)["unchecked"] == []


def test_it_changes_nothing_and_may_not(database):
    with database.connect() as connection, query.looking(connection), pytest.raises(Exception, match="read-only"):
        connection.execute("UPDATE public.holds SET actor = 'x'")


@pytest.mark.parametrize(("seconds", "severity"), [(3600, "warning"), (-3600, "warning"), (5, "notice"), (0.2, None)])
def test_the_clock_of_this_host_is_compared_with_the_databases(database, monkeypatch, seconds, severity):
    exact = clock.time.time
    monkeypatch.setattr(clock, "time", type("Clock", (), {"time": staticmethod(lambda: exact() + seconds)}))
    with database.connect() as connection:
        told = server.examine(connection, "public", "clock-skew", lambda _: connection)
    assert [each.severity for each in told] == ([Severity(severity)] if severity else [])
    for each in told:
        assert abs(each.evidence["seconds"] - seconds) < 1
        assert ("ahead of" if seconds > 0 else "behind") in each.said


def test_each_check_has_its_page():
    assert examination.every() == [*PAGES]
