"""Which workers an enqueue wakes, what that costs the enqueue, and that an enqueue never fails because of it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from conftest import PATIENCE, Database, eventually
from servers import Server, debian_bindir

from shithubd_worker.database import schema

LEASE = (
    "SELECT count(*) FILTER (WHERE id IS NOT NULL) FROM lease_v1(%s, gen_random_uuid(), '{k}', '{-32768}', '{32767}',"
    " '{-infinity}', '{0}', '{300}', '{1}', %s)"
)
BEAT = "SELECT beat_v1(%s, 'idle', NULL, NULL, NULL)"
ENQUEUE = "INSERT INTO jobs (kind) VALUES ('k')"


class Sleeper:
    """A worker without a process, used for its session: it leases one job, or goes to rest."""

    def __init__(self, database):
        self.id = uuid4()
        self.connection = database.connect()
        self.connection.execute("SELECT register_v1(%s, 'h', 1, 'm', 'b', 0, 0, NULL, NULL, '0', 3, '{k}')", (self.id,))

    def turn(self, *, wakeable=True):
        (leased,) = self.connection.execute(LEASE, (self.id, wakeable)).fetchone()
        return leased


@pytest.fixture
def sleeper(any_database):
    made = Sleeper(any_database)
    yield made
    made.connection.close()


@contextmanager
def listening(database):
    """Yields a function that returns the notifications since its last call."""
    with database.connect() as connection:
        connection.execute('LISTEN "shithubd:public"')

        def heard():
            connection.execute("SELECT pg_notify('shithubd:public', 'end')")
            found = []
            for notify in connection.notifies(timeout=PATIENCE):
                if notify.payload == "end":
                    return found
                found.append(notify.payload)
            pytest.fail("not even the end was heard")

        yield heard


def tables(database, statement, *arguments, how):
    """Those of our tables that a statement read or wrote."""
    with database.connect() as connection, connection.transaction():  # a new session, which has no counts yet
        connection.execute(statement, arguments)
        counted = {"read": "seq_scan + coalesce(idx_scan, 0)", "wrote": "n_tup_ins + n_tup_upd + n_tup_del"}
        query = f"SELECT relname FROM pg_stat_xact_user_tables WHERE {counted[how]} > 0"
        return {name for (name,) in connection.execute(query)}


def test_no_enqueue_and_no_lease_reads_what_a_beat_writes(any_database, sleeper):
    """Each beat leaves a dead row version. While somebody holds a snapshot, these pile up for every reader of the
    row."""
    written = tables(any_database, BEAT, sleeper.id, how="wrote")
    assert written == {"beats"}
    for wakeable in (True, False):
        assert "workers" in tables(any_database, LEASE, sleeper.id, wakeable, how="read")
        assert not written & tables(any_database, LEASE, sleeper.id, wakeable, how="read")
        assert tables(any_database, LEASE, sleeper.id, wakeable, how="wrote") == set()
    assert tables(any_database, ENQUEUE, how="read") == set()
    assert tables(any_database, ENQUEUE, how="wrote") == {"jobs"}


def test_an_enqueue_notifies_only_while_a_worker_is_at_rest(any_database, sleeper):
    with listening(any_database) as heard, any_database.connect() as client:
        client.execute(ENQUEUE)
        assert (heard(), any_database.at_rest()) == ([], 0)  # the worker never asked for a job
        assert sleeper.turn() == 1
        client.execute(ENQUEUE)
        assert heard() == []  # the worker is at work
        assert sleeper.turn() == 1
        for _ in range(3):
            assert sleeper.turn() == 0
        client.execute(ENQUEUE)
        assert heard() == [""]
        assert sleeper.turn() == 1
        client.execute(ENQUEUE)
        assert (heard(), any_database.at_rest()) == ([], 0)  # although it went to rest three times


@pytest.mark.parametrize("end", ["it wants no more", "it is held", "its process is killed"])
def test_a_worker_that_no_longer_rests_causes_no_notifications(any_database, sleeper, end):
    sleeper.turn()
    assert any_database.at_rest() == 1
    if end == "it wants no more":
        sleeper.turn(wakeable=False)
    elif end == "it is held":
        any_database.query("SELECT drain_v1('fleet')")
        sleeper.turn()
    else:
        any_database.query("SELECT pg_terminate_backend(%s)", sleeper.connection.info.backend_pid)
    eventually(lambda: any_database.at_rest() == 0, "nobody is at rest")
    with listening(any_database) as heard:
        any_database.query(ENQUEUE)
        assert heard() == []
        any_database.query("SELECT resume_v1('fleet')")
        assert heard() == (["anew"] if end == "it is held" else [])


def test_a_worker_at_work_does_not_keep_another_one_from_being_woken(any_database, sleeper):
    other = Sleeper(any_database)
    sleeper.turn()
    other.turn()
    any_database.query(ENQUEUE)
    assert other.turn() == 1
    with listening(any_database) as heard:
        any_database.query(ENQUEUE)
        assert heard() == [""]
    other.connection.close()


def test_an_enqueue_keeps_no_advisory_lock(any_database, sleeper):
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    for at_rest in (False, True):
        if at_rest:
            sleeper.turn()
        with any_database.connect() as client, client.transaction(force_rollback=True):
            client.execute(ENQUEUE)
            assert client.execute(locks).fetchone() == (0,)


def test_a_worker_whose_row_was_removed_registers_both_rows_again(any_database, sleeper):
    any_database.query("DELETE FROM workers")
    assert any_database.query("SELECT FROM beats") == []
    assert sleeper.connection.execute(BEAT, (sleeper.id,)).fetchone() == (None,)


WAYS = {
    "in SERIALIZABLE": ["BEGIN ISOLATION LEVEL SERIALIZABLE", ENQUEUE, "COMMIT"],
    "in REPEATABLE READ": ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT FROM jobs", ENQUEUE, "COMMIT"],
    "in a subtransaction": ["BEGIN", "SAVEPOINT s", ENQUEUE, "RELEASE s", "COMMIT"],
    "beside a subtransaction that failed": ["BEGIN", "SAVEPOINT s", ENQUEUE, "ROLLBACK TO s", ENQUEUE, "COMMIT"],
    "with the least lock_timeout": ["SET lock_timeout = 1", ENQUEUE],
    "by somebody who may only INSERT": ["SET ROLE clerk", ENQUEUE],
    "without triggers, as a replica": ["SET session_replication_role = replica", ENQUEUE],
    "with a strange shithub.notify": ["SET shithubd.notify = 'perhaps'", ENQUEUE],
    "by one who has all of our locks": ["SELECT pg_advisory_lock(7304, schema_key_v1())", ENQUEUE],
}


@pytest.mark.parametrize("at_rest", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_an_enqueue_works(any_database, sleeper, way, at_rest):
    if at_rest:
        sleeper.turn()
    role = f"clerk_{any_database.name}"
    any_database.query(f"CREATE ROLE {role}")
    any_database.query(f"GRANT INSERT (kind) ON jobs TO {role}")
    with any_database.connect() as client:
        if not (at_rest and "all of our locks" in way):  # otherwise it would wait for the worker
            for statement in WAYS[way]:
                client.execute(statement.replace("clerk", role))
    with any_database.connect() as client:
        client.execute("DROP OWNED BY " + role)
        client.execute("DROP ROLE " + role)
    if not (at_rest and "all of our locks" in way):
        assert sleeper.turn() == 1


def test_an_enqueue_works_by_copy(any_database, sleeper):
    sleeper.turn()
    with listening(any_database) as heard, any_database.connect() as client:
        with client.cursor().copy("COPY jobs (kind) FROM STDIN") as copy:
            copy.write("k\nk\n")
        assert heard() == [""]
    assert sleeper.turn() == 1


@pytest.fixture(scope="module")
def two_phase_server():
    server = Server(debian_bindir(), "max_prepared_transactions = 5")
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        schema.migrate(connection, "public")
    yield Database(server, "postgres")
    server.remove()


@pytest.mark.parametrize(
    ("told", "notified", "can_be_prepared"),
    [(None, False, True), ("off", False, True), ("on", True, False)],
)
def test_an_enqueue_can_be_part_of_a_two_phase_commit(two_phase_server, told, notified, can_be_prepared):
    database = two_phase_server
    sleeper = Sleeper(database)
    while sleeper.turn():
        pass
    with listening(database) as heard, database.connect() as client:
        if told:
            client.execute(f"SET shithubd.notify = {told}")
        client.execute(ENQUEUE)
        assert heard() == ([""] if notified else [])
        client.execute("BEGIN")
        client.execute(ENQUEUE)
        if can_be_prepared:
            client.execute("PREPARE TRANSACTION 'ours'")
            client.execute("COMMIT PREPARED 'ours'")
        else:
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="NOTIFY"):
                client.execute("PREPARE TRANSACTION 'ours'")
    assert [sleeper.turn() for _ in range(3)] == [1, int(can_be_prepared), 0]
    sleeper.connection.close()


def test_an_enqueue_that_switches_notify_off_can_be_prepared(two_phase_server):
    with two_phase_server.connect() as client:
        client.execute("SET shithubd.notify = on")
        client.execute("BEGIN")
        client.execute("SET LOCAL shithubd.notify = off")
        client.execute(ENQUEUE)
        client.execute("PREPARE TRANSACTION 'ours'")
        client.execute("ROLLBACK PREPARED 'ours'")


@pytest.fixture
def server_with_a_short_notify_queue(request):
    server = Server(request.getfixturevalue("embedded_server").bindir, "max_notify_queue_pages = 64")
    yield server
    server.remove()


def fill(connection):
    while True:
        connection.execute("SELECT pg_notify('something', repeat('x', 7000) || n) FROM generate_series(1, 8) n")


def test_an_enqueue_works_while_the_servers_queue_of_notifications_is_full(server_with_a_short_notify_queue):
    database = Database(server_with_a_short_notify_queue, "postgres")
    with database.connect() as connection:
        schema.migrate(connection, "public")
    sleeper = Sleeper(database)
    sleeper.turn()
    with database.connect() as stuck, database.connect() as flood:
        stuck.execute("LISTEN something")
        stuck.execute("BEGIN")
        stuck.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="NOTIFY queue"):
            fill(flood)
        flood.execute(ENQUEUE)
        assert sleeper.turn() == 1
        # every other function that makes jobs runnable
        flood.execute(f"SELECT release_worker_v1('{sleeper.id}', 'it is dead')")
        assert flood.execute("SELECT state FROM jobs").fetchall() == [("queued",)]
        stuck.execute("ROLLBACK")
    sleeper.connection.close()


def test_the_number_of_beats_does_not_depend_on_the_number_of_jobs(database, start_worker):
    database.query("CREATE TABLE told (at timestamptz)")
    database.query(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.told VALUES (clock_timestamp()); RETURN NULL; END $$"
    )
    worker = start_worker()
    eventually(database.at_rest, "it is at rest")
    database.query("CREATE TRIGGER tell AFTER UPDATE ON beats FOR EACH ROW EXECUTE FUNCTION tell()")
    began = time.monotonic()
    with database.connect() as client:
        while time.monotonic() - began < 4:
            # The worker is at work half of the time, so each look of the control thread may find another state.
            client.execute("INSERT INTO jobs (kind, payload) VALUES ('test.sleep', '{\"seconds\": 0.05}')")
            time.sleep(0.1)
    took = time.monotonic() - began
    # A run that the machine made long causes two beats: when it began, and when it ended.
    long = database.value("SELECT count(*) FROM job_history WHERE finished_at - leased_at > interval '0.4 s'")
    assert database.value("SELECT count(*) FROM told") <= 2 + took / 5 + 2 * long
    assert worker.terminate() == 0
