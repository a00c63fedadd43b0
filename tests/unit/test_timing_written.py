"""Where a time of timing.py, of sql/ or of a unit is written down for people, it is that time."""

# ruff: noqa: RUF001 (a minus is a minus)
from __future__ import annotations

import re
from fractions import Fraction

import pytest
from test_timing import (
    BARRIER,
    CONFIG,
    COUNT_REST,
    DAYS_AHEAD,
    LIVES,
    LOCKS,
    LONG_GRACE,
    PAUSE,
    RESTART,
    ROOT,
    RULES,
    SECOND_CRASH,
    SELDOM,
    START,
    STOP,
    UNSETTLED,
    VOUCHES_AHEAD,
    WATCHDOG,
    after,
)

from shithubd_worker import backoff
from shithubd_worker import timing as t
from shithubd_worker.cli import deadline
from shithubd_worker.cli.migrate import ANOTHER_MIGRATION_SECONDS
from shithubd_worker.database import operations
from shithubd_worker.host import outlets
from shithubd_worker.turn import caution, damping, frontier, prefetch


def part(number: float, of: str) -> str:
    """1/3 of T: T/3."""
    share = Fraction(number).limit_denominator(100)
    return f"{'' if share.numerator == 1 else share.numerator}{of}/{share.denominator}"


def stalled() -> float:
    """How long no worker has had an answer before LeasingStalled begins to hold."""
    (minutes,) = re.findall(r"alert: LeasingStalled\n.*?\) > (\d+) \* 60\n", RULES, re.DOTALL)
    return float(minutes) * 60


RENEWED, UNANSWERED = part(t.RENEW_AFTER, "T"), part(t.ANSWER_MARGIN, "m")
SLACK, ENDED = part(t.DEAD_MAN_SLACK, "T"), part(t.DEAD_MAN_MARGIN, "m")
ANSWER, LOCK = t.CONTROL_ANSWER_SECONDS, LOCKS["settle_soon_v1"]
FIGURES = [
    f"m = min({t.margin(1e9):g}, {part(t.margin(1.0), 'T')})",
    f"renewal at {RENEWED} after the last one  <  given up at T − m  <  no answer awaited at T − {UNANSWERED}  <",
    f"  dead man at T − {ENDED}  <  expiry T",
    f"two refused renewals: {RENEWED} + 2 · {t.ASK_AGAIN_SECONDS:g}  <  T − m, for T from 5 on",
    f"last start after {t.START_AGAIN_WITHIN_SECONDS:g}, + {t.LONG_SECONDS:g} until a run is long, + a tick  <"
    f"  T − {SLACK} − {ENDED}, when a dead man",
    "  that serves several runs may fire, for T from 2 on",
    f"an interrupt that got lost is noticed after {t.LOST_ALARM_SECONDS:g}, + a tick of {t.TICK_SECONDS:g}, + another"
    f" after {t.INTERRUPT_AGAIN_SECONDS:g}  <  {t.PATIENCE_SECONDS:g},",
    "  when the process is ended",
    f"grace {CONFIG.grace:g}  <  forced end {CONFIG.grace + t.PATIENCE_SECONDS:g}, + a tick, + {ANSWER:g} for an answer"
    f"  <  TimeoutStopSec {STOP:g}",
    f"forced end {CONFIG.grace + t.PATIENCE_SECONDS:g}, + {t.EXIT_FUNCTIONS_SECONDS:g} for exit functions, +"
    f" {t.HELD_AT_EXIT_SECONDS:g} if one of them holds the interpreter  <  TimeoutStopSec {STOP:g}",
    f"a longer grace: EXTEND_TIMEOUT_USEC by {t.EXTEND_STOP_SECONDS:g} every {t.EXTEND_AGAIN_SECONDS:g}, at most until"
    f" {t.ENDING_SECONDS:g} after the forced end",
    f"release-dead: {t.CONNECT_SECONDS:g} to connect, + {deadline.LOOK_SECONDS:g} for a lock, +"
    f" {t.RELEASE_DEAD_SECONDS:g} for an answer  <  TimeoutStopSec {STOP:g}",
    f"a start: the database awaited for {CONFIG.database_wait:g}  <  TimeoutStartSec {START:g}; a longer wait:"
    f" {backoff.reconnect(0, 1.0):g} until the next try, + {t.CONNECT_SECONDS:g}",
    f"  to connect, + {t.MAIN_ANSWER_SECONDS:g} for an answer  <  EXTEND_TIMEOUT_USEC by {t.EXTEND_START_SECONDS:g}",
    f"ping every {t.PING_SECONDS:g}  <  WatchdogSec {WATCHDOG:g};   answer awaited {t.MAIN_ANSWER_SECONDS:g}, + the"
    f" longest pause {PAUSE:.1f}  <  stalled {t.STALLED_SECONDS:g}",
    f"start within {t.START_WITHIN_SECONDS:g} of the lease query, {t.START_AGAIN_WITHIN_SECONDS:g} of the second look"
    f"  <  {BARRIER:g}, what barrier_v1 waits for",
    f"start within {t.START_AGAIN_WITHIN_SECONDS:g} of the second look  <  given back by the control thread after"
    f" {t.GIVE_BACK_AFTER_SECONDS:g}  <  {BARRIER:g}",
    f"  <  the shortest lease, {t.SHORTEST_LEASE_SECONDS:g}",
    f"finished before a handler that runs for {t.SETTLE_AFTER_SECONDS:g}: settled within about 0.1; if its row is"
    " locked, within about 0.3 of the lock's end",
    f"one look at what is to be settled: {LOCK:g} for all + {t.ONE_BY_ONE_SECONDS:g} one by one + {LOCK:g}  <"
    f"  T − m − {RENEWED}, from the renewal's time to",
    "  the end of the handler, for T from 2 on",
    f"three beats of {t.BEAT_SECONDS:g} to {SELDOM:g}, + a tick, + {t.CONNECT_SECONDS:g} to connect, + {ANSWER:g} for"
    f" an answer  <  silent after {LIVES:g}  <  {after('ExpiredLeases'):g}, when ExpiredLeases",
    f"  fires;   one of {SELDOM:g}, + the same  <  {UNSETTLED:g}, for which it vouches for what isn't settled",
    f"without a word of the database: given up at S − m, dead man at S − m/4, for S = {1 - t.CLOCK_DRIFT:g} ·"
    " --sweep-threshold  <  taken at",
    f"  --sweep-threshold, by a clock that goes faster by {t.CLOCK_DRIFT:g} at most;   three beats, + the same  <"
    "  --sweep-threshold",
    f"the database's clock looked at every {t.CLOCK_LOOK_SECONDS:g}, + a tick, + {ANSWER:g} for the answer, +"
    f" {ANSWER:g} for a renewal  <  {t.AMNESTY_SECONDS:g}, until expired",
    "  leases are returned",
    f"a step of that clock that nobody notices: {t.CLOCK_SLACK_SECONDS:g} + {t.CLOCK_DRIFT:g} ·"
    f" {t.CLOCK_LOOK_SECONDS:g}  <  T − {RENEWED}, for T from 2 on",
    f"RestartSec {RESTART:g}, + {t.AMNESTY_SECONDS:g}  <  {SECOND_CRASH:g} ± 20 %, after which a second crash is"
    " returned",
    f"a lease without an answer: looked for {t.AHEAD_ANSWERED_SECONDS:g} by the control thread, no less than the loop"
    f" waits  <  {t.STRAY_SECONDS:g} by the loop",
    f"a wait for a lock, in a turn with settles: {t.TURN_LOCK_SECONDS:g}, + {LOCK:g} for the rest  <  the shortest"
    f" lease, {t.SHORTEST_LEASE_SECONDS:g}",
    "such a turn without an answer: its jobs settled by the control thread after"
    f" {t.GIVE_BACK_AFTER_SECONDS:g}  <  {t.TOLD_AGAIN_SECONDS:g}, when a beat can name them",
    f"a wait for a lock: {max(LOCKS.values()):g} in some functions  <  {ANSWER * t.ANSWER_LOCK:g} in the control thread"
    f"  <  {t.MIGRATION_LOCK_SECONDS:g} in migrate  <  {t.LONGEST_LOCK_SECONDS:g} in the loop",
    f"counts of the queue: fresh for {t.COUNTS_FRESH_SECONDS:g}, + {COUNT_REST:g} · {t.COUNT_LIMIT_SECONDS:g}  <"
    f"  {t.COUNTS_STALE_SECONDS:g}, when they are left out",
]

STARTS = (t.START_WITHIN_SECONDS, t.START_AGAIN_WITHIN_SECONDS)
A, T, F, D = "ARCHITECTURE.md", "docs/timing.md", "docs/failures.md", "docs/database.md"
H, R = "docs/handler-process.md", "runbooks/alerts.rules.yml"
UNIT, DRAIN = "units/shithubd-worker.service", "units/drop-ins/long-drain.conf"
SENTENCES = [
    (A, f"starts within {t.START_WITHIN_SECONDS * 1000:g} ms of the moment before its lease query"),
    (A, f"then starts within {t.START_AGAIN_WITHIN_SECONDS * 1000:g} ms of the moment before that query"),
    (A, f"until no lease of its scope is younger than {BARRIER * 1000:g} ms"),
    (A, " or ".join(f"{(BARRIER - each) * 1000:g}" for each in STARTS) + " ms remain"),
    (A, f"due now (second crash: in {SECOND_CRASH:g} s)"),
    (A, f"After {t.SETTLE_AFTER_SECONDS * 1000:g} ms it settles what finished before"),
    (A, f"After {t.GIVE_BACK_AFTER_SECONDS:g} s it gives back what has not started"),
    (A, f"again every {t.INTERRUPT_AGAIN_SECONDS:g} s"),
    (A, f"the handler ignores it for {t.PATIENCE_SECONDS:g} s"),
    (A, f"it pauses, {backoff.reconnect(1, 0.0):g} s to {PAUSE:.1f} s, and asks again"),
    (A, f"after a lock within {t.LOCKED_PAUSE_SECONDS:g} s"),
    (A, f"at most {prefetch.MOST_AT_ONCE}; one of a slow or new kind"),
    (T, f"| an answer, main thread | {t.MAIN_ANSWER_SECONDS:g} s |"),
    (T, f"| an answer, control thread | {ANSWER:g} s |"),
    (T, f"until {t.SETTLE_SECONDS:g} s after `max_runtime` at the latest"),
    (T, f"between two runs | {t.HANDLER_ANSWER_SECONDS:g} s |"),
    (T, f"| a lock, main thread | {t.LONGEST_LOCK_SECONDS:g} s |"),
    (T, f"| a lock, a settle in a turn or another look at the holds | {t.TURN_LOCK_SECONDS:g} s |"),
    (T, f"| {LOCK:g} s, and {LOCKS['settle_within_v1']:g} s more if no locked row of a job was the cause |"),
    (T, f"| a lock, control thread | {ANSWER * t.ANSWER_LOCK:g} s |"),
    (T, f"tries again after {backoff.reconnect(0, 0.0):g} to {backoff.reconnect(0, 1.0):g} s, at random"),
    (T, f"| up to {PAUSE:.1f} s between two tries |"),
    (T, f"polls every {t.DEAF_SECONDS:g} s, however long its poll interval is"),
    (T, f"| a beat | every {t.BEAT_SECONDS:g} s (`--heartbeat-interval`); at most once a second"),
    (T, f"| a renewal | at {RENEWED} after the last one |"),
    (T, f"| every {t.CLOCK_LOOK_SECONDS:g} s, unless a turn brings the time |"),
    (T, f"| every {t.FIGURES_SECONDS:g} s, if there is any news; {1 / t.FIGURES_PART:g} times as long as the last one"),
    (T, f"at the first turn {t.SWEEP_SECONDS:g} s after the last one"),
    (T, f"{t.SWEEP_SECONDS - t.SWEEP_SOONER_SECONDS:g} s if no job is at hand"),
    (T, f"every {t.HOUSEKEEPING_SECONDS * 0.8 / 60:g} to {t.HOUSEKEEPING_SECONDS * 1.2 / 60:g} minutes"),
    (T, f"| {t.TICK_SECONDS:g} s; a tenth of the shortest lease if that is less; {t.QUICK_TICK_SECONDS:g} s while"),
    (T, f"| every {t.PING_SECONDS:g} s, or a third of WatchdogSec if that is less"),
    (T, f"| a lock, to look | {deadline.LOOK_SECONDS:g} s |"),
    (T, f"| a lock, to change something | {deadline.CHANGE_SECONDS:g} s |"),
    (T, f"| {deadline.ANSWER_SECONDS:g} s (`release-dead` {t.RELEASE_DEAD_SECONDS:g} s;"),
    (T, f"it says every {operations.TELL_SECONDS:g} s what it waits for"),
    (T, f"| `migrate`: another migration | {ANOTHER_MIGRATION_SECONDS / 60:g} min |"),
    (T, f"| `migrate`: all other locks | {t.MIGRATION_LOCK_SECONDS:g} s |"),
    (T, f"| a connection | {t.CONNECT_SECONDS:g} s for each address |"),
    (T, f"Only when an answer is late by {deadline.FIRST_LOOK_SECONDS:g} s"),
    (F, f"no sweep takes them until {UNSETTLED:g} s after the last beat"),
    (F, f"the control thread knows within {t.CLOCK_LOOK_SECONDS + ANSWER:g} s"),
    (F, f"those of the main thread {t.MAIN_ANSWER_SECONDS:g} s, those of the control thread {ANSWER:g} s"),
    (F, f"no interrupt can fall ends {t.SETTLE_SECONDS:g} s after `max_runtime`"),
    (F, f"asks on that connection between two runs waits {t.HANDLER_ANSWER_SECONDS:g} s"),
    (F, f"For {t.AMNESTY_SECONDS:g} s after a worker started, found the database again"),
    (F, f"A beat that lies more than {LIVES:g} s ahead is as good as none"),
    (F, f"one of the last day, at most {VOUCHES_AHEAD:g} s ahead"),
    (F, f"released for {t.SHORT_SECONDS:g} s ± 20 %"),
    (F, f"the bounds, {t.CLOCK_SLACK_SECONDS:g} s and a tenth of the time in between"),
    (F, f"and pauses, {backoff.reconnect(1, 0.0):g} s to {PAUSE:.1f} s, longer each time in a row"),
    (F, f"is asked less and less often (up to {PAUSE:.1f} s)"),
    (F, f"looks for it again after {backoff.reconnect(0, 0.0):g} to {backoff.reconnect(0, 1.0):g} s each time"),
    (F, f"at most {caution.LONGEST_PASS_OVER_SECONDS:g} s"),
    (F, f"| the worker tries again every {t.SETTLE_AGAIN_SECONDS:g} s |"),
    (F, f"tries again every {t.LOCKED_AGAIN_SECONDS:g} s, in either thread"),
    (F, f"gives up after {LOCK:g} s; one call settles one by one for {t.ONE_BY_ONE_SECONDS:g} s at most |"),
    (F, f"the call waits {LOCKS['settle_within_v1']:g} s; then all is rolled back"),
    (F, f"LeasingStalled fires after {(stalled() + after('LeasingStalled')) / 60:g} minutes"),
    (F, f"Then one line waits {outlets.READER_SECONDS:g} s"),
    (D, f"as many as will start within {t.ASK_FOR_SECONDS * 1000:g} ms"),
    (D, f"At the end of the queue that is {frontier.LOOK_BACK_SECONDS:g} s earlier"),
    (D, f"after a second, or {frontier.RESCAN_COST} times what the last one took"),
    (D, f"| {frontier.MOST_COST_SECONDS:g} s at most; a wait for a lock of the table is no cost |"),
    (D, f"not sooner than {frontier.HEARD_COST} times what the last one took"),
    (D, f"in half of `--prefetch` ({CONFIG.prefetch:g} s), at most {prefetch.MOST_AT_ONCE}"),
    (D, f"polls every {damping.NAP_SECONDS:g} to {damping.LONGEST_NAP_SECONDS:g} s"),
    (D, f"in vain ten times in {damping.WITHIN_SECONDS:g} s"),
    (D, f"cannot get the lock polls every {t.DEAF_SECONDS:g} s"),
    (D, f"A count is cancelled after {t.COUNT_LIMIT_SECONDS:g} s"),
    (D, f"no sooner than {COUNT_REST:g} times as long as the last one took"),
    (D, f"The scrape waits {t.COUNT_AWAITED_SECONDS * 1000:g} ms for it"),
    (D, f"If the row is older than {t.COUNTS_FRESH_SECONDS:g} s"),
    (D, f"(UTC), {DAYS_AHEAD:g} days ahead"),
    (H, f"A run of more than {t.LONG_SECONDS:g} s gets one of its own"),
    (H, f"the alarm raises it again every {t.INTERRUPT_AGAIN_SECONDS:g} s"),
    (H, f"After {t.PATIENCE_SECONDS:g} s the control thread ends the process"),
    (H, f"it fires early, by {SLACK} at most"),
    ("README.md", f"released after {CONFIG.grace:g} s"),
    ("docs/handlers.md", f"memory or disk | `released` for about {t.SHORT_SECONDS:g} s"),
    ("docs/handlers.md", f"still runs {CONFIG.grace:g} s after the worker was asked to stop"),
    ("docs/handlers.md", f"raise it again within {t.PATIENCE_SECONDS:g} s |"),
    ("docs/handlers.md", f"It comes again every {t.INTERRUPT_AGAIN_SECONDS:g} s."),
    ("docs/handlers.md", f"still runs {t.PATIENCE_SECONDS:g} s after the first one"),
    ("shithubd_worker/errors.py", f"raise it again within {t.PATIENCE_SECONDS:g} s:"),
    ("shithubd_worker/errors.py", f"again after each {t.INTERRUPT_AGAIN_SECONDS:g} s."),
    (UNIT, f"a control thread that died or hangs ({WATCHDOG:g} s)"),
    (UNIT, f"a loop that stands still outside of a job ({t.STALLED_SECONDS + WATCHDOG:g} s)"),
    (UNIT, f"database for {CONFIG.database_wait:g} s, a stop for the job for {CONFIG.grace:g} s"),
    (DRAIN, f"for up to {LONG_GRACE / 60:g} minutes, in place of {CONFIG.grace:g} seconds"),
    (R, f"systemd starts a dead worker again after {RESTART:g} s"),
    (R, f"looks for expired leases every {t.SWEEP_SECONDS:g} s"),
    (R, f"Workers make the history's tables {DAYS_AHEAD:g} days ahead"),
    ("runbooks/alerts/QueueScrapeFailing.md", f"{t.COUNT_LIMIT_SECONDS:g} s is cancelled"),
    ("shithubd_worker/telemetry/gauges.py", f"silent if they didn't beat for {LIVES:g} s"),
]


def words(file: str) -> str:
    """Without line breaks, and without the marks of comments."""
    return " ".join(word for word in (ROOT / file).read_text().split() if word not in ("#", "--"))


def test_the_page_of_timing_shows_these_figures_and_no_others():
    _, _, section = (ROOT / T).read_text().partition("## Deadlines in figures")
    assert section.split("```")[1].removeprefix("text").strip().splitlines() == FIGURES


@pytest.mark.parametrize(("file", "sentence"), SENTENCES)
def test_a_sentence_says_the_time_as_it_is(file, sentence):
    assert sentence in words(file)
