"""`jobs explain`: what it leaves out, and what it says wrongly."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

LIFE = ("test_what_it_names_is_in_the_way_and_nothing_else_is",)
OWNER = ("test_a_silent_owner_is_named_with_when_its_lease_returns",)

MUTANTS = (
    Mutant(
        "an explanation does not know what waits ahead of a ramp",
        sql("hold_check_v1"),
        "v_room > p_ahead OR",
        "v_room > 0 OR",
        LIFE,
    ),
    Mutant(
        "an explanation counts no runs of a canary",
        sql("hold_check_v1"),
        "j.leased_at >= v_ramp.began;",
        "j.leased_at > 'infinity';",
        LIFE,
    ),
    Mutant(
        "an explanation sees no lock of a savepoint beside others",
        sql("locker_v1"),
        "OR l.transactionid = ANY (v_several)",
        "",
        ("test_who_has_locked_the_row_is_named",),
    ),
    Mutant(
        "an explanation takes workers that stop for able ones",
        sql("worker_checks_v1"),
        " AND b.state <> 'stopping' AS leases",
        " AS leases",
        LIFE,
    ),
    Mutant(
        "an explanation names the drains of any worker",
        sql("worker_checks_v1"),
        "ORDER BY cardinality(a.holds), a.busy",
        "ORDER BY a.busy",
        LIFE,
    ),
    Mutant(
        "an explanation takes the end of a pause for a hand",
        sql("state_check_v1"),
        "h.until <= clock_timestamp() THEN readable_v1(h.until)",
        "false THEN readable_v1(h.until)",
        ("test_a_job_whose_pause_has_ended_waits_for_a_worker_to_put_it_back",),
    ),
    Mutant(
        "a lease without an end never ends",
        sql("state_check_v1"),
        "WHEN coalesce(p_job.lease_expires_at, '-infinity') = '-infinity' THEN 0",
        "WHEN false THEN 0",
        OWNER,
    ),
    Mutant(
        "an explanation promises a sweep after the end of the lease",
        "shithubd_worker/cli/reasons.py",
        "left is not None and (expires is None or left < expires)",
        "left is not None",
        OWNER,
    ),
    Mutant(
        "a printed command has words that a shell misreads",
        "shithubd_worker/cli/ways_out.py",
        "{shell_word(each['unit'])}  # on",
        "{each['unit']}  # on",
        ("test_each_printed_command_is_one_of_a_shell",),
    ),
)
