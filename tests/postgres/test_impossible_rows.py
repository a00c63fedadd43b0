"""A plain INSERT is a complete job. Which rows a table refuses, and that every other row can be leased."""

from __future__ import annotations

import psycopg
import pytest
from fresh_databases import Bare, contract_database  # noqa: F401 (fixtures)

from shithubd_worker.model import How


def test_a_kind_and_a_payload_are_a_complete_job(contract):
    with contract.connect() as connection:
        connection.autocommit = False
        row = connection.execute(
            "INSERT INTO jobs (kind, payload) VALUES ('search.reindex', '{\"repo\": \"a.git\"}') RETURNING *"
        ).fetchone()
        names = [column.name for column in connection.execute("SELECT * FROM jobs").description]
        now = connection.execute("SELECT now()").fetchone()[0]
        connection.rollback()
    job = dict(zip(names, row, strict=True))
    assert job.pop("id") > 0
    assert (job.pop("run_at"), job.pop("created_at")) == (now, now)
    assert job == {
        "kind": "search.reindex",
        "payload": {"repo": "a.git"},
        "state": "queued",
        "priority": 0,
        "attempts": 0,
        "alone": False,
        "max_attempts": None,
        "crashes": 0,
        "leased_by": None,
        "leased_at": None,
        "lease_expires_at": None,
        "lease_token": None,
        "worker_id": None,
        "last_error": None,
    }


def test_the_payload_may_be_left_out(contract):
    with contract.connect() as connection, connection.transaction(force_rollback=True):
        assert connection.execute("INSERT INTO jobs (kind) VALUES ('k') RETURNING payload").fetchone() == ({},)


def test_the_columns_are_the_promised_ones(contract):
    def columns(table):
        return [
            row[0]
            for row in contract.query(
                "SELECT column_name::text FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
                table,
            )
        ]

    jobs = "id kind payload state priority run_at attempts max_attempts crashes leased_by leased_at lease_expires_at"
    assert set(f"{jobs} lease_token last_error created_at".split()) <= set(columns("jobs"))
    history = "id kind outcome attempts leased_by leased_at finished_at error payload"
    assert set(history.split()) <= set(columns("job_history"))


JOB = "INSERT INTO jobs (kind, payload, state, leased_by, leased_at) VALUES"
LEASED = "'h:1', now()"
RAMP = "INSERT INTO ramps (hold_id, kind, stop_at, canary) VALUES"
WORKER = (
    "INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, version, schema_version,"
    " kinds, gives_up) VALUES (gen_random_uuid(), 'h', 1, '', '', 1, 1, '', 1, '{}', "
)
IMPOSSIBLE = [
    ("jobs_kind_is_a_name", f"{JOB} ('', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (repeat('a', 201), '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (E'a\\nb', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (E'a\\x1bb', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (E'a\\x7f', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_kind_is_a_name", f"{JOB} (U&'a\\009b', '{{}}', 'queued', NULL, NULL)"),
    ("jobs_payload_is_an_object", f"{JOB} ('k', '[]', 'queued', NULL, NULL)"),
    ("jobs_payload_is_an_object", f"{JOB} ('k', 'null', 'queued', NULL, NULL)"),
    ("jobs_payload_is_an_object", f"{JOB} ('k', '7', 'queued', NULL, NULL)"),
    (
        "jobs_payload_can_be_sent",
        f"{JOB} ('k', jsonb_build_object('a', repeat(E'\\x01', 130 * 1024 * 1024)), 'queued', NULL, NULL)",
    ),
    ("jobs_state_is_known", f"{JOB} ('k', '{{}}', 'done', NULL, NULL)"),
    ("jobs_state_is_known", f"{JOB} ('k', '{{}}', 'QUEUED', NULL, NULL)"),
    ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', 'processing', NULL, NULL)"),
    ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', 'processing', 'h:1', NULL)"),
    ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', 'processing', NULL, now())"),
    *(
        ("jobs_leased_while_processing", f"{JOB} ('k', '{{}}', '{state}', {by})")
        for state in ("queued", "paused", "failed")
        for by in (LEASED, "'h:1', NULL", "NULL, now()")
    ),
    (
        "job_history_outcome_is_known",
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
        " VALUES (1, 'k', 'done', 1, now(), '7d')",
    ),
    ("holds_scope_check", "INSERT INTO holds (scope, target, actor) VALUES ('planet', 'x', 'a')"),
    ("holds_fleet_has_no_target", "INSERT INTO holds (scope, target, actor) VALUES ('fleet', 'x', 'a')"),
    ("holds_fleet_has_no_target", "INSERT INTO holds (scope, target, actor) VALUES ('kind', '', 'a')"),
    *(
        (
            "workers_gives_up_is_a_time",
            f"{WORKER} {gives_up})",
        )
        for gives_up in ("0", "-1", "'infinity'", "'NaN'")
    ),
    ("sweeper_only_row_check", "INSERT INTO sweeper (only_row) VALUES (false)"),
    ("ramps_limit_something", f"{RAMP} (1, 'k', 0.2, NULL)"),
    *(
        (constraint, f"INSERT INTO ramps (hold_id, kind, stop_at, {columns}) VALUES (1, 'k', 0.2, {values})")
        for constraint, columns, values in (
            ("ramps_canary_check", "canary", "0"),
            ("ramps_steps_are_percentages", "steps", "'{50}'"),
            ("ramps_steps_are_percentages", "steps, every", "'{0}', 60"),
            ("ramps_steps_are_percentages", "steps, every", "'{101}', 60"),
            ("ramps_steps_are_percentages", "steps, every", "'{}', 60"),
            ("ramps_steps_are_percentages", "steps, every", "'{NULL}', 60"),
            ("ramps_every_check", "steps, every", "'{50}', 0.5"),
            ("ramps_rate_check", "rate", "0"),
            ("ramps_rate_check", "rate", "'NaN'"),
            ("ramps_ok_check", "rate, ok", "1, -1"),
            ("ramps_bad_check", "rate, bad", "1, -1"),
            ("ramps_tokens_check", "rate, tokens", "1, 'NaN'"),
            ("ramps_times_are_finite", "rate, began", "1, 'infinity'"),
            ("ramps_times_are_finite", "rate, over_at", "1, '-infinity'"),
            ("ramps_stopped_with_a_reason", "rate, stopped_at", "1, now()"),
            ("ramps_stopped_with_a_reason", "rate, stopped", "1, 'why'"),
        )
    ),
    ("ramps_stop_at_check", f"{RAMP} (1, 'k', 0, 1)"),
    ("ramps_stop_at_check", f"{RAMP} (1, 'k', 1.5, 1)"),
    ("ramp_ends_ok_check", "INSERT INTO ramp_ends (ramp, ok, bad) VALUES (1, -1, 0)"),
    ("ramp_ends_bad_check", "INSERT INTO ramp_ends (ramp, ok, bad) VALUES (1, 0, -1)"),
    *(
        (constraint, f"INSERT INTO kind_stats (kind, {column}) VALUES ('k', {value})")
        for constraint, column, value in (
            ("kind_stats_span_is_known", "seconds", "30"),
            ("kind_stats_begins_at_a_time", "begins", "'infinity'"),
            ("kind_stats_begins_at_a_time", "begins", "'-infinity'"),
            ("kind_stats_counts_have_limits", "ok", "-1"),
            ("kind_stats_counts_have_limits", "crashed", "1000000000000001"),
            ("kind_stats_histograms_count", "waits", "'[]'"),
            ("kind_stats_histograms_count", "runs", "'7'"),
            ("kind_stats_histograms_count", "runs", "'{\"x\": 1}'"),
            ("kind_stats_histograms_count", "waits", '\'{"1": "1"}\''),
            ("kind_stats_histograms_count", "waits", "'{\"1\": null}'"),
            ("kind_stats_histograms_count", "waits", "'{\"1\": [1, 2]}'"),
            ("kind_stats_histograms_count", "waits", "'{\"1\": -1}'"),
            ("kind_stats_histograms_count", "waits", "'{\"1\": 1e400}'"),
        )
    ),
    ("kind_stats_kind_is_a_name", "INSERT INTO kind_stats (kind) VALUES ('')"),
    ("kind_stats_kind_is_a_name", "INSERT INTO kind_stats (kind) VALUES (E'a\nb')"),
    ("worker_schema_only_row_check", "INSERT INTO worker_schema (only_row, version, functions) VALUES (false, 1, '')"),
]


@pytest.mark.parametrize(("constraint", "statement"), IMPOSSIBLE)
def test_an_impossible_row_is_refused(contract, constraint, statement):
    with contract.connect() as connection, connection.transaction(force_rollback=True):
        with pytest.raises(psycopg.errors.CheckViolation) as caught, connection.transaction():
            connection.execute(statement)
        assert caught.value.diag.constraint_name == constraint


def test_every_check_constraint_of_the_queue_refuses_a_row_here(contract):
    checks = contract.query(
        "SELECT conname::text FROM pg_constraint WHERE contype = 'c' AND connamespace = to_regnamespace('public')"
        " AND conrelid IN ('jobs'::regclass, 'job_history'::regclass, 'holds'::regclass, 'workers'::regclass,"
        " 'audit'::regclass, 'worker_schema'::regclass, 'sweeper'::regclass, 'ramps'::regclass, 'ramp_ends'::regclass,"
        " 'kind_stats'::regclass)"
    )
    assert {name for (name,) in checks} == {constraint for constraint, _ in IMPOSSIBLE}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO jobs (kind) VALUES (NULL)",
        "INSERT INTO jobs (kind, payload) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, state) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, run_at) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, priority) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, attempts) VALUES ('k', NULL)",
        "INSERT INTO jobs (kind, crashes) VALUES ('k', NULL)",
        "INSERT INTO holds (scope, target) VALUES ('kind', 'k')",
        "INSERT INTO audit (actor, action) VALUES ('a', 'drain')",
    ],
)
def test_a_required_column_cannot_be_left_out(contract, statement):
    with contract.connect() as connection, pytest.raises(psycopg.errors.NotNullViolation):
        connection.execute(statement)


def test_each_scope_has_at_most_one_hold_and_the_schema_one_version(contract):
    with contract.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO holds (scope, target, actor) VALUES ('kind', 'k', 'a')")
        for again in (
            "INSERT INTO holds (scope, target, actor) VALUES ('kind', 'k', 'b')",
            "INSERT INTO worker_schema (version, functions) VALUES (1, '')",
        ):
            with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute(again)


ODD = [
    "attempts = -5",
    "attempts = 2147483647",
    "crashes = -1",
    "crashes = 2147483647",
    "max_attempts = -1",
    "max_attempts = 0",
    "run_at = '-infinity'",
    "run_at = '4713-01-01 BC'",
    "lease_token = gen_random_uuid(), lease_expires_at = '2000-01-01', worker_id = gen_random_uuid()",
    "created_at = 'infinity', priority = -32768",
    "id = -9223372036854775808",
    "id = 9223372036854775807",
]


@pytest.mark.parametrize("odd", ODD)
def test_any_row_that_an_update_can_make_can_be_leased_and_settled(contract, odd):
    with Bare(contract.url, "public") as bare:
        for how in (How.OK, How.RETRY, How.FAILED, How.RELEASED):
            bare.queue.connection.execute("INSERT INTO jobs (kind) VALUES ('k')")
            bare.queue.connection.execute(f"UPDATE jobs SET {odd}")
            lease = bare.worker.lease(bare.kinds)
            assert lease is not None
            assert bare.settle(lease, how)
            bare.queue.connection.execute("DELETE FROM jobs")
