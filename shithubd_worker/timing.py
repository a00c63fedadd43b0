"""How long a worker waits, and for what: every time on which a promise rests, in one room.

`tests/unit/test_timing.py` holds the inequalities between these, the literals of sql/ and the settings of units/.
All in seconds. A time that concerns nobody but its own file stands there.
"""

from __future__ import annotations

# --- A job's start. barrier_v1 waits for what may still start.

# A job starts within the first time of the sending of its lease query, else after one more look at the holds
# (start_v1), and then within the second time of the sending of that one. barrier_v1 relies on both: it waits 800 ms.
# The rest, 600 or 400 ms, is for a process that stands still between its look at the clock and the handler's first
# line. The first is short, so that the usual job has a wide reserve. The second is longer, so that jobs run while the
# database takes 0.2 s for an answer, too.
START_WITHIN_SECONDS = 0.2
START_AGAIN_WITHIN_SECONDS = 0.4
# For so long a time of work a batch is asked for that is looked at again. Half of the first time: so that, whatever the
# single jobs take, at least half of the batches start without another look.
ASK_FOR_SECONDS = 0.1
# What has not started by then is given back by the control thread. Above the time within which a leased job may still
# start, below the shortest lease's end.
GIVE_BACK_AFTER_SECONDS = 0.6
# A lease that was sent ahead and isn't committed when it is to be given back: looked for again so often, and so long.
STRAYS_AGAIN_SECONDS = 1.0
AHEAD_ANSWERED_SECONDS = 30.0
# A lease whose answer was lost may still commit: it is looked for that long.
STRAY_SECONDS = 120.0

# --- A run and its lease.

# The shortest that a kind may have: what follows fits into it.
SHORTEST_LEASE_SECONDS = 1.0


def margin(lease_timeout: float) -> float:
    """So long before the end of its lease a run is given up: time to stop before others may start."""
    return min(10.0, 0.2 * lease_timeout)


# A lease is renewed after this part of its timeout: two renewals may fail.
RENEW_AFTER = 1 / 3
# That a lease was not renewed is the database's fault, and no failed attempt, if it was asked for this part of the
# lease. Who asked for less time had no turn before: the handler held the interpreter.
RENEWAL_AWAITED = 1 / 10
# Of the margin, what is left when no call on the handlers' connection waits for an answer any more, and when the dead
# man ends the process.
ANSWER_MARGIN, DEAD_MAN_MARGIN = 0.75, 0.25
# A handler that swallows the interrupt is interrupted again, until the control thread ends the process.
INTERRUPT_AGAIN_SECONDS = 0.5
# After the moment at which a handler should have stopped, the control thread waits so long before it ends the process.
PATIENCE_SECONDS = 2.0
# When the main thread's own alarm should have rung by now, and must have got lost.
LOST_ALARM_SECONDS = 0.25
# A process that stood still between its look at the clock and the call of the kernel has set the timer later.
TIMER_TOLERANCE_SECONDS = 1.0
# One arming of the dead man serves the runs behind it, for which it fires early by this part of the lease at most. A
# run that lasts for longer than this gets one of its own: it may have to do without a renewal until it is interrupted.
DEAD_MAN_SLACK = 1 / 4
LONG_SECONDS = 0.5
# A lease's dead man that is further away than this is left for the next job to use.
STAND_DOWN_SECONDS = 5.0
# What no interrupt ends may go on for so long behind max_runtime.
SETTLE_SECONDS = 10.0
# A job whose handler was refused connections, memory or disk is released, and not leased again before this.
SHORT_SECONDS = 15.0

# --- What the threads wait for.

# How long the loop waits for the database to answer before it reconnects.
MAIN_ANSWER_SECONDS = 30.0
# How long the control thread waits for the database to answer: it has deadlines to keep.
CONTROL_ANSWER_SECONDS = 2.0
# How long our own questions on the handlers' connection, outside of any attempt, wait for an answer.
HANDLER_ANSWER_SECONDS = 2.0
# A handlers' connection that was idle for longer is asked whether it lives before it is handed out.
HANDLER_FRESH_SECONDS = 2.0
# How long release-dead waits for the answer of a server that stands still: it runs within TimeoutStopSec= of the unit.
RELEASE_DEAD_SECONDS = 10.0
# How long an attempt to connect to one address may take.
CONNECT_SECONDS = 2
# Somebody who has locked one job must not keep a worker from the others for long.
LONGEST_LOCK_SECONDS = 3.0
# For this part of the time for an answer the server may wait for a lock: so it gives up, and says so, before we do.
ANSWER_LOCK = 0.75
# How long `migrate` waits for a lock: less than a lease does.
MIGRATION_LOCK_SECONDS = 2
# Who waited for a lock in vain has paused already, in the server. When it is gone nothing shall wait any more.
LOCKED_PAUSE_SECONDS = 0.5
# How often a worker looks, however long its poll interval, while it can't rely on being woken: a stranger has the lock
# by which enqueues know of it, or fills the server's queue of notifications.
DEAF_SECONDS = 0.5

# --- The control thread.

BEAT_SECONDS = 5.0
# A run shorter than this is not worth a beat of its own; a longer one is shown by `status` within about a second.
SHOWN_AFTER_SECONDS = 0.5
# What changed is told at once, but no more often: each beat leaves a dead row, which piles up under a held snapshot.
TOLD_AGAIN_SECONDS = 1.0
# How often this process looks at the database's clock: by a turn, or else by the control thread.
CLOCK_LOOK_SECONDS = 2.0
# How far that clock may get off its course without having been set: slewed, which chrony does by up to 8 %, and a
# little more.
CLOCK_DRIFT = 0.1
CLOCK_SLACK_SECONDS = 0.5
# The main thread passes its loop once a poll, or waits for the database.
STALLED_SECONDS = 60.0
PING_SECONDS = 10.0
# How long what is said to systemd but once waits until systemd takes it.
NOTIFY_SECONDS = 2.0
# How much longer systemd shall wait for READY=1, told with each try to reach the database.
EXTEND_START_SECONDS = 45.0
# While a stop waits for a job, systemd is asked again and again for so much more time, but for no more than this after
# the moment at which the handler's process is ended: that takes a call of the database or two.
EXTEND_AGAIN_SECONDS = 1.0
EXTEND_STOP_SECONDS = 15.0
ENDING_SECONDS = 5.0
# A handler that runs for longer doesn't keep the settles of those before it, nor the leases of those after it.
SETTLE_AFTER_SECONDS = 0.05
QUICK_TICK_SECONDS = 0.05
# The longest tick, while there is nothing that a slow handler would keep.
TICK_SECONDS = 0.5


def tick(shortest_lease: float) -> float:
    """How often the control thread looks at the deadlines of leases, the shortest of which lasts so long."""
    return min(TICK_SECONDS, 0.1 * shortest_lease)


# What the database refuses the control thread is asked for again after so long.
ASK_AGAIN_SECONDS = 1.0

# --- Settling.

# A job that somebody has locked is tried again after so long, which waits for nobody.
LOCKED_AGAIN_SECONDS = 0.2
# One that the database refuses altogether, or waited for in vain, after so long.
SETTLE_AGAIN_SECONDS = 5.0
# One call settles jobs one by one for no longer than this, and leaves the rest to the next: each may cost a wait, and a
# thread has leases to renew and signs of life to give.
ONE_BY_ONE_SECONDS = 0.5

# --- What is put right between two batches.

SWEEP_SECONDS = 2.0
# Sooner where there is nothing else to do: so that no job need wait for a sweep.
SWEEP_SOONER_SECONDS = 0.5
# Leases that expired since the last look, and a little more: a sweep that took long.
SWEEP_BACK_SECONDS = 5.0
# A worker returns expired leases only after it has had the database, and seen its clock go steadily, for so long: in
# that time the others, who lost it too or have to find that its clock was set, renew what they run. They look at the
# clock every CLOCK_LOOK_SECONDS, and wait for no answer longer than CONTROL_ANSWER_SECONDS. A worker that starts can't
# know whether the clock was set just before.
AMNESTY_SECONDS = 10.0
HOUSEKEEPING_SECONDS = 600.0

# --- What a scrape is told.

# Counts younger than this are good enough. Below the usual 15 s between scrapes, so that each scrape finds new ones.
COUNTS_FRESH_SECONDS = 10.0
# Older ones are left out, rather than shown as if they were true. Two minutes is the longest usual scrape interval.
COUNTS_STALE_SECONDS = 120.0
# How long a scrape waits for a count: a short queue is counted in it, so that what is shown is of this moment.
COUNT_AWAITED_SECONDS = 0.01
# How long a count may take, in the database: nobody waits for it, and 20 times as long goes by until the next one
# (claim_count_v1), which comes before this one is stale. Less than the connection itself waits for an answer.
COUNT_LIMIT_SECONDS = 2.5
SCRAPE_ANSWER_SECONDS = 3.0
# A worker that told no scrape for so long is scraped by nobody: two minutes is the longest usual interval.
UNSCRAPED_SECONDS = 120.0
