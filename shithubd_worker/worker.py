"""The loop: lease, start, attempt, settle, wait. One job at a time, in the main thread."""

from __future__ import annotations

import logging
import random
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg

from shithubd_worker import backoff, control, logs, schema
from shithubd_worker.attempt import Attempt, lease_margin
from shithubd_worker.config import Config
from shithubd_worker.control import Control, Progress
from shithubd_worker.errors import EXIT_DATABASE, EXIT_OK, DatabaseUnavailable
from shithubd_worker.host import DeadMan, Stop, Systemd, Wakeup, identify, is_dead, set_alarm, signals_elsewhere
from shithubd_worker.model import How, Lease, Outcome
from shithubd_worker.registry import Kind
from shithubd_worker.store import LOST, Beat, Connect, Ledger, Queue, explained

if TYPE_CHECKING:
    from shithubd_worker.metrics import Metrics

log = logging.getLogger(__name__)

# A job starts within this time of the sending of its lease query, or after one more look at the holds. barrier_v1
# relies on it: change both or none.
START_WITHIN_SECONDS = 0.5
SWEEP_SECONDS = 1.0
AMNESTY_SECONDS = 10.0
# How long the loop waits for the database to answer before it reconnects.
ANSWER_SECONDS = 30.0
HOUSEKEEPING_SECONDS = 600.0
# A lease's dead man that is further away than this is left for the next job to use.
STAND_DOWN_SECONDS = 5.0


# The outcomes that only the lease's owner writes.
_OURS = (How.OK, How.RETRY, How.FAILED, How.RELEASED)


class Unsettled(Exception):
    """The database stayed away until the worker had to go: an outcome could not be written."""


class Worker:
    """One worker process. `run` returns its exit code. `connect` makes connectors, by name, answer_seconds and ours."""

    def __init__(
        self,
        config: Config,
        kinds: Sequence[Kind],
        connect: Callable[[str, float | None, bool], Connect],
        schema_name: str,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._order = list(kinds)  # in turn: the kind that was served last comes last
        self._identity = identify()
        self._metrics = metrics
        self._systemd = Systemd()
        self._queue = Queue(connect("shithubd-worker", ANSWER_SECONDS, True), schema_name, self._identity.id)
        self._beat = Beat(connect("shithubd-worker control", control.ANSWER_SECONDS, True), schema_name)
        self._ledger = Ledger(connect("shithubd-worker handler", None, False), schema_name)
        self._stop = Stop(config.grace)
        self._wakeup = Wakeup()
        self._ears = Wakeup()
        self._dead_man = DeadMan()
        self._progress = Progress()
        self._notified = False
        self._sweep_at = 0.0
        self._expired_at = 0.0
        self._failures = 0  # calls in a row that the database didn't answer, or answered with a refusal
        self._housekeep_at = time.monotonic() + random.uniform(5, 60)  # noqa: S311
        self._control = Control(
            beat=self._beat,
            identity=self._identity,
            kinds=[kind.name for kind in kinds],
            shortest_lease=min((kind.lease_timeout for kind in kinds), default=300.0),
            progress=self._progress,
            stop=self._stop,
            ears=self._ears,
            wake_main=self._wakeup.wake,
            systemd=self._systemd,
            dead_man=self._dead_man,
            metrics=metrics,
        )

    def state(self) -> str:
        """What the worker is doing, in one word of metrics.STATES."""
        return self._control.state if self._progress.ready else "starting"

    def run(self) -> int:
        """Work until somebody asks to stop, or until the queue is empty if that was asked for."""
        self._catch_signals()
        if not self._enter():
            return EXIT_OK
        clean = False
        try:
            self._loop()
            clean = True
        except Unsettled as error:
            log.error("%s", error)  # noqa: TRY400 (expected: its text says it all)
            return EXIT_DATABASE
        except psycopg.Error as error:
            raise explained(error) from error
        finally:
            self._leave(clean=clean)
        return EXIT_OK

    def _loop(self) -> None:
        while not self._stop.wanted:
            self._progress.ticked_at = time.monotonic()
            try:
                self._sweep_if_due()
                self._housekeep_if_due()
                lease = self._lease()
                if lease is not None:
                    self._process(lease)
                elif self._config.until_empty:
                    return
                elif not self._notified:
                    self._wait(self._config.poll_interval)
            except LOST as error:
                self._metrics.claim_failed()
                self._reconnect(error)

    def _lease(self) -> Lease | None:
        self._notified = False
        asked_at = time.monotonic()
        lease = self._queue.lease(self._order)
        self._metrics.leased(lease, time.monotonic() - asked_at)
        self._failures = 0
        if lease is not None:
            self._order.sort(key=lambda kind: kind.name == lease.kind)  # stable: only the served one moves
        return lease

    def _process(self, lease: Lease) -> None:
        """One leased job, to its settle."""
        kind = next(kind for kind in self._order if kind.name == lease.kind)
        attempt = Attempt(kind, lease, config=self._config, database=self._ledger, stop=self._stop, alarm=set_alarm)
        outcome = attempt.prepare()
        if outcome is None:
            started = self._confirmed(attempt)
            if not started:
                self._settle(attempt, Outcome(How.RELEASED, "released before it started: the worker stops, or is held"))
                return
            outcome = self._run(attempt)
            if attempt.connection_broke and self._database_went_away():
                outcome = Outcome(How.RELEASED, f"released: the database went away under it: {outcome.error}")
        self._settle(attempt, outcome)

    def _database_went_away(self) -> bool:
        """Was it the database, or only the handler's own connection? Ours has been idle since the lease."""
        try:
            self._queue.value("channel_v1")
        except LOST:
            return True
        return False

    def _confirmed(self, attempt: Attempt) -> bool:
        """May the leased job still start? After 500 ms only the database can tell; see barrier_v1."""
        while True:
            now = time.monotonic()
            if self._stop.wanted:
                return False
            if now - attempt.lease.sent_at <= START_WITHIN_SECONDS:
                return True
            timeout = attempt.kind.lease_timeout
            if not self._queue.start(attempt.lease, timeout):
                return False
            attempt.lease = replace(attempt.lease, sent_at=now, deadline=now + timeout)
            attempt.lease_deadline = attempt.lease.deadline

    def _run(self, attempt: Attempt) -> Outcome:
        self._dead_man.cover(attempt.lease_deadline - lease_margin(attempt.kind.lease_timeout) / 4)
        self._progress.attempt = attempt
        self._metrics.started(attempt.kind.name)
        try:
            return attempt.run()
        finally:
            self._progress.attempt = None
            self._dead_man.stand_down(within=STAND_DOWN_SECONDS)
            self._ledger.tidy()
            self._metrics.ended(attempt.kind.name, time.monotonic() - attempt.started_at)

    def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Write what came of it, through reconnects: a lease that nobody took meanwhile can still be settled."""
        lease, kind = attempt.lease, attempt.kind
        unanswered = attempt.unknown
        while not attempt.settled:
            try:
                # A lease given up for want of the database may still be ours: then nobody ran the job meanwhile.
                wish = replace(outcome, how=How.RELEASED) if outcome.how is How.LEASE_LOST else outcome
                if self._write(lease, kind, wish):
                    outcome = wish
                    break
                fate = self._queue.fate(lease) if unanswered else None
                untold = unanswered and kind.retention == "none"
                if untold:  # nobody wrote down what became of it; most likely that settle
                    outcome = wish
                elif fate in (*_OURS, wish.how):  # the settle whose answer was lost did happen
                    outcome = replace(outcome, how=How(fate))
                else:
                    self._queue.lost(lease, outcome.error, kind.retention)
                    self._metrics.fenced(kind.name)
                    outcome = Outcome(How.LEASE_LOST, f"the lease was lost before it could be settled as {outcome.how}")
                break
            except LOST as error:
                unanswered = True
                if not self._reconnect(error, unsettled=True):
                    raise Unsettled(
                        f"job {lease.id} ({lease.kind}) ended as {outcome.how}, but the database is away:"
                        " it stays leased until its timeout"
                    ) from error
        self._metrics.processed(kind.name, outcome.how)
        logs.report(lease, outcome, time.monotonic() - attempt.started_at)

    def _write(self, lease: Lease, kind: Kind, outcome: Outcome) -> bool:
        try:
            return self._queue.settle(lease, outcome, kind.retention)
        except psycopg.errors.CheckViolation:
            # No partition for today: every worker of the fleet was away for two weeks, or the clock leapt.
            self._queue.value("ensure_history_v1")
            return self._queue.settle(lease, outcome, kind.retention)

    # Coming and going.

    def _catch_signals(self) -> None:
        """A signal sets a flag and wakes the loop. Only the alarm raises, and only in a handler's frame."""
        self._ears.catch_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def _on_stop(self, number: int, frame: object) -> None:
        self._stop.hear(main=True)
        self._wakeup.wake()
        self._on_alarm(number, frame)  # a second one releases at once; the first sets the alarm to the grace's end

    def _on_alarm(self, number: int, frame: object) -> None:
        attempt = self._progress.attempt
        if attempt is not None:
            attempt.interrupt_if_due()

    def _enter(self) -> bool:
        """Reach the database, register, take back what dead workers of this host hold. False if stopped meanwhile."""
        began = time.monotonic()
        tries = 0
        while True:
            try:
                schema.check(self._queue.connection, self._queue.schema)
                self._beat.register(self._identity, [kind.name for kind in self._order])
                self._connect()
                break
            except psycopg.Error as error:
                self._queue.close()
                reason = explained(error)
                waited = time.monotonic() - began
                if not isinstance(reason, DatabaseUnavailable) or waited >= self._config.database_wait:
                    raise reason from error
                log.log(logging.WARNING if tries == 0 else logging.DEBUG, "waiting for the database: %s", reason)
                self._systemd.status(f"waiting for the database ({waited:.0f} s)")
                self._systemd.extend(30.0)
                tries += 1
                self._wait(backoff.reconnect(tries, random.random()), listen=False)  # noqa: S311
            if self._stop.wanted:
                return False
        self._take_back()
        self._progress.holds = self._beat.beat(self._identity.id, "idle", None, None, None, busy=True) or []
        for hold in (*self._progress.holds, *self._queue.kind_holds()):
            log.info("starting under a hold: %s", hold)
        with signals_elsewhere():
            self._control.start()
        self._metrics.database_up(up=True)
        log.info(
            "%s, schema %s, kinds %s",
            self._identity.leased_by,
            self._queue.schema,
            ", ".join(kind.name for kind in self._order) or "none",
        )
        log.info("ready")
        self._progress.ready = True
        self._systemd.ready("held" if self._progress.holds else "idle")
        return True

    def _take_back(self) -> None:
        for other in self._beat.housemates(self._identity):
            proof = is_dead(other, self._identity)
            if proof is None:
                continue
            returned = self._beat.release_worker(other.id, f"its worker {other.leased_by} is dead: {proof}")
            log.info("%s is dead (%s): %d job(s) returned", other.leased_by, proof, len(returned))
            for _, kind, how in returned:
                self._metrics.recovered(kind, how)

    def _leave(self, *, clean: bool) -> None:
        """Last of all. A worker that goes with a lease leaves its row, by which release-dead finds the lease."""
        self._control.finish()
        self._dead_man.stand_down()
        self._systemd.stopping()
        if clean:
            try:
                self._beat.unregister(self._identity.id)
            except psycopg.Error as error:
                log.warning("could not take the worker's row away: %s", explained(error))
        for session in (self._queue, self._beat, self._ledger):
            session.close()

    # The database's absence, sleep, and the work between jobs.

    def _reconnect(self, error: Exception, *, unsettled: bool = False) -> bool:
        """Until the database answers again: True. False if the worker must go first: at once when it was asked to
        stop and has nothing to settle, else at the end of the grace."""
        log.warning("the database is away: %s", explained(error) if isinstance(error, psycopg.Error) else error)
        self._progress.database_up = False
        self._metrics.database_up(up=False)
        first = True
        while not (self._stop.wanted and (not unsettled or time.monotonic() >= self._stop.release_at)) or first:
            first = False
            self._failures += 1
            self._queue.close()
            self._ledger.close()
            self._progress.ticked_at = time.monotonic()
            self._wait(backoff.reconnect(self._failures, random.random()), listen=False)  # noqa: S311
            try:
                self._connect()
                self._queue.value("channel_v1")
            except LOST:
                continue
            log.info("the database is back after %d tries", self._failures)
            # The others lost it too: give them the time to renew before a lease of theirs counts as expired. What this
            # worker may hold without knowing is given back at once.
            self._expired_at = time.monotonic() + AMNESTY_SECONDS
            self._sweep_at = 0.0
            self._progress.database_up = True
            self._metrics.database_up(up=True)
            self._metrics.reconnected()
            return True
        return False

    def _connect(self) -> None:
        # What was enqueued while nobody listened is found by the lease that follows.
        if self._config.poll_only:
            self._queue.value("channel_v1")  # any answer will do
        else:
            self._queue.listen(self._on_notify)

    def _on_notify(self) -> None:
        self._notified = True
        self._metrics.woken("notify")

    def _wait(self, seconds: float, *, listen: bool = True) -> None:
        """Sleep until a notification, a signal or the end of the time."""
        sources: list[Any] = [self._wakeup]
        if listen and self._queue.opened:
            sources.append(self._queue.connection)
        self._progress.asleep = listen
        if not select.select(sources, [], [], seconds)[0]:
            self._metrics.woken("poll")
        self._progress.asleep = False
        self._wakeup.drain()

    def _sweep_if_due(self) -> None:
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_SECONDS
        for job, kind, how in self._queue.sweep(expired=now >= self._expired_at):
            log.warning(
                "job %d %s returned: %s",
                job,
                kind,
                how,
                extra={"job_id": job, "kind": kind, "outcome": how},
            )
            self._metrics.recovered(kind, how)

    def _housekeep_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._housekeep_at:
            self._housekeep_at = now + HOUSEKEEPING_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311
            try:
                for done in self._queue.housekeep(drop=not self._config.poll_only):
                    log.info("history: %s", done)
            except LOST:
                raise
            except psycopg.Error as error:  # a right that is missing must not end the worker
                log.warning("history: %s", explained(error))
