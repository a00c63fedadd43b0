"""What turns lease, in which order, and what they settle: driven by the test, without a process."""

from __future__ import annotations

import json
import random
import string

import pytest
from conftest import eventually
from drivers import OK, Driver, done, enqueue
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.database.arrays import as_quoted_array
from shithubd_worker.model import Finished, How, Outcome

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
    """The transaction ends even if nobody reads its answer."""
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


def test_a_lease_leaves_out_long_payloads_which_are_fetched_later(database, hire):
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


def test_left_out_payloads_are_fetched_together_up_to_a_limit_of_memory(database, hire):
    driver = hire()
    for kilobytes in (600, 400, 600, 0):
        pad = "".join(random.choices(string.ascii_letters, k=kilobytes * 1024))
        enqueue(database, 1, payload=json.dumps({"pad": pad}))
    leases = driver.lease()
    assert [lease.payload is None for lease in leases] == [True, True, True, False]
    assert list(driver.queue.payloads(leases[:3])) == [lease.id for lease in leases[:2]]
    assert list(driver.queue.payloads(leases[1:3])) == [lease.id for lease in leases[1:3]]


def test_only_a_look_from_the_start_finds_a_job_behind_the_frontier(database, hire):
    driver = hire()
    enqueue(database, 10)
    finished = done(driver.lease())
    assert driver.turn(finished).leases == []
    enqueue(database, 1, run_at="now() - interval '1 hour'")
    assert driver.turn().leases == []
    driver.selection.anew()
    assert len(driver.turn().leases) == 1


def test_a_job_just_behind_the_frontier_is_found_at_once(database, hire):
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


def test_only_a_change_that_can_free_jobs_behind_the_frontier_notifies_anew(database, hire):
    driver = hire()
    heard = []
    driver.queue.listen(heard.append)
    driver.turn()  # the worker is at rest from here on
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
    # The next kind gets the rest of the window.
    assert kinds.count("flood") == int(500 * (1 - 3 / 500))


@pytest.mark.parametrize("pooled", [False, True])
def test_each_of_the_mixed_outcomes_of_a_turn_is_written_correctly(database, hire, pooled):
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
    driver.selection.anew()  # jobs that are given back lie behind the last scan
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
def test_one_lost_lease_among_five_hundred_affects_no_other(database, hire, pooled):
    driver = hire(pooled=pooled)
    enqueue(database, 500)
    leases = driver.lease()
    stolen = leases[123]
    database.query("UPDATE jobs SET lease_token = gen_random_uuid() WHERE id = %s", stolen.id)
    assert driver.turn(done(leases)).lost == {stolen.id}
    assert database.query("SELECT id, state FROM jobs") == [(stolen.id, "processing")]
    assert database.value("SELECT count(*) FROM job_history WHERE outcome = 'ok'") == 499


def test_a_lost_lease_is_reported_even_if_the_worker_leased_and_finished_the_job_again(database, hire):
    """The control thread gave the job back, and the same worker leased it once more: two leases of one id in one
    turn."""
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


def test_any_texts_are_unchanged_by_the_quoting_of_arrays(database):
    text = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    with database.connect() as connection:

        @given(st.lists(text))
        def survives(texts):
            assert connection.execute("SELECT %s::text[]", (as_quoted_array(texts),)).fetchone() == (texts,)

        survives()


@pytest.mark.parametrize("pooled", [False, True])
def test_a_turn_leaves_the_connection_usable_after_any_error(database, hire, pooled):
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
def test_a_batch_whose_leases_expire_one_by_one_counts_no_crash(database, hire, longer):
    """A batch of a dead worker with two kinds, one with a shorter lease. The first job that expires is not charged with
    a crash."""
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
