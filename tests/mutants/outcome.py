"""The outcome of an attempt: each row of the table is changed, and what a worker does with it."""

from __future__ import annotations

from mutants.mutant import Mutant

OUTCOME = "shithubd_worker/attempt/outcome.py"


def _row(name: str, old: str, new: str) -> Mutant:
    return Mutant(name, OUTCOME, old, new, ("test_each_case_has_its_outcome",))


MUTANTS = (
    _row(
        "a job that settled itself may still fail", "if raised is None or settle is Settle.DONE:", "if raised is None:"
    ),
    _row(
        "a COMMIT without an answer is settled again",
        "        return Result(OK, settle)\n",
        "        return Result(OK)\n",
    ),
    _row(
        "an interrupt that caused another error is missed",
        "if ended.interrupt and (interrupt := interrupt_behind(raised)):",
        "if ended.interrupt and (interrupt := raised) and type(raised).__name__ == 'Interrupted':",
    ),
    _row("a lease that is lost is a failed attempt", "if isinstance(raised, LeaseLost):", "if False:"),
    _row(
        "Permanent is tried again",
        "outcome = Outcome(How.FAILED, as_text(raised))",
        "outcome = _failed(ended.kind, ended.lease, as_text(raised), chance)",
    ),
    _row(
        "NotNow costs an attempt",
        "outcome = Outcome(How.RELEASED, as_text(raised), raised.seconds)",
        "outcome = Outcome(How.RETRY, as_text(raised), raised.seconds)",
    ),
    _row("RetryAfter goes by the backoff", "as_text(raised), chance, raised.seconds)", "as_text(raised), chance)"),
    _row(
        "a shortage costs an attempt",
        'Outcome(How.RELEASED, f"not now: {short}"',
        'Outcome(How.RETRY, f"not now: {short}"',
    ),
    _row("a shortage that caused another error is missed", "for each in chain(raised))", "for each in [raised])"),
    _row("a shortage on a broken connection counts as one", "elif not ended.broke and any(", "elif any("),
    _row("a database that went away costs an attempt", "Outcome(How.RELEASED, away) if ended.broke else None", "None"),
    _row(
        "a stop costs an attempt",
        'return Outcome(How.RELEASED, "released: the worker stops")',
        'return _failed(kind, lease, "released: the worker stops", chance)',
    ),
    _row(
        "a lease that could not be renewed costs an attempt",
        "if interrupt.unreachable or interrupt.waited > kind.trusted * RENEWAL_AWAITED:",
        "if False:",
    ),
    _row(
        "a job that held the interpreter returns for ever",
        "if interrupt.unreachable or interrupt.waited > kind.trusted * RENEWAL_AWAITED:",
        "if True:",
    ),
    _row(
        "a wait for the database that was short counts",
        "interrupt.waited > kind.trusted * RENEWAL_AWAITED",
        "interrupt.waited >= 0.5",
    ),
    _row("one attempt more than allowed", "if lease.attempt >= kind", "if lease.attempt > kind"),
    Mutant(
        "the job's own limit of attempts counts for nothing",
        "shithubd_worker/registry.py",
        "self.max_attempts if lease.max_attempts is None else lease.max_attempts",
        "self.max_attempts",
        ("test_each_case_has_its_outcome",),
    ),
    _row("the backoff is always that of the first attempt", "kind.backoff(lease.attempt)", "kind.backoff(1)"),
    _row("a job is put off for ever", "min(delay, LONGEST_DELAY_SECONDS)", "delay"),
    _row("a server that starts is the job's fault", " or sqlstate == _STARTING", ""),
    _row("a settle that is refused for good is a shortage", "return passes or no_day(error)", "return True"),
    _row("an extended run is reported with max_runtime", "if interrupt.extended else", "if False else"),
    Mutant(
        "jobs that fail together come back together",
        OUTCOME,
        "jittered(max(0.0, float(kind.backoff(lease.attempt))), chance)",
        "max(0.0, float(kind.backoff(lease.attempt)))",
        ("test_jobs_that_fail_or_are_refused_together_do_not_come_back_together",),
    ),
    Mutant(
        "a payload that doesn't fit is tried again",
        OUTCOME,
        "Outcome(How.POISON, f\"the payload doesn't fit",
        "Outcome(How.RETRY, f\"the payload doesn't fit",
        ("tests/unit/test_outcome_table.py::test_a_payload_that_does_not_fit_is_poison",),
    ),
)
