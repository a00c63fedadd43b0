-- All rights of the roles of roles.sql. docs/rights.md shows them as a matrix, and a test compares each database with it.
-- `migrate` first takes from the roles, and from PUBLIC, every right that is not listed here. Then it runs this file as the
-- owner. Each statement has the form GRANT ... ON [FUNCTION] ... TO ...; because rights.py reads this file, too.
-- Some functions run with the rights of the owner (SECURITY DEFINER): there a right to the table would allow too much.

-- An enqueuer: INSERT into these columns, and the id of the new row. No state, no lease, no attempts.
GRANT INSERT (kind, payload, priority, run_at, max_attempts) ON jobs TO shithub_enqueue, shithub_operator;
GRANT SELECT (id) ON jobs TO shithub_enqueue;
GRANT SELECT ON worker_schema TO shithub_enqueue, shithub_operator, shithub_worker, shithub_metrics;

-- A worker. Its hot path uses rights to tables, because a function that runs as the owner would slow each lease and settle.
GRANT SELECT, DELETE ON jobs TO shithub_worker;
GRANT UPDATE (state, run_at, attempts, crashes, alone, leased_by, leased_at, lease_expires_at, lease_token, worker_id, last_error)
   ON jobs TO shithub_worker;
GRANT INSERT, SELECT (id, outcome, finished_at, lease_token) ON job_history TO shithub_worker;
GRANT SELECT, INSERT, DELETE ON workers TO shithub_worker;
GRANT SELECT, INSERT, UPDATE ON beats TO shithub_worker;
GRANT UPDATE ON gate TO shithub_worker;  -- lease_v1 locks it
GRANT SELECT ON holds, standing_holds TO shithub_worker;
GRANT SELECT, INSERT, UPDATE ON leases_returned TO shithub_worker;
GRANT SELECT, UPDATE ON sweeper TO shithub_worker;  -- who sweeps for silent workers locks its row
GRANT SELECT, UPDATE (ok, bad, began, passed_at, over_at, tokens, filled_at, added) ON ramps TO shithub_worker;
GRANT SELECT, INSERT, DELETE ON ramp_ends TO shithub_worker;
GRANT SELECT, INSERT, DELETE, UPDATE (begins) ON kind_stats TO shithub_worker;  -- who folds rows locks them
GRANT EXECUTE ON FUNCTION fold_stats_v1, write_stats_v1 TO shithub_worker;
GRANT EXECUTE ON FUNCTION
    added_v1, beat_v1, channel_v1, count_ended_v1, covering_holds_v1, end_expired_holds_v1, ended_v1, enqueues_notify_v1,
    ensure_history_v1, expired_leases_v1, flip_v1, forget_drains_v1, forget_silent_v1, forget_workers_v1,
    held_kinds_v1, housemates_v1, lease_fate_v1, lease_refused_v1, lease_v1, lost_v1, past_v1, pauses_v1,
    payload_text_v1, payloads_v1,
    ramp_ended_v1, ramp_forward_v1, ramp_room_v1, ramp_rooms_v1, ramp_taken_v1, ramp_tokens_v1, record_v1, register_v1,
    release_invocation_v1,
    release_strays_v1, release_worker_v1, remove_workers_v1, renew_v1, return_crashed_v1, return_dead_v1, schema_key_v1,
    settle_soon_v1, settle_v1, settle_within_v1, shorten_leases_v1, silent_workers_v1, start_v1, stop_ramp_v1,
    sweep_silent_v1, sweep_v1, unregister_v1,
    wake_v1, wakes_come_v1
    TO shithub_worker;
-- The worker's handlers: search.reindex and repo.maintenance.
GRANT SELECT, INSERT, UPDATE, DELETE ON search_repos TO shithub_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON search_files TO shithub_worker;
GRANT SELECT (repo, started_at), INSERT, DELETE ON repo_maintenance TO shithub_worker;

-- An operator sees everything. On jobs he may UPDATE the columns that the runbook's own SQL updates. He makes every other
-- change through a function that writes its audit row in the same transaction. He can write no audit row himself.
GRANT SELECT ON jobs, job_history, workers, beats, holds, standing_holds, audit, audit_chunks, history_drops, leases_returned,
    queue_counts, sweeper, ramps, ramp_ends, kind_stats, search_repos, search_files, repo_maintenance TO shithub_operator;
GRANT UPDATE (state, run_at, leased_by, leased_at) ON jobs TO shithub_operator;
GRANT EXECUTE ON FUNCTION
    complete_jobs, permanently_fail_jobs, reschedule_jobs, retry_jobs, discard_jobs, release_jobs, change_all_v1,
    batch_fate_v1, change_batch_v1, change_jobs_v1, job_condition_v1, select_jobs_v1, select_statement_v1,
    wanted_job_v1, job_differs_v1, job_row_v1, face_now_v1, same_face_v1
    TO shithub_operator;
GRANT SELECT ON job_plans, job_plan_chunks TO shithub_operator;
GRANT EXECUTE ON FUNCTION plan_jobs_v1, apply_plan_v1, apply_chunk_v1, apply_batch_v1, find_plan_v1, open_plan_v1,
    plan_changes_v1, face_difference_v1, job_face_v1, show_plans_v1 TO shithub_operator;
GRANT EXECUTE ON FUNCTION
    cleanup, force_unlock_workers, forget_kinds_v1, named_workers_v1, sweep_leases_v1, unlock_workers_v1
    TO shithub_operator;
GRANT EXECUTE ON FUNCTION
    audit_changes_v1, audit_row_v1, change_text_v1, hold_stands_v1, job_face_v1, list_audit_v1, show_audit_v1,
    undo_change_v1, undo_chunk_v1, undo_fates_v1, undo_hold_v1, undo_jobs, undo_preview_v1, undone_v1, why_final_v1
    TO shithub_operator;
GRANT EXECUTE ON FUNCTION command_changes_v1, ended_badly_v1, list_holds_v1 TO shithub_operator;
GRANT EXECUTE ON FUNCTION
    barrier_v1, drain_v1, find_jobs_v1, forget_index_v1, hold_v1, job_times_v1, kind_hold_v1, known_kind_v1, list_jobs_v1, mirror_pause_v1,
    parked_ids_v1, pause_kind_v1, payload_text_v1, ramp_kind_v1, resume_kind_v1, resume_v1, show_job_v1, shown_job_v1, unhold_v1, unpause_v1
    TO shithub_operator;
GRANT EXECUTE ON FUNCTION
    ahead_v1, due_check_v1, explain_job_v1, hold_check_v1, last_end_v1, lock_checks_v1, locker_v1, session_v1, state_check_v1,
    worker_checks_v1
    TO shithub_operator;
-- What the explanation asks of the lease's own parts. They change nothing.
GRANT EXECUTE ON FUNCTION covering_holds_v1, ramp_room_v1, ramp_tokens_v1 TO shithub_operator;

-- A monitor: how many jobs there are, who runs what, what is held. No payload, no error, no token.
GRANT SELECT (id, kind, state, priority, run_at, attempts, crashes, leased_by, leased_at, lease_expires_at, worker_id) ON jobs
   TO shithub_metrics;
GRANT SELECT ON workers, beats, standing_holds, history_drops, leases_returned, queue_counts, sweeper, ramps, ramp_ends,
    kind_stats
   TO shithub_metrics;
GRANT EXECUTE ON FUNCTION
    expired_history_v1, in_scope_v1, kinds_named_like_v1, last_error_v1, leases_v1, named_kinds_v1, status_v1, workers_v1,
    backlogs_v1, figures_v1, list_kinds_v1, percentiles_v1, rate_v1, stats_v1, windows_v1
   TO shithub_operator, shithub_metrics;
-- The worker's own metrics endpoint counts. Another exporter only reads what a worker counted. So it cannot change what
-- alerts read, or lock a table that workers write.
GRANT SELECT, INSERT, UPDATE ON queue_counts TO shithub_worker;
GRANT EXECUTE ON FUNCTION claim_count_v1, recount_v1 TO shithub_worker;
GRANT EXECUTE ON FUNCTION counted_kinds_v1, queue_gauges_v1 TO shithub_worker, shithub_metrics;

-- The functions that the functions above call.
GRANT EXECUTE ON FUNCTION count_jobs_v1, history_classes_v1, history_day_v1, history_days_ready_v1, kinds_v1, lives_v1,
    ramp_step_v1, readable_v1, running_v1, seconds_since_v1, shown_ramp_v1, statement_time_v1
    TO shithub_worker, shithub_operator, shithub_metrics;
GRANT EXECUTE ON FUNCTION shown_hold_v1 TO shithub_operator, shithub_metrics;
