"""Where a time of timing.py, of sql/ or of a unit is written down for people, it is that time."""

# ruff: noqa: RUF001 (a minus is a minus)
from __future__ import annotations

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
    SECOND_CRASH,
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
from shithubd_worker.turn import damping, frontier, prefetch


def part(number: float, of: str) -> str:
    """1/3 of T: T/3."""
    share = Fraction(number).limit_denominator(100)
    return f"{'' if share.numerator == 1 else share.numerator}{of}/{share.denominator}"


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
    f"three beats of {t.BEAT_SECONDS:g}, + a tick, + {t.CONNECT_SECONDS:g} to connect, + {ANSWER:g} for an answer"
    f"  <  silent after {LIVES:g}  <  {after('ExpiredLeases'):g}, when ExpiredLeases",
    f"  fires;   one beat, + the same  <  {UNSETTLED:g}, for which it vouches for what isn't settled",
    f"the database's clock looked at every {t.CLOCK_LOOK_SECONDS:g}, + a tick, + {ANSWER:g} for the answer, +"
    f" {ANSWER:g} for a renewal  <  {t.AMNESTY_SECONDS:g}, until expired",
    "  leases are returned",
    f"a step of that clock that nobody notices: {t.CLOCK_SLACK_SECONDS:g} + {t.CLOCK_DRIFT:g} ·"
    f" {t.CLOCK_LOOK_SECONDS:g}  <  T − {RENEWED}, for T from 2 on",
    f"RestartSec {RESTART:g}, + {t.AMNESTY_SECONDS:g}  <  {SECOND_CRASH:g} ± 20 %, after which a second crash is"
    " returned",
    f"a lease without an answer: looked for {t.AHEAD_ANSWERED_SECONDS:g} by the control thread, no less than the loop"
    f" waits  <  {t.STRAY_SECONDS:g} by the loop",
    f"a wait for a lock: {max(LOCKS.values()):g} in some functions  <  {ANSWER * t.ANSWER_LOCK:g} in the control thread"
    f"  <  {t.MIGRATION_LOCK_SECONDS:g} in migrate  <  {t.LONGEST_LOCK_SECONDS:g} in the loop",
    f"counts of the queue: fresh for {t.COUNTS_FRESH_SECONDS:g}, + {COUNT_REST:g} · {t.COUNT_LIMIT_SECONDS:g}  <"
    f"  {t.COUNTS_STALE_SECONDS:g}, when they are left out",
]

A, R = "ARCHITECTURE.md", "runbooks/alerts.rules.yml"
UNIT, DRAIN = "units/shithubd-worker.service", "units/drop-ins/long-drain.conf"
SENTENCES = [
    (A, f"starts within {t.START_WITHIN_SECONDS * 1000:g} ms of the moment before its lease query"),
    (A, f"it starts within {t.START_AGAIN_WITHIN_SECONDS * 1000:g} ms of the moment before that query"),
    (A, f"until no lease of its scope is younger than {BARRIER * 1000:g} ms"),
    (A, f"as many as will start within {t.ASK_FOR_SECONDS * 1000:g} ms"),
    (A, f"at once the first time, {SECOND_CRASH:g} s later the second"),
    (A, f"no sweep takes them until {UNSETTLED:g} s after the last beat"),
    (A, f"No wait for a lock is longer than {t.LONGEST_LOCK_SECONDS:g} s in the main thread, and"),
    (A, f"and {ANSWER * t.ANSWER_LOCK:g} s in the control thread, which looks at the clock"),
    (A, f"it beats every {t.BEAT_SECONDS:g} s"),
    (A, f"the handler ignores it for {t.PATIENCE_SECONDS:g} s"),
    (A, f"the control thread knows within {t.CLOCK_LOOK_SECONDS + ANSWER:g} s"),
    (A, f"those of the main thread {t.MAIN_ANSWER_SECONDS:g} s, those of the control thread {ANSWER:g} s"),
    (A, f"What has no interrupt ends {t.SETTLE_SECONDS:g} s after `max_runtime`"),
    (A, f"asks on that connection between two runs waits {t.HANDLER_ANSWER_SECONDS:g} s"),
    (A, f"A run of more than {t.LONG_SECONDS:g} s gets one of its own"),
    (A, f"For {t.AMNESTY_SECONDS:g} s after a worker started, found the database again"),
    (A, f"A beat that lies more than {LIVES:g} s ahead is as good as none"),
    (A, f"last beat is one of the last day and at most {VOUCHES_AHEAD:g} s ahead"),
    (A, f"released for {t.SHORT_SECONDS:g} s ± 20 %"),
    (A, f"looks every {t.DEAF_SECONDS:g} s, whatever its poll interval"),
    (A, f"the bounds, {t.CLOCK_SLACK_SECONDS:g} s and a tenth of the time in between"),
    (A, f"A count is cancelled after {t.COUNT_LIMIT_SECONDS:g} s"),
    (A, f"disk | pauses, {backoff.reconnect(1, 0.0):g} s to {PAUSE:.1f} s, and asks again"),
    (A, f"and pauses, {backoff.reconnect(1, 0.0):g} s to {PAUSE:.1f} s, longer each time in a row"),
    (A, f"is asked less and less often (up to {PAUSE:.1f} s)"),
    (A, f"priority ended, {frontier.LOOK_BACK_SECONDS:g} s earlier"),
    (A, f"A look from the start follows after a second, or {frontier.RESCAN_COST} times what the last one took"),
    (A, f"A look counts for {frontier.MOST_COST_SECONDS:g} s at most"),
    (A, f"not sooner than {frontier.HEARD_COST} times what the last one took, or a second"),
    (A, f"in half of `--prefetch` ({CONFIG.prefetch:g} s), at most {prefetch.MOST_AT_ONCE}"),
    (A, f"looks by itself every {damping.NAP_SECONDS:g} to {damping.LONGEST_NAP_SECONDS:g} s"),
    (A, f"in vain ten times in {damping.WITHIN_SECONDS:g} s"),
    (A, f"| a lock, to look | {deadline.LOOK_SECONDS:g} s |"),
    (A, f"| a lock, to change something | {deadline.CHANGE_SECONDS:g} s |"),
    (A, f"| {deadline.ANSWER_SECONDS:g} s (`release-dead` {t.RELEASE_DEAD_SECONDS:g} s;"),
    (A, f"all other locks {t.MIGRATION_LOCK_SECONDS:g} s"),
    (A, f"| a connection | {t.CONNECT_SECONDS:g} s for each address |"),
    (A, f"the scrape waits for that for {t.COUNT_AWAITED_SECONDS * 1000:g} ms"),
    ("README.md", f"released after {CONFIG.grace:g} s"),
    ("docs/handlers.md", f"memory or disk | `released` for about {t.SHORT_SECONDS:g} s"),
    ("docs/handlers.md", f"still runs {CONFIG.grace:g} s after the worker was asked to stop"),
    ("docs/handlers.md", f"raise it again within {t.PATIENCE_SECONDS:g} s."),
    ("docs/handlers.md", f"The interrupt comes again every {t.INTERRUPT_AGAIN_SECONDS:g} s."),
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


def test_the_architecture_shows_these_figures_and_no_others():
    _, _, section = (ROOT / A).read_text().partition("## Deadlines in figures")
    assert section.split("```")[1].strip().splitlines() == FIGURES


@pytest.mark.parametrize(("file", "sentence"), SENTENCES)
def test_a_sentence_says_the_time_as_it_is(file, sentence):
    assert sentence in words(file)
