"""Ramps: how many jobs of a paused kind go through, when that stops, and what becomes of it."""

from __future__ import annotations

from mutants.mutant import Mutant, sql

EXACT = ("test_a_canary_lets_exactly_its_number_through_until_they_ended",)
OLD = ("test_a_ramp_counts_only_jobs_that_it_let_through",)
RATIO = ("test_a_ramp_stops_at_the_ratio_when_ten_runs_ended",)
STOPPED = ("test_a_stopped_ramp_starts_nothing_and_records_no_further_ends",)
STEPS = ("test_the_steps_go_on_by_time_beside_a_worker_that_is_busy_or_drained",)

MUTANTS = (
    Mutant(
        "a canary does not count what runs",
        sql("ramp_room_v1"),
        "p_ramp.canary - p_ramp.ok - p_running",
        "p_ramp.canary - p_ramp.ok",
        EXACT,
    ),
    Mutant(
        "a canary of any life does not count what runs",
        sql("ramp_room_v1"),
        "p_ramp.canary - p_ramp.ok - p_running",
        "p_ramp.canary - p_ramp.ok",
        ("test_a_ramp_keeps_its_limits_in_any_life[40]",),
    ),
    Mutant(
        "a canary passes beside a failure",
        sql("ramp_forward_v1"),
        "IF v_ramp.bad > 0 AND (v_ramp.passed_at IS NULL",
        "IF v_ramp.bad > 0 AND (false",
        ("test_a_canary_job_that_does_not_end_well_stops_the_ramp[failed]",),
    ),
    Mutant(
        "a released job stops a canary",
        sql("settle_v1"),
        "FILTER (WHERE outcome <> 'released' AND",
        "FILTER (WHERE",
        ("test_a_released_canary_job_is_leased_again",),
    ),
    Mutant(
        "a crash stops no canary",
        sql("return_crashed_v1"),
        "max(r.leased_at) AS leased_at FROM",
        "'-infinity'::timestamptz AS leased_at FROM",
        ("test_a_canary_job_whose_worker_dies_stops_the_ramp",),
    ),
    Mutant(
        "each job of a dead worker is a bad end",
        sql("return_crashed_v1"),
        "unnest(v_rows) r GROUP BY 1, 2) c",
        "unnest(v_rows) r GROUP BY 1, 2, r.id) c",
        ("test_the_death_of_a_worker_with_many_jobs_is_one_bad_end",),
    ),
    Mutant("a ramp counts former leases", sql("ramp_ended_v1"), " AND e.leased_at >= r.began", "", OLD),
    Mutant(
        "a job from before the ramp starts beside it",
        sql("start_v1"),
        "AND NOT EXISTS (SELECT FROM ramps r WHERE r.kind = j.kind AND j.leased_at < r.began)",
        "",
        ("test_a_job_from_before_the_ramp_does_not_start_beside_it",),
    ),
    Mutant(
        "a step rounds the number of workers down",
        sql("ramp_room_v1"),
        "ceil(count(*)",
        "floor(count(*)",
        ("test_a_step_lets_a_part_of_the_living_workers_work_on_the_kind[26-2]",),
    ),
    Mutant(
        "a worker that works on the kind waits for a place",
        sql("ramp_room_v1"),
        " AND j.worker_id <> p_worker",
        "",
        ("test_a_step_lets_a_part_of_the_living_workers_work_on_the_kind[25-1]",),
    ),
    Mutant(
        "silent workers count for a step",
        sql("ramp_room_v1"),
        " AND lives_v1(b.beat_at)",
        "",
        ("test_a_step_lets_a_part_of_the_living_workers_work_on_the_kind[50-2]",),
    ),
    Mutant(
        "a ramp stops above the ratio only",
        sql("ramp_forward_v1"),
        "v_ramp.bad >= v_ramp.stop_at",
        "v_ramp.bad > v_ramp.stop_at",
        RATIO,
    ),
    Mutant(
        "a ramp looks at nine ends",
        sql("ramp_forward_v1"),
        "v_ramp.ok + v_ramp.bad >= 10",
        "v_ramp.ok + v_ramp.bad >= 9",
        RATIO,
    ),
    Mutant("a stopped ramp records further ends", sql("ramp_ended_v1"), " AND r.stopped_at IS NULL", "", STOPPED),
    Mutant("a stopped ramp starts what was leased", sql("held_kinds_v1"), " AND r.stopped_at IS NULL", "", STOPPED),
    Mutant(
        "a ramp that stops keeps its end",
        sql("stop_ramp_v1"),
        "SET until = NULL",
        "SET until = until",
        ("test_a_canary_job_that_does_not_end_well_stops_the_ramp[failed]",),
    ),
    Mutant("the last step never ends", sql("end_expired_holds_v1"), "r.over_at <= clock_timestamp()", "false", STEPS),
    Mutant(
        "the end of a ramp takes a later pause away",
        sql("end_expired_holds_v1"),
        "IF NOT coalesce(v_hold.until <= clock_timestamp(), false) THEN",
        "IF false THEN",
        ("test_the_end_of_a_ramp_takes_no_pause_away_that_was_set_just_before",),
    ),
    Mutant(
        "a pause keeps the ramp",
        sql("hold_v1"),
        'PERFORM :"schema".end_ramp_v1(v_hold.id);',
        "",
        ("test_a_pause_of_the_kind_ends_its_ramp",),
    ),
    Mutant(
        "a clock that was set back opens a canary",
        sql("ramp_forward_v1"),
        "v_ramp.began := least(v_ramp.began, v_now);",
        "",
        ("test_a_canary_stays_exact_when_the_clock_is_set[-7200]",),
    ),
    Mutant(
        "a worker that is shut out forgets where jobs wait",
        "shithubd_worker/turn/selection.py",
        " if each.kind not in answer.shut",
        "",
        ("test_jobs_of_a_ramp_are_found_as_soon_as_there_is_room",),
    ),
    Mutant(
        "steps may fall",
        sql("ramp_kind_v1"),
        "WHERE s.step <= p_steps[s.at - 1]",
        "WHERE false",
        ("test_a_ramp_that_makes_no_sense_is_refused[falling]",),
    ),
    Mutant(
        "a lease walks over all ends that were added up",
        sql("ramp_forward_v1"),
        "e.ramp = v_ramp.id AND e.id > v_ramp.added",
        "e.ramp = v_ramp.id",
        ("test_the_ends_of_many_runs_cost_a_lease_nothing_beside_a_held_snapshot",),
    ),
    Mutant(
        "a settle looks at ramps that changed often",
        sql("settle_v1"),
        "kind IN (SELECT h.target FROM holds h WHERE h.scope = 'kind')",
        "kind IN (SELECT r.kind FROM ramps r)",
        ("test_a_settle_of_another_kind_reads_no_ramp_that_changed_often_beside_a_held_snapshot",),
    ),
    Mutant(
        "each end changes a ramp",
        sql("ramp_forward_v1"),
        "v_ramp.ok + v_ramp.bad >= 1000",
        "false",
        ("test_a_ramp_with_many_ends_is_changed_ten_times_a_second",),
    ),
    Mutant(
        "a ramp with little room ends the batch",
        sql("lease_v1"),
        "v_full := cardinality(v_alone) = v_most;",
        "v_full := cardinality(v_alone) = least(v_most, v_rooms[v_at]);",
        ("test_a_ramp_with_little_room_leaves_the_rest_of_a_batch_to_other_kinds[canary-3]",),
    ),
    Mutant(
        "a kind whose room is used up forgets where its jobs wait",
        sql("lease_v1"),
        "v_shut := v_shut || v_range.kind;",
        "NULL;",
        ("test_jobs_behind_the_room_of_a_ramp_are_found_in_their_order",),
    ),
    Mutant(
        "a sweep brings no ramp forward",
        sql("sweep_v1"),
        "PERFORM ramp_forward_v1(r.id)",
        "PERFORM r.id",
        ("test_a_ramp_stops_though_no_worker_of_its_kind_is_left",),
    ),
)
