"""Was each job kept, and does the history explain how often it ran? Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from torture.allowed import PROMISED_WINDOW, WINDOW, Allowed
from torture.check_changes import Lives
from torture.evidence import FAILED_BY_HAND, Ended, Evidence, Run
from torture.verdict import Violation

UNTOLD = "torture.untold"  # this kind keeps no history
EFFECTS = ("torture.effect", "torture.works_on", "torture.slow.effect", "torture.forks", UNTOLD)
FAILS = "torture.permanent"
WATCHED = ("torture.long", "torture.long.effect")  # their handlers say all the time that they run


class Jobs:
    """The promises about jobs, checked against one run. `explained` counts the explained cases."""

    def __init__(self, evidence: Evidence, explained: Counter[str]) -> None:
        self._evidence = evidence
        self._explained = explained
        self._allowed = Allowed(evidence)
        self._runs: dict[int, list[Run]] = defaultdict(list)
        for run in evidence.runs:
            self._runs[run.job].append(run)
        self._ended: dict[int, list[Ended]] = defaultdict(list)
        for row in evidence.ended:
            self._ended[row.job].append(row)
        self._lives = Lives(evidence)
        self._asked = {asked.key: asked for asked in evidence.asked}

    def nothing(self) -> Iterator[Violation]:
        """A run without jobs would be clean, and would prove nothing."""
        if not any(asked.answered for asked in self._evidence.asked):
            yield Violation("nothing", "no job was enqueued")
        if not any(run.how == "ok" for run in self._evidence.runs):
            yield Violation("nothing", "no handler returned")

    def lost(self) -> Iterator[Violation]:
        """Each enqueue that got an answer is in the queue or in the history; without a history, its effect exists."""
        known = {row.key for row in self._evidence.live} | {row.key for row in self._evidence.ended}
        # A kind without a history: its effect was committed together with its end.
        known |= {key for key, _, _ in self._evidence.effects}
        known |= {run.key for run in self._evidence.runs if run.kind == UNTOLD and run.how == "ok"}
        for asked in self._evidence.asked:
            if asked.answered and asked.key not in known:
                yield Violation("lost", f"{asked.kind} {asked.key}, enqueued by {asked.way} at {asked.at:.3f}")

    def rolled_back(self) -> Iterator[Violation]:
        """An enqueue that was rolled back, or never sent, is nowhere."""
        seen = {run.key: f"ran at {run.started:.3f}" for run in self._evidence.runs}
        seen |= {row.key: "is in the history" for row in self._evidence.ended if row.key}
        seen |= {row.key: f"is {row.state}" for row in self._evidence.live if row.key}
        for key, where in seen.items():
            asked = self._asked.get(key)
            if asked is None:
                yield Violation("rolled back", f"{key} {where}, and nobody asked for it")
            elif asked.way == "rollback":
                yield Violation("rolled back", f"{asked.kind} {key} {where}, and was rolled back")

    def effects(self) -> Iterator[Violation]:
        """Exactly one effect if the job is ok, none if it is not."""
        found = Counter(key for key, _, _ in self._evidence.effects)
        for key, count in found.items():
            if count > 1:
                yield Violation("effects", f"{key} has {count} effects")
        ok = {row.key: row.kind for row in self._evidence.ended if row.outcome == "ok"}
        # For a kind without a history the handler's own log counts. It logs after its transaction.
        ok |= {run.key: run.kind for run in self._evidence.runs if run.kind == UNTOLD and run.how == "ok"}
        for key, kind in ok.items():
            if kind in EFFECTS and key not in found:
                yield Violation("effects", f"{kind} {key} is ok and has no effect")
        not_ok = {row.key for row in self._evidence.live}  # what an operator ended is not ok either
        for key in found:
            asked = self._asked.get(key)
            untold = asked is not None and asked.kind == UNTOLD  # its run may have been cut off after its transaction
            if key in not_ok or (key not in ok and not untold):
                yield Violation("effects", f"{key} has an effect, and its job is not ok")

    def second_runs(self) -> Iterator[Violation]:
        """The history says of every run but the last of a job how it ended, and no run begins after the end."""
        retried = {o["job"] for o in self._evidence.orders if o["order"] == "retry"}
        retried |= {each.job for each in self._evidence.changes if each.action in ("retry", "reschedule", "undo")}
        living = {row.job for row in self._evidence.live}
        for job, runs in self._runs.items():
            ends = len(self._lives.ends[job]) - len(self._lives.returns[job])
            if ends > 1 or (ends == 1 and job in living):
                yield Violation("second runs", f"job {job} came to an end {ends} times, or lives on after it")
            for run in runs:
                if (last := self._lives.end_before(job, run.started)) is not None:
                    late = run.started - last.at
                    yield Violation("second runs", f"{run} began {late:.3f} s after its job was {last.outcome}")
            for run, following in pairwise(runs):
                yield from self._second_run(run, following, retried=job in retried)

    def _second_run(self, run: Run, following: Run, *, retried: bool) -> Iterator[Violation]:
        row = next((each for each in self._ended[run.job] if each.token == run.token), None)
        if row is None:
            yield from self._without_row(run)
        elif row.outcome in ("failed", "poison") and not retried:
            yield Violation("second runs", f"{run} was {row.outcome}, nobody retried it, and it ran again")
        elif row.outcome == "ok":
            yield Violation("second runs", f"{run} was ok, and it ran again")
        elif run.how == "ok" and (gap := self._allowed.unsettled(run, row)) > WINDOW:
            what = f"{run} returned; {gap:.3f} s later it was {row.outcome} ({row.error}), and it ran again"
            yield Violation("second runs", what)
        else:
            after = ""
            if run.how == "ok":
                late = self._allowed.unsettled(run, row) > PROMISED_WINDOW
                after = " after it had returned" + (", more than 0.1 s before" if late else "")
            self._explained[f"second run: {row.outcome}{after}"] += 1
            yield from self._at_once(run, following, row)

    def _without_row(self, run: Run) -> Iterator[Violation]:
        if run.kind == UNTOLD:
            self._explained["second run: of a kind without a history"] += 1
        elif self._allowed.forgotten(run):
            self._explained["second run: its lease was lost with the database"] += 1
        else:
            yield Violation("second runs", f"{run} has no row in the history, and it ran again")

    def _at_once(self, run: Run, following: Run, row: Ended) -> Iterator[Violation]:
        end = run.alive if run.kind in WATCHED else min(run.ended, run.process.exited)
        if following.started >= end:
            return
        by_hand = (row.error or "").startswith("released by ")
        late = run.kind in WATCHED and self._allowed.should_have_given_up(run.process, following.started, end)
        if by_hand or self._allowed.accepted(row):
            self._explained["twice at once: an operator said so"] += 1
        elif row.outcome == "crashed" and not late:
            why = "its process stood still" if run.kind in WATCHED else "the lease expired"
            self._explained[f"twice at once: {why}"] += 1
        else:
            over = end - following.started
            yield Violation(
                "at once", f"{run} went on for {over:.3f} s after the next run began, and was {row.outcome}"
            )

    def ends(self) -> Iterator[Violation]:
        """At the end only failed jobs remain, each for a reason."""
        failed = {each.job for each in self._evidence.changes if each.action == "fail"}
        for row in self._evidence.live:
            history = self._ended[row.job]
            if row.state != "failed":
                yield Violation("end", f"{row.kind} job {row.job} is still {row.state}; its history: {_story(history)}")
            elif row.last_error == FAILED_BY_HAND and row.job in failed:
                self._explained["failed: by an operator"] += 1
            elif row.kind == FAILS:
                self._explained["failed: as planned"] += 1
            elif _poisoned(history):
                self._explained["failed: the third crash"] += 1
            else:
                yield Violation("end", f"{row.kind} job {row.job} failed: {row.last_error}; {_story(history)}")


def _poisoned(history: list[Ended]) -> bool:
    crashes = [row.outcome for row in history if row.outcome in ("crashed", "poison")]
    return len(crashes) >= 3 and "poison" in crashes


def _story(history: list[Ended]) -> str:
    return "; ".join(f"{row.outcome} {row.error or ''}".strip()[:120] for row in history[-4:]) or "none"
