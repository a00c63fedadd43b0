"""A plan binds what is done: it is done exactly, or refused with the names of what was changed since."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from conftest import dice
from rows import add_job

from shithubd_worker.admin import plans
from shithubd_worker.admin.change import Change
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations
from shithubd_worker.errors import Refused

PAST = datetime(2026, 1, 1, tzinfo=UTC)
ACTIONS = {
    "complete": "{}",
    "discard": "{}",
    "fail": '{"error": "no"}',
    "retry": "{}",
    "reschedule": '{"priority": 7, "run_at": "2030-01-01"}',
    "release": '{"accept_second_run": true}',
}
# What can happen to a job between the plan and its application. None of them leaves the job as it was.
TOUCHES = (
    "DELETE FROM jobs WHERE id = %s",
    "UPDATE jobs SET priority = priority + 1 WHERE id = %s",
    "UPDATE jobs SET payload = payload || '{\"n\": 2}' WHERE id = %s",
    "UPDATE jobs SET last_error = 'another' WHERE id = %s",
    "UPDATE jobs SET run_at = run_at + interval '1 us' WHERE id = %s",
    "UPDATE jobs SET attempts = attempts + 1 WHERE id = %s",
    "UPDATE jobs SET state = 'processing', leased_by = 'web9:9', leased_at = now() WHERE id = %s",
)
# What leaves a job as it was for people.
KEEPS = (
    "UPDATE jobs SET priority = priority WHERE id = %s",
    "UPDATE jobs SET payload = jsonb_build_object('n', 1.0) WHERE id = %s AND payload = '{\"n\": 1}'",
    "UPDATE jobs SET lease_expires_at = now() + interval '1 h' WHERE id = %s AND state = 'processing'",
)


@pytest.fixture
def sessions():
    """Sessions of operators, by the databases."""
    opened = []

    def start(database):
        opened.append(Operations(connector(database.url, "test"), "public"))
        return opened[-1]

    yield start
    for session in opened:
        session.close()


def plan(database, action, ids=None, arguments=None, selection=None, **more):
    """The name of a plan."""
    given = {"p_action": action, "p_ids": ids, "p_with": arguments or ACTIONS[action], "p_where": selection, **more}
    names = ", ".join(f"{name} => %s" for name in given)
    return database.value(f"SELECT plan FROM plan_jobs_v1({names})", *given.values())


def applied(database, name, *, partial=False, actor="bob"):
    return sorted(
        job
        for (job,) in database.query(
            "SELECT id FROM apply_plan_v1(%s, %s, p_actor => %s, p_reason => 'why not')", name, partial, actor
        )
    )


def refusal(database, name, **how):
    with pytest.raises(psycopg.errors.RaiseException) as raised:
        applied(database, name, **how)
    return raised.value.diag.message_primary


def changes(database, name):
    return dict(database.query("SELECT job_id, change FROM plan_changes_v1(%s)", name))


def texts(database):
    return dict(database.query("SELECT id, jobs::text FROM jobs"))


def in_chunks_of(database, name, size):
    """Divide a plan of few jobs, so that it is done in as many transactions as a plan of thousands."""
    database.query(
        "WITH old AS (DELETE FROM job_plan_chunks c USING job_plans p WHERE p.id = c.plan_id AND p.name = %s"
        " RETURNING c.plan_id, c.job_ids, c.faces),"
        " made AS (INSERT INTO job_plan_chunks (plan_id, number, job_ids, faces)"
        " SELECT plan_id, (n - 1) / %s + 1, array_agg(id ORDER BY n), array_agg(face ORDER BY n) FROM old,"
        " ROWS FROM (unnest(job_ids), unnest(faces)) WITH ORDINALITY w (id, face, n) GROUP BY 1, 2 RETURNING number)"
        " UPDATE job_plans SET chunks = (SELECT max(number) FROM made) WHERE name = %s",
        name,
        size,
        name,
    )


def random_jobs(database, random, action):
    states = (
        ("processing",) if action == "release" else ("failed",) if action == "retry" else ("queued", "paused", "failed")
    )
    return [
        add_job(
            database,
            state=random.choice(states),
            payload='{"n": 1}',
            priority=random.randint(-3, 3),
            last_error=random.choice((None, "boom")),
            run_at=PAST + timedelta(hours=random.randint(0, 9)),
        )
        for _ in range(random.randint(1, 9))
    ]


def test_a_plan_is_refused_exactly_if_a_job_changed_and_partial_changes_exactly_the_others(any_database):
    random = dice(14)
    for example in range(60):
        any_database.query("DELETE FROM jobs; DELETE FROM audit; DELETE FROM job_plans")
        action = random.choice(list(ACTIONS))
        ids = random_jobs(any_database, random, action)
        planned = sorted(random.sample(ids, random.randint(1, len(ids))))
        name = plan(any_database, action, planned)
        in_chunks_of(any_database, name, random.choice((1, 2, 100)))
        touched = set(random.sample(ids, random.choice((0, 0, 1, len(ids) // 2))))
        for job in ids:
            any_database.query(random.choice(TOUCHES if job in touched else KEEPS), job)
        before, gone = texts(any_database), touched & set(planned)
        assert changes(any_database, name).keys() == gone, (example, action)
        if gone:
            said = refusal(any_database, name)
            assert f"{len(gone)} of its {len(planned)} jobs" in said
            assert f"job {min(gone)}: " in said
            assert texts(any_database) == before
            assert any_database.query("SELECT FROM audit") == []
        done = applied(any_database, name, partial=bool(gone) or random.choice((True, False)))
        assert done == [job for job in planned if job not in gone], (example, action)
        after = texts(any_database)
        assert {job for job in before if after.get(job) != before[job]} == set(done), (example, action)
        assert changes(any_database, name).keys() == gone
        assert "is already applied: by bob" in refusal(any_database, name, partial=True)
        recorded = any_database.query("SELECT jobs, actor, detail - '{with,where}'::text[] FROM audit")
        of_plan = {"plan": name, "planned_by": "postgres", "planned_login": "postgres"}
        assert recorded == ([(len(done), "bob", of_plan)] if done else [])


def test_a_plan_names_what_became_of_each_job(any_database):
    jobs = [add_job(any_database) for _ in range(5)]
    name = plan(any_database, "reschedule", jobs)
    any_database.query("DELETE FROM jobs WHERE id = %s", jobs[0])
    any_database.query(TOUCHES[6], jobs[1])
    any_database.query("UPDATE jobs SET priority = 5, state = 'paused' WHERE id = %s", jobs[2])
    any_database.query(TOUCHES[2], jobs[3])
    assert changes(any_database, name) == {
        jobs[0]: "is gone",
        jobs[1]: "runs now on web9:9",
        jobs[2]: "state was queued, is paused; priority was 0, is 5",
        jobs[3]: "its payload is another",
    }


def test_a_release_that_was_planned_for_one_lease_never_ends_another(database):
    job = add_job(database, state="processing")
    name = plan(database, "release", [job])
    database.query("UPDATE jobs SET leased_by = 'web2:2', leased_at = now() WHERE id = %s", job)
    assert changes(database, name)[job].endswith("leased_by was web1:1, is web2:2")
    assert applied(database, name, partial=True) == []


def test_a_plan_says_which_ids_it_leaves_out_and_has_no_name_if_none_is_left(any_database):
    queued, running = add_job(any_database), add_job(any_database, state="processing")
    ask = "SELECT plan, jobs, refused FROM plan_jobs_v1('discard', p_ids => %s)"
    [(name, jobs, refused)] = any_database.query(ask, [queued, queued, running, 10**12, None])
    assert (jobs, refused) == (1, {str(running): "processing", str(10**12): "no such job"})
    assert applied(any_database, name) == [queued]
    assert any_database.query(ask, [running]) == [(None, 0, {str(running): "processing"})]
    assert any_database.value("SELECT count(*) FROM job_plans") == 1


def test_the_same_jobs_have_the_same_digest_and_a_mistyped_name_is_no_plan(database):
    job = add_job(database)
    first, second = plan(database, "discard", [job]), plan(database, "discard", [job])
    assert first.partition("-")[2] == second.partition("-")[2]
    database.query(TOUCHES[1], job)
    third = plan(database, "discard", [job])
    assert third.partition("-")[2] != second.partition("-")[2]
    mixed = f"{first.partition('-')[0]}-{third.partition('-')[2]}"
    for wrong in (mixed, "1", "", "1-%", "\x1b[2J", None):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="there is no plan"):
            applied(database, wrong)


def test_a_plan_that_expired_is_refused_but_one_that_has_begun_is_finished(database):
    jobs = [add_job(database) for _ in range(2)]
    late, begun = plan(database, "discard", jobs), plan(database, "discard", jobs)
    in_chunks_of(database, begun, 1)
    database.query("SELECT apply_batch_v1(%s, 1, false, NULL, 'ada')", begun)
    database.query("UPDATE job_plans SET expires_at = clock_timestamp()")
    assert refusal(database, late, partial=True).startswith(f"plan {late} expired at 20")
    assert applied(database, begun) == jobs[1:]
    assert database.query("SELECT actor, jobs FROM audit ORDER BY id") == [("ada", 1), ("bob", 1)]
    audits = database.value("SELECT show_plans_v1(%s)->'audits'", begun)
    assert audits == [audit for (audit,) in database.query("SELECT id FROM audit ORDER BY id")]


def test_an_expired_plan_is_removed_after_a_day_and_one_that_has_begun_after_a_week(database):
    job = add_job(database)
    names = [plan(database, "discard", [job]) for _ in range(4)]
    database.query("UPDATE job_plans SET done = 1 WHERE name IN (%s, %s)", *names[2:])
    for name, age in zip(names, ("23 hours", "25 hours", "6 days", "8 days"), strict=True):
        database.query("UPDATE job_plans SET expires_at = clock_timestamp() - %s::interval WHERE name = %s", age, name)
    new = plan(database, "discard", [job])
    assert database.query("SELECT name FROM job_plans ORDER BY id") == [(names[0],), (names[2],), (new,)]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("'discard'", "give ids or a selection"),
        ("'burn', p_where => '{}'", "there is no action burn"),
        ("'discard', p_where => '{\"kinds\": \"k\"}'", "a selection has no member kinds"),
        (
            "'reschedule', p_where => '{}', p_with => '{\"prio\": 1}'",
            "the action reschedule takes no prio",
        ),
        ("'reschedule', p_where => '{}', p_with => '{\"priority\": 40000}'", "out of range"),
        ("'reschedule', p_where => '{}', p_with => '{\"run_at\": \"soon\"}'", "invalid input syntax"),
        ("'discard', p_where => '{}', p_expires_in => '8 days'", "a plan expires in at most 7 days"),
        ("'discard', p_where => '{}', p_expires_in => '0 s'", "a plan expires in at most 7 days"),
        ("'discard', p_where => '{}', p_expires_in => NULL", "a plan expires in at most 7 days"),
        ("NULL, p_where => '{}'", "there is no action"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(database, call, said):
    add_job(database)
    with pytest.raises(psycopg.Error, match=said):
        database.query(f"SELECT * FROM plan_jobs_v1({call})")
    assert database.query("SELECT FROM job_plans") == []


def test_too_many_planned_jobs_are_refused(database):
    job = add_job(database)
    plan(database, "discard", [job])
    database.query("UPDATE job_plans SET jobs = 10000000")
    with pytest.raises(psycopg.errors.RaiseException, match="plans have more than 10,000,000 jobs"):
        plan(database, "discard", [job])


def test_a_plan_fixes_times_that_are_relative(database):
    job = add_job(database)
    name = plan(database, "reschedule", [job], '{"run_at": "now"}', '{"older_than": 0}')
    [(arguments, selection)] = database.query("SELECT arguments, selection FROM job_plans")
    fixed = datetime.fromisoformat(arguments["run_at"])
    assert list(selection) == ["created_before"]
    assert applied(database, name) == [job]
    assert database.value("SELECT run_at FROM jobs") == fixed


def test_a_job_that_is_already_so_at_the_time_of_the_application_stops_no_plan(database):
    soon, failed = add_job(database, run_at=datetime.now(UTC) + timedelta(days=1)), add_job(database, state="failed")
    name = plan(database, "retry", [soon, failed])
    # As if the time of the first job had come since, without any change to it.
    database.query("UPDATE jobs SET run_at = %s WHERE id = %s", PAST, soon)
    with database.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        face = "(SELECT job_face_v1(j) FROM jobs j WHERE id = %s)"
        connection.execute(f"UPDATE job_plan_chunks SET faces[1] = {face}", (soon,))
    assert changes(database, name) == {soon: "unchanged"}
    assert applied(database, name) == [failed]
    assert changes(database, name) == {soon: "unchanged"}


def test_a_locked_job_stops_a_strict_plan_and_partial_leaves_it(database):
    jobs = [add_job(database) for _ in range(3)]
    name = plan(database, "discard", jobs)
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (jobs[1],))
        assert f'"{jobs[1]}": "locked"' in refusal(database, name)
        assert applied(database, name, partial=True) == [jobs[0], jobs[2]]
        assert changes(database, name) == {jobs[1]: "locked"}


def test_a_trigger_of_the_application_that_keeps_a_job_stops_a_strict_plan(database):
    jobs = [add_job(database) for _ in range(3)]
    name = plan(database, "discard", jobs)
    database.query(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF OLD.id = {jobs[1]} THEN RAISE 'keep it'; END IF; RETURN OLD; END $$;"
        "CREATE TRIGGER keep BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    assert "database: keep it" in refusal(database, name)
    assert len(texts(database)) == 3
    assert applied(database, name, partial=True) == [jobs[0], jobs[2]]


def test_of_two_that_apply_a_plan_at_the_same_moment_one_goes_on(any_database, sessions):
    both = [sessions(any_database), sessions(any_database)]
    for _ in range(12):
        any_database.query("TRUNCATE jobs, audit, audit_chunks, job_plans, job_plan_chunks")
        jobs = [add_job(any_database) for _ in range(6)]
        name = plan(any_database, "reschedule", jobs)
        in_chunks_of(any_database, name, 1)
        start, said, ended = threading.Barrier(2), [], []

        def apply(number, name=name, start=start, said=said, ended=ended):
            found = plans.to_apply(both[number], name)
            start.wait()
            try:
                ended.append(list(plans.carry_out(both[number], found, f"actor {number}", None, partial=False)))
            except Refused as error:
                said.append(str(error))

        threads = [threading.Thread(target=apply, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(ended), len(said)) == (1, 1)
        assert "at the same time" in said[0] or "is already applied" in said[0]
        assert any_database.query("SELECT id FROM jobs WHERE priority = 7 ORDER BY id") == [(job,) for job in jobs]
        [(changed, done)] = any_database.query("SELECT changed, done FROM job_plans")
        assert (changed, done) == (6, 6)
        assert sorted(job for (job,) in any_database.query("SELECT unnest(job_ids) FROM audit_chunks")) == jobs


def test_a_plan_goes_on_after_a_connection_that_was_cut(database, sessions):
    session = sessions(database)
    jobs = [add_job(database) for _ in range(4)]
    name = plans.make(session, Change("discard", "ada"), jobs).name
    in_chunks_of(database, name, 1)
    steps = plans.carry_out(session, plans.to_apply(session, name), "ada", None, partial=False)
    assert next(steps) == 1
    database.query("SELECT pg_terminate_backend(%s)", session.connection.info.backend_pid)
    assert list(steps)[-1] == 4
    assert texts(database) == {}
    assert database.query("SELECT actor, jobs FROM audit") == [("ada", 4)]


def test_a_change_at_the_last_moment_stops_a_plan_with_the_chunks_before_it_done(database, sessions):
    session = sessions(database)
    jobs = [add_job(database) for _ in range(4)]
    name = plan(database, "discard", jobs)
    in_chunks_of(database, name, 2)
    steps = plans.carry_out(session, plans.to_apply(session, name), "ada", None, partial=False)
    assert next(steps) == 1
    database.query(TOUCHES[1], jobs[3])
    with pytest.raises(Refused, match=f"plan {name} stops before .*: job {jobs[3]}: priority was 0, is 1"):
        next(steps)
    assert list(texts(database)) == jobs[2:]
    assert applied(database, name, partial=True) == [jobs[2]]


def test_a_plan_of_10_000_jobs_is_made_in_one_snapshot_and_done_in_transactions_of_500(database, sessions):
    session = sessions(database)
    database.query("INSERT INTO jobs (kind) SELECT 'big' FROM generate_series(1, 10000)")
    made = plans.make(session, Change("reschedule", "ada", "why", {"priority": 3}, {"kind": "big"}), None)
    assert made.jobs == 10000
    changed = database.query("UPDATE jobs SET attempts = 1 WHERE id % 1000 = 7 RETURNING id")
    assert {job.id for job in plans.left(session, made.name)} == {job for (job,) in changed}
    found = plans.to_apply(session, made.name)
    assert list(plans.carry_out(session, found, "bob", None, partial=True)) == [*range(1, 21)]
    assert database.value("SELECT count(*) FROM jobs WHERE priority = 3") == 10000 - 10
    assert database.query("SELECT jobs, reason FROM audit") == [(10000 - 10, "why")]
    assert {job.id for job in plans.left(session, made.name)} == {job for (job,) in changed}


@pytest.mark.parametrize("role", ["shithub_worker", "shithub_enqueue", "shithub_metrics"])
def test_only_an_operator_sees_or_makes_plans(database, role):
    name = plan(database, "discard", [add_job(database)])
    for statement in (
        "SELECT FROM job_plans",
        "SELECT FROM job_plan_chunks",
        "SELECT plan_jobs_v1('discard', p_where => '{}')",
        f"SELECT apply_plan_v1('{name}')",
        f"SELECT apply_chunk_v1('{name}', 1, true, NULL, 'x')",
    ):
        with database.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SET ROLE {role}").execute(statement)


def test_an_operator_makes_and_applies_a_plan_and_can_forge_none(database):
    job = add_job(database)
    with database.connect() as connection:
        connection.execute("SET ROLE shithub_operator")
        [(name,)] = connection.execute("SELECT plan FROM plan_jobs_v1('discard', p_where => '{}')").fetchall()
        assert connection.execute("SELECT show_plans_v1(%s)->>'state'", (name,)).fetchone() == ("open",)
        assert connection.execute("SELECT * FROM plan_changes_v1(%s)", (name,)).fetchall() == []
        for forged in (
            "UPDATE job_plans SET expires_at = 'infinity'",
            "UPDATE job_plan_chunks SET job_ids = '{1}'",
            "INSERT INTO job_plan_chunks SELECT * FROM job_plan_chunks",
            "DELETE FROM job_plans",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forged)
        assert connection.execute("SELECT id FROM apply_plan_v1(%s)", (name,)).fetchall() == [(job,)]
