"""The gauges of the queue: they are true, the same on all workers, and as cheap for a long queue as for a short one."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest
from conftest import PATIENCE, dice, eventually

from shithubd_worker.database.connection import connector
from shithubd_worker.database.schema import newest_version
from shithubd_worker.model import How
from shithubd_worker.telemetry import gauges
from shithubd_worker.telemetry.gauges import QueueCollector

STATES = ("queued", "processing", "paused", "failed")
OLDEST_HOLD = "shithubd_hold_oldest_timestamp_seconds"


@pytest.fixture
def patient(monkeypatch):
    """A scrape waits for its count, even on a slow machine."""
    monkeypatch.setattr(gauges, "COUNT_AWAITED_SECONDS", PATIENCE)


@pytest.fixture
def collector(database):
    """Makes collectors as workers have them, and closes all after the test."""
    made = []

    def make(*known):
        made.append(QueueCollector(connector(database.url, "test"), database.schema, known))
        return made[-1]

    yield make
    for one in made:
        one.close()


def scrape(collector):
    """What a collector shows now, as {name: {labels: value}}."""
    found = {}
    for family in collector.collect():
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def age(database, *, counted="0 s", claimed="0 s"):
    """Make the last count, and its beginning, this much older."""
    database.query(
        "UPDATE queue_counts SET counted_at = counted_at - %s::interval, claimed_at = claimed_at - %s::interval",
        counted,
        claimed,
    )


def insert(database, kind, count, state="queued", **columns):
    """This many jobs of a kind."""
    values = {"kind": kind, "state": state, **columns}
    if state == "processing":
        values |= {"leased_by": "h:1", "leased_at": "yesterday"}  # began long ago: no barrier waits for it
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    database.query(f"INSERT INTO jobs ({names}) SELECT {marks} FROM generate_series(1, %s)", *values.values(), count)


def test_the_gauges_show_the_rows_of_the_table(database, collector, patient):
    database.query(
        "INSERT INTO jobs (kind, run_at)"
        " VALUES ('a', now() - interval '100 s'), ('a', now() + interval '1 h'), ('b', now())"
    )
    database.query("INSERT INTO jobs (kind, state) VALUES ('a', 'failed'), ('c', 'paused')")
    database.query(
        "INSERT INTO jobs (kind, state, leased_by, leased_at, lease_expires_at)"
        " VALUES ('a', 'processing', 'h:1', now(), now() - interval '1 s')"
    )
    database.query("SELECT pause_kind_v1('b'), drain_v1('host', 'web1')")
    found = scrape(collector())
    assert found["shithubd_job_queue_depth"] == {"kind=a": 1, "kind=b": 0, "kind=c": 0}
    assert found["shithubd_jobs"]["kind=a,state=queued"] == 2
    assert found["shithubd_jobs"]["kind=a,state=processing"] == 1
    assert found["shithubd_jobs"]["kind=a,state=failed"] == 1
    assert found["shithubd_jobs"]["kind=c,state=paused"] == 1
    assert found["shithubd_job_counts_capped"] == {"kind=a": 0, "kind=b": 0, "kind=c": 0}
    assert 100 <= found["shithubd_job_queue_oldest_age_seconds"]["kind=a"] < 200
    assert found["shithubd_job_expired_leases"] == {"kind=a": 1, "kind=b": 0, "kind=c": 0}
    assert found["shithubd_job_kind_unhandled"]["kind=a"] == 1
    assert list(found["shithubd_job_kind_paused_timestamp_seconds"]) == ["kind=b"]
    assert found["shithubd_holds"]["scope=host"] == found["shithubd_holds"]["scope=kind"] == 1
    assert found["shithubd_workers"]["state=idle"] == 0
    assert found["shithubd_history_ready_seconds"][""] == 14 * 86400
    assert found["shithubd_schema_version"][""] == newest_version()
    assert found["shithubd_queue_counted_timestamp_seconds"][""] > 1.7e9
    assert found["shithubd_queue_scrape_success"][""] == 1


def test_one_count_serves_all_workers_while_it_is_fresh(database, collector, patient, monkeypatch):
    monkeypatch.setattr(gauges, "COUNTS_FRESH_SECONDS", 60.0)
    monkeypatch.setattr(gauges, "COUNTS_STALE_SECONDS", 3600.0)
    first, second = collector(), collector()
    insert(database, "a", 1)
    assert scrape(first)["shithubd_jobs"]["kind=a,state=queued"] == 1
    insert(database, "a", 1)
    for one in (first, second, first):
        assert scrape(one)["shithubd_jobs"]["kind=a,state=queued"] == 1
    age(database, counted="2 min", claimed="2 min")
    assert scrape(second)["shithubd_jobs"]["kind=a,state=queued"] == 2
    assert scrape(first)["shithubd_jobs"]["kind=a,state=queued"] == 2


def test_holds_and_workers_are_always_current(database, collector, patient, monkeypatch):
    monkeypatch.setattr(gauges, "COUNTS_FRESH_SECONDS", 3600.0)
    insert(database, "a", 3)
    one = collector()
    assert scrape(one)["shithubd_job_queue_depth"] == {"kind=a": 3}
    database.query("SELECT drain_v1()")
    found = scrape(one)
    assert found["shithubd_job_queue_depth"] == {"kind=a": 0}  # a held job can't run now
    assert found["shithubd_holds"]["scope=fleet"] == 1


def test_only_holds_without_an_end_can_be_forgotten(database, collector):
    one = collector()
    assert scrape(one).get(OLDEST_HOLD, {}) == {}
    database.query("SELECT drain_v1(), drain_v1('host', 'web1'), drain_v1('host', 'web2'), pause_kind_v1('k')")
    database.query("UPDATE holds SET until = now() + interval '1 h' WHERE scope = 'fleet' OR target = 'web1'")
    database.query("UPDATE holds SET created = to_timestamp(1e9) WHERE target = 'web1'")
    database.query("UPDATE holds SET created = to_timestamp(1.5e9) WHERE target = 'web2'")
    database.query("SELECT drain_v1('host', 'web3')")
    found = scrape(one)[OLDEST_HOLD]
    assert found.keys() == {"scope=host", "scope=kind"}
    assert found["scope=host"] == 1.5e9
    assert found["scope=kind"] > 1.7e9


def ramps(collector):
    """What the collector shows of the ramps: {metric: {labels: value}}."""
    return {name: shown for name, shown in scrape(collector).items() if name.startswith("shithubd_kind_ramp_")}


def test_a_kind_that_is_resumed_in_steps_counts_as_paused(database, collector, patient):
    insert(database, "k", 3)
    database.query("SELECT ramp_kind_v1('k', NULL, '{10,50,100}', 3600)")
    found = scrape(collector())
    assert found["shithubd_job_queue_depth"] == {"kind=k": 0}  # so no alert about the queue wakes somebody
    assert list(found["shithubd_job_kind_paused_timestamp_seconds"]) == ["kind=k"]
    assert found["shithubd_job_queue_oldest_age_seconds"].keys() == {"kind=k"}  # KindRampStalled needs it


def test_the_ramp_of_a_kind_shows_how_far_it_is(database, collector):
    one = collector()
    assert ramps(one) == {}
    database.query("SELECT ramp_kind_v1('k', NULL, '{10,50,100}', 3600), ramp_kind_v1('canary', 1)")
    database.query("SELECT ramp_kind_v1('rate', p_rate => 5)")
    database.query("UPDATE ramps SET began = to_timestamp(1.5e9), passed_at = passed_at - interval '90 min'")
    database.query("UPDATE ramps SET ok = 3, bad = 1 WHERE kind = 'k'")
    found = ramps(one)
    began = dict.fromkeys(("kind=k", "kind=canary", "kind=rate"), 1.5e9)
    assert found["shithubd_kind_ramp_began_timestamp_seconds"] == began
    assert found["shithubd_kind_ramp_percent"] == {"kind=k": 50}
    assert "shithubd_kind_ramp_stopped_timestamp_seconds" not in found
    assert found["shithubd_kind_ramp_runs"]["kind=k,result=ok"] == 3
    assert found["shithubd_kind_ramp_runs"]["kind=k,result=bad"] == 1
    # nobody has added these up yet
    database.query("INSERT INTO ramp_ends (ramp, ok, bad) SELECT id, 2, 1 FROM ramps WHERE kind = 'k'")
    assert ramps(one)["shithubd_kind_ramp_runs"]["kind=k,result=ok"] == 5
    database.query("UPDATE ramps SET stopped_at = to_timestamp(1.6e9), stopped = 'x' WHERE kind = 'k'")
    found = ramps(one)
    assert found["shithubd_kind_ramp_stopped_timestamp_seconds"] == {"kind=k": 1.6e9}
    assert "shithubd_kind_ramp_percent" not in found
    database.query("SELECT resume_kind_v1(kind) FROM ramps")
    assert ramps(one) == {}


def test_a_scrape_does_not_wait_for_a_long_count(database, collector):
    one = collector()
    insert(database, "a", 1)
    eventually(lambda: "shithubd_jobs" in scrape(one), "the first count")
    insert(database, "a", 1)
    age(database, counted="1 min", claimed="1 min")
    with database.connect() as slow, slow.transaction():
        slow.execute("SELECT FROM queue_counts FOR UPDATE")  # the count can't end
        assert scrape(one)["shithubd_jobs"]["kind=a,state=queued"] == 1
        assert scrape(one)["shithubd_queue_scrape_success"][""] == 1
    eventually(lambda: scrape(one)["shithubd_jobs"]["kind=a,state=queued"] == 2, "counted in the background")


def test_stale_counts_are_left_out(database, collector, patient):
    insert(database, "a", 1)
    one = collector()
    assert scrape(one)["shithubd_queue_scrape_success"][""] == 1
    age(database, counted="3 min", claimed="0 s")  # a worker is about to count, and can't
    found = scrape(one)
    assert found["shithubd_queue_scrape_success"][""] == 0
    assert not {"shithubd_jobs", "shithubd_job_queue_depth", "shithubd_job_queue_oldest_age_seconds"} & set(found)
    assert "shithubd_holds" in found  # there is no count, so none is stale


def test_a_count_that_takes_too_long_is_cancelled_and_tried_again_later(database, collector, patient, monkeypatch):
    one = collector()
    insert(database, "a", 1)
    monkeypatch.setattr(gauges, "COUNT_LIMIT_SECONDS", 0.05)
    with database.connect() as slow, slow.transaction():
        slow.execute("LOCK TABLE jobs")
        assert scrape(one)["shithubd_queue_scrape_success"][""] == 0
    monkeypatch.setattr(gauges, "COUNT_LIMIT_SECONDS", PATIENCE)
    assert scrape(one)["shithubd_queue_scrape_success"][""] == 0  # claimed just before
    age(database, claimed="1 min")
    assert scrape(one)["shithubd_jobs"]["kind=a,state=queued"] == 1


def test_only_one_of_many_workers_may_count(database):
    claim = "SELECT claim_count_v1(3600, 5)"
    assert [database.value(claim) for _ in range(3)] == [True, None, None]
    age(database, claimed="2 h")
    assert [database.value(claim) for _ in range(2)] == [True, None]


def test_after_a_longer_count_the_next_one_comes_later(database):
    claim = "SELECT claim_count_v1(60, 300)"
    assert database.value(claim)
    age(database, claimed="1 h")
    assert database.value(claim) is None  # its 300 seconds are not over, or it was cancelled: 20 times as long
    database.query("SELECT recount_v1()")
    assert database.value("SELECT seconds < 100 FROM queue_counts")
    age(database, claimed="1 h")
    assert database.value(claim)


def test_the_dead_rows_are_those_that_no_vacuum_has_removed(any_database, patient):
    one = QueueCollector(connector(any_database.url, "test"), any_database.schema)

    def dead_rows():
        return scrape(one)["shithubd_dead_rows"]["table=jobs"]

    insert(any_database, "a", 50)
    with any_database.connect() as old, old.transaction():
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT FROM jobs")
        any_database.query("DELETE FROM jobs")
        any_database.query("VACUUM jobs")
        eventually(lambda: dead_rows() == 50, "its snapshot keeps them")
    any_database.query("VACUUM jobs")
    eventually(lambda: dead_rows() == 0, "removed")
    one.close()


def test_unknown_kinds_beyond_the_hundredth_share_one_label(database, collector, patient):
    database.query("INSERT INTO jobs (kind) SELECT 'stranger ' || n FROM generate_series(1000, 1149) n")
    insert(database, "a", 2)
    found = scrape(collector("a"))["shithubd_job_queue_depth"]
    assert len(found) == 102
    assert (found["kind=a"], found["kind=stranger 1000"], found["kind=other"]) == (2, 1, 50)


RETURNED = "shithubd_leases_returned_total"


def dies(database, kind, *, jobs=1, crashes=0, said_by="systemd"):
    """The owner of some jobs dies, and one of these returns all of them: systemd, a starting worker, or a sweep."""
    worker = uuid4()
    database.query("SELECT register_v1(%s, 'web1', 4711, 'm', 'b', 1, 1, NULL, %s, '0', 1, '{}')", worker, worker.hex)
    lease = {"worker_id": worker, "crashes": crashes}
    insert(database, kind, jobs, state="processing", **lease, lease_expires_at="tomorrow")
    if said_by == "a sweep":
        database.query("UPDATE jobs SET lease_expires_at = now() WHERE worker_id = %s", worker)
        database.query("SELECT * FROM sweep_v1(NULL)")
    elif said_by == "a starting worker":
        database.query("SELECT * FROM release_worker_v1(%s, 'its pid is gone')", worker)
    else:
        database.query("SELECT * FROM release_invocation_v1(%s, 'killed')", worker.hex)


@pytest.mark.parametrize("said_by", ["systemd", "a starting worker", "a sweep"])
def test_a_returned_lease_is_counted_once_no_matter_who_returns_it(database, collector, said_by):
    one, other = collector("a"), collector("a", "b")
    nothing = {f"kind=a,outcome={how}": 0 for how in How}
    assert scrape(one)[RETURNED] == nothing
    dies(database, "a", said_by=said_by)
    dies(database, "a", jobs=3, said_by=said_by)
    dies(database, "a", crashes=2, said_by=said_by)
    assert scrape(one)[RETURNED] == nothing | {"kind=a,outcome=crashed": 4, "kind=a,outcome=poison": 1}
    known_to_the_other = {f"kind=b,outcome={how}": 0 for how in How}
    assert scrape(other)[RETURNED] == scrape(one)[RETURNED] | known_to_the_other


def test_the_first_hundred_unknown_kinds_of_dead_owners_keep_their_names_and_no_counter_goes_down(database, collector):
    one = collector("a")
    before = {}
    for kinds in ("m", "b", "z"):  # in the order of their deaths, not of their names
        database.query(
            "INSERT INTO jobs (kind, state, leased_by, leased_at)"
            " SELECT %s || ' ' || n, 'processing', 'h:1', now() FROM generate_series(1, 60) n",
            kinds,
        )
        database.query("SELECT * FROM sweep_v1(NULL)")
        now = scrape(one)[RETURNED]
        assert all(now[labels] >= count for labels, count in before.items())
        before = now
    assert len(before) == len(How) + 2 * (100 + 1)
    assert before["kind=other,outcome=crashed"] == 3 * 60 - 100


@pytest.mark.drawn
# What count_jobs_v1 returns, and how much it reads.
def test_the_counts_are_those_of_the_table_itself(any_database):
    chance = dice(1)
    rows = []
    for _ in range(3000):
        state = chance.choice(STATES)
        lease = ("h:1", "now") if state == "processing" else (None, None)
        when = chance.choice(["now", "yesterday", "tomorrow", "-infinity", "infinity"])
        expiry = chance.choice([None, "yesterday", "tomorrow"])
        priority = chance.choice([-32768, -1, 0, 0, 0, 7, 32767])
        rows.append(
            (chance.choice(["a", "b", "b c", "ä", "z" * 200, "\U0001f600"]), state, *lease, when, expiry, priority)
        )
    with any_database.connect() as connection:
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO jobs (kind, state, leased_by, leased_at, run_at, lease_expires_at, priority)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                rows,
            )
        counted = connection.execute(
            "SELECT kind, queued, processing, paused, failed, runnable, expired, oldest_seconds IS NOT NULL, capped"
            " FROM kinds_v1()"
        ).fetchall()
        expected = connection.execute(
            "SELECT kind, count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'processing'),"
            " count(*) FILTER (WHERE state = 'paused'), count(*) FILTER (WHERE state = 'failed'),"
            " count(*) FILTER (WHERE state = 'queued' AND run_at <= now()),"
            " count(*) FILTER (WHERE state = 'processing' AND coalesce(lease_expires_at, '-infinity') <= now()),"
            " true, ARRAY[]::text[] FROM jobs GROUP BY kind"
        ).fetchall()
    assert sorted(counted) == sorted(expected)


READ = """SELECT relname, pg_stat_get_xact_tuples_returned(oid) FROM pg_class WHERE oid = 'jobs'::regclass
    OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'jobs'::regclass)"""


def rows_read(connection, query):
    """How many rows and index entries of jobs a query reads, by relation, as PostgreSQL counts them."""
    with connection.transaction():
        before = Counter(dict(connection.execute(READ).fetchall()))
        result = connection.execute(query).fetchall()
        after = Counter(dict(connection.execute(READ).fetchall()))
    return result, after - before


def test_the_count_of_a_long_queue_reads_few_rows(any_database):
    for kind in ("a", "b"):
        insert(any_database, kind, 4000)
        insert(any_database, kind, 4000, run_at="tomorrow")
        insert(any_database, kind, 4000, state="failed")
        insert(any_database, kind, 4000, state="paused")
    insert(any_database, "c", 50)
    insert(any_database, "a", 7, state="processing")
    with any_database.connect() as connection:
        found, read = rows_read(connection, "SELECT kind, part, jobs, capped FROM count_jobs_v1(100) ORDER BY 1, 2")
        assert found == [
            ("a", "due", 100, True),
            ("a", "expired", 7, False),
            ("a", "failed", 100, True),
            ("a", "later", 100, True),
            ("a", "paused", 100, True),
            ("a", "processing", 7, False),
            ("a", "running", 1, False),
            *[("b", part, 100, True) for part in ("due", "failed", "later", "paused")],
            ("c", "due", 50, False),
        ]
        assert read["jobs"] == 0  # no walk over the table, although it was never analyzed
        assert read.total() < 8 * 101 + 50 + 7 + 20
        connection.execute("ANALYZE jobs")
        connection.execute("INSERT INTO jobs (kind) SELECT 'a' FROM generate_series(1, 4000)")
        assert rows_read(connection, "SELECT * FROM count_jobs_v1(100)")[1] == read


def test_many_long_kinds_are_counted_less_far_after_enough_jobs(database):
    database.query("INSERT INTO jobs (kind) SELECT 'kind ' || n % 5 FROM generate_series(1, 10000) n")
    found = database.query("SELECT jobs, capped FROM count_jobs_v1(1500, 4000) ORDER BY kind")
    assert found == [(1500, True), (1500, True), (1000, True), (1000, True), (1000, True)]
    assert database.query("SELECT count(*) FROM count_jobs_v1() WHERE jobs = 2000 AND NOT capped") == [(5,)]


def test_a_figure_that_is_only_a_lower_bound_is_named(database):
    insert(database, "a", 20)
    insert(database, "b", 20, run_at="tomorrow")
    insert(database, "c", 20, state="paused")
    insert(database, "d", 10)
    database.query("SELECT pause_kind_v1('b')")
    capped = "SELECT kind, capped FROM kinds_v1((SELECT jsonb_agg(to_jsonb(c)) FROM count_jobs_v1(10) c)) ORDER BY kind"
    assert database.query(capped) == [
        ("a", ["queued", "retries", "runnable"]),
        ("b", ["queued", "retries", "held"]),
        ("c", ["paused", "held"]),
        ("d", []),
    ]
    database.query("SELECT drain_v1()")
    assert dict(database.query(capped))["a"] == ["queued", "retries", "held"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT known_kind_v1('c')",
        "SELECT known_kind_v1('zzz')",
        "SELECT * FROM list_jobs_v1('failed', NULL, 3)",
        "SELECT * FROM list_jobs_v1('paused', 'c', 3)",
        "SELECT * FROM list_jobs_v1('processing', NULL, 3)",
        "SELECT * FROM list_jobs_v1(NULL, NULL, 3)",
        "SELECT barrier_v1('kind', 'c')",
        "SELECT * FROM leases_v1()",
        "SELECT * FROM unpause_v1('a')",
        "SELECT * FROM unpause_v1('c')",
    ],
)
@pytest.mark.parametrize("analyzed", [False, True])
def test_the_commands_of_an_incident_read_few_rows_of_a_long_queue(any_database, query, analyzed):
    insert(any_database, "a", 5000)
    insert(any_database, "b", 2, state="failed")
    insert(any_database, "c", 2, state="paused")
    insert(any_database, "c", 2, state="processing", lease_expires_at="tomorrow")
    with any_database.connect() as connection:
        if analyzed:
            connection.execute("ANALYZE jobs")
        _, read = rows_read(connection, query)
    assert read.total() < 50


def test_each_batch_of_a_pause_or_resume_goes_on_where_the_last_one_stopped(any_database):
    insert(any_database, "a", 5000)
    insert(any_database, "b", 5000)
    with any_database.connect() as held, held.transaction():
        held.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        held.execute("SELECT count(*) FROM jobs")  # this snapshot keeps all dead rows
        with any_database.connect() as connection:
            hold = connection.execute("SELECT id FROM pause_kind_v1('a')").fetchone()[0]
            after, batches = "null", []
            query = "SELECT flipped, after::text FROM mirror_pause_v1({}, {}, 500)"
            while (found := rows_read(connection, query.format(hold, after)))[0]:
                after = f"'{found[0][0][1]}'"
                batches.append(found[1]["jobs_queue"])
            assert len(batches) == 10
            assert max(batches) <= 501
            after, batches = -1, []
            query = "SELECT flipped, after FROM unpause_v1('a', {}, 500)"
            while (found := rows_read(connection, query.format(after)))[0]:
                after = found[0][0][1]
                batches.append(found[1]["jobs_parked"])
            assert len(batches) == 10
            assert max(batches) <= 501
    assert any_database.query("SELECT state, count(*) FROM jobs GROUP BY 1") == [("queued", 10000)]
