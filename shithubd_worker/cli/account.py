"""What a change did to each job, in words: what was done, what was not, why, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shithubd_worker.cli.choosing import how_many
from shithubd_worker.cli.screen import emit, line, meanwhile
from shithubd_worker.errors import EXIT_OK, NoSuchJob, Refused

if TYPE_CHECKING:
    from shithubd_worker.admin.work import Work
    from shithubd_worker.cli.common import Shared

# Up to so many jobs are told one by one.
FEW = 20
NO_SUCH, UNCHANGED, DATABASE, ALIVE = "no such job", "unchanged", "database: ", "alive: "
# A job with one of these reasons is a fault, also in a selection. With any other reason it is only no longer as
# the selection says.
FAULTS = ("locked", "trigger", "database")


class Reason(NamedTuple):
    """Why a job was not changed, and what to do next."""

    why: str
    way_out: str


_REASONS = {
    NO_SUCH: Reason("it is not in the queue", "shithubd-worker jobs show ID finds a finished job"),
    "locked": Reason("another session has locked it", "wait, and run this again"),
    "trigger": Reason("a trigger of yours on jobs left it as it was", "correct the trigger"),
    "changed": Reason("it is no longer as it was selected", "look at it: shithubd-worker jobs show ID"),
    "paused": Reason("it is paused", "end the pause: shithubd-worker resume-kind KIND"),
    "processing": Reason(
        "it is running",
        "wait for its end, or stop it first: shithubd-worker jobs release ID --accept-second-run --reason TEXT",
    ),
}


def reason(action: str, word: str) -> Reason:
    """A reason of change_jobs_v1 in words."""
    if word.startswith(ALIVE):
        return Reason(f"its worker is {word}", "stop that worker, or add --accept-second-run --reason TEXT")
    if word.startswith(DATABASE):
        return Reason(
            f"the database refuses it: {word.removeprefix(DATABASE)}", "correct what refuses it, for example a trigger"
        )
    if action == "release" and word in ("queued", "paused", "failed"):
        return Reason(f"it is {word}, and not running", "there is nothing to release")
    return _REASONS.get(word, Reason(f"it is {word}", f"jobs {action} does nothing to such a job"))


class Account:
    """Tells of a change. `named`: the operator gave ids, so each of them counts."""

    def __init__(self, shared: Shared, action: str, work: Work, *, named: bool, as_json: bool) -> None:
        from shithubd_worker.admin.change import DONE

        self.action, self.done = action, DONE[action]
        self._shared, self._work, self._named, self._as_json = shared, work, named, as_json

    @property
    def undo(self) -> str | None:
        """The command that takes the change back. None if nothing can."""
        if self._work.audit is None or self.action == "release":
            return None
        return self._shared.command("audit undo", str(self._work.audit))

    def tell(self) -> None:
        """What was done, on stdout."""
        work = self._work
        left = [job for job, why in work.refused.items() if why == UNCHANGED]
        if self._as_json:
            emit(
                {
                    "action": self.action,
                    "jobs": len(work.ids),
                    "changed": work.sums.changed,
                    "unchanged": len(left),
                    "refused": {job: why for job, why in work.refused.items() if why != UNCHANGED},
                    "not_tried": len(work.ids) - work.sums.tried - len(work.unknown),
                    "unknown": [*work.unknown],
                    "audit": work.audit,
                    "undo": self.undo,
                }
            )
            return
        if len(work.ids) <= FEW:
            for job in self._changed():
                line(f"job {job} {self.done}")
            for job in left:
                line(f"job {job} is unchanged: it was so already")
        elif work.sums.tried:
            line(f"{how_many(work.sums.changed)} {self.done}")
            if left:
                line(f"{how_many(len(left))} unchanged: already so")
        if not work.ids:
            line("no such jobs")
        if self.undo:
            line(f"undo: {self.undo}")
        elif work.audit is not None:
            line(f"audit: {work.audit}; this has no undo")

    def so_far(self) -> str:
        """How far a change came that did not reach its end, and how to go on."""
        work = self._work
        told = [f"{work.sums.changed:,} of {how_many(len(work.ids))} {self.done}"]
        if len(work.ids) == 1 and not work.sums.changed:
            told = [f"job {work.ids[0]} is not {self.done}"]
        if work.unknown:
            which = f"{work.unknown[0]} to {work.unknown[-1]}"
            told.append(f"it is not known whether the last batch was: {how_many(len(work.unknown))}, ids {which}")
        if len(work.ids) > 1:
            told.append("to go on, run the command again")
        return "; ".join(told)

    def refusals(self) -> list[str]:
        """What was not done, and why: a line for each job, or for each reason if there are many."""
        told = []
        for why, jobs in self._by_reason(faults=True).items():
            if len(jobs) <= FEW:
                told += [f"{self._not_done(why, job)}: {why.way_out.replace(' ID', f' {job}')}" for job in jobs]
            else:
                some = ", ".join(map(str, jobs[:3]))
                told.append(f"{how_many(len(jobs))} are not {self.done}, for example {some}: {why.why}: {why.way_out}")
        return told

    def judged(self) -> int:
        """The exit code, if it is 0. Else raises the error that says why not."""
        tell = meanwhile(as_json=self._as_json)
        for why, jobs in self._by_reason(faults=False).items():
            tell(f"{how_many(len(jobs))} left alone, no longer as selected: {why.why}")
        told = self.refusals()
        if any(self._faulty(word) and word != NO_SUCH for word in self._work.refused.values()):
            raise Refused(*told)
        if told:
            raise NoSuchJob(*told)
        return EXIT_OK

    def _faulty(self, word: str) -> bool:
        return word != UNCHANGED and (self._named or word.startswith(FAULTS))

    def _by_reason(self, *, faults: bool) -> dict[Reason, list[int]]:
        found: dict[Reason, list[int]] = {}
        for job, word in self._work.refused.items():
            if word != UNCHANGED and self._faulty(word) is faults:
                found.setdefault(reason(self.action, word), []).append(job)
        return found

    def _changed(self) -> list[int]:
        left = {*self._work.refused, *self._work.unknown}
        return [job for job in self._work.ids[: self._work.sums.tried] if job not in left]

    def _not_done(self, why: Reason, job: int) -> str:
        return f"no job {job}: {why.why}" if why is _REASONS[NO_SUCH] else f"job {job} is not {self.done}: {why.why}"
