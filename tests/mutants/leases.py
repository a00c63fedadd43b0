"""The lease and its fences: lease_v1, start_v1, renew_v1, settle_v1, and the answer about a lease afterwards."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

FENCES = ("test_a_write_under_another_token_changes_nothing[debian]",)
STATES = ("test_a_token_left_by_an_update_by_hand_allows_no_write[debian-queued]",)
LIFE = ("test_the_life_of_a_job[debian]",)

MUTANTS = (
    Mutant("a renewal needs no token", sql("renew_v1"), "AND lease_token = p_token ", "", LIFE),
    Mutant("a renewal alone needs no token", sql("renew_v1"), "AND lease_token = p_token AND", "AND", FENCES),
    Mutant("a second look needs no token", sql("start_v1"), "AND j.lease_token = p_token ", "", FENCES),
    Mutant(
        "a second look needs no token, in the life of a job", sql("start_v1"), "j.lease_token = p_token AND", "", LIFE
    ),
    Mutant("a renewal needs no state", sql("renew_v1"), " AND state = 'processing'", "", STATES),
    Mutant("a second look needs no state", sql("start_v1"), " AND j.state || '' = 'processing'", "", STATES),
    Mutant(
        "a settle as ok needs no state",
        sql("settle_v1"),
        "AND j.state || '' = 'processing' AND e.outcome = 'ok'",
        "AND e.outcome = 'ok'",
        STATES,
    ),
    Mutant(
        "any other settle needs no state",
        sql("settle_v1"),
        "AND j.state || '' = 'processing' AND e.outcome <> 'ok'",
        "AND e.outcome <> 'ok'",
        STATES,
    ),
    Mutant("payloads need no token", sql("payloads_v1"), "AND j.lease_token = p_token ", "", FENCES),
    Mutant(
        "the fate of any lease is that of the standing one",
        sql("lease_fate_v1"),
        "AND lease_token = p_token AND state",
        "AND state",
        FENCES,
    ),
    Mutant(
        "the fate of a lease is that of the last one",
        sql("lease_fate_v1"),
        "WHERE id = p_id AND lease_token = p_token ORDER BY finished_at LIMIT 1",
        "WHERE id = p_id ORDER BY finished_at DESC LIMIT 1",
        FENCES,
    ),
    Mutant(
        "all leases of a worker are strays", sql("release_strays_v1"), "AND j.lease_token = ANY (p_tokens)", "", FENCES
    ),
    Mutant(
        "a lease takes what isn't due",
        sql("lease_v1"),
        "> (v_range.since, v_range.after) AND j.run_at <= v_now",
        "> (v_range.since, v_range.after)",
        ("test_jobs_that_are_not_due_are_not_leased_with_those_that_are[debian]",),
    ),
    Mutant(
        "a job to pass over is leased",
        sql("lease_v1"),
        "AND j.id <> ALL (p_skip)",
        "",
        ("test_a_job_to_pass_over_is_not_leased[debian]",),
    ),
    Mutant(
        "a suspect job is leased with others",
        sql("lease_v1"),
        "IF v_alone[1] THEN",
        "IF false THEN",
        ("test_a_job_that_may_have_killed_a_worker_is_leased_alone[debian-alone]",),
    ),
    Mutant(
        "a lease after a settle commits asynchronously",
        sql("lease_v1"),
        "IF pg_current_xact_id_if_assigned() IS NULL THEN",
        "IF true THEN",
        ("test_only_a_turn_with_a_settle_waits_for_the_disk[debian-True]",),
    ),
    Mutant(
        "a settle commits as the session says",
        sql("settle_v1"),
        "SET LOCAL synchronous_commit = on;",
        "",
        ("test_only_a_turn_with_a_settle_waits_for_the_disk[debian-True]",),
    ),
    *(
        Mutant(
            f"{function} commits as the session says",
            sql(function),
            "SET LOCAL synchronous_commit = on;",
            "",
            (f"test_what_lets_a_run_go_on_waits_for_the_disk[debian-{function}]",),
        )
        for function in ("beat_v1", "renew_v1")
    ),
    Mutant(
        "a settle without an error clears the last error",
        sql("settle_v1"),
        "coalesce(h.error, j.last_error)",
        "h.error",
        ("test_a_release_keeps_the_last_error_and_the_mark_alone[debian]",),
    ),
    Mutant(
        "a release clears the mark of a suspect job",
        sql("settle_v1"),
        "alone = j.alone AND h.outcome = 'released'",
        "alone = false",
        ("test_a_release_keeps_the_last_error_and_the_mark_alone[debian]",),
    ),
    Mutant(
        "a release costs an attempt",
        sql("settle_v1"),
        "CASE WHEN h.outcome = 'released' THEN greatest(j.attempts, 1) - 1",
        "CASE WHEN h.outcome = 'released' THEN j.attempts",
        ("test_a_release_keeps_the_last_error_and_the_mark_alone[debian]",),
    ),
    Mutant(
        "a handler is told of a job that another worker has",
        sql("past_v1"),
        "j.lease_token = p_token AND ",
        "",
        ("test_a_handler_that_asks_once_another_worker_has_the_job_loses_its_lease",),
    ),
    Mutant(
        "a handler's question leaves a transaction open",
        "shithubd_worker/attempt/attempt.py",
        "with self.connection().transaction():\n            found",
        "self.connection()\n        if True:\n            found",
        ("test_a_handler_may_ask_wherever_its_connection_is[without_autocommit]",),
    ),
    Mutant(
        "a settle uses the cursors of the handler",
        "shithubd_worker/database/session.py",
        "psycopg.Cursor(connection, row_factory=tuple_row)",
        "connection.cursor(row_factory=tuple_row)",
        ("test_a_transaction_settles_whatever_cursors_the_handler_makes",),
    ),
    Mutant(
        "the payload of a job is made once",
        "shithubd_worker/job.py",
        'members: dict[str, Any] = json.loads(self._running.lease.payload or "")',
        "members: dict[str, Any] = self._running._members",
        ("test_the_payload_of_a_job_the_arguments_and_what_a_handler_does_to_either_are_apart",),
    ),
)
