"""Holds: their scope, their end, and what the functions of an operator record about each change."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

SCOPE = ("test_a_hold_covers_exactly_its_scope_until_its_end[host-web1-who1]",)
UNIT_SCOPE = ("test_a_hold_covers_exactly_its_scope_until_its_end[unit-w@1.service-who5]",)
FLEET = ("test_a_hold_covers_exactly_its_scope_until_its_end[fleet--who0]",)
KIND = ("test_a_hold_covers_exactly_its_scope_until_its_end[kind-k-who8]",)
TOLD = ("test_every_count_and_list_of_holds_leaves_out_ended_ones",)
GATE = ("test_a_second_look_takes_the_gate_as_a_lease_does",)


def _audit(change: str) -> tuple[str, ...]:
    return (f"test_a_change_leaves_one_audit_row_and_wakes_workers_with_something_to_do[{change}]",)


MUTANTS = (
    # The scope.
    Mutant(
        "a drain of a host drains all with that prefix",
        sql("covering_holds_v1"),
        "h.target = w.host",
        "starts_with(w.host, h.target)",
        SCOPE,
    ),
    Mutant(
        "a drain of a host drains all with that suffix",
        sql("covering_holds_v1"),
        "h.target = w.host",
        "w.host LIKE '%' || h.target",
        SCOPE,
    ),
    Mutant(
        "a drain of a unit drains all with that prefix",
        sql("covering_holds_v1"),
        "h.target = w.unit",
        "starts_with(w.unit, left(h.target, 3))",
        UNIT_SCOPE,
    ),
    Mutant(
        "a drain of a host holds everybody",
        sql("covering_holds_v1"),
        "(h.scope = 'host' AND h.target = w.host)",
        "h.scope = 'host'",
        SCOPE,
    ),
    Mutant(
        "a wait for a host waits for all with that prefix",
        sql("in_scope_v1"),
        "regexp_replace(j.leased_by, ':[^:]*$', '')) = p_target",
        "regexp_replace(j.leased_by, ':[^:]*$', '')) LIKE p_target || '%'",
        SCOPE,
    ),
    Mutant(
        "a wait for a kind waits for all kinds",
        sql("in_scope_v1"),
        "WHEN 'kind' THEN j.kind = p_target",
        "WHEN 'kind' THEN true",
        ("test_a_hold_covers_exactly_its_scope_until_its_end[kind-k2-who9]",),
    ),
    # The end.
    Mutant(
        "a drain whose end has passed holds", sql("covering_holds_v1"), "FROM standing_holds h", "FROM holds h", FLEET
    ),
    Mutant("a pause whose end has passed holds", sql("held_kinds_v1"), "FROM standing_holds", "FROM holds", KIND),
    Mutant(
        "a drain with an end holds nobody",
        "sql/migrations/*.sql",
        "until IS NULL OR until > clock_timestamp();",
        "until IS NULL;",
        FLEET,
    ),
    Mutant(
        "a drain ends a minute early",
        "sql/migrations/*.sql",
        "until > clock_timestamp();",
        "until > clock_timestamp() + interval '1 minute';",
        FLEET,
    ),
    Mutant("status shows holds that are over", sql("status_v1"), "FROM standing_holds h", "FROM holds h", TOLD),
    Mutant(
        "metrics count holds that are over",
        sql("queue_gauges_v1"),
        "FROM standing_holds GROUP BY",
        "FROM holds GROUP BY",
        TOLD,
    ),
    Mutant("a worker starts and names ended pauses", sql("pauses_v1"), "FROM standing_holds", "FROM holds", TOLD),
    Mutant(
        "jobs held by the fleet's drain count as runnable",
        sql("kinds_v1"),
        "s.fleet OR p.kind IS NOT NULL AS stopped",
        "p.kind IS NOT NULL AS stopped",
        TOLD,
    ),
    # The gate.
    Mutant("a second look takes no gate", sql("start_v1"), "LOCK TABLE gate IN ROW SHARE MODE;", "", GATE),
    Mutant("a lease takes no gate", sql("lease_v1"), "LOCK TABLE gate IN ROW SHARE MODE;", "", GATE),
    Mutant(
        "a second look is blind to drains",
        sql("start_v1"),
        "IF EXISTS (SELECT FROM covering_holds_v1(p_worker)) THEN",
        "IF false THEN",
        FLEET,
    ),
    Mutant("a second look is blind to pauses", sql("start_v1"), "AND j.kind <> ALL (v_held)", "", KIND),
    Mutant(
        "the barrier doesn't wait for holders of the gate",
        sql("barrier_v1"),
        "EXIT WHEN v_holders IS NULL;",
        "EXIT;",
        ("test_the_barrier_waits_for_a_lease_that_has_the_gate",),
    ),
    Mutant(
        "the barrier doesn't wait for young leases",
        sql("barrier_v1"),
        "WHILE v_left > 0 AND EXISTS",
        "WHILE false AND EXISTS",
        ("test_a_lease_in_the_future_delays_the_barrier_by_one_window_at_most",),
    ),
    # What a pause marks, and what a resume flips back.
    Mutant(
        "a pause marks later jobs, too",
        sql("mirror_pause_v1"),
        "AND j.created_at <= v_hold.created",
        "",
        ("test_a_pause_flips_the_waiting_jobs_and_its_end_flips_no_other_kind",),
    ),
    Mutant(
        "a resume flips later kinds, too",
        sql("unpause_v1"),
        " AND (j.kind, j.id) <= (p_kind, 9223372036854775807)",
        "",
        ("test_a_pause_flips_the_waiting_jobs_and_its_end_flips_no_other_kind",),
    ),
    # The record.
    Mutant(
        "a hold leaves no audit row",
        sql("hold_v1"),
        "    RETURN v_hold;",
        '    DELETE FROM :"schema".audit WHERE id = (SELECT max(id) FROM :"schema".audit); RETURN v_hold;',
        _audit("drain"),
    ),
    Mutant("the audit row of a hold lacks its end", sql("hold_v1"), ", 'until', p_until", "", _audit("drain")),
    Mutant(
        "the audit row of a resume names the wrong setter",
        sql("unhold_v1"),
        "'set_by', v_hold.actor",
        "'set_by', p_actor",
        _audit("resume"),
    ),
    Mutant("a resume wakes nobody", sql("unhold_v1"), 'PERFORM :"schema".wake_v1();', "", _audit("resume")),
    Mutant("a release wakes nobody", sql("change_some_v1"), "'retry', 'release'", "'retry'", _audit("release")),
    Mutant("a retry wakes nobody", sql("change_some_v1"), "'retry', 'release'", "'release'", _audit("retry")),
    Mutant(
        "the audit row of a forced release does not tell so",
        sql("change_some_v1"),
        "jsonb_build_object('with', p_with",
        "jsonb_build_object('with', p_with - 'accept_second_run'",
        _audit("force"),
    ),
    Mutant(
        "the audit row of a release doesn't name the job",
        sql("record_change_v1"),
        "p_reason, p_ids[1:100]",
        "p_reason, ARRAY[]::bigint[]",
        _audit("release"),
    ),
    Mutant(
        "a job that isn't processing is released",
        sql("job_condition_v1"),
        """@> '{"accept_second_run": true}' THEN 'j.state = ''processing'''""",
        """@> '{"accept_second_run": true}' THEN 'j.state <> ''failed'''""",
        ("test_a_command_that_changes_nothing_leaves_no_audit_row_and_wakes_nobody[force]",),
    ),
    Mutant(
        "a retry keeps its crashes",
        sql("wanted_job_v1"),
        "p_job.crashes := 0;",
        "",
        ("test_a_retry_resets_a_failed_job_and_keeps_the_attempts_of_a_postponed_one",),
    ),
    Mutant(
        "a retry of a postponed job forgets its attempts",
        sql("wanted_job_v1"),
        "THEN 0 ELSE p_job.attempts END",
        "THEN 0 ELSE 0 END",
        ("test_a_retry_resets_a_failed_job_and_keeps_the_attempts_of_a_postponed_one",),
    ),
    Mutant(
        "a discarded job is kept for a week",
        sql("change_slice_v1"),
        "'90d'",
        "'7d'",
        ("test_a_discarded_job_is_kept_for_ninety_days_with_its_payload",),
    ),
    Mutant(
        "a discarded job loses its payload",
        sql("change_slice_v1"),
        "THEN o.payload END",
        "THEN NULL::jsonb END",
        ("test_a_discarded_job_is_kept_for_ninety_days_with_its_payload",),
    ),
    Mutant(
        "a repeated hold keeps the old end",
        sql("hold_v1"),
        "until = excluded.until, ",
        "",
        ("test_a_repeated_hold_moves_the_end_and_keeps_the_reason_unless_given",),
    ),
    Mutant(
        "a repeated hold without a reason clears the old one",
        sql("hold_v1"),
        "coalesce(excluded.reason, holds.reason)",
        "excluded.reason",
        ("test_a_repeated_hold_moves_the_end_and_keeps_the_reason_unless_given",),
    ),
    Mutant(
        "a hold may be over before it is set",
        sql("hold_v1"),
        "IF p_until <= clock_timestamp() THEN",
        "IF false THEN",
        ("test_a_hold_whose_end_has_passed_is_refused",),
    ),
    Mutant(
        "a resume of a host ends the drains of all hosts",
        sql("resume_v1"),
        "(h.scope = p_scope AND h.target = p_target)",
        "h.scope = p_scope",
        ("test_a_resume_of_one_host_leaves_the_drain_of_another",),
    ),
)
