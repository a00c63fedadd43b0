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
SILENT = ("test_a_worker_is_silent_after_its_own_time_and_the_sweepers",)
LATE = ("test_a_beat_after_the_jobs_may_have_been_taken_lets_the_run_go_on_only_after_a_renewal",)
FORGOTTEN = ("test_a_silent_worker_is_forgotten_only_after_a_day",)

MUTANTS = (
    # The sweep for silent workers.
    Mutant(
        "a sweep goes below what a worker promised",
        sql("silent_workers_v1"),
        "ELSE greatest(p_threshold, w.gives_up) END",
        "ELSE p_threshold END",
        SILENT,
    ),
    Mutant(
        "a worker that promised nothing is swept",
        sql("silent_workers_v1"),
        "(p_accept OR w.gives_up IS NOT NULL)",
        "true",
        SILENT,
    ),
    Mutant(
        "a lease is no sign of life",
        sql("silent_workers_v1"),
        "AND v_now - date_part('epoch', j.leased_at) < n.seconds",
        "AND false",
        ("test_a_worker_that_leases_is_not_silent_and_keeps_its_older_jobs_too",),
    ),
    Mutant(
        "a sweep takes what a silent worker leases meanwhile",
        sql("silent_workers_v1"),
        "AND v_now - date_part('epoch', j.leased_at) >= v_silent.needs\n",
        "\n",
        ("test_a_job_that_a_silent_worker_leases_during_the_sweep_stays_its_own",),
    ),
    Mutant(
        "a step of the clock is a silence",
        sql("silent_workers_v1"),
        "AND n.seconds <= p_steady",
        "",
        ("test_a_silence_that_is_longer_than_the_clock_was_watched_is_not_certain",),
    ),
    Mutant(
        "a sweep for the silent trusts the database's clock alone",
        sql("sweep_silent_v1"),
        "least(clock_timestamp(), to_timestamp(p_earliest))",
        "clock_timestamp()",
        ("test_a_silence_counts_by_the_clock_that_the_sweeper_vouches_for",),
    ),
    Mutant(
        "a sweeper that stands still keeps the others waiting",
        sql("sweep_silent_v1"),
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        ("test_a_sweeper_that_stands_still_in_its_transaction_keeps_nobody_waiting_and_ends_with_its_session",),
    ),
    Mutant(
        "each worker sweeps in each interval",
        sql("sweep_silent_v1"),
        "abs(seconds_since_v1(s.swept_at)) >= p_interval",
        "true",
        ("test_the_fleet_sweeps_once_in_an_interval_whoever_does_it",),
    ),
    Mutant(
        "a sweep ends the drain of a silent worker",
        sql("forget_silent_v1"),
        "h.scope = 'worker'",
        "h.scope = 'nobody'",
        ("test_a_drain_of_a_silent_worker_is_there_when_it_comes_back",),
    ),
    Mutant(
        "a beat that came too late lets a run go on",
        "shithubd_worker/process/duties/trust.py",
        "time.monotonic() >= attempt.lease_deadline",
        "False",
        LATE,
    ),
    Mutant(
        "a worker that registers again does not renew",
        "shithubd_worker/process/duties/trust.py",
        "if anew or (",
        "if (",
        LATE,
    ),
    Mutant(
        "a renewal alone keeps a silent worker's run",
        "shithubd_worker/process/duties/trust.py",
        "until = min(until, max(self._beat_at, attempt.lease.sent_at) + self._silence)",
        "pass",
        ("test_a_beat_and_a_renewal_each_move_the_end_as_far_as_the_other_allows",),
    ),
    Mutant(
        "a beat does not put off the dead man",
        "shithubd_worker/process/duties/trust.py",
        "self._dead_man.put_off(attempt.dead_man_at[0])",
        "pass",
        ("test_each_answer_puts_off_the_dead_man_at_once_also_for_a_lease_that_is_far_longer",),
    ),
    Mutant(
        "a worker sweeps right after it started or saw a step",
        "shithubd_worker/turn/upkeep.py",
        "if back != 0.0 and self._recovery.threshold",
        "if self._recovery.threshold",
        ("test_a_worker_that_started_or_saw_a_step_just_now_sweeps_nobody",),
    ),
    Mutant(
        "a delay of the recovery is forgotten after a first crash",
        sql("return_crashed_v1"),
        "greatest(p_delay, CASE",
        "greatest(0::float8, CASE",
        ("test_a_job_returns_as_after_any_crash_and_as_late_as_was_asked_for",),
    ),
    # A worker lives, dies, or leaves.
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
