"""The audit record and its undo: what is restored, what is said of the rest, and who may write."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

RESTORED_ONCE = ("test_a_restored_job_that_has_ended_is_not_restored_a_second_time",)
TO_THE_LETTER = ("test_random_changes_are_undone_to_the_letter_and_touched_jobs_are_left_and_named",)

MUTANTS = (
    Mutant(
        "a dry run and an undo promise to restore a job that was touched",
        sql("undo_fates_v1"),
        'WHEN :"schema".same_face_v1(n.after, n.face) OR',
        "WHEN n.there AND n.state <> 'processing' OR",
        TO_THE_LETTER,
    ),
    Mutant(
        "a job that an undo restored, and that ended, is restored again",
        sql("undo_fates_v1"),
        "AND r.id IS NULL AND h.id IS NULL THEN NULL",
        "THEN NULL",
        RESTORED_ONCE,
    ),
    Mutant(
        "the history is not asked how a job ended",
        sql("undo_fates_v1"),
        "coalesce(h.how, ",
        "coalesce(",
        RESTORED_ONCE,
    ),
    Mutant(
        "a restored job comes back without its payload",
        sql("undo_slice_v1"),
        "pg_catalog.jsonb_build_object('payload', w.payload)",
        """pg_catalog.jsonb_build_object('payload', '{}'::jsonb)""",
        TO_THE_LETTER,
    ),
    Mutant(
        "the columns of the application are not restored",
        sql("undo_slice_v1"),
        "AND a.attgenerated = ''",
        "AND a.attname !~ 'Tenant'",
        ("test_columns_that_the_application_has_added_are_restored_too",),
    ),
    Mutant(
        "two undos of one row go on at once",
        sql("undo_chunk_v1"),
        " FOR NO KEY UPDATE;",
        ";",
        ("test_undos_and_workers_race_and_the_record_agrees_with_the_state",),
    ),
    Mutant(
        "an undo wakes nobody",
        sql("undo_chunk_v1"),
        'PERFORM :"schema".wake_v1();',
        "NULL;",
        ("test_restored_jobs_wake_the_workers",),
    ),
    Mutant(
        "the undo of a pause ends a hold that somebody has changed",
        sql("undo_hold_v1"),
        'IF :"schema".hold_stands_v1(p_audit) THEN',
        "IF FOUND THEN",
        ("test_a_hold_that_somebody_has_changed_since_is_left_alone",),
    ),
    Mutant(
        "a chunk of the record has any size",
        sql("record_change_v1"),
        " / 500",
        " / 50000",
        ("test_a_chunk_holds_the_jobs_in_order_and_at_most_500",),
    ),
    Mutant(
        "what was done again counts as undone",
        sql("undone_v1"),
        "v_sign := -v_sign;",
        "",
        ("test_the_record_says_how_much_of_a_change_is_undone_now_and_by_which_rows",),
    ),
    Mutant(
        "an undo trusts an old snapshot",
        sql("undo_chunk_v1"),
        "<> 'read committed'",
        "= 'none'",
        ("test_an_old_snapshot_never_restores_a_job_that_was_restored_and_has_run",),
    ),
    Mutant(
        "each chunk is read to find a job",
        sql("list_audit_v1"),
        "c.span @> p_job::numeric AND p_job",
        "p_job",
        ("test_the_changes_of_one_job_are_found_among_a_thousand_chunks_by_few_reads",),
    ),
    Mutant(
        "an undo that ends early counts only what it knows of",
        "shithubd_worker/cli/undo.py",
        """{now['undone']:,} of the""",
        """{result['undo'] or 0:,} of the""",
        ("test_an_undo_that_ends_early_says_how_far_it_came_and_can_go_on",),
    ),
    Mutant(
        "locked jobs are not tried again",
        "shithubd_worker/admin/record.py",
        "if locked:",
        "if False:",
        ("test_an_undo_waits_for_a_locked_job_and_restores_it_at_the_end",),
    ),
)
