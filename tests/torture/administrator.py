"""An operator who changes several jobs at once by the administrative functions in SQL, and undoes some of it.

It also takes back the jobs of dead and of silent workers, and cleans up. It records nothing: the checker reads the
audit record.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg

from shithubd_worker.admin import workers
from torture.evidence import FAILED_BY_HAND
from torture.operators import REASON, Operator

MOST = 6  # jobs of one change
ACCEPTING = ", accepting a second run"


class Administrator(Operator):
    """Changes several jobs at once."""

    def changes(self) -> list[Callable[[], None]]:
        """One of these is drawn each time."""
        return [self._change, self._change, self._plan, self._undo, self._unlock, self._clean]

    def act(self) -> None:
        """One change. It may be refused: workers and other operators change the same jobs."""
        what = self.dice.choice(self.changes())
        try:
            what()
        except psycopg.errors.RaiseException as error:
            self.log("order", order=f"{what.__name__.strip('_')} refused", job=None, said=str(error)[:200])
        except (psycopg.errors.ObjectInUse, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            self.log("order", order=f"{what.__name__.strip('_')}: in use", job=None, said=str(error)[:200])

    def _chosen(self) -> list[int]:
        found = self.operations.jobs({"state": self.dice.choice(["queued", "queued", "paused", "failed", None])}, 200)
        return [job["id"] for job in self.dice.sample(found, min(len(found), self.dice.randint(1, MOST)))]

    def _change(self) -> None:
        ids, actor = self._chosen(), self.operations.actor
        action = self.dice.choice(["complete", "fail", "reschedule", "retry", "discard"])
        self.log("order", order=f"{action} several", job=None, jobs=ids)
        if action == "fail":
            self.operations.rows("permanently_fail_jobs", ids, FAILED_BY_HAND, REASON, actor)
        elif action == "reschedule":
            due = datetime.now(UTC) + timedelta(seconds=self.dice.uniform(-1.0, 3.0))
            self.operations.rows("reschedule_jobs", ids, due, self.dice.randint(-3, 3), None, None, REASON, actor)
        else:
            self.operations.rows(f"{action}_jobs", ids, REASON, actor)

    def _plan(self) -> None:
        ids, actor = self._chosen(), self.operations.actor
        action = self.dice.choice(["complete", "retry", "discard"])
        ((plan, *_),) = self.operations.rows("plan_jobs_v1", action, ids, None, "{}", None, "1 hour", REASON, actor)
        if plan is not None:
            self.rest(self.dice.uniform(0.0, 0.5))
            self.log("order", order=f"{action} by a plan", job=None, jobs=ids)
            self.operations.rows("apply_plan_v1", plan, self.dice.random() < 0.5, REASON, actor)

    def _undo(self) -> None:
        rows = self.operations.connection.execute(
            "SELECT id FROM audit WHERE action IN ('complete', 'fail', 'reschedule', 'discard', 'undo')"
            " ORDER BY id DESC LIMIT 10"
        ).fetchall()
        if rows:
            self.log("order", order="undo", job=None)
            self.operations.rows("undo_jobs", self.dice.choice(rows)[0], REASON, self.operations.actor)

    def _unlock(self) -> None:
        dead = self.operations.connection.execute(
            "SELECT w.id FROM workers w JOIN beats b ON b.worker_id = w.id WHERE NOT lives_v1(b.beat_at)"
        ).fetchall()
        if dead:
            self.log("order", order="unlock", job=None)
            names = [str(worker) for (worker,) in dead]
            self.operations.rows("force_unlock_workers", names, False, REASON, self.operations.actor)

    def _clean(self) -> None:
        self.log("order", order="clean up", job=None)
        self.operations.rows("cleanup", ["GC_TASK_IDENTIFIERS"], REASON, self.operations.actor)


class Sweeper(Administrator):
    """Takes jobs back from workers that are silent, and from hosts that are said to be gone."""

    def changes(self) -> list[Callable[[], None]]:
        """See Administrator."""
        self.rest(self.dice.uniform(0.0, 2.0))
        return [self._sweep, self._sweep, self._sweep, self._unlock_host]

    def _unlock_host(self) -> None:
        """As after a host burnt down. It is refused while a worker of the host beats, and some lives almost always. To
        accept a second run takes the jobs of all workers of the host at once, so that is rare."""
        hosts = sorted({worker["host"] for worker in self.operations.workers()})
        if hosts:
            accept = self.dice.random() < 0.04
            self.log("order", order="unlock a host" + (ACCEPTING if accept else ""), job=None)
            names = [f"{self.dice.choice(hosts)}:*"]
            self.operations.rows("force_unlock_workers", names, accept, REASON, self.operations.actor)

    def _sweep(self) -> None:
        """Take the jobs of silent workers. The time counts alone only if a second run is accepted."""
        if self.dice.random() < 0.05:
            self.command("workers", "sweep", "--stale-after", "30s", "--recovery-delay", "1s", "--reason", REASON)
            return
        accept = self.dice.random() < 0.08
        after = self.dice.uniform(0.5, 12.0)
        self.log("order", order="sweep" + (ACCEPTING if accept else ""), job=None)
        for _ in workers.sweep(
            self.operations,
            REASON,
            self.operations.actor,
            stale_after=after,
            delay=self.dice.choice([0.0, 0.0, 1.0]),
            accept_second_run=accept,
        ):
            pass
