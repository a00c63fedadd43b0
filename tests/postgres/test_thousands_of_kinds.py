"""A kind for each customer, by mistake: all that shows the queue stays short and quick, and says what it leaves out."""

from __future__ import annotations

import time

import pytest
from commands import Command
from conftest import new_database
from test_gauges import collector, insert, patient, rows_read, scrape  # noqa: F401 (fixtures)

from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.telemetry.names import MOST_NAMED, OTHER

KINDS = 20_000
TENANTS = f"SELECT 'tenant.' || n || '.report' FROM generate_series(1, {KINDS}) n"
LIMIT = 30.0  # seconds: only a cost that grows with the square of the kinds takes so long


@pytest.fixture(scope="module", params=["server", "embedded_server"])
def many(request):
    """20,000 kinds, each with two jobs, and one among them that matters most in each way."""
    for database in new_database(request.getfixturevalue(request.param)):
        with database.connect() as connection:
            connection.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
            connection.execute(f"INSERT INTO jobs (kind) {TENANTS}, generate_series(1, 2)")
            connection.execute("INSERT INTO jobs (kind) SELECT 'zz.large' FROM generate_series(1, 500)")
            connection.execute("INSERT INTO jobs (kind, run_at) VALUES ('zz.old', 'yesterday')")
            connection.execute("INSERT INTO jobs (kind, state) VALUES ('zz.failed', 'failed')")
            connection.execute(
                "INSERT INTO jobs (kind, attempts, last_error, run_at) VALUES ('zz.retried', 1, 'no', 'tomorrow')"
            )
            connection.execute("ALTER TABLE jobs ENABLE TRIGGER USER")
            connection.execute("ANALYZE jobs")
        yield database


MATTER = {"zz.large", "zz.old", "zz.failed", "zz.retried"}


def quick(query, database):
    """The rows, and how many index entries of jobs it read. It may not take long."""
    began = time.monotonic()
    with database.connect() as connection:
        found, read = rows_read(connection, query)
    assert time.monotonic() - began < LIMIT
    return found, read.total() - read["jobs"]


def test_the_status_names_what_matters_and_sums_up_the_rest(many):
    command = Command(many)
    began = time.monotonic()
    told = command.json("status")
    assert time.monotonic() - began < LIMIT
    named = {kind["kind"] for kind in told["kinds"]}
    assert named > MATTER
    assert len(named) <= 50
    more = told["more_kinds"]
    assert more["kinds"] == KINDS + len(MATTER) - len(named)
    assert told["states"] == {"queued": 2 * KINDS + 502, "processing": 0, "paused": 0, "failed": 1}
    assert sum(kind["queued"] for kind in [*told["kinds"], more]) == told["states"]["queued"]

    lines = command("status").stdout.splitlines()
    assert len(lines) < 80
    assert any(line.startswith(f"and {more['kinds']:,} more kinds ") for line in lines)
    [shown] = command.json("status", "tenant.777.report")["kinds"]
    assert (shown["kind"], shown["queued"]) == ("tenant.777.report", 2)
    assert len(command.json("status", "--all-kinds")["kinds"]) == KINDS + len(MATTER)


def test_the_shell_completes_a_kind_that_the_status_does_not_name(many):
    env = {"_SHITHUBD_WORKER_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    words = {"COMP_WORDS": "shithubd-worker pause-kind tenant.777"}
    offered = Command(many)(env={**env, **words}).stdout
    assert {line.partition(",")[2] for line in offered.splitlines()} == {
        "tenant.777.report",
        *(f"tenant.777{n}.report" for n in range(10)),
    }


@pytest.mark.parametrize(
    "beside",
    [
        f"INSERT INTO holds (scope, target, actor) SELECT 'kind', k, 'me' FROM ({TENANTS}) t (k);"
        f" INSERT INTO leases_returned (kind) {TENANTS};"
        f" INSERT INTO workers SELECT gen_random_uuid(), 'h', n, 'm', 'b', 0, 0, NULL, NULL, '0', 1,"
        f" ARRAY['tenant.' || n || '.report'] FROM generate_series(1, {KINDS}) n;"
        " INSERT INTO beats (worker_id) SELECT id FROM workers",
        f"INSERT INTO workers SELECT gen_random_uuid(), 'h', n, 'm', 'b', 0, 0, NULL, NULL, '0', 1, k"
        f" FROM generate_series(1, 5) n, (SELECT array_agg(k) FROM ({TENANTS}) t (k)) a (k);"
        " INSERT INTO beats (worker_id) SELECT id FROM workers",
    ],
    ids=["a hold, an end and a worker each", "known to each worker"],
)
def test_each_look_reads_each_kind_a_few_times_and_says_little(many, beside):
    with many.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute(beside)
        for query, size in (
            ("SELECT length(status_v1()::text)", 1_000_000),
            ("SELECT recount_v1(), 1", 2),
            ("SELECT length(queue_gauges_v1('{a,b}')::text)", 400_000),
        ):
            began = time.monotonic()
            connection.execute(
                "INSERT INTO queue_counts (claimed_at, seconds) VALUES (now(), 1) ON CONFLICT DO NOTHING"
            )
            found, read = rows_read(connection, query)
            assert time.monotonic() - began < LIMIT
            assert read.total() < 6 * KINDS, query
            assert found[0][-1] < size, query


def test_the_series_of_the_queue_have_a_limit_and_a_metric_says_so(many):
    many.query("INSERT INTO queue_counts (claimed_at, seconds) VALUES (now(), 1) ON CONFLICT DO NOTHING")
    many.query(f"INSERT INTO leases_returned (kind, forced) SELECT k, 1 FROM ({TENANTS}) t (k) ON CONFLICT DO NOTHING")
    many.query("SELECT recount_v1()")
    with many.connect() as connection:
        gauges = connection.execute("SELECT queue_gauges_v1('{known}')").fetchone()[0]
    names = [kind["kind"] for kind in gauges["kinds"]]
    assert len(names) <= 101
    assert {*names} > MATTER
    [other] = [kind for kind in gauges["kinds"] if kind["kind"] is None]
    assert other["kinds"] == KINDS + len(MATTER) - 100
    assert sum(kind["queued"] for kind in gauges["kinds"]) == 2 * KINDS + 502
    assert (len(gauges["returned"]), sum(row["forced"] for row in gauges["returned"])) == (101, KINDS)
    many.query("SELECT recount_v1()")
    again = many.value("SELECT queue_gauges_v1('{known}')")
    assert [kind["kind"] for kind in again["kinds"]] == names  # no series ends for another


def test_kinds_whose_jobs_are_equally_old_have_their_places_by_name(many):
    urgent = {kind for (kind,) in many.query("SELECT kind FROM kinds_v1() WHERE urgency <= 3")}
    assert urgent > MATTER
    assert len(urgent - MATTER) == 2  # the same two in each figure in which all tenants are equal


def test_the_kinds_without_a_name_are_unhandled_if_one_of_them_is(database, collector, patient):  # noqa: F811
    database.query(f"INSERT INTO jobs (kind) {TENANTS} WHERE n <= 400")
    worker = "INSERT INTO workers SELECT gen_random_uuid(), 'h', 1, 'm', 'b', 0, 0, NULL, NULL, '0', 1, array_agg(k)"
    database.query(f"{worker} FROM (SELECT kind FROM jobs) t (k)")
    database.query("INSERT INTO beats (worker_id) SELECT id FROM workers")
    database.query("UPDATE workers SET kinds = kinds[201:] || kinds[:200]")
    found = scrape(collector("tenant.1.report"))
    assert found["shithubd_job_kind_unhandled"]["kind=other"] == 0
    assert found["shithubd_queue_kinds_unnamed"][""] == 400 - 101
    assert found["shithubd_jobs"]["kind=other,state=queued"] == 400 - 101
    database.query("UPDATE workers SET kinds = ARRAY['tenant.1.report']")
    database.query("UPDATE queue_counts SET counted_at = 'yesterday', claimed_at = 'yesterday'")
    assert scrape(collector("tenant.1.report"))["shithubd_job_kind_unhandled"]["kind=other"] == 1


def test_a_worker_with_thousands_of_kinds_has_few_series():
    metrics = Metrics([f"tenant.{n}" for n in range(KINDS)], "web1:1")
    metrics.watch(lambda: "idle", lambda: (f"tenant.{KINDS - 1}", 1.0), lambda: True)
    for n in range(KINDS):
        metrics.ran(f"tenant.{n}", [1.0])
        metrics.fenced(f"tenant.{n}")
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert len({sample.labels["kind"] for sample in samples if "kind" in sample.labels}) == MOST_NAMED + 1
    value = metrics.registry.get_sample_value
    assert value("shithub_worker_kinds_unnamed") == KINDS - MOST_NAMED
    assert value("shithub_worker_fenced_writes_total", {"kind": OTHER}) == KINDS - MOST_NAMED
    assert value("shithub_worker_job_duration_seconds_count", {"kind": OTHER}) == KINDS - MOST_NAMED
    assert value("shithub_worker_in_flight", {"kind": OTHER}) == 1
    assert value("shithub_worker_in_flight", {"kind": "tenant.0"}) == 0


def test_thousands_of_long_kinds_are_counted_less_far_and_the_largest_is_found(any_database):
    any_database.query("INSERT INTO jobs (kind) SELECT 'kind ' || n % 100 FROM generate_series(1, 6000) n")
    insert(any_database, "zz.large", 3000)
    found, read = quick("SELECT kind, jobs, capped FROM count_jobs_v1(1000, 500)", any_database)
    counts = {kind: jobs for kind, jobs, _ in found}
    assert counts["zz.large"] == 1000
    assert min(counts.values()) == 10
    assert read < 6500


def test_one_kind_with_all_priorities_and_many_kinds_end(any_database):
    any_database.query(
        "INSERT INTO jobs (kind, priority) SELECT 'a', p FROM generate_series(-32768, 32767) p"
        " UNION ALL SELECT 'b', p FROM generate_series(-32768, 32767) p UNION ALL VALUES ('c', 0)"
    )
    found, _ = quick(
        "SELECT kind, sum(jobs), bool_or(capped) FROM count_jobs_v1() GROUP BY kind ORDER BY 1", any_database
    )
    assert [kind for kind, _, _ in found] == ["a", "b", "c"]


def test_a_list_of_failed_jobs_of_thousands_of_kinds_is_in_the_order_of_their_ids(any_database):
    with any_database.connect() as connection:
        connection.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
        connection.execute(
            "INSERT INTO jobs (kind, state) SELECT 'k' || n % 3000, 'failed' FROM generate_series(1, 60000) n"
        )
    found, read = quick("SELECT (j->>'id')::bigint FROM list_jobs_v1('failed', NULL, 100, 50) j", any_database)
    least = any_database.query("SELECT id FROM jobs WHERE id > 50 ORDER BY id LIMIT 100")
    assert found == least
    assert read < 5 * 3000 + 100 * 100


def test_a_worker_of_the_former_release_gets_a_name_for_each_kind(many):
    """It asks without arguments. An entry without a name would break its whole scrape."""
    many.query("INSERT INTO queue_counts (claimed_at, seconds) VALUES (now(), 1) ON CONFLICT DO NOTHING")
    many.query("SELECT recount_v1()")
    told = many.value("SELECT queue_gauges_v1()")
    names = [kind["kind"] for kind in told["kinds"]]
    assert None not in names
    assert names[-1] == OTHER
    assert None not in [row["kind"] for row in told["returned"]]


def test_a_kind_with_the_name_of_the_rest_is_counted_with_the_rest(database, collector, patient):  # noqa: F811
    insert(database, OTHER, 3)
    alone = scrape(collector())
    assert alone["shithubd_job_queue_depth"] == {f"kind={OTHER}": 3}
    assert alone["shithubd_queue_kinds_unnamed"][""] == 0
    database.query("INSERT INTO jobs (kind) SELECT 'k' || n FROM generate_series(1, 150) n")
    for known in ((), (OTHER,)):
        database.query("UPDATE queue_counts SET counted_at = 'yesterday', claimed_at = 'yesterday'")
        crowded = scrape(collector(*known))
        unnamed = crowded["shithubd_queue_kinds_unnamed"][""]
        assert unnamed in (50, 51)
        assert sum(crowded["shithubd_job_queue_depth"].values()) == 153
        assert crowded["shithubd_job_queue_depth"][f"kind={OTHER}"] == 3 + 50


def test_a_count_that_ends_early_marks_each_figure_that_may_be_too_low(database):
    """A 0, too: behind many waiting jobs there may be retries, and behind many kinds failed jobs."""
    insert(database, "long", 20)
    insert(database, "long", 1, attempts=2, run_at="tomorrow")
    insert(database, "short", 3)
    parts = "SELECT kind, array_agg(part ORDER BY part) FROM count_jobs_v1({}) WHERE capped GROUP BY kind"
    for cap in (10, 15):
        assert database.query(parts.format(cap)) == [("long", ["due", "retry"])]
    counts = "(SELECT jsonb_agg(to_jsonb(c)) FROM count_jobs_v1({}) c)"
    told = f"SELECT kind, retries, capped FROM kinds_v1({counts}) ORDER BY kind"
    assert database.query(told.format(20)) == [("long", 1, []), ("short", 0, [])]
    database.query("DELETE FROM jobs WHERE attempts > 0")
    assert database.query(told.format(15))[0] == ("long", 0, ["queued", "retries", "runnable"])

    database.query("ALTER TABLE jobs DISABLE TRIGGER USER")
    database.query("INSERT INTO jobs (kind, priority) SELECT 'steps', p FROM generate_series(1, 30000) p")
    database.query("INSERT INTO jobs (kind, priority) SELECT 'steps.b', p FROM generate_series(1, 21000) p")
    insert(database, "z", 1)
    assert database.query(parts.format("")) == [("steps.b", ["due", "later"])]
    database.query("INSERT INTO jobs (kind) SELECT 'y' || n FROM generate_series(1, 50001) n")
    insert(database, "z", 1, "failed")
    status = database.value("SELECT status_v1()")
    assert {*status["capped"]} == {"queued", "runnable", "retries", "paused", "failed", "held"}
    assert status["more_kinds"]["kinds"] + len(status["kinds"]) <= 50_005
