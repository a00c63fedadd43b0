"""The methods of Client that change jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from shithubd_worker.admin import arguments, plans, workers
from shithubd_worker.admin.borrowed import check_letters, check_schema
from shithubd_worker.admin.change import Change
from shithubd_worker.admin.rows import JobRow, changed, refusing
from shithubd_worker.database.operations import Operations
from shithubd_worker.options import ATTEMPTS, PRIORITIES, whole


class Changes:
    """What changes jobs. A method means what the SQL function of its name means."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._checked = False

    def complete_jobs(self, job_ids: Iterable[int], *, reason: str | None = None) -> list[JobRow]:
        """End jobs as if they were done, unless they run. Returns those that it ended."""
        return self._changed("complete_jobs", reason, arguments.job_ids(job_ids))

    def permanently_fail_jobs(
        self, job_ids: Iterable[int], error_message: str, *, reason: str | None = None
    ) -> list[JobRow]:
        """Make jobs failed, unless they run. `error_message` becomes their last error. Returns those that it
        changed."""
        message = arguments.text("error_message", error_message)
        return self._changed("permanently_fail_jobs", reason, arguments.job_ids(job_ids), message)

    def reschedule_jobs(
        self,
        job_ids: Iterable[int],
        *,
        run_at: datetime | None = None,
        priority: int | None = None,
        attempts: int | None = None,
        max_attempts: int | None = None,
        reason: str | None = None,
    ) -> list[JobRow]:
        """Change when and how often jobs run, unless they run now. None leaves a value as it is. A failed job is queued
        again. Returns those that it changed."""
        return self._changed(
            "reschedule_jobs",
            reason,
            arguments.job_ids(job_ids),
            arguments.moment("run_at", run_at),
            None if priority is None else whole("priority", priority, PRIORITIES),
            None if attempts is None else whole("attempts", attempts, (0, ATTEMPTS[1])),
            None if max_attempts is None else whole("max_attempts", max_attempts, ATTEMPTS),
        )

    def retry_jobs(self, job_ids: Iterable[int], *, reason: str | None = None) -> list[JobRow]:
        """Queue failed jobs anew, and make jobs due that wait for a later time. Returns those that it changed."""
        return self._changed("retry_jobs", reason, arguments.job_ids(job_ids))

    def discard_jobs(self, job_ids: Iterable[int], *, reason: str | None = None) -> list[JobRow]:
        """Remove jobs that must not run, unless they run. Returns those that it removed."""
        return self._changed("discard_jobs", reason, arguments.job_ids(job_ids))

    def release_jobs(
        self, job_ids: Iterable[int], *, accept_second_run: bool = False, reason: str | None = None
    ) -> list[JobRow]:
        """Put the jobs of dead workers back into the queue. Returns those that it released."""
        return self._changed(
            "release_jobs", reason, arguments.job_ids(job_ids), arguments.flag("accept_second_run", accept_second_run)
        )

    def force_unlock_workers(
        self,
        worker_ids: Iterable[str | UUID] | None = None,
        *,
        host: str | None = None,
        accept_second_run: bool = False,
        reason: str | None = None,
    ) -> list[JobRow]:
        """Put all jobs of dead workers back into the queue. A worker is named by its uuid or its host:pid; `host` means
        all workers of a host. Returns the jobs that it took back. Raises Refused if one of the workers lives, unless
        you accept a second run."""
        if (worker_ids is None) == (host is None):
            raise ValueError("give worker_ids or host")
        if host is None:
            names = arguments.worker_ids(worker_ids or ())
        else:
            names = [workers.all_of(arguments.name_of("host", host))]
        accepted = arguments.flag("accept_second_run", accept_second_run)
        return self._changed("force_unlock_workers", reason, names, accepted)

    def sweep(
        self,
        *,
        stale_after: float | timedelta | None = None,
        recovery_delay: float | timedelta = 0,
        accept_second_run: bool = False,
        reason: str | None = None,
    ) -> list[workers.Returned]:
        """Take jobs back whose leases have expired. With `stale_after` also the jobs of workers that were silent for so
        many seconds and have given up. Returns the jobs that came back. They run again after `recovery_delay`. If you
        accept a second run, a worker need not have given up: it may still run its job beside the next one."""
        stale = (
            None if stale_after is None else arguments.seconds_within("stale_after", stale_after, workers.STALE_AFTER)
        )
        delay = arguments.seconds_within("recovery_delay", recovery_delay, workers.DELAY)
        accepted, why = arguments.flag("accept_second_run", accept_second_run), arguments.text("reason", reason)
        if accepted and stale is None:
            raise ValueError("accept_second_run needs stale_after")
        with refusing():
            swept = workers.sweep(
                self._ready(), why, self._operations.actor, stale_after=stale, delay=delay, accept_second_run=accepted
            )
            return [workers.Returned(**job) for each in swept for job in each.returned]

    def cleanup(self, tasks: Iterable[str], *, reason: str | None = None) -> list[JobRow]:
        """Remove what is no longer needed. Tasks: DELETE_PERMAFAILED_JOBS, GC_TASK_IDENTIFIERS, GC_JOB_QUEUES. Returns
        the failed jobs that it removed."""
        return self._changed("cleanup", reason, arguments.tasks(tasks))

    def undo_jobs(self, audit_id: int, *, reason: str | None = None) -> list[JobRow]:
        """Undo what one audit row records about jobs. Returns those that it restored: nobody had touched them since.
        Raises Refused for an audit row that can't be undone."""
        return self._changed("undo_jobs", reason, arguments.row_id("audit_id", audit_id))

    def plan_jobs(
        self,
        action: str,
        job_ids: Iterable[int] | None = None,
        *,
        where: Mapping[str, object] | None = None,
        values: Mapping[str, object] | None = None,
        limit: int | None = None,
        expires_in: float | timedelta = 3600,
        reason: str | None = None,
    ) -> plans.Planned:
        """Write a plan: what an action would do to these jobs, or to those of a selection. It changes no job.
        docs/client.md has the members of `where` and `values`."""
        if job_ids is None and where is None:
            raise ValueError("give job_ids or where: where={} means every job")
        ids = None if job_ids is None else arguments.job_ids(job_ids)
        change = Change(
            arguments.action(action),
            self._operations.actor,
            arguments.text("reason", reason),
            arguments.values(action, values),
            arguments.where({} if where is None else where),
        )
        most = None if limit is None else whole("limit", limit, (0, 2**63 - 1))
        seconds = arguments.expires_in(expires_in)
        with refusing():
            return plans.make(self._ready(), change, ids, limit=most, expires_in=seconds)

    def apply_plan(self, name: str, *, partial: bool = False, reason: str | None = None) -> list[JobRow]:
        """Do what a plan says. Returns the jobs that it changed. Raises Refused if a job is no longer as it was, and
        changes nothing. With `partial` it changes the others."""
        plan = arguments.name_of("name", name)
        return self._changed("apply_plan_v1", reason, plan, arguments.flag("partial", partial))

    def close(self) -> None:
        """Close the Client's own connection. A later call opens another. A connection that you gave stays open."""
        self._operations.close()

    def _ready(self) -> Operations:
        """The operations, once the schema has been checked."""
        check_letters(self._operations)
        if not self._checked:
            check_schema(self._operations)
            self._checked = True
        return self._operations

    def _changed(self, function: str, reason: str | None, *given: object) -> list[JobRow]:
        why = arguments.text("reason", reason)
        with refusing():
            return changed(self._ready(), function, *given, why, self._operations.actor)
