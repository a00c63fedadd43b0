"""The figures of `stats`: counted once, in fine buckets, folded without a change, and in nobody's way."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

DUTY = "shithubd_worker/process/duties/figures.py"
LEAVES = (
    "test_a_worker_that_ends_writes_what_was_refused_and_what_it_did_since",
    "test_a_worker_that_ends_within_a_round_writes_kinds_that_it_wrote_already",
)

MUTANTS = (
    # What a worker writes.
    Mutant(
        "figures whose answer is lost are written twice",
        DUTY,
        '                self._refused = []\n                log.warning("what %d',
        '                log.warning("what %d',
        ("test_figures_whose_answer_is_lost_are_not_written_again_and_a_warning_says_so",),
    ),
    Mutant(
        "figures that a standby refuses are lost",
        DUTY,
        " and not read_only(error)",
        "",
        ("test_figures_that_a_server_without_writes_refuses_are_written_later",),
    ),
    Mutant("a worker that ends leaves figures behind", DUTY, "in range(2)", "in range(1)", LEAVES),
    Mutant(
        "a slow database holds up the end of a worker",
        DUTY,
        "if time.monotonic() > by:",
        "if False:",
        ("test_a_slow_database_does_not_hold_up_the_end_of_a_worker",),
    ),
    Mutant(
        "a value is taken again and again",
        "shithubd_worker/telemetry/tally.py",
        "                told[kind] = counts\n",
        "",
        ("test_each_value_is_taken_once",),
    ),
    Mutant(
        "the buckets are too wide",
        "shithubd_worker/telemetry/buckets.py",
        "RATIO = 1.2",
        "RATIO = 1.4",
        ("test_the_middle_of_a_bucket_is_at_most_ten_percent_away",),
    ),
    Mutant(
        "a clock that was set back makes the sum of a histogram smaller",
        "shithubd_worker/telemetry/collectors.py",
        "max(0.0, value)",
        "value",
        ("test_prometheus_sees_the_same_buckets_as_before",),
    ),
    # What the database makes of it.
    Mutant(
        "a fold takes rows of many kinds, and nothing gets less",
        sql("fold_stats_v1"),
        "ORDER BY o.folds_into, o.kind",
        "ORDER BY o.begins",
        ("test_a_fold_of_few_rows_takes_those_that_become_one",),
    ),
    Mutant(
        "a write folds all that is past",
        sql("write_stats_v1"),
        "100 + 2 *",
        "10000 + 2 *",
        ("test_a_write_folds_few_rows",),
    ),
    Mutant(
        "a fault in the figures keeps jobs from their recovery",
        sql("return_crashed_v1"),
        "EXCEPTION WHEN OTHERS THEN",
        "EXCEPTION WHEN division_by_zero THEN",
        ("test_no_lock_and_no_fault_in_the_figures_keeps_a_job_from_its_recovery",),
    ),
    Mutant(
        "a few jobs tell when their work began",
        sql("figures_v1"),
        "s.left_queue >= 20",
        "s.left_queue >= 2",
        ("test_a_few_jobs_tell_no_more_than_the_whole_window",),
    ),
    Mutant(
        "rows in the future count",
        sql("figures_v1"),
        " AND s.begins <= clock_timestamp()",
        "",
        ("test_rows_in_the_future_and_odd_ones_do_no_harm",),
    ),
    Mutant(
        "a rate counts from before the installation",
        sql("windows_v1"),
        "THEN seconds_since_v1(s.figures_since) END",
        "THEN NULL::float8 END",
        ("test_after_the_installation_a_rate_counts_from_then",),
    ),
)
