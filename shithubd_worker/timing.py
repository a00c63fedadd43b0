"""How long a worker waits, and for what: every time that a promise depends on, in one file.

`tests/unit/test_timing.py` holds the inequalities between these, the literals of sql/ and the settings of units/. All
times are in seconds. A time that matters to one file alone stands in that file.
"""

from __future__ import annotations

# --- A job's start. barrier_v1 waits for every lease that may still start.

# A job starts within the first time, counted from the sending of its lease query. Later it needs one more look at the
# holds (start_v1). Then it starts within the second time, counted from the sending of that query. The barrier
# (barrier_v1) relies on both: it waits 800 ms. The rest, 600 or 400 ms, is for a process that stands still between its
# look at the clock and the handler's first line. The first time is short, so that the usual job has a wide reserve. The
# second is longer, so that jobs run even while the database takes 0.2 s for an answer.
START_WITHIN_SECONDS = 0.2
START_AGAIN_WITHIN_SECONDS = 0.4
# How much work a second look (start_v1) asks for. It is half of the first time, so at least half of the batches start
# without another look, no matter how long single jobs take.
ASK_FOR_SECONDS = 0.1
# The control thread gives back what has not started by then. It is later than the last moment at which a leased job may
# start, and earlier than the end of the shortest lease.
GIVE_BACK_AFTER_SECONDS = 0.6
# A lease that was sent ahead may not be committed yet when it is to be given back. The control thread looks for it this
# often, and for this long.
STRAYS_AGAIN_SECONDS = 1.0
AHEAD_ANSWERED_SECONDS = 30.0
# A lease whose answer was lost may still commit. The worker looks for it for this long.
STRAY_SECONDS = 120.0

# --- A run and its lease.

# The shortest lease that a kind may have. The times below fit into it.
SHORTEST_LEASE_SECONDS = 1.0


def margin(lease_timeout: float) -> float:
    """A run is given up so long before its lease ends: time to stop, before others may start."""
    return min(10.0, 0.2 * lease_timeout)


def goes_on(threshold: float) -> float:
    """For how long a worker goes on without a word of the database, by its own clock. Others wait for the threshold, by
    the database's clock, which may go faster."""
    return threshold * (1 - CLOCK_DRIFT)


def silence_fits(heartbeat_interval: float, threshold: float) -> bool:
    """Can a worker that lives show it often enough, so that nobody sweeps it? Two of three beats may fail. The rest is
    a tick of the control thread, a connection and an answer. If only one fails, the worker doesn't give up its run
    either. A threshold of 0 means that nobody is swept."""
    one_beat = TICK_SECONDS + CONNECT_SECONDS + CONTROL_ANSWER_SECONDS
    return threshold == 0 or 3 * heartbeat_interval + one_beat < threshold


# The worker renews a lease after this part of its timeout, so two renewals may fail.
RENEW_AFTER = 1 / 3
# A missing renewal is the database's fault, and uses up no attempt, if the database was asked for it for at least this
# part of the lease. If it was asked for less time, the control thread had no turn before: the handler held the
# interpreter.
RENEWAL_AWAITED = 1 / 10
# Parts of the margin. When the first part is left, no call on the handlers' connection waits for an answer any longer.
# When the second part is left, the dead man ends the process.
ANSWER_MARGIN, DEAD_MAN_MARGIN = 0.75, 0.25
# A handler that swallows the interrupt is interrupted again after this time, until the control thread ends the process.
INTERRUPT_AGAIN_SECONDS = 0.5
# The control thread waits this long after the moment at which a handler had to stop. Then it ends the process.
PATIENCE_SECONDS = 2.0
# An alarm of the main thread that is this late is lost.
LOST_ALARM_SECONDS = 0.25
# A process that stood still between its look at the clock and its call of the kernel sets the timer late, by at most
# this.
TIMER_TOLERANCE_SECONDS = 1.0
# One arming of the dead man serves the runs after it too. For them it fires early, by at most this part of the lease. A
# run that lasts longer than the second time gets an arming of its own. It may have to go without a renewal until it is
# interrupted.
DEAD_MAN_SLACK = 1 / 4
LONG_SECONDS = 0.5
# If the lease's dead man fires later than this, it stays armed for the next job.
STAND_DOWN_SECONDS = 5.0
# A call that no interrupt ends may go on for this long after max_runtime.
SETTLE_SECONDS = 10.0
# A job whose handler was refused connections, memory or disk is released, and leased again only after this time.
SHORT_SECONDS = 15.0

# --- What the threads wait for.

# How long the loop waits for the database to answer before it reconnects.
MAIN_ANSWER_SECONDS = 30.0
# How long the control thread waits for the database to answer. It is short, because the thread has deadlines to keep.
CONTROL_ANSWER_SECONDS = 2.0
# How long the worker's own questions on the handlers' connection, outside of any attempt, wait for an answer.
HANDLER_ANSWER_SECONDS = 2.0
# A handlers' connection that was idle for longer is tested before it is handed out.
HANDLER_FRESH_SECONDS = 2.0
# How long release-dead waits for the answer of a server that stands still. It must fit into TimeoutStopSec= of the
# unit.
RELEASE_DEAD_SECONDS = 10.0
# How long one attempt to connect to one address may take.
CONNECT_SECONDS = 2
# How long the loop waits for a lock. Most often somebody has locked a table, so nothing else can go on.
LONGEST_LOCK_SECONDS = 3.0
# A settle in a turn, and another look at the holds, wait for a lock only this long. The lock may be on the row of one
# job, and the other jobs must not wait. They are settled without the locked one.
TURN_LOCK_SECONDS = 0.1
# The server may wait for a lock for this part of the time for an answer. So it gives up, and says so, before the worker
# does.
ANSWER_LOCK = 0.75
# How long `migrate` waits for a lock. It is shorter than the wait of a lease.
MIGRATION_LOCK_SECONDS = 2
# A worker that waited for a lock in vain has already paused, inside the server. So it pauses no longer than this, and
# work goes on soon after the lock is gone.
LOCKED_PAUSE_SECONDS = 0.5
# How often a worker looks, however long its poll interval is, while it can't rely on being woken. That is so while a
# stranger holds the lock that tells enqueues of idle workers, or fills the server's queue of notifications.
DEAF_SECONDS = 0.5

# --- The control thread.

BEAT_SECONDS = 5.0
# A run that is shorter than this gets no beat of its own. `status` shows a longer one within about a second.
SHOWN_AFTER_SECONDS = 0.5
# A change is told at once, but not more often than this. Each beat leaves a dead row, and dead rows pile up while a
# session holds a snapshot.
TOLD_AGAIN_SECONDS = 1.0
# How often this process looks at the database's clock. A turn does it; without turns, the control thread.
CLOCK_LOOK_SECONDS = 2.0
# How far that clock may drift without having been set. chrony slews a clock by up to 8 %; this is a little more.
CLOCK_DRIFT = 0.1
CLOCK_SLACK_SECONDS = 0.5
# The main thread passes its loop once in each poll interval, or waits for the database. If it does neither for this
# long, it is stalled.
STALLED_SECONDS = 60.0
PING_SECONDS = 10.0
# How long a message that is sent to systemd only once waits until systemd takes it.
NOTIFY_SECONDS = 2.0
# By how much each attempt to reach the database extends the time that systemd waits for READY=1.
EXTEND_START_SECONDS = 45.0
# While a stop waits for a job, the worker asks systemd for more time, by the second value each time. It asks for no
# time beyond the third value after the end of the handler's process. That end takes one or two calls of the database.
EXTEND_AGAIN_SECONDS = 1.0
EXTEND_STOP_SECONDS = 15.0
ENDING_SECONDS = 5.0
# A handler that runs for longer does not hold back the settles of earlier jobs, and not the leases of later ones.
SETTLE_AFTER_SECONDS = 0.05
QUICK_TICK_SECONDS = 0.05
# The longest tick, while a slow handler would hold nothing back.
TICK_SECONDS = 0.5


def tick(shortest_lease: float) -> float:
    """How often the control thread looks at the deadlines of leases. `shortest_lease` is the shortest of their
    timeouts."""
    return min(TICK_SECONDS, 0.1 * shortest_lease)


# If the database refuses the control thread something, the thread asks again after this time.
ASK_AGAIN_SECONDS = 1.0

# --- Settling.

# A job that somebody has locked is tried again after this time. That attempt waits for no lock.
LOCKED_AGAIN_SECONDS = 0.2
# A job that the database refuses to settle at all, or that waited for a lock in vain, is tried again after this time.
SETTLE_AGAIN_SECONDS = 5.0
# One call settles jobs one by one for this long at most, and leaves the rest to the next call. Each job may cost a
# wait, and a thread also has leases to renew and beats to send.
ONE_BY_ONE_SECONDS = 0.5

# --- What is put right between two batches.

SWEEP_SECONDS = 2.0
# Sooner if the worker has nothing else to do, so that no job has to wait for a sweep.
SWEEP_SOONER_SECONDS = 0.5
# A sweep looks at leases that expired since the last look, and a little further back, because a sweep can take long.
SWEEP_BACK_SECONDS = 5.0
# A worker returns expired leases only after it has had the database, and seen a steady clock, for this long. In that
# time the other workers renew what they run: they lost the database too, or must first notice that its clock was set.
# They look at the clock every CLOCK_LOOK_SECONDS and wait for an answer for CONTROL_ANSWER_SECONDS at most. A worker
# that starts can't know whether the clock was set just before, so it waits as well.
AMNESTY_SECONDS = 10.0
HOUSEKEEPING_SECONDS = 600.0

# --- What a scrape is told.

# Counts that are younger than this are fresh. It is below the usual 15 s between scrapes, so each scrape finds new
# counts.
COUNTS_FRESH_SECONDS = 10.0
# Older counts are left out, because they would be shown as if they were true. Two minutes is the longest usual scrape
# interval.
COUNTS_STALE_SECONDS = 120.0
# How long a scrape waits for a count. A short queue is counted in that time, so the figures are of this moment.
COUNT_AWAITED_SECONDS = 0.01
# How long a count may take in the database. Nobody waits for it. The next count begins 20 times as long after it
# (claim_count_v1), and that is before this one is stale. It is less than the time that the connection waits for an
# answer.
COUNT_LIMIT_SECONDS = 2.5
SCRAPE_ANSWER_SECONDS = 3.0
# A worker that no scrape has read for this long counts as not scraped. Two minutes is the longest usual interval.
UNSCRAPED_SECONDS = 120.0

# --- Figures.

# How often a worker writes what it counted. With a tick and the answer, `stats` is behind by less than 10 s.
FIGURES_SECONDS = 8.0
# A write of figures may cost this part of the time of a control thread: after a write of 0.5 s it waits for 10 s.
FIGURES_PART = 0.05
# A worker that ends writes its last figures for this long at most. They must not hold up its end (ENDING_SECONDS).
LAST_FIGURES_SECONDS = 1.0

# --- The end of a process.

# How long exit functions (atexit) of handlers and their libraries may run at the end of a process.
EXIT_FUNCTIONS_SECONDS = 2.0
# How much of that an idle pool of threads or processes gets to end.
END_OF_POOLS_SECONDS = 1.0
# An exit function that holds the interpreter lets no thread of Python end the process. So libc does it, this much
# later.
HELD_AT_EXIT_SECONDS = 0.25
