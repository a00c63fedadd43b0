"""Workers of schema version 9 work on through `migrate`: what they call is still there, they obey a ramp, and nobody
takes their jobs because they are silent. They promised nothing of the kind."""

from __future__ import annotations

from uuid import uuid4

import pytest
from fresh_databases import Bare, blank_database, former_release, migrate  # noqa: F401 (a fixture)

from shithubd_worker.model import How

# What migration 0010 replaces, as version 9 had it.
REGISTER = """
CREATE FUNCTION register_v1(
    p_id uuid, p_host text, p_pid integer, p_machine_id text, p_boot_id text, p_pid_namespace bigint,
    p_start_ticks bigint, p_unit text, p_invocation_id text, p_version text, p_schema_version integer, p_kinds text[]
) RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
    INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, unit, invocation_id,
                         version, schema_version, kinds)
    VALUES (p_id, p_host, p_pid, p_machine_id, p_boot_id, p_pid_namespace, p_start_ticks, p_unit, p_invocation_id,
            p_version, p_schema_version, p_kinds)
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO beats (worker_id) VALUES (p_id) ON CONFLICT (worker_id) DO NOTHING
$$
"""
SWEEP = """
CREATE FUNCTION sweep_v1(
    p_worker uuid, p_back double precision DEFAULT NULL, p_strays uuid[] DEFAULT '{}', p_limit integer DEFAULT 2000,
    p_earliest double precision DEFAULT NULL, p_kinds text[] DEFAULT '{}', p_seconds double precision[] DEFAULT '{}'
) RETURNS TABLE (id bigint, kind text, outcome text) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RETURN QUERY SELECT 0::bigint, 'of version 9', '';
END $$
"""
DEAD = (
    "INSERT INTO jobs (kind, state, attempts, leased_by, leased_at, lease_expires_at, lease_token)"
    " VALUES ('k', 'processing', 1, 'h:1', now() - interval '2 min', now() - interval '1 min', gen_random_uuid())"
    " RETURNING id"
)


class Former:
    """A worker of version 9, and its session. It sends what its release sent, as prepared statements: the server has
    seen them before the migration, and has plans for them."""

    def __init__(self, database):
        self.id = uuid4()
        self.connection = database.connect()
        self.connection.prepare_threshold = 0

    def register(self):
        values = (self.id, "web1", 7, "m", "b", 1, 1, None, None, "0.9", 9, ["k"])
        self.connection.execute(f"SELECT * FROM register_v1({', '.join(['%s'] * 12)})", values)

    def sweep(self):
        values = (self.id, None, [], 2000, None, ["k"], [300.0])
        return self.connection.execute(
            "SELECT * FROM sweep_v1(%s, %s::float8, %s::uuid[], %s, %s::float8, %s, %s)", values
        ).fetchall()


@pytest.fixture
def former(blank, monkeypatch):
    """One that worked before the migration, after which it is on its own."""
    blank.query(f'ALTER DATABASE "{blank.name}" SET check_function_bodies = off')
    former_release(monkeypatch, 9)
    migrate(blank)
    for name, text in (("register_v1", REGISTER), ("sweep_v1", SWEEP)):
        blank.query(f"DROP FUNCTION {name}")
        blank.query(text)
    worker = Former(blank)
    worker.register()
    assert worker.sweep() == [(0, "of version 9", "")]
    monkeypatch.undo()
    assert migrate(blank)[0] == "0010_recovery"
    yield worker
    worker.connection.close()


def test_it_goes_on_with_the_functions_that_the_migration_replaced(blank, former):
    (job,) = blank.query(DEAD)[0]
    assert former.sweep() == [(job, "k", "crashed")]
    assert blank.query("SELECT run_at <= now(), attempts, crashes FROM jobs") == [(True, 0, 1)]
    blank.query("DELETE FROM workers")
    former.register()
    assert blank.query("SELECT host, gives_up FROM workers JOIN beats ON worker_id = id") == [("web1", None)]
    # None stands beside its successor: two of a name would make a call ambiguous.
    twice = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace GROUP BY 1 HAVING count(*) > 1"
    assert blank.query(twice) == []


@pytest.mark.parametrize("blank", ["debian"], indirect=True)
def test_it_obeys_a_ramp(blank, former):
    blank.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 9)")
    blank.query("SELECT ramp_kind_v1('k', p_canary => 2)")
    with Bare(blank.url, "public") as bare:  # a lease has the arguments that it had
        bare.worker.id = bare.queue.worker = former.id
        assert len(leases := bare.worker.lease_all(bare.kinds, 9)) == 2
        assert bare.worker.lease_all(bare.kinds, 9) == []
        assert all(bare.settle(lease, How.OK) for lease in leases)
        assert len(bare.worker.lease_all(bare.kinds, 9)) == 7


@pytest.mark.parametrize("blank", ["debian"], indirect=True)
@pytest.mark.parametrize("promise", [None, 60.0])
def test_nobody_takes_its_jobs_because_it_is_silent(blank, former, promise):
    """If it had promised to give up after a minute, they would be taken."""
    blank.query("INSERT INTO jobs (kind) VALUES ('k')")
    blank.query("UPDATE workers SET gives_up = %s", promise)
    with Bare(blank.url, "public") as bare:
        bare.worker.id = bare.queue.worker = former.id
        assert len(bare.worker.lease_all(bare.kinds)) == 1
        blank.query(
            "UPDATE jobs SET leased_at = now() - interval '1 hour', lease_expires_at = now() + interval '1 hour'"
        )
        blank.query("UPDATE beats SET beat_at = now() - interval '1 hour' WHERE worker_id = %s", former.id)
        bare.queue.worker = bare.me.id
        swept = bare.queue.sweep_silent(10.0, 1.0, 0.0, None, 3600.0)
    assert [how for _, _, how, _ in swept] == ([] if promise is None else ["crashed"])
    assert blank.query("SELECT state FROM jobs") == [("processing" if promise is None else "queued",)]
