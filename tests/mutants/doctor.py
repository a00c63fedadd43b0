"""The doctor: what it must find, what is no finding, how little it disturbs, and what a bundle must not show."""

from __future__ import annotations

from mutants.mutant import Mutant

COMMAND = "shithubd_worker/cli/doctor.py"
BUNDLE = "shithubd_worker/doctor/bundle.py"
QUERY = "shithubd_worker/doctor/query.py"

MUTANTS = (
    # What a bundle shows, and what happens to its file.
    Mutant(
        "a bundle quotes an error",
        COMMAND,
        "as_json(quoting=False)",
        "as_json()",
        ("test_a_password_that_is_taken_for_a_host_is_not_in_it",),
    ),
    Mutant(
        "a bundle shows each text that is not known",
        "shithubd_worker/doctor/redaction.py",
        "return value if member in _NAMES or _TIME.fullmatch(value) else LEFT_OUT",
        "return value",
        ("test_no_canary_is_in_it_and_the_manifest_names_each_file",),
    ),
    Mutant(
        "a bundle replaces a file",
        BUNDLE,
        "os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
        "os.O_CREAT | os.O_TRUNC",
        ("test_only_its_maker_can_read_it_and_no_file_is_replaced",),
    ),
    Mutant(
        "half a bundle stays where the command became another user",
        BUNDLE,
        "os.ftruncate(made, 0)",
        "pass",
        ("test_who_became_another_user_leaves_an_empty_file_after_an_error",),
    ),
    # How it asks.
    Mutant(
        "the doctor runs a stranger's function",
        QUERY,
        "SET LOCAL search_path TO pg_catalog, pg_temp; ",
        "",
        ("test_no_function_of_a_stranger_runs_with_the_askers_rights",),
    ),
    Mutant(
        "a check waits for a lock",
        QUERY,
        "LOCK_SECONDS = 0.2",
        "LOCK_SECONDS = 20.0",
        ("test_a_lock_or_a_slow_check_hides_no_other_check",),
    ),
    Mutant(
        "a notice is a reason to act",
        "shithubd_worker/doctor/examination.py",
        "any(each.severity is not Severity.NOTICE for each in self.findings)",
        "bool(self.findings)",
        ("test_the_worst_comes_first_and_a_notice_is_no_reason_for_a_bad_exit_code",),
    ),
    # What it finds.
    Mutant(
        "who writes in another database is not seen",
        "sql/doctor/old-transaction.sql",
        "(backend_xid IS NOT NULL AND dead >= :many_dead_rows)",
        "false",
        ("test_who_writes_in_another_database_counts_once_there_are_many_dead_rows",),
    ),
    Mutant(
        "a subscriber is a standby",
        "sql/doctor/standby.sql",
        "slot_type IS DISTINCT FROM 'logical'",
        "true",
        ("test_a_subscriber_is_no_standby",),
    ),
)
