"""What a channel is told of changes: the timeline, the line for a chat; and how long the record lasts."""

from __future__ import annotations

from mutants.mutant import PYTHON, Mutant, sql

MUTANTS = (
    Mutant(
        "a chat hears of everybody's changes",
        sql("command_changes_v1"),
        "WHERE a.command = p_command",
        "",
        ("test_what_changes_nothing_posts_nothing_and_others_changes_are_not_posted",),
    ),
    Mutant(
        "a redirect of a line is followed",
        PYTHON,
        "build_opener(NoRedirect, *direct)",
        "build_opener(*direct)",
        ("test_a_line_goes_to_its_receiver_alone",),
    ),
    Mutant(
        "a proxy gets the line for a receiver on this host",
        PYTHON,
        "build_opener(NoRedirect, *direct)",
        "build_opener(NoRedirect)",
        ("test_a_line_for_this_host_never_goes_through_a_proxy",),
    ),
    Mutant(
        "the URL of a chat may be plain HTTP to any host",
        PYTHON,
        "ip_address(host).is_loopback",
        "ip_address(host)",
        ("test_a_url_that_cannot_work_is_refused_and_never_shown",),
    ),
    Mutant(
        "a chat is told in the command's own session",
        PYTHON,
        "            os.setsid()\n            if os.fork() == 0:",
        "            if os.fork() == 0:",
        ("test_the_process_apart_is_in_a_session_of_its_own_and_inherits_nothing",),
    ),
    Mutant(
        "a process apart keeps the command's descriptors",
        PYTHON,
        "    os.closerange(3, kept)\n",
        "",
        ("test_the_process_apart_is_in_a_session_of_its_own_and_inherits_nothing",),
    ),
    Mutant(
        "a reason mentions everybody",
        PYTHON,
        "_MENTION.sub(_WIDE_AT, ",
        "str(",
        ("test_any_text_stays_text",),
    ),
    Mutant(
        "a reason ends its code span",
        PYTHON,
        'str.maketrans("`<>", "\'',
        'str.maketrans("`<>", "`',
        ("test_any_text_stays_text",),
    ),
    Mutant(
        "the timeline has no end",
        sql("ended_badly_v1"),
        " AND h.finished_at < p_before",
        "",
        ("test_a_window_reads_its_days_of_the_history_and_no_other",),
    ),
    Mutant(
        "nobody says that the timeline is cut",
        PYTHON,
        "max(map(len, (changes, ended, started))) > limit",
        "False",
        ("test_what_is_left_out_is_told",),
    ),
    Mutant(
        "a retention takes what somebody undoes now",
        sql("prune_audit_v1"),
        "FOR UPDATE SKIP LOCKED);\n    DELETE FROM audit_chunks",
        ");\n    DELETE FROM audit_chunks",
        ("test_a_row_that_somebody_undoes_now_is_left_to_the_next_run",),
    ),
    Mutant(
        "an undo does not know that the old values are gone",
        sql("why_final_v1"),
        "p_audit.forgotten_at IS NOT NULL",
        "false",
        ("test_old_rows_go_and_of_younger_ones_the_old_values_go",),
    ),
)
