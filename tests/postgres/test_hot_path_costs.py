"""What a job costs the database, in counts that are the same on every machine: no time is measured here."""

from __future__ import annotations

import json
import random
import re
import string
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from bare import Turns
from conftest import eventually
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.database.arrays import as_quoted_array, settle_arguments
from shithubd_worker.database.connection import connector
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.model import Finished, How, Outcome
from shithubd_worker.turn.tray import Settles
from shithubd_worker.turn.wire import TYPES

OK = Outcome(How.OK)
NASTY = [
    "a \"quote\" and a 'quote'",
    "back\\slash \\n \\\\",
    "{braces}, and, commas {}",
    "NULL",
    "null",
    "",
    " spaces at both ends ",
    "lines\nand\r\ttabs",
    "ünïcödé \U0001f41b \u2028",
    "%s %(x)s $1 ;--",
    '","',
    "}",
]


class Driver(Turns):
    """A worker without a process, and what its turns cost the database."""

    def __init__(self, database, *kinds, pooled=False, url=None):
        self.id = uuid4()
        database.query(
            "INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, version,"
            " schema_version, kinds) VALUES (%s, 'here', 1, 'm', 'b', 0, 0, 'v', 1, '{k}')",
            self.id,
        )
        queue = QueueSession(connector(url or database.url, "driver", pooled=pooled), "public", self.id)
        super().__init__(queue, dict.fromkeys(kinds or ("k",), 60.0), pooled=pooled)

    @contextmanager
    def counting(self, database):
        """What happened to jobs between the beginning and the end of the block; by this worker, when it is alone."""
        before, counts = self._figures(database), {}
        yield counts
        after = self._figures(database)
        counts.update({name: after[name] - before[name] for name in after})

    def _figures(self, database):
        self.queue.connection.execute("SELECT pg_stat_force_next_flush()")
        names = ("entries", "seq_scan", "updated", "deleted", "fetched")
        (row,) = database.query(
            "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_queue'),"
            " t.seq_scan, t.n_tup_upd, t.n_tup_del, t.idx_tup_fetch FROM pg_stat_user_tables t WHERE t.relname = 'jobs'"
        )
        return dict(zip(names, map(int, row), strict=True))


@pytest.fixture
def hire(database):
    hired = []

    def make(*kinds, **options):
        hired.append(Driver(database, *kinds, **options))
        return hired[-1]

    yield make
    for driver in hired:
        driver.queue.close()


def done(leases, outcome=OK, retention="7d"):
    return [Finished(lease, outcome, retention, 0.0) for lease in leases]


def enqueue(database, count, *, run_at="now()", kind="k", payload="{}"):
    database.query(
        f"INSERT INTO jobs (kind, payload, run_at) SELECT %s, %s::jsonb, {run_at} FROM generate_series(1, %s) n",
        kind,
        payload,
        count,
    )


def log_of(database):
    """What the server has logged so far."""
    return (Path(database.server.directory) / "log").read_text(errors="replace")


def spoken(log, *pids):
    """The statements in a server's log, those of a connection with log_statement = all; of these backends only."""
    found = re.findall(r"\[(\d+)\] LOG:  (?:statement|execute [^:]*): (.*)", log)
    return [text for pid, text in found if not pids or int(pid) in pids]


def talkative(database):
    """A URL of the database whose statements the server logs."""
    return f"{database.url}?options=-c%20log_statement%3Dall"


@contextmanager
def held_snapshot(database):
    """Somebody's long report: no dead row is cleaned away while this is open."""
    with database.connect() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")
        yield
        holder.execute("ROLLBACK")


def test_a_turn_is_one_round_trip_and_two_statements(database, hire):
    driver = hire(url=talkative(database))
    enqueue(database, 5000)
    driver.turn(most=1)  # connects and prepares
    pid = driver.queue.connection.info.backend_pid
    before = len(log_of(database))
    turns, jobs, finished = 0, 0, []
    while leases := driver.turn(finished).leases:
        turns, jobs, finished = turns + 1, jobs + len(leases), done(leases)
    assert (turns, jobs) == (10, 4999)
    said = spoken(log_of(database)[before:], pid)
    settle, lease = 'PREPARE "settle_v1"', 'PREPARE "lease_v1"'
    assert [text.split(" AS ")[0] for text in said] == [lease, *[settle, lease] * 10]


def test_leases_and_settles_read_what_they_take_and_nothing_else(database, hire):
    driver = hire()
    enqueue(database, 5000)
    database.query("ANALYZE jobs")  # with statistics, right or wrong, the plan is the same
    with driver.counting(database) as counts:
        finished = []
        while leases := driver.turn(finished).leases:
            finished = done(leases)
    assert (counts["updated"], counts["deleted"], counts["seq_scan"]) == (5000, 5000, 0)
    assert counts["fetched"] <= 5000 * 4  # the look, the lock, the lease and the settle


@pytest.mark.parametrize("state", ["scheduled", "failed", "paused", "of other kinds"])
def test_jobs_that_are_not_due_add_no_reads(database, hire, state):
    driver = hire()
    enqueue(database, 1000)
    with driver.counting(database) as alone:
        leases = driver.lease()
        driver.turn(done(leases))
    if state == "scheduled":
        enqueue(database, 20_000, run_at="now() + n * interval '1 minute'")
    elif state == "of other kinds":
        enqueue(database, 20_000, kind="j")
    else:
        enqueue(database, 20_000)
        database.query("UPDATE jobs SET state = %s WHERE id > 1000", state)
        database.query("VACUUM jobs")
    enqueue(database, 500)
    driver.selection.anew()
    with driver.counting(database) as among:
        leases = driver.lease()
        driver.turn(done(leases))
    assert len(leases) == 500
    assert among["seq_scan"] == 0
    assert among["entries"] <= alone["entries"] + 500 + 50  # those of the first batch may still be dead entries
    assert among["fetched"] <= alone["fetched"] + 50


@pytest.mark.parametrize(
    "run_at", ["now() - interval '1 hour' + n * interval '10 ms'", "now()"], ids=["one by one", "in one statement"]
)
def test_under_a_held_snapshot_a_turn_walks_no_further_than_at_the_beginning(database, hire, run_at):
    driver = hire()
    enqueue(database, 10_000, run_at=run_at)
    with held_snapshot(database):
        finished, walked = [], []
        for _ in range(19):
            with driver.counting(database) as counts:
                finished = done(driver.turn(finished).leases)
            walked.append(counts["entries"])
        driver.selection.anew()
        with driver.counting(database) as counts:
            assert len(driver.turn(finished).leases) == 500
    assert counts["entries"] >= 9500  # a look from the start walks over all that is dead: else this proves nothing
    assert max(walked[1:]) <= 2000, walked


def test_under_a_held_snapshot_an_empty_turn_walks_no_further_than_before(database, hire):
    driver = hire()
    with held_snapshot(database):
        enqueue(database, 5000, run_at="now() - interval '1 hour' + n * interval '10 ms'")
        run = driver.lease()
        while run:
            run = driver.turn(done(run)).leases
        walked = []
        for _ in range(5):
            with driver.counting(database) as counts:
                driver.turn()
            walked.append(counts["entries"])
    assert max(walked) <= 100, walked


def test_under_a_held_snapshot_the_probe_for_expired_leases_walks_a_few_seconds_only(database, hire):
    driver = hire()
    enqueue(database, 5000)
    with held_snapshot(database):
        run = driver.lease()
        while run:
            run = driver.turn(done(run)).leases
        database.query("UPDATE jobs SET state = state")
        walked = {}
        for back in (5.0, None):
            before = _lease_entries(driver, database)
            driver.queue.sweep(back=back)
            walked[back] = _lease_entries(driver, database) - before
    assert walked[5.0] <= 100


def _lease_entries(driver, database):
    driver.queue.connection.execute("SELECT pg_stat_force_next_flush()")
    return int(database.value("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_leases'"))


def test_a_job_touches_few_buffers_and_writes_little_wal(database, hire):
    driver = hire()
    enqueue(database, 6000)
    leases, buffers, wal = driver.lease(), 0, 0
    for _ in range(10):
        plans, token = _explained(driver, done(leases))
        for plan in plans:
            buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            wal += plan["WAL Bytes"] - 8192 * plan.get("WAL FPI", 0)
        rows = database.query("SELECT id FROM jobs WHERE lease_token = %s", token)
        leases = [leases[0]._replace(id=job, batch=leases[0].batch._replace(token=token)) for (job,) in rows]
        assert len(leases) == 500
    assert buffers / 5000 <= 60
    assert wal / 5000 <= 2500


def _explained(driver, finished):
    """What the two statements of a turn cost: the first node of each plan. The leased are settled by the next turn."""
    ranges = driver.selection.turn(Settles.of([])).ranges
    token = str(uuid4())
    where, count = map(list, zip(*ranges, strict=True)), len(ranges)
    arguments = {
        "settle_v1": settle_arguments(finished),
        "lease_v1": (driver.id, token, *where, [60.0] * count, [500] * count, True, [], False),
    }
    plans = []
    with driver.queue.connection.transaction():
        for name, types in TYPES.items():
            call = f"SELECT * FROM {name}({', '.join(f'%s::{each}' for each in types)})"
            explained = driver.queue.connection.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {call}", arguments[name]
            )
            plans.append(explained.fetchone()[0][0]["Plan"])
    return plans, token


def test_a_worker_that_is_idle_asks_once_a_poll(database, start_worker):
    url = talkative(database)
    worker = start_worker(
        "--poll-interval",
        "0.05",
        "--kind",
        "test.ok",
        "--metrics",
        "127.0.0.1:0",
        env={"SHITHUBD_WORKER_DATABASE_URL": url},
    )
    eventually(lambda: worker.metric('shithub_worker_claims_total{result="empty"}') >= 10, "idle")
    pids = [
        pid
        for (pid,) in database.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name IN ('shithubd-worker', 'shithubd-worker control')"
        )
    ]
    assert len(pids) == 2
    before, began = worker.metric('shithub_worker_claims_total{result="empty"}'), time.monotonic()
    start = len(log_of(database))
    first = worker.metric('shithub_worker_claims_total{result="empty"}')
    eventually(lambda: worker.metric('shithub_worker_claims_total{result="empty"}') >= first + 50, "50 polls")
    said = spoken(log_of(database)[start:], *pids)
    seconds = time.monotonic() - began
    last = worker.metric('shithub_worker_claims_total{result="empty"}')
    turns = [text for text in said if "lease_v1" in text]
    assert len(turns) >= 49
    assert len(turns) <= last - before + 1
    # Besides, what has a clock of its own: a sweep every 2 s, a beat every 5 s.
    assert len(said) - len(turns) <= 2 + seconds


def test_a_worker_at_full_speed_asks_once_for_hundreds_of_jobs(database, start_worker):
    enqueue(database, 6000, kind="test.ok")
    start = len(log_of(database))
    worker = start_worker(
        "--prefetch", "3600", "--until-empty", ready=False, env={"SHITHUBD_WORKER_DATABASE_URL": talkative(database)}
    )
    assert worker.wait() == 0
    turns = [text for text in spoken(log_of(database)[start:]) if "lease_v1" in text]
    # 1, 4, 4, 16, 16, 64, 64, 256, 256, and then 500 at a time; and some that find nothing.
    assert len(turns) <= 40
    assert len(spoken(log_of(database)[start:])) <= 200


def test_a_big_payload_costs_its_job_two_more_questions_and_its_neighbours_nothing(database, start_worker):
    enqueue(database, 341, kind="test.ok")
    enqueue(database, 1000, kind="test.ok", payload='{"pad": "%s"}' % ("x" * 5000))
    start = len(log_of(database))
    worker = start_worker(
        "--prefetch", "3600", "--until-empty", ready=False, env={"SHITHUBD_WORKER_DATABASE_URL": talkative(database)}
    )
    assert worker.wait() == 0
    assert len(spoken(log_of(database)[start:])) <= 2 * 1000 + 200
    updated = eventually(
        lambda: (n := database.value("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'jobs'")) >= 1341 and n
    )
    assert updated <= 4 * 1341


@pytest.mark.parametrize("via", ["tcp", "unix"])
@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("k", "{}"),
        ("k", '{"pad": "%s"}' % ("x" * 8000)),
        ("k" * 200, '{"pad": "%s"}' % ("x" * 300)),
        ("\U0001f41b" * 200, '{"pad": "%s"}' % ("x" * 300)),
    ],
    ids=["small", "8 kB", "a kind of 200 letters", "a kind of 200 emoji"],
)
def test_the_answer_of_a_lease_fits_into_the_sockets_buffers(any_database, kind, payload, via):
    """The transaction ends though nobody reads its answer."""
    database = any_database
    enqueue(database, 500, kind=kind, payload=payload)
    server = database.server
    url = database.url if via == "tcp" else f"postgresql://postgres@/{database.name}?host={server.directory}"
    driver = Driver(database, kind, url=f"{url}&port={server.port}" if via == "unix" else url)
    pid = driver.queue.connection.info.backend_pid
    try:
        driver.send(most=500)
        eventually(
            lambda: database.query("SELECT 1 FROM jobs WHERE state = 'processing' LIMIT 1"),
            "the end of the transaction",
        )
        eventually(
            lambda: database.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND xact_start IS NULL", pid),
            "the transaction's end as others see it",
        )
        answer = driver.receive()
    finally:
        driver.queue.close()
    assert len(answer.leases) == 500
    assert sum(len((lease.payload or "").encode()) for lease in answer.leases) <= 32_768


def test_a_lease_tells_how_much_of_a_payload_it_left_out(database, hire):
    driver = hire()
    for size in (10, 40_000, 20, 3000):
        enqueue(database, 1, payload='{"pad": "%s"}' % ("x" * size))
    leases = driver.lease()
    assert [lease.payload is None for lease in leases] == [False, True, False, True]
    left_out = [leases[1], leases[3]]
    assert {job: len(payload) for job, (payload, _) in driver.queue.payloads(left_out).items()} == {
        leases[1].id: 40_000 + len('{"pad": ""}'),
        leases[3].id: 3000 + len('{"pad": ""}'),
    }
    driver.queue.settle(done(leases[1:2]))
    assert list(driver.queue.payloads(left_out)) == [leases[3].id]


def test_payloads_that_were_left_out_are_fetched_together_as_far_as_memory_is_worth_it(database, hire):
    driver = hire()
    for kilobytes in (600, 400, 600, 0):
        pad = "".join(random.choices(string.ascii_letters, k=kilobytes * 1024))
        enqueue(database, 1, payload=json.dumps({"pad": pad}))
    leases = driver.lease()
    assert [lease.payload is None for lease in leases] == [True, True, True, False]
    assert list(driver.queue.payloads(leases[:3])) == [lease.id for lease in leases[:2]]
    assert list(driver.queue.payloads(leases[1:3])) == [lease.id for lease in leases[1:3]]


def test_a_job_behind_the_frontier_is_found_by_the_look_from_the_start_and_not_before(database, hire):
    driver = hire()
    enqueue(database, 10)
    finished = done(driver.lease())
    assert driver.turn(finished).leases == []
    enqueue(database, 1, run_at="now() - interval '1 hour'")
    assert driver.turn().leases == []
    driver.selection.anew()
    assert len(driver.turn().leases) == 1


def test_jobs_that_overtook_each_other_by_little_are_found_at_once(database, hire):
    driver = hire()
    enqueue(database, 3)
    driver.lease()
    looked_at = driver.turn().now
    enqueue(database, 1, run_at=f"to_timestamp({looked_at - 0.05})")
    enqueue(database, 1, run_at=f"to_timestamp({looked_at - 0.5})")
    assert [lease.id for lease in driver.turn().leases] == [4]
    driver.selection.anew()
    assert [lease.id for lease in driver.turn().leases] == [5]


def test_jobs_due_at_the_same_moment_are_leased_batch_by_batch_and_none_is_left_out(database, hire):
    driver = hire()
    enqueue(database, 1000)
    batches = []
    while leases := driver.turn(most=300).leases:
        batches.append([lease.id for lease in leases])
    assert [len(batch) for batch in batches] == [300, 300, 300, 100]
    assert [job for batch in batches for job in batch] == list(range(1, 1001))


def test_only_what_may_make_jobs_behind_the_frontier_runnable_says_anew(database, hire):
    driver = hire()
    heard = []
    driver.queue.listen(heard.append)
    driver.turn()  # idle from now on
    enqueue(database, 1)
    driver.turn()
    assert heard == [""]
    driver.turn()
    database.query("SELECT pause_kind_v1('k')")
    database.query("SELECT resume_kind_v1('k')")
    driver.turn()
    assert heard == ["", "anew"]


def test_a_kind_that_floods_leaves_the_next_turn_to_the_others(database, hire):
    driver = hire("flood", "rare", "none")
    enqueue(database, 2000, kind="flood")
    enqueue(database, 3, kind="rare")
    assert {lease.kind for lease in driver.lease()} == {"flood"}
    driver.selection.ran("flood", jobs=500, seconds=1.0, too_many=False)
    kinds = [lease.kind for lease in driver.turn().leases]
    assert kinds[:3] == ["rare"] * 3
    # What is left of the window goes to the next.
    assert kinds.count("flood") == int(500 * (1 - 3 / 500))


@pytest.mark.parametrize("pooled", [False, True])
def test_mixed_outcomes_of_one_turn_are_each_written_right(database, hire, pooled):
    driver = hire(pooled=pooled)
    enqueue(database, 7)
    leases = driver.lease()
    outcomes = [
        (OK, "7d"),
        (OK, "none"),
        (Outcome(How.RETRY, "again", 1000.0), "7d"),
        (Outcome(How.FAILED, "no"), "90d"),
        (Outcome(How.POISON, "never"), "7d"),
        (Outcome(How.RELEASED, "later"), "7d"),
        (Outcome(How.RELEASED, "later"), "none"),
    ]
    finished = [
        Finished(lease, outcome, retention, 0.0) for lease, (outcome, retention) in zip(leases, outcomes, strict=True)
    ]
    driver.selection.anew()  # what is given back lies behind the last scan
    answer = driver.turn(finished, most=1)
    assert answer.lost == set()
    assert [lease.id for lease in answer.leases] == [6]
    assert driver.turn(done(answer.leases, Outcome(How.RELEASED))).lost == set()
    assert database.query(
        "SELECT id, state, attempts, last_error, round(extract(epoch FROM run_at - now()), -2)::int, alone"
        " FROM jobs WHERE id < 6 ORDER BY id"
    ) == [
        (3, "queued", 1, "again", 1000, False),
        (4, "failed", 1, "no", 0, False),
        (5, "failed", 1, "never", 0, False),
    ]
    assert database.query(
        "SELECT id, outcome, attempts, error, retention FROM job_history WHERE id < 6 ORDER BY id"
    ) == [
        (1, "ok", 1, None, "7d"),
        (3, "retry", 1, "again", "7d"),
        (4, "failed", 1, "no", "90d"),
        (5, "poison", 1, "never", "7d"),
    ]
    assert database.query("SELECT id, error FROM job_history WHERE id > 5 AND error IS NOT NULL") == [(6, "later")]


@pytest.mark.parametrize("pooled", [False, True])
def test_one_lost_lease_among_five_hundred_is_lost_alone(database, hire, pooled):
    driver = hire(pooled=pooled)
    enqueue(database, 500)
    leases = driver.lease()
    stolen = leases[123]
    database.query("UPDATE jobs SET lease_token = gen_random_uuid() WHERE id = %s", stolen.id)
    assert driver.turn(done(leases)).lost == {stolen.id}
    assert database.query("SELECT id, state FROM jobs") == [(stolen.id, "processing")]
    assert database.value("SELECT count(*) FROM job_history WHERE outcome = 'ok'") == 499


def test_a_lost_lease_is_told_though_the_same_job_was_leased_and_done_again_since(database, hire):
    """Given back by the control thread, and leased once more by the same worker: two leases of one id in one turn."""
    driver = hire()
    enqueue(database, 1)
    (old,) = driver.lease()
    database.query("SELECT release_strays_v1(%s, ARRAY[%s::uuid])", driver.id, old.token)
    driver.selection.anew()
    (new,) = driver.turn().leases
    assert (old.id, old.token != new.token) == (new.id, True)
    driver.turn([*done([old], Outcome(How.RELEASED)), *done([new])])
    assert database.query("SELECT lease_token::text, outcome FROM job_history") == [(new.token, "ok")]
    assert database.query("SELECT 1 FROM jobs") == []


@pytest.mark.parametrize("how", [How.RETRY, How.FAILED, How.POISON, How.RELEASED])
def test_an_error_is_stored_exactly_as_it_is(database, hire, how):
    driver = hire()
    enqueue(database, len(NASTY) + 1)
    leases = driver.lease()
    texts = [*NASTY, None]
    finished = [
        Finished(lease, Outcome(how, text, 5000.0), "7d", 0.0) for lease, text in zip(leases, texts, strict=True)
    ]
    driver.send(finished, most=0)
    driver.receive()
    assert [text for (text,) in database.query("SELECT error FROM job_history ORDER BY id")] == texts
    assert [text for (text,) in database.query("SELECT last_error FROM jobs ORDER BY id")] == texts


def test_any_texts_survive_the_quoting_of_arrays(database):
    text = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    with database.connect() as connection:

        @given(st.lists(text))
        def survives(texts):
            assert connection.execute("SELECT %s::text[]", (as_quoted_array(texts),)).fetchone() == (texts,)

        survives()


@pytest.mark.parametrize("pooled", [False, True])
def test_a_turn_leaves_the_connection_usable_whatever_it_met(database, hire, pooled):
    driver = hire(pooled=pooled)
    enqueue(database, 2)
    (lease, other) = driver.lease()
    driver.send(done([lease], Outcome("crashed")))
    with pytest.raises(Exception, match="a worker can't settle a job as one of these"):
        driver.receive()
    assert driver.wire.forget().settles.finished[0].lease.id == lease.id
    assert driver.turn(done([lease, other])).lost == set()
    assert database.value("SELECT count(*) FROM job_history") == 2


@pytest.mark.parametrize("longer", [2, 5])
def test_leases_of_a_dead_worker_that_end_one_after_another_mark_none_of_them(database, hire, longer):
    """A batch of two kinds, one of them with a shorter lease: it is not held against the first that expires."""
    driver = hire("short", "long")
    enqueue(database, 1, kind="short")
    enqueue(database, longer, kind="long")
    assert len(driver.lease()) == 1 + longer
    sweeper = hire()
    for kind in ("short", "long"):
        database.query("UPDATE jobs SET lease_expires_at = now() WHERE kind = %s AND state = 'processing'", kind)
        sweeper.queue.sweep()
    assert database.query(
        "SELECT kind, state, attempts, crashes, count(*) FROM jobs GROUP BY 1, 2, 3, 4 ORDER BY 1"
    ) == [("long", "queued", 0, 0, longer), ("short", "queued", 0, 0, 1)]
