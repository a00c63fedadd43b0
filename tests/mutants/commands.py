"""The commands: their exit codes, what they demand before they act, and the names in their output."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

CLI = "shithubd_worker/cli/**/*.py"

MUTANTS = (
    Mutant(
        "the undo of a drain ends all drains",
        CLI,
        'return shared.command("resume", *named)',
        'return shared.command("resume")',
        ("test_an_undo_leaves_other_holds",),
    ),
    Mutant(
        "the name of a unit gets no suffix",
        "shithubd_worker/admin/scopes.py",
        'unit if unit.endswith(".service") else f"{unit}.service"',
        "unit",
        ("test_a_unit_may_be_named_without_its_suffix",),
    ),
    Mutant(
        "a reused pid names several workers",
        "shithubd_worker/admin/scopes.py",
        '[row for row in found if not row["silent"]] or found',
        "found",
        ("test_a_pid_that_is_used_again_names_the_living_worker",),
    ),
    Mutant(
        "a drain always ends after a day",
        CLI,
        "operations.drain(scope, reason, until_moment(operations, until))",
        'operations.drain(scope, reason, until_moment(operations, until and "1d"))',
        ("test_a_hold_with_an_end_ends_then",),
    ),
    Mutant(
        "status --drained exits with 0 while something runs",
        CLI,
        "EXIT_OK if drained else EXIT_CHECK_SAYS_NO",
        "EXIT_OK",
        ("test_the_exit_code_says_whether_the_queue_is_drained",),
    ),
    Mutant(
        "a release that accepts a second run asks for no reason",
        CLI,
        'if given["accept_second_run"] and not given["reason"]:',
        "if False:",
        ("test_a_job_whose_worker_lives_is_released_only_if_a_second_run_is_accepted_with_a_reason",),
    ),
    Mutant(
        "a release that accepts a second run accepts none",
        CLI,
        '{"accept_second_run": True} if given["accept_second_run"] else {}',
        "{}",
        ("test_a_job_whose_worker_lives_is_released_only_if_a_second_run_is_accepted_with_a_reason",),
    ),
    Mutant(
        "a refusal of some of several jobs exits with 0",
        CLI,
        "        if any(self._faulty(word) and word != NO_SUCH for word in self._work.refused.values()):\n",
        "        if False:\n",
        ("test_a_command_for_several_jobs_reports_each",),
    ),
    Mutant(
        "a retry of one kind retries all kinds",
        CLI,
        "for name, value in where.items() if value is not None",
        'for name, value in where.items() if value is not None and name != "kind"',
        ("test_failed_and_postponed_jobs_are_retried",),
    ),
    Mutant(
        "any kind is paused without a question",
        CLI,
        "if not (force and reason) and not known_kind(",
        "if False and not known_kind(",
        ("test_an_unknown_kind_is_paused_only_by_force_and_with_a_reason",),
    ),
    Mutant(
        "a resume of one scope resumes all",
        CLI,
        "if named else None",
        "if False else None",
        ("test_resume_of_a_scope_leaves_other_holds",),
    ),
    Mutant(
        "a wait whose time is over exits with 0",
        CLI,
        " or (wait and not held.idle)",
        "",
        ("test_a_timeout_leaves_the_hold_and_names_the_running_jobs",),
    ),
    Mutant(
        "a lower bound is shown as a figure",
        CLI,
        "{'+' if name in figures['capped'] else ''}",
        "",
        ("test_waiting_jobs_are_counted_up_to_a_hundred_thousand_and_larger_counts_are_marked",),
    ),
    Mutant(
        "a silent worker is shown as it was",
        CLI,
        '"silent" if worker["silent"] else worker["state"]',
        'worker["state"]',
        ("test_workers_are_listed",),
    ),
    # Lists of jobs.
    Mutant(
        "a page of jobs begins one job too late",
        CLI,
        'found[size - 1]["id"] if more',
        'found[size]["id"] if more',
        ("test_all_jobs_come_page_by_page_as_one_array",),
    ),
    Mutant(
        "a held job is ready",
        sql("job_condition_v1"),
        "pg_catalog.statement_timestamp() AND NOT ' || v_held",
        "pg_catalog.statement_timestamp()'",
        ("test_each_word_means_the_jobs_that_the_status_counts[debian]",),
    ),
    Mutant(
        "a drain of the fleet holds no job of a list",
        sql("list_jobs_v1"),
        "v_held := v_fleet OR EXISTS",
        "v_held := EXISTS",
        ("test_each_page_has_the_lowest_ids_that_the_condition_means[debian-fleet]",),
    ),
    Mutant(
        "a list goes on by id alone",
        sql("list_jobs_v1"),
        "EXIT ways;",
        "EXIT;",
        ("test_a_page_of_each_state_reads_few_rows_of_a_long_queue[debian-tomorrow-queued-False]",),
    ),
    Mutant(
        "a list goes on through the index alone",
        sql("list_jobs_v1"),
        "IF cardinality(v_walked) >= v_limit OR v_count < v_rows THEN",
        "IF v_count < v_rows THEN",
        ("test_a_page_of_each_state_reads_few_rows_of_a_long_queue[debian-tomorrow-queued-False]",),
    ),
    Mutant(
        "a list in pieces forgets the rest of a kind",
        sql("list_jobs_v1"),
        "v_open := v_count >= greatest(v_left, 1);",
        "v_open := false;",
        ("test_each_page_has_the_lowest_ids_that_the_condition_means[debian-kinds]",),
    ),
    Mutant(
        "a list of paused jobs ends after four of a kind",
        sql("parked_ids_v1"),
        "v_after >= v_below OR v_rows = p_limit;",
        "v_after <= v_below OR v_rows = p_limit;",
        ("test_each_page_has_the_lowest_ids_that_the_condition_means[debian-kinds]",),
    ),
)
