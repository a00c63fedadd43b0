"""The inequalities between times: of timing.py, of literals in sql/, of the units."""

from __future__ import annotations

from mutants.mutant import UNIT, Mutant, sql

TIMING = "shithubd_worker/timing.py"
BARRIER = ("test_the_barrier_waits_for_twice_as_long_as_a_lease_may_take_to_start",)
BEATS = ("test_two_beats_may_fail_before_a_worker_is_taken_for_silent",)
SYSTEMD = ("test_systemd_waits_for_longer_than_a_stop_or_a_start_takes",)
WATCHDOG = ("test_a_loop_that_waits_or_pauses_is_not_taken_for_stalled_nor_is_the_control_thread",)

MUTANTS = (
    Mutant("a beat comes every 25 s", TIMING, "BEAT_SECONDS = 5.0", "BEAT_SECONDS = 25.0", BEATS),
    Mutant("a worker is silent after 12 s", sql("lives_v1"), "< 30,", "< 12,", BEATS),
    Mutant(
        "a job starts within half a second",
        TIMING,
        "START_AGAIN_WITHIN_SECONDS = 0.4",
        "START_AGAIN_WITHIN_SECONDS = 0.5",
        BARRIER,
    ),
    Mutant(
        "the barrier waits for half a second",
        sql("barrier_v1"),
        "interval '800 milliseconds'",
        "interval '500 milliseconds'",
        BARRIER,
    ),
    Mutant("the barrier looks for 800 ms, and waits for 400", sql("barrier_v1"), "max(0.8 - ", "max(0.4 - ", BARRIER),
    Mutant(
        "a lease that may still start is given back",
        TIMING,
        "GIVE_BACK_AFTER_SECONDS = 0.6",
        "GIVE_BACK_AFTER_SECONDS = 0.3",
        ("test_what_may_still_start_by_itself_is_not_given_back_by_the_control_thread",),
    ),
    Mutant("one ping may be late", TIMING, "PING_SECONDS = 10.0", "PING_SECONDS = 14.0", WATCHDOG),
    Mutant("the watchdog fires after 20 s", UNIT, "WatchdogSec=30", "WatchdogSec=20", WATCHDOG),
    Mutant(
        "systemd kills before the control thread ends",
        TIMING,
        "PATIENCE_SECONDS = 2.0",
        "PATIENCE_SECONDS = 5.0",
        SYSTEMD,
    ),
    Mutant("a stop has 26 s", UNIT, "TimeoutStopSec=30", "TimeoutStopSec=26", SYSTEMD),
    Mutant(
        "a lease is renewed just before its end",
        TIMING,
        "RENEW_AFTER = 1 / 3",
        "RENEW_AFTER = 0.7",
        ("test_each_end_of_a_run_leaves_time_before_the_next",),
    ),
    Mutant(
        "the dead man fires before a call is given up",
        TIMING,
        "ANSWER_MARGIN, DEAD_MAN_MARGIN = 0.75, 0.25",
        "ANSWER_MARGIN, DEAD_MAN_MARGIN = 0.25, 0.75",
        ("test_each_end_of_a_run_leaves_time_before_the_next",),
    ),
    Mutant(
        "the others have no time to renew",
        TIMING,
        "AMNESTY_SECONDS = 10.0",
        "AMNESTY_SECONDS = 4.0",
        ("test_the_others_renew_before_an_expired_lease_of_theirs_is_returned",),
    ),
    Mutant(
        "a beat protects unsettled jobs for 5 s",
        sql("expired_leases_v1"),
        "(b.beat_at)) < 15",
        "(b.beat_at)) < 5",
        ("test_a_beat_vouches_for_what_is_not_settled_yet_until_the_next_one_is_there",),
    ),
    Mutant(
        "a sweep looks back for 2 s",
        TIMING,
        "SWEEP_BACK_SECONDS = 5.0",
        "SWEEP_BACK_SECONDS = 2.0",
        ("test_a_sweep_looks_back_over_whatever_kept_the_last_one",),
    ),
    Mutant(
        "a settle in a transaction waits for its lock for 5 s",
        sql("settle_within_v1"),
        "lock_timeout = '1s'",
        "lock_timeout = '5s'",
        ("test_a_settle_without_an_interrupt_has_time_for_its_lock",),
    ),
    Mutant(
        "a long drain is shorter than a run",
        "units/drop-ins/long-drain.conf",
        "GRACE=900",
        "GRACE=240",
        ("test_the_long_drain_lets_each_run_of_a_usual_kind_end",),
    ),
    Mutant(
        "a settle is awaited for less than a third of the watchdog",
        TIMING,
        "SETTLE_SECONDS = 10.0",
        "SETTLE_SECONDS = 1.5",
        ("test_a_settle_without_an_interrupt_has_time_for_its_lock",),
    ),
)
