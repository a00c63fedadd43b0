"""The control thread and what the two threads share: beats, renewals, deadlines, relief, the wish to stop."""

from __future__ import annotations

from mutants.mutant import PYTHON, Mutant

RENEWAL = ("test_a_lease_is_renewed_after_a_third_of_its_time",)
DOUBT = ("test_a_doubtful_lease_is_renewed_at_once",)
REFUSED = ("test_a_refused_renewal_calls_the_main_thread_if_the_handler_still_runs",)
ENDED = ("test_the_job_over_its_time_fails_and_all_others_are_settled_or_given_back",)
RELIEF = ("test_a_slow_handler_delays_no_settle_and_other_leases_only_briefly",)
STOP = ("test_a_stop_ends_a_handler_after_grace_and_patience_with_exit_code_0",)
OBEYS = ("test_a_handler_that_obeys_in_time_is_not_ended",)
HEARD = ("test_a_stop_is_heard_and_announced_at_once_and_only_once",)

MUTANTS = (
    # The end of a process.
    Mutant(
        "children run on at a forced end",
        PYTHON,
        "        attempt.end_children()\n        try:",
        "        try:",
        ("test_no_child_of_the_handler_remains_when_its_process_is_ended",),
    ),
    Mutant(
        "waiting jobs are not given back at a forced end",
        PYTHON,
        "        self._give_back()\n        self._settle_finished()\n        if (ahead",
        "        self._settle_finished()\n        if (ahead",
        ENDED,
    ),
    Mutant(
        "the control thread settles a turn that has not left",
        PYTHON,
        "if unread and not found and ahead.left:",
        "if unread and not found:",
        ("test_every_job_between_two_threads_ends_exactly_once",),
    ),
    Mutant(
        "a turn that was refused is left until somebody reads its answer",
        PYTHON,
        "if unread and not found and ahead.left:",
        "if False:",
        ("test_a_slow_handler_keeps_nobody_from_settling_a_turn_that_was_refused_unread",),
    ),
    Mutant(
        "a turn waits for a lock as long as its session does",
        PYTHON,
        "set_config('lock_timeout', {}, true)",
        "set_config('application_name', {}, true)",
        ("test_a_turn_gives_up_a_lock_soon_and_leaves_the_connection_as_it_was",),
    ),
    Mutant(
        "a worker never waits in the queue for a busy lock",
        "shithubd_worker/database/queue_session.py",
        'return settle(self, "settle_within_v1", finished), set()',
        "raise",
        ("test_a_worker_waits_for_a_busy_lock_and_then_leases_as_many_jobs_as_before",),
    ),
    Mutant(
        "a lock makes the next turns lease one job at a time",
        "shithubd_worker/turn/caution.py",
        "if locked and not self._apart:",
        "if False:",
        (
            "test_after_a_lock_the_next_turn_settles_apart_and_leases_as_usual",
            "test_a_worker_waits_for_a_busy_lock_and_then_leases_as_many_jobs_as_before",
        ),
    ),
    Mutant(
        "the jobs of a turn without an answer are not named in beats",
        PYTHON,
        "sorted(self._unsettled.union(late))",
        "sorted(self._unsettled)",
        ("test_beats_name_all_jobs_of_a_turn_until_they_are_settled",),
    ),
    Mutant("a forced end is not counted", PYTHON, "ended[forced, FORCED] = 1", "pass", ENDED),
    Mutant(
        "a forced end is counted twice",
        PYTHON,
        "ended[forced, FORCED] = 1",
        "ended[forced, FORCED] = 2",
        ENDED,
    ),
    Mutant(
        "a lease that is lost is settled at a forced end",
        PYTHON,
        'None if why == "lost" else _ended(attempt, why)',
        "_ended(attempt, why)",
        ("test_a_lost_lease_is_not_touched_and_the_workers_row_stays_for_release_dead",),
    ),
    Mutant(
        "a stop that ends a handler exits with 70",
        PYTHON,
        "self._end(attempt, EXIT_OK)",
        "self._end(attempt, EXIT_FORCED)",
        STOP,
    ),
    Mutant(
        "a handler is ended in a COMMIT",
        PYTHON,
        'elif not attempt.shielded and attempt.why_end() != "stop":',
        'elif attempt.why_end() != "stop":',
        ("test_a_process_in_a_commit_is_not_ended_when_its_time_is_over",),
    ),
    Mutant(
        "the grace of a stop is no grace for a handler that is late",
        PYTHON,
        ' and attempt.why_end() != "stop":',
        ":",
        ("test_a_stop_leaves_a_handler_its_grace_while_max_runtime_is_not_over",),
    ),
    Mutant(
        "a handler is charged with the time before it",
        PYTHON,
        "attempt.settled:\n            self._late_since = math.inf\n",
        "attempt.settled:\n",
        OBEYS,
    ),
    Mutant(
        "a lost alarm is not sent again",
        PYTHON,
        "late >= LOST_ALARM_SECONDS and",
        "False and",
        ("test_a_missed_alarm_is_sent_again_and_again",),
    ),
    # The lease of the running job.
    Mutant("a renewal moves no deadline", PYTHON, "        attempt.renewed_at = sent_at\n", "", RENEWAL),
    Mutant(
        "a renewed lease counts from its answer",
        PYTHON,
        "attempt.renewed_at = sent_at",
        "attempt.renewed_at = time.monotonic()",
        ("test_a_renewed_lease_counts_from_the_moment_before_its_request",),
    ),
    Mutant("a lost lease is not reported", PYTHON, "            attempt.lost = True\n", "", REFUSED),
    Mutant(
        "a lost lease doesn't call the main thread",
        PYTHON,
        "            self._metrics.renewed(ok=False)\n            ring_main()\n",
        "            self._metrics.renewed(ok=False)\n",
        REFUSED,
    ),
    Mutant(
        "a lost lease is counted twice",
        PYTHON,
        "self._metrics.renewed(ok=False)",
        "self._metrics.renewed(ok=False), self._metrics.renewed(ok=False)",
        REFUSED,
    ),
    Mutant(
        "a step of the clock doesn't renew the lease",
        PYTHON,
        "max(self._clock.stepped_at, self._outage.lost_at,",
        "max(self._outage.lost_at,",
        DOUBT,
    ),
    Mutant(
        "a lost connection doesn't renew the lease",
        PYTHON,
        "max(self._clock.stepped_at, self._outage.lost_at,",
        "max(self._clock.stepped_at,",
        DOUBT,
    ),
    # Beats.
    Mutant(
        "a beat names no job that is not settled",
        PYTHON,
        "            unsettled,\n            otherwise=",
        "            (),\n            otherwise=",
        ("test_a_beat_names_the_finished_jobs_that_are_not_settled",),
    ),
    Mutant(
        "a refused beat is repeated at each tick",
        PYTHON,
        "self._again_at[question] = now + ASK_AGAIN_SECONDS",
        "pass",
        ("test_a_refused_beat_is_repeated_once_a_second",),
    ),
    Mutant(
        "a refused question blocks the others",
        PYTHON,
        "                self._again_at[question] = now + ASK_AGAIN_SECONDS\n",
        "                self._again_at = dict.fromkeys(self._questions, now + ASK_AGAIN_SECONDS)\n",
        ("test_a_refused_question_blocks_no_other_and_is_repeated_once_a_second",),
    ),
    Mutant(
        "a hold is logged at each beat",
        PYTHON,
        "if holds != self._progress.holds:",
        "if holds:",
        ("test_a_beat_learns_of_a_hold_which_is_logged_once",),
    ),
    # Signals, systemd, reload.
    Mutant(
        "a stop wakes nobody",
        PYTHON,
        "            self._stop_told = True\n            self._wake_main()\n",
        "            self._stop_told = True\n",
        HEARD,
    ),
    Mutant("a stop is announced again and again", PYTHON, "            self._stop_told = True\n", "", HEARD),
    Mutant(
        "the watchdog is pinged without progress",
        PYTHON,
        "progress = running or now - self._progress.ticked_at < STALLED_SECONDS",
        "progress = True",
        ("test_a_main_thread_makes_progress_only_if_it_ticks_or_runs_a_handler",),
    ),
    Mutant(
        "systemd is asked for no more time",
        PYTHON,
        "            self._systemd.extend(",
        "            (lambda _: None)(",
        ("test_systemd_is_asked_for_the_time_that_a_stop_still_needs",),
    ),
    Mutant(
        "a reload that succeeds leaves the last fault in the status",
        PYTHON,
        "        self._supervision.refused = refused\n",
        "        self._supervision.refused += refused\n",
        ("test_the_fault_of_a_reload_is_shown_until_a_reload_succeeds",),
    ),
    Mutant(
        "a reload keeps the old grace",
        PYTHON,
        "self._stop.grace, self._pace.window = new.grace, new.prefetch",
        "self._pace.window = new.prefetch",
        ("test_a_reload_reaches_every_user_of_a_changed_setting",),
    ),
    Mutant(
        "a reload keeps the old window",
        PYTHON,
        "self._stop.grace, self._pace.window = new.grace, new.prefetch",
        "self._stop.grace = new.grace",
        ("test_a_reload_reaches_every_user_of_a_changed_setting",),
    ),
)

SHARED = (
    Mutant(
        "the main thread relies on a timer that is being moved",
        PYTHON,
        "return not self._held and latest - slack",
        "return latest - slack",
        ("test_the_main_thread_waits_while_the_timer_is_being_moved",),
    ),
    Mutant(
        "the dead man is moved for any running attempt",
        PYTHON,
        "if self._progress.attempt is attempt and not attempt.shielded:",
        "if not attempt.shielded:",
        ("test_the_control_thread_moves_the_dead_man_only_of_the_attempt_that_it_has_seen",),
    ),
    Mutant(
        "the dead man is armed for a run that has not begun",
        PYTHON,
        "if self._progress.attempt is attempt and not attempt.shielded:",
        "if self._progress.attempt is attempt:",
        ("test_the_control_thread_arms_nothing_for_a_run_that_has_not_begun",),
    ),
    Mutant(
        "a lease that was given back is at hand",
        PYTHON,
        "(ahead is not None and not ahead.given_back)",
        "ahead is not None",
        ("test_a_lease_sent_ahead_counts_as_at_hand_until_it_is_given_back",),
    ),
    Mutant(
        "a given back lease is never marked",
        PYTHON,
        "            ahead.given_back = bool(found) or",
        "            ahead.given_back = False and",
        RELIEF,
    ),
    Mutant("given back leases are not counted", PYTHON, "            tray.given_back += len(found)\n", "", RELIEF),
    Mutant(
        "relief goes on for ever",
        PYTHON,
        "        finally:\n            self._tray.relieving = False\n",
        "        finally:\n            pass\n",
        RELIEF,
    ),
    Mutant(
        "two threads may take the same job",
        PYTHON,
        "            taken.append(items.popleft())\n",
        "            taken.append(items[0]); items.popleft()\n",
        ("test_no_job_is_lost_or_ends_twice_at_any_switch_between_the_threads",),
    ),
)
