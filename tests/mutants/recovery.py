"""The leases of dead workers: which worker counts as dead, when a job runs again, and what is counted."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

LIVES = ("test_a_worker_lives_for_thirty_seconds_after_its_beat_in_every_query",)
CRASHES = ("test_a_job_runs_again_at_once_after_the_first_crash_and_half_a_minute_later_after_the_second",)
LEAVES = ("test_a_worker_that_leaves_with_a_lease_keeps_its_row_and_its_drain",)
ENDED = ("test_the_counts_of_a_worker_that_left_are_added_once",)
LIVING = ("test_if_one_worker_beats_nothing_changes_also_for_the_dead_ones",)
REUSED = ("test_a_pid_that_is_used_again_never_takes_the_jobs_of_the_living_worker",)
ACCEPTED = ("test_who_accepts_a_second_run_gets_the_jobs_of_a_living_worker_and_its_row_stays",)
REMOVED = ("test_the_removal_of_many_kinds_looks_to_no_worker_like_an_end_of_a_job",)
FORGOTTEN = ("test_a_silent_worker_is_forgotten_only_after_a_day",)

MUTANTS = (
    Mutant("a worker is dead after 5 s of silence", sql("lives_v1"), "< 30,", "< 5,", LIVES),
    Mutant("a worker is silent after 300 s", sql("lives_v1"), "< 30,", "< 300,", LIVES),
    Mutant(
        "a second crash is returned at once",
        sql("return_crashed_v1"),
        "o.held > 1 OR o.crash = 1 THEN",
        "o.held > 1 OR o.crash <= 2 THEN",
        CRASHES,
    ),
    Mutant(
        "a first crash waits for half a minute",
        sql("return_crashed_v1"),
        "o.held > 1 OR o.crash = 1 THEN",
        "o.held > 1 THEN",
        CRASHES,
    ),
    Mutant(
        "a crash is counted twice",
        sql("count_ended_v1"),
        "added_v1(r.crashed, excluded.crashed)",
        "added_v1(r.crashed, 2 * excluded.crashed)",
        CRASHES,
    ),
    Mutant(
        "a crash costs an attempt",
        sql("return_crashed_v1"),
        "attempts = greatest(o.attempts, 1) - 1",
        "attempts = o.attempts",
        CRASHES,
    ),
    Mutant(
        "a crashed job is leased with others", sql("return_crashed_v1"), "alone = true,", "alone = j.alone,", CRASHES
    ),
    Mutant(
        "a worker that leaves with a lease removes its row",
        sql("remove_workers_v1"),
        "\n       AND NOT EXISTS (SELECT FROM :\"schema\".jobs j WHERE j.state = 'processing' AND j.worker_id = w.id)",
        "",
        LEAVES,
    ),
    Mutant(
        "a drain of a worker outlives it",
        sql("remove_workers_v1"),
        'PERFORM :"schema".forget_drains_v1();',
        "",
        LEAVES,
    ),
    Mutant(
        "a drain that ended with its worker leaves no audit row",
        sql("forget_drains_v1"),
        "FROM ended",
        "FROM ended WHERE false",
        LEAVES,
    ),
    Mutant(
        "the counts of a worker that left are added twice",
        sql("count_ended_v1"),
        "added_v1(r.retry, excluded.retry)",
        "added_v1(r.retry, 2 * excluded.retry)",
        ENDED,
    ),
    Mutant(
        "a lost lease is counted as released",
        sql("count_ended_v1"),
        "outcome = 'lease_lost'",
        "outcome = 'released'",
        ENDED,
    ),
    Mutant(
        "a living worker is unlocked",
        sql("force_unlock_workers"),
        "IF NOT coalesce(accept_second_run, false) THEN",
        "IF false THEN",
        LIVING,
    ),
    Mutant(
        "a pid that is used again means the living worker, too",
        sql("force_unlock_workers"),
        "HAVING count(*) > 1 AND",
        "HAVING false AND",
        REUSED,
    ),
    Mutant(
        "a living worker that is unlocked leaves the list",
        sql("force_unlock_workers"),
        "WHERE NOT (n->>'lives'::text)::boolean));",
        "WHERE true));",
        ACCEPTED,
    ),
    Mutant(
        "an operator's sweep trusts the database's clock alone",
        sql("sweep_leases_v1"),
        "to_timestamp(p_earliest)",
        "NULL",
        ("test_sweep_takes_nothing_if_only_the_databases_clock_says_that_it_expired",),
    ),
    Mutant(
        "the counts of removed kinds leave the sums",
        sql("forget_kinds_v1"),
        "WHERE r.kind = ANY (v_far) GROUP BY 1",
        "WHERE false GROUP BY 1",
        REMOVED,
    ),
    Mutant("a kind with a name is always removed", sql("forget_kinds_v1"), "> 100) THEN", "> 1000) THEN", REMOVED),
    Mutant(
        "the cleanup discards a job that is no longer failed",
        sql("change_all_v1"),
        "p_with, p_where, p_reason",
        "p_with, '{}', p_reason",
        ("test_a_job_that_is_retried_meanwhile_is_not_discarded",),
    ),
    Mutant("a worker is forgotten after two hours", sql("forget_workers_v1"), "> 86400", "> 7200", FORGOTTEN),
    Mutant(
        "a sweep takes the finished jobs of a living worker",
        sql("expired_leases_v1"),
        "AND j.id = ANY (b.unsettled)",
        "AND false",
        ("test_no_sweep_takes_a_finished_job_of_a_worker_that_beats",),
    ),
    Mutant(
        "a sweep ends no hold",
        sql("sweep_v1"),
        "PERFORM end_expired_holds_v1();",
        "NULL;",
        ("test_a_pause_whose_end_has_passed_gives_back_the_jobs_that_it_marked",),
    ),
    Mutant(
        "a hold whose end passed is recorded as a resume",
        sql("end_expired_holds_v1"),
        "'shithubd-worker', 'expire'",
        "'shithubd-worker', 'resume'",
        ("test_a_pause_whose_end_has_passed_gives_back_the_jobs_that_it_marked",),
    ),
    Mutant(
        "a lease that ends too late is never shortened",
        sql("shorten_leases_v1"),
        "SET lease_expires_at = v_late.expires",
        "SET lease_expires_at = lease_expires_at",
        ("test_a_lease_that_ends_too_late_is_shortened_unless_its_owner_has_a_valid_beat",),
    ),
)
