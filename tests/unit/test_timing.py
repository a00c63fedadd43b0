"""The times on which promises rest, side by side: those of the package, of sql/, the units and the alerts."""

# ruff: noqa: SIM300 (an inequality reads from the smaller to the larger)
from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker import backoff, timing
from shithubd_worker.cli import deadline
from shithubd_worker.database import operations
from shithubd_worker.host.shipped import RUNBOOKS, SQL, UNITS
from shithubd_worker.registry import Registry
from shithubd_worker.settings.config import SETTINGS, Config
from shithubd_worker.settings.table import LONGEST_SECONDS
from shithubd_worker.timing import (
    AHEAD_ANSWERED_SECONDS,
    AMNESTY_SECONDS,
    ANSWER_LOCK,
    ANSWER_MARGIN,
    ASK_AGAIN_SECONDS,
    ASK_FOR_SECONDS,
    BEAT_SECONDS,
    CLOCK_DRIFT,
    CLOCK_LOOK_SECONDS,
    CLOCK_SLACK_SECONDS,
    CONNECT_SECONDS,
    CONTROL_ANSWER_SECONDS,
    COUNT_AWAITED_SECONDS,
    COUNT_LIMIT_SECONDS,
    COUNTS_FRESH_SECONDS,
    COUNTS_STALE_SECONDS,
    DEAD_MAN_MARGIN,
    DEAD_MAN_SLACK,
    DEAF_SECONDS,
    END_OF_POOLS_SECONDS,
    ENDING_SECONDS,
    EXIT_FUNCTIONS_SECONDS,
    EXTEND_AGAIN_SECONDS,
    EXTEND_START_SECONDS,
    EXTEND_STOP_SECONDS,
    FIGURES_PART,
    FIGURES_SECONDS,
    GIVE_BACK_AFTER_SECONDS,
    HANDLER_ANSWER_SECONDS,
    HELD_AT_EXIT_SECONDS,
    HOUSEKEEPING_SECONDS,
    INTERRUPT_AGAIN_SECONDS,
    LAST_FIGURES_SECONDS,
    LOCKED_AGAIN_SECONDS,
    LOCKED_PAUSE_SECONDS,
    LONG_SECONDS,
    LONGEST_LOCK_SECONDS,
    LOST_ALARM_SECONDS,
    MAIN_ANSWER_SECONDS,
    MIGRATION_LOCK_SECONDS,
    NOTIFY_SECONDS,
    ONE_BY_ONE_SECONDS,
    PATIENCE_SECONDS,
    PING_SECONDS,
    QUICK_TICK_SECONDS,
    RELEASE_DEAD_SECONDS,
    RENEW_AFTER,
    RENEWAL_AWAITED,
    SCRAPE_ANSWER_SECONDS,
    SETTLE_AFTER_SECONDS,
    SETTLE_AGAIN_SECONDS,
    SETTLE_SECONDS,
    SHORT_SECONDS,
    SHORTEST_LEASE_SECONDS,
    SHOWN_AFTER_SECONDS,
    STALLED_SECONDS,
    STAND_DOWN_SECONDS,
    START_AGAIN_WITHIN_SECONDS,
    START_WITHIN_SECONDS,
    STRAY_SECONDS,
    STRAYS_AGAIN_SECONDS,
    SWEEP_BACK_SECONDS,
    SWEEP_SECONDS,
    SWEEP_SOONER_SECONDS,
    TICK_SECONDS,
    TIMER_TOLERANCE_SECONDS,
    TOLD_AGAIN_SECONDS,
    TURN_LOCK_SECONDS,
    UNSCRAPED_SECONDS,
    goes_on,
    margin,
    silence_fits,
    tick,
)

ROOT = Path(__file__).parents[2]
DAY = 86_400.0

# Those that no inequality ties to another, and why.
FREE = {
    "HANDLER_FRESH_SECONDS": "what it saves is a round trip; a connection that dies meanwhile fails like any other",
}
FREE_IN_SQL = {
    "count_jobs_v1": "a microsecond between what is due and what is scheduled",
    "fold_stats_v1": "spans of figures; test_stats.py folds them and finds the same sums in each window",
    "lease_v1": "figures for the worker in microseconds, and a short rest of a lease that is refused",
    "leases_v1": "how much older a run may be than its lease to be shown as its run",
    "ramp_forward_v1": "how often the ends of a ramp are added up; a ramp may stop so much later",
    "ramp_kind_v1": "the longest step that a ramp may have",
    "ramp_step_v1": "it counts the steps from 1",
    "record_v1": "a short rest while somebody else makes the day",
    "status_v1": "days of the history that are over, for a warning",
    "windows_v1": "as fold_stats_v1",
}
# Of others: how long PgBouncer keeps a query waiting, how much chrony slews a clock, how often Prometheus scrapes.
QUERY_WAIT, CHRONY, SCRAPE_EVERY, SCRAPE_TIMEOUT, SELDOM_SCRAPED = 120.0, 0.08, 15.0, 10.0, 60.0


def code(path: Path) -> str:
    """A file of SQL without its comments."""
    return re.sub(r"--[^\n]*", "", path.read_text())


FUNCTIONS = {path.stem: code(path) for path in (SQL / "functions").rglob("*.sql")}


def said(function: str, pattern: str) -> float:
    """The one number that a function of SQL says there, however often."""
    (number,) = set(re.findall(pattern, FUNCTIONS[function]))
    return float(number)


BARRIER = said("barrier_v1", r"interval '(\d+) milliseconds'") / 1000
LIVES = said("lives_v1", r"< (\d+)")
UNSETTLED = said("expired_leases_v1", r"beat_at\)\) < (\d+)")
SECOND_CRASH = said("return_crashed_v1", r"ELSE (\d+)::float8 \*")
SECOND_CRASH_AT_LEAST = SECOND_CRASH * said("return_crashed_v1", r"\(([\d.]+)::float8 \+ [\d.]+::float8 \* ")
END_TOO_LATE = said("shorten_leases_v1", r"k\.seconds \+ (\d+)")
VOUCHES_AHEAD = said("shorten_leases_v1", r"BETWEEN -(\d+) AND")
VOUCHES = said("shorten_leases_v1", r"BETWEEN -\d+ AND (\d+)")
FORGET = said("forget_workers_v1", r"> (\d+)")
COUNT_REST = said("claim_count_v1", r"greatest\(p_seconds, (\d+) \*")
DAYS_AHEAD = said("ensure_history_v1", r"p_days integer DEFAULT (\d+)")
LOCKS = {name: said(name, r"_timeout = '([\d.]+)s'") for name, text in FUNCTIONS.items() if "_timeout = '" in text}
READ = {
    *("barrier_v1", "lives_v1", "expired_leases_v1", "return_crashed_v1", "shorten_leases_v1", "forget_workers_v1"),
    *("claim_count_v1", "ensure_history_v1", *LOCKS),
}

UNIT = dict(re.findall(r"^(\w+)=(\d+)$", (UNITS / "shithubd-worker.service").read_text(), re.MULTILINE))
STOP, START, WATCHDOG, RESTART = (
    float(UNIT[name]) for name in ("TimeoutStopSec", "TimeoutStartSec", "WatchdogSec", "RestartSec")
)
(LONG_GRACE,) = map(float, re.findall(r"_GRACE=(\d+)", (UNITS / "drop-ins/long-drain.conf").read_text()))
CONFIG = Config()

_registry = Registry()
_registry.handler("usual")(lambda job: job)
USUAL = _registry["usual"]

RULES = (RUNBOOKS / "alerts.rules.yml").read_text()


def after(alert: str) -> float:
    """How long the condition of an alert holds before it fires."""
    (number, unit) = re.search(rf"alert: {alert}\n.*?for: (\d+)([mh])\n", RULES, re.DOTALL).groups()
    return int(number) * {"m": 60.0, "h": 3600.0}[unit]


# The longest pause of the loop, and of a thread that looks for a database that is away.
PAUSE, RECONNECT = backoff.reconnect(99, 1.0), backoff.reconnect(0, 1.0)
# What one look of the control thread may take if the database is away: it connects, and asks in vain.
LOOK = TICK_SECONDS + CONNECT_SECONDS + CONTROL_ANSWER_SECONDS
# The longest time between two beats that a worker can be told.
SELDOM = SETTINGS["heartbeat_interval"].most
thresholds = st.floats(10.0, LONGEST_SECONDS)
leases = st.floats(SHORTEST_LEASE_SECONDS, LONGEST_SECONDS)
longer_leases = st.floats(2.0, LONGEST_SECONDS)


# --- A job's start.


def test_the_barrier_waits_for_twice_as_long_as_a_lease_may_take_to_start():
    assert START_WITHIN_SECONDS < START_AGAIN_WITHIN_SECONDS
    assert BARRIER >= START_AGAIN_WITHIN_SECONDS * 2
    assert BARRIER >= START_WITHIN_SECONDS * 4
    assert said("barrier_v1", r"max\(([\d.]+) - ") == BARRIER
    assert BARRIER < 1.0  # an operator waits for it


def test_what_may_still_start_by_itself_is_not_given_back_by_the_control_thread():
    assert START_AGAIN_WITHIN_SECONDS < GIVE_BACK_AFTER_SECONDS < GIVE_BACK_AFTER_SECONDS + QUICK_TICK_SECONDS < BARRIER
    assert BARRIER < SHORTEST_LEASE_SECONDS


def test_no_kind_has_a_shorter_lease_than_the_shortest():
    Registry().handler("k", lease_timeout=SHORTEST_LEASE_SECONDS)
    with pytest.raises(ValueError, match="at least 1 second"):
        Registry().handler("k", lease_timeout=SHORTEST_LEASE_SECONDS * 0.999)


def test_half_of_the_jobs_that_are_looked_at_again_start_in_time_whatever_they_take():
    assert ASK_FOR_SECONDS * 2 <= START_WITHIN_SECONDS


def test_a_question_about_a_barrier_lasts_longer_than_the_barrier_and_ends_before_its_answer_is_given_up():
    assert BARRIER < operations.SLICE_SECONDS < deadline.ANSWER_SECONDS


def test_a_lease_without_an_answer_is_looked_for_as_long_as_it_may_still_commit():
    assert GIVE_BACK_AFTER_SECONDS < STRAYS_AGAIN_SECONDS < SWEEP_SECONDS  # no less often than the loop itself
    assert SWEEP_SECONDS < MAIN_ANSWER_SECONDS <= AHEAD_ANSWERED_SECONDS < STRAY_SECONDS
    assert QUERY_WAIT <= STRAY_SECONDS


# --- A run and its lease.


@given(leases)
def test_each_end_of_a_run_leaves_time_before_the_next(lease):
    m = margin(lease)
    renewed, given_up, unanswered, ended = (
        lease * RENEW_AFTER,
        lease - m,
        lease - m * ANSWER_MARGIN,
        lease - m * DEAD_MAN_MARGIN,
    )
    assert 0 < renewed < given_up < unanswered < ended < lease
    assert 2 * RENEW_AFTER * lease < given_up  # one may fail
    # Longer than a thread that got its turn late has asked, shorter than one whose database is away.
    assert tick(lease) <= RENEWAL_AWAITED * lease < given_up - renewed
    # Between any two of them the control thread looks at least once, or the dead man has that much time to fire.
    assert tick(lease) <= min(TICK_SECONDS, given_up - renewed)
    # An unnoticed step of the clock ends no lease of a worker that renews it.
    assert (1 - RENEW_AFTER) * lease > CLOCK_SLACK_SECONDS


@given(longer_leases)
def test_a_lease_outlasts_what_keeps_the_control_thread_from_renewing_it(lease):
    to_the_end = lease - margin(lease) - lease * RENEW_AFTER
    assert 2 * LOCKS["settle_soon_v1"] + ONE_BY_ONE_SECONDS < to_the_end
    assert (1 - RENEW_AFTER) * lease > CLOCK_SLACK_SECONDS + CLOCK_DRIFT * CLOCK_LOOK_SECONDS


@given(st.floats(5.0, LONGEST_SECONDS))
def test_two_renewals_that_are_refused_are_followed_by_a_third(lease):
    assert lease * RENEW_AFTER + 2 * ASK_AGAIN_SECONDS < lease - margin(lease)


@given(longer_leases)
def test_a_dead_man_that_serves_several_runs_spares_one_that_turns_out_long(lease):
    fires = lease * (1 - DEAD_MAN_SLACK) - margin(lease) * DEAD_MAN_MARGIN
    assert START_AGAIN_WITHIN_SECONDS + LONG_SECONDS + tick(lease) < fires


def test_a_batch_passes_under_one_arming_of_the_dead_man():
    assert DEAD_MAN_SLACK * SHORTEST_LEASE_SECONDS > CONFIG.prefetch


def test_a_handler_that_ignores_its_interrupt_is_ended_and_settled_before_the_dead_man_fires():
    assert PATIENCE_SECONDS + TICK_SECONDS + CONTROL_ANSWER_SECONDS < (1 - DEAD_MAN_MARGIN) * margin(60.0)


def test_a_handler_is_interrupted_more_than_once_before_its_process_is_ended_even_if_the_alarm_was_lost_or_late():
    assert LOST_ALARM_SECONDS + TICK_SECONDS + INTERRUPT_AGAIN_SECONDS < PATIENCE_SECONDS
    assert TIMER_TOLERANCE_SECONDS + INTERRUPT_AGAIN_SECONDS < PATIENCE_SECONDS


def test_a_dead_man_without_a_run_is_stood_down_before_it_fires():
    assert LOOK < STAND_DOWN_SECONDS


def test_a_settle_without_an_interrupt_has_time_for_its_lock():
    assert LOCKS["settle_within_v1"] < HANDLER_ANSWER_SECONDS < SETTLE_SECONDS < WATCHDOG


def test_a_job_that_met_a_shortage_stays_away_for_longer_than_the_loop_pauses():
    assert backoff.jittered(SHORT_SECONDS, 0.0) > PAUSE


# --- What the threads wait for.


def test_a_wait_for_a_lock_ends_before_the_wait_for_its_answer():
    assert 0 < ANSWER_LOCK < 1
    assert LONGEST_LOCK_SECONDS < MAIN_ANSWER_SECONDS * ANSWER_LOCK
    assert LOCKED_PAUSE_SECONDS < MIGRATION_LOCK_SECONDS < LONGEST_LOCK_SECONDS
    soon = dict.fromkeys(("settle_soon_v1", "start_v1", "forget_silent_v1", "write_stats_v1"), TURN_LOCK_SECONDS)
    of_workers = {"release_worker_v1": 1, "ensure_history_v1": 1, **soon, "settle_within_v1": 1}
    assert LOCKS == {**of_workers, "force_unlock_workers": 1}
    assert max(LOCKS.values()) < CONTROL_ANSWER_SECONDS * ANSWER_LOCK < LONGEST_LOCK_SECONDS
    assert LONGEST_LOCK_SECONDS < deadline.LOOK_SECONDS < deadline.CHANGE_SECONDS


def test_a_worker_that_cannot_rely_on_being_woken_looks_no_less_often_than_a_usual_one():
    assert DEAF_SECONDS <= CONFIG.poll_interval


def test_a_loop_that_waits_or_pauses_is_not_taken_for_stalled_nor_is_the_control_thread():
    assert MAIN_ANSWER_SECONDS + CONNECT_SECONDS + PAUSE < STALLED_SECONDS
    assert PING_SECONDS * 3 <= WATCHDOG
    assert PING_SECONDS + LOOK < WATCHDOG
    assert WATCHDOG + STALLED_SECONDS < 5 * 60.0  # after which LeasingStalled speaks


# --- A start, a stop and the end.


def test_systemd_waits_for_longer_than_a_stop_or_a_start_takes():
    assert CONFIG.grace + PATIENCE_SECONDS + TICK_SECONDS + CONTROL_ANSWER_SECONDS < STOP
    assert CONFIG.grace + PATIENCE_SECONDS + EXIT_FUNCTIONS_SECONDS + HELD_AT_EXIT_SECONDS < STOP
    assert END_OF_POOLS_SECONDS < EXIT_FUNCTIONS_SECONDS
    assert CONFIG.grace + HANDLER_ANSWER_SECONDS < STOP
    assert CONFIG.grace + PATIENCE_SECONDS + TICK_SECONDS + NOTIFY_SECONDS < STOP
    assert CONFIG.database_wait + PAUSE + CONNECT_SECONDS < START


def test_a_longer_wait_for_the_database_at_the_start_is_announced_before_the_next_try_ends():
    assert RECONNECT + CONNECT_SECONDS + MAIN_ANSWER_SECONDS < EXTEND_START_SECONDS


def test_a_longer_grace_is_announced_to_systemd_in_time_again_and_again():
    assert EXTEND_AGAIN_SECONDS + LOOK < EXTEND_STOP_SECONDS < STOP
    assert EXTEND_AGAIN_SECONDS + TICK_SECONDS + CONTROL_ANSWER_SECONDS < ENDING_SECONDS < EXTEND_STOP_SECONDS


def test_the_long_drain_lets_each_run_of_a_usual_kind_end():
    assert USUAL.max_runtime < LONG_GRACE <= LONGEST_SECONDS


def test_release_dead_ends_while_systemd_waits_for_it():
    assert LOCKS["release_worker_v1"] < RELEASE_DEAD_SECONDS
    assert CONNECT_SECONDS + deadline.LOOK_SECONDS + RELEASE_DEAD_SECONDS < STOP


def test_a_job_that_crashed_twice_waits_until_its_worker_is_back_and_may_sweep():
    assert RESTART + AMNESTY_SECONDS < SECOND_CRASH_AT_LEAST
    assert backoff.after_attempt(1) == SECOND_CRASH
    assert SECOND_CRASH_AT_LEAST == backoff.jittered(SECOND_CRASH, 0.0)


# --- Beats, the clock and the sweep.


def test_two_beats_may_fail_before_a_worker_is_taken_for_silent():
    assert BEAT_SECONDS < SELDOM
    assert 3 * SELDOM + LOOK < LIVES
    assert LIVES < after("ExpiredLeases")  # whose page looks for a silent worker
    assert LIVES < after("WorkerDown")


def test_a_beat_vouches_for_what_is_not_settled_yet_until_the_next_one_is_there():
    assert SELDOM + LOOK < UNSETTLED < LIVES


@pytest.mark.parametrize("every", [1.0, BEAT_SECONDS, SELDOM])
def test_a_worker_that_misses_two_beats_and_waits_for_an_answer_is_not_yet_silent(every):
    shortest = 3 * every + LOOK
    assert [silence_fits(every, seconds) for seconds in (0.0, shortest, shortest + 0.01)] == [True, False, True]
    assert silence_fits(CONFIG.heartbeat_interval, CONFIG.sweep_threshold) is True


@given(st.floats(1.0, SELDOM), thresholds)
def test_a_worker_ends_its_run_before_others_may_take_it_and_not_because_of_one_failed_beat(every, threshold):
    silence = goes_on(threshold)
    assert silence * (1 + CLOCK_DRIFT) < threshold  # the database's clock may go faster
    one_failed = 2 * (every + TICK_SECONDS) + CONTROL_ANSWER_SECONDS < silence - margin(silence)
    assert silence_fits(every, threshold) <= one_failed


def test_no_sweep_takes_a_worker_that_beats_seldom_after_the_database_was_away():
    """A step of the clock, or an outage, makes a beat due at once, however seldom the worker beats."""
    renew_and_beat = 2 * CONTROL_ANSWER_SECONDS
    assert CLOCK_LOOK_SECONDS + TICK_SECONDS + CONTROL_ANSWER_SECONDS + renew_and_beat < AMNESTY_SECONDS


def test_what_changed_is_shown_within_about_a_second():
    assert SHOWN_AFTER_SECONDS + TICK_SECONDS <= 1.0
    assert TICK_SECONDS <= TOLD_AGAIN_SECONDS <= 1.0 < BEAT_SECONDS
    assert ASK_AGAIN_SECONDS < BEAT_SECONDS


def test_the_others_renew_before_an_expired_lease_of_theirs_is_returned():
    look_and_renew = 2 * CONTROL_ANSWER_SECONDS
    assert CLOCK_LOOK_SECONDS + TICK_SECONDS + look_and_renew < AMNESTY_SECONDS
    assert RECONNECT + CONNECT_SECONDS + look_and_renew < AMNESTY_SECONDS
    assert AMNESTY_SECONDS + SWEEP_SECONDS < after("ExpiredLeases")


def test_a_clock_that_is_slewed_is_not_taken_for_one_that_was_set():
    assert CHRONY < CLOCK_DRIFT


def test_a_sweep_looks_back_over_whatever_kept_the_last_one():
    unnoticed = CLOCK_SLACK_SECONDS + CLOCK_DRIFT * CLOCK_LOOK_SECONDS
    assert LONGEST_LOCK_SECONDS + unnoticed < SWEEP_BACK_SECONDS
    assert unnoticed < END_TOO_LATE
    assert SWEEP_SOONER_SECONDS < SWEEP_SECONDS < LIVES


def test_who_may_still_live_vouches_for_its_leases_and_is_not_forgotten():
    assert VOUCHES_AHEAD == LIVES
    assert LIVES < HOUSEKEEPING_SECONDS * 1.2 < VOUCHES == FORGET == DAY


def test_housekeeping_makes_days_long_before_they_run_out():
    (alarm,) = re.findall(r"history_ready_seconds\) < (\d+) \* 86400", RULES)
    assert HOUSEKEEPING_SECONDS * 1.2 < DAY < int(alarm) * DAY < DAYS_AHEAD * DAY / 2


# --- Settling.


def test_what_was_finished_before_a_slow_handler_is_settled_soon():
    assert SETTLE_AFTER_SECONDS + QUICK_TICK_SECONDS <= 0.1
    assert LOCKED_AGAIN_SECONDS + QUICK_TICK_SECONDS < 0.3
    assert QUICK_TICK_SECONDS < TICK_SECONDS


def test_one_call_settles_something_whatever_is_in_its_way():
    assert LOCKS["settle_soon_v1"] < ONE_BY_ONE_SECONDS


def test_a_locked_row_delays_the_other_settles_of_its_turn_less_than_any_lease_lasts():
    """The turn fails, and the next one settles them in one call. If nobody reads the answer, the control thread does
    it."""
    assert TURN_LOCK_SECONDS + LOCKS["settle_soon_v1"] < SHORTEST_LEASE_SECONDS
    assert TURN_LOCK_SECONDS < GIVE_BACK_AFTER_SECONDS < MAIN_ANSWER_SECONDS
    # Until then nobody has noticed. From then on beats name them.
    assert GIVE_BACK_AFTER_SECONDS < TOLD_AGAIN_SECONDS


def test_what_could_not_be_settled_is_tried_again_within_the_grace():
    assert LOCKED_AGAIN_SECONDS < SETTLE_AGAIN_SECONDS < CONFIG.grace


# --- What a scrape is told.


def test_the_queue_is_counted_anew_before_what_was_counted_is_stale():
    assert COUNTS_FRESH_SECONDS < SCRAPE_EVERY
    assert COUNTS_FRESH_SECONDS + COUNT_REST * COUNT_LIMIT_SECONDS < COUNTS_STALE_SECONDS < after("QueueScrapeFailing")
    assert COUNT_AWAITED_SECONDS < COUNT_LIMIT_SECONDS < SCRAPE_ANSWER_SECONDS < SCRAPE_TIMEOUT
    assert SELDOM_SCRAPED * 2 <= UNSCRAPED_SECONDS


# --- Figures.


def test_stats_is_behind_by_less_than_ten_seconds_and_long_writes_are_far_apart():
    assert FIGURES_SECONDS + TICK_SECONDS < 10.0 < CONTROL_ANSWER_SECONDS / FIGURES_PART < STALLED_SECONDS


def test_the_last_figures_fit_into_the_end_of_a_worker():
    assert LAST_FIGURES_SECONDS + CONTROL_ANSWER_SECONDS < ENDING_SECONDS


# --- Nothing is left out.

TIMES = {name for name in vars(timing) if not name.startswith("_") and name != "annotations"}


def compared() -> set[str]:
    """The names that stand in a comparison of this file's tests."""
    tests = [
        node
        for node in ast.parse(Path(__file__).read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    compares = [each for test in tests for each in ast.walk(test) if isinstance(each, (ast.Compare, ast.Assign))]
    return {each.id for node in compares for each in ast.walk(node) if isinstance(each, ast.Name)}


def test_every_time_takes_part_in_an_inequality_or_is_free_for_a_reason():
    assert TIMES - compared() == set(FREE)


def test_every_time_is_used_and_imported_by_its_name():
    imported = {
        alias.name
        for path in Path(timing.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "shithubd_worker.timing"
        for alias in node.names
    }
    within = {"TICK_SECONDS"}  # by timing.tick
    assert imported == TIMES - within


# How SQL says a time.
TIME = re.compile(
    r"interval '\d|_timeout = '\d|secs => [\w.]*( \+ )?\d|sleep\(\d|::date - \d"
    r"|since_v1\([^\n]*\) ([<>]=?|\+|BETWEEN) -?\d|86400"
)


def test_every_time_in_sql_is_read_here_or_is_free_for_a_reason():
    assert {name for name, text in FUNCTIONS.items() if TIME.search(text)} - READ == set(FREE_IN_SQL)
