"""Enqueues and wake-ups, and the indexes by which a queue is read."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

TABLES = "sql/migrations/0001_*.sql"

MUTANTS = (
    Mutant(
        "each enqueue sends a NOTIFY",
        sql("jobs_enqueued_v1"),
        "IF NOT (pg_try_advisory_lock",
        "IF true OR NOT (pg_try_advisory_lock",
        ("test_an_enqueue_notifies_only_while_a_worker_is_at_rest[debian]",),
    ),
    Mutant(
        "an enqueue sends no NOTIFY",
        sql("jobs_enqueued_v1"),
        "THEN\n        PERFORM",
        "AND false THEN\n        PERFORM",
        ("test_an_enqueue_notifies_only_while_a_worker_is_at_rest[debian]",),
    ),
    Mutant(
        "an enqueue keeps the lock of resting workers",
        sql("jobs_enqueued_v1"),
        "AND pg_advisory_unlock(7304, hashtext(:'schema'))",
        "",
        ("test_an_enqueue_keeps_no_advisory_lock[debian]",),
    ),
    Mutant(
        "nobody is woken, even by an empty queue of notifications",
        sql("wake_v1"),
        "< 0.5",
        "< 0.0",
        ("test_a_change_leaves_one_audit_row_and_wakes_workers_with_something_to_do[resume]",),
    ),
    Mutant(
        "enqueues notify even if transactions can be prepared",
        sql("enqueues_notify_v1"),
        "current_setting('max_prepared_transactions') = '0'",
        "true",
        ("test_an_enqueue_can_be_part_of_a_two_phase_commit",),
    ),
    Mutant(
        "a resume wakes for new jobs alone",
        sql("wake_v1"),
        "CASE WHEN p_anew THEN 'anew' ELSE '' END",
        "''",
        ("test_a_change_leaves_one_audit_row_and_wakes_workers_with_something_to_do[resume]",),
    ),
    Mutant(
        "no index has the paused jobs",
        TABLES,
        "(state, kind, id) WHERE state IN ('paused', 'failed')",
        "(state, kind, id) WHERE state IN ('failed')",
        ("test_the_commands_of_an_incident_read_few_rows_of_a_long_queue",),
    ),
    Mutant(
        "the index of the queue has no priorities",
        TABLES,
        "(kind, priority, run_at, id) WHERE state = 'queued'",
        "(kind, run_at, id) WHERE state = 'queued'",
        ("test_leases_and_settles_read_only_the_rows_that_they_take",),
    ),
)
