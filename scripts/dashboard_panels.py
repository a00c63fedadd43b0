"""What the dashboard asks, one row for each question of somebody who was woken by an alert.

Queries about the queue take `max by`, for all workers say the same of it, and heed $kind alone; what a worker says of
itself heeds $instance too. Of the states of workers, which change from one scrape to the next, the mean is taken: else
their sum would be more than there are.
"""

from __future__ import annotations

from dataclasses import dataclass

QUEUE = 'kind=~"$kind"'
WORKER = 'instance=~"$instance"'
BOTH = f"{WORKER}, {QUEUE}"
RECENTLY = "[$__rate_interval]"

DEPTH = f"shithubd_job_queue_depth{{{QUEUE}}}"
ENDED = "shithub_worker_jobs_processed_total"


@dataclass(frozen=True)
class Line:
    """One query, and the name of each series that it gives; {{label}} stands for the label's value."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph. `unit` is Grafana's name of it; `alerts` are those that the graph explains, so the pages to read;
    `alarm` is the threshold of the first one, where it has a simple one."""

    title: str
    about: str
    unit: str
    alerts: tuple[str, ...]
    lines: tuple[Line, ...]
    alarm: float | None = None
    stacked: bool = False


def _quantile(histogram: str, labels: str, by: str = "le") -> str:
    """The duration within which 95 of 100 were done, lately."""
    return f"histogram_quantile(0.95, sum by ({by}) (rate({histogram}_bucket{{{labels}}}{RECENTLY})))"


def _ended(outcomes: str, by: str, died: str = "") -> str:
    """Attempts that ended: by the word of the worker, or with it (then `died` is which), of which all say the same."""
    with_it = f"rate(shithubd_leases_returned_total{{{QUEUE}, outcome{died or outcomes}}}{RECENTLY})"
    return f"sum by ({by}) (rate({ENDED}{{{BOTH}, outcome{outcomes}}}{RECENTLY}) or max by (kind, outcome) ({with_it}))"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Are users waiting?": (
        Panel(
            "How long the oldest due job has waited",
            "What users did that long ago has had no effect yet. Jobs of a paused kind wait on purpose.",
            "s",
            ("QueueOldestAgeHigh",),
            (Line(f"max by (kind) (shithubd_job_queue_oldest_age_seconds{{{QUEUE}}})", "{{kind}}"),),
            alarm=600,
        ),
        Panel(
            "Jobs that could run now",
            "Counted every 10 s at most, up to 10,000 of a kind; 0 for a kind that is paused.",
            "short",
            ("JobBacklogGrowing",),
            (Line(f"max by (kind) ({DEPTH})", "{{kind}}"),),
            alarm=5000,
        ),
        Panel(
            "From due to leased, 95 %",
            "How long jobs that a worker took lately had waited.",
            "s",
            ("QueueOldestAgeHigh",),
            (Line(_quantile("shithub_worker_job_wait_seconds", BOTH, "kind, le"), "{{kind}}"),),
        ),
    ),
    "Why?": (
        Panel(
            "Workers by state",
            "As the database has them: silent ones have given no sign of life for 30 s.",
            "short",
            ("WorkerDown", "WorkerMemoryHigh"),
            (Line("avg by (state) (shithubd_workers)", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Workers that …",
            "The four should be equal. A unit that systemd has given up on is missing in all.",
            "short",
            ("WorkerAbsent", "WorkerUnitFailed", "PostgresUnreachable", "QueueScrapeFailing", "SchemaMismatch"),
            (
                Line(f'sum(up{{job="shithubd-worker", {WORKER}}})', "answer"),
                Line(f"sum(shithub_worker_db_up{{{WORKER}}})", "reach the database"),
                Line(f"sum(shithubd_queue_scrape_success{{{WORKER}}})", "know the queue"),
                Line(
                    f"count(shithub_worker_schema_version{{{WORKER}}} == on (job, instance) shithubd_schema_version)",
                    "have its schema",
                ),
            ),
        ),
        Panel(
            "Attempts that ended",
            "None, while jobs could run and workers are idle: leasing is broken.",
            "ops",
            ("QueueNotDraining", "PoisonJobs"),
            (Line(_ended('=~".+"', "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Share of attempts that failed",
            "Of those that ran to an end: released jobs and lost leases are no failures.",
            "percentunit",
            ("JobFailureRatioHigh", "KindOnlyFails"),
            (
                Line(
                    _ended('=~"retry|failed|poison"', "kind", '=~"retry|failed|poison|crashed"')
                    + " / "
                    + _ended('!~"released|lease_lost"', "kind"),
                    "{{kind}}",
                ),
            ),
            alarm=0.5,
        ),
        Panel(
            "How long handlers run",
            "95 % of those that returned, and the oldest of those that run now.",
            "s",
            ("JobOverRuntime",),
            (
                Line(_quantile("shithub_worker_job_duration_seconds", BOTH, "kind, le"), "{{kind}}, 95 %"),
                Line(
                    f"max by (kind) (time() - (shithub_worker_job_started_timestamp_seconds{{{BOTH}}} > 0))",
                    "{{kind}}, running",
                ),
            ),
            alarm=7200,
        ),
        Panel(
            "Jobs that wait for somebody",
            "Paused, until somebody resumes the kind; failed for good, until somebody retries or discards them.",
            "short",
            ("KindPausedTooLong", "PoisonJobs"),
            (
                Line(
                    f'max by (kind, state) (shithubd_jobs{{{QUEUE}, state=~"paused|failed"}}) > 0', "{{kind}} {{state}}"
                ),
            ),
        ),
        Panel(
            "Kinds that no worker handles",
            "1 for a kind with waiting jobs that no living worker knows.",
            "short",
            ("KindUnhandled",),
            (Line(f"max by (kind) (shithubd_job_kind_unhandled{{{QUEUE}}})", "{{kind}}"),),
            alarm=1,
        ),
        Panel(
            "What was cut short",
            "Workers that started anew, and leases that ended otherwise than by their worker's word.",
            "short",
            ("WorkerCrashLooping", "KindEndsItsProcess", "ExpiredLeases", "FencedWrites", "DatabaseClockStepped"),
            (
                Line(
                    f'sum(changes(process_start_time_seconds{{job="shithubd-worker", {WORKER}}}{RECENTLY}))',
                    "worker starts",
                ),
                Line(
                    "sum(max by (kind, outcome) (increase("
                    f'shithubd_leases_returned_total{{{QUEUE}, outcome=~"crashed|poison"}}{RECENTLY})))',
                    "leases taken back",
                ),
                Line(
                    f"sum(max by (kind) (increase(shithubd_forced_ends_total{{{QUEUE}}}{RECENTLY})))",
                    "workers ended for a job",
                ),
                Line(f"sum(increase(shithub_worker_fenced_writes_total{{{BOTH}}}{RECENTLY}))", "leases lost"),
                Line(f"sum(max by (kind) (shithubd_job_expired_leases{{{QUEUE}}}))", "leases expired"),
                Line(
                    f"sum(max by (direction) (increase(shithub_worker_clock_steps_total{{{WORKER}}}{RECENTLY})))",
                    "steps of the clock",
                ),
            ),
        ),
        Panel(
            "Lease queries",
            "How long they take, and how long the last answer is ago for the luckiest worker that isn't inside a job.",
            "s",
            ("LeasingStalled",),
            (
                Line(_quantile("shithub_worker_claim_duration_seconds", WORKER), "answered within, 95 %"),
                Line(
                    f"min(time() - (shithub_worker_last_poll_timestamp_seconds{{{WORKER}}} > 0)"
                    ' unless on (job, instance) shithub_worker_state{state=~"running|stopping"} == 1)',
                    "since the last answer",
                ),
            ),
            alarm=300,
        ),
    ),
    "Until when?": (
        Panel(
            "Time until a kind has caught up",
            "What could run, divided by how fast it becomes less. Nothing where it grows, or isn't counted to its end.",
            "s",
            ("JobBacklogGrowing", "QueueNotDraining"),
            (Line(f"max by (kind) (({DEPTH} > 0) / (-deriv({DEPTH}{RECENTLY}) > 0))", "{{kind}}"),),
        ),
        Panel(
            "Jobs in and out",
            "What ended, and what must have come in beside that for the queue to be as long as it is.",
            "ops",
            ("JobBacklogGrowing",),
            (
                Line(f'sum(rate({ENDED}{{{QUEUE}, outcome=~"ok|failed|poison"}}{RECENTLY}))', "out"),
                Line(
                    f'clamp_min(sum(rate({ENDED}{{{QUEUE}, outcome=~"ok|failed|poison"}}{RECENTLY}))'
                    f" + sum(max by (kind) (deriv({DEPTH}{RECENTLY}))), 0)",
                    "in",
                ),
            ),
        ),
        Panel(
            "How long kinds have been paused",
            "Whose pause has an end shows in shithubd-worker status. Drains are the red areas behind all graphs.",
            "s",
            ("KindPausedTooLong", "FleetHoldTooLong"),
            (Line(f"time() - max by (kind) (shithubd_job_kind_paused_timestamp_seconds{{{QUEUE}}})", "{{kind}}"),),
            alarm=3 * 3600,
        ),
        Panel(
            "Until the history has no table left",
            "Workers make them 14 days ahead. At 0 no job can end.",
            "s",
            ("HistoryRunsOut",),
            (Line("max(shithubd_history_ready_seconds)", "ready"),),
        ),
        Panel(
            "Dead rows",
            "What finished jobs left in the table and no vacuum has removed yet.",
            "short",
            ("XminHeldBack",),
            (Line("max by (table) (shithubd_dead_rows)", "{{table}}"),),
            alarm=1e6,
        ),
        Panel(
            "Memory of each worker",
            "The process alone. Its unit, with the git under it, is slowed down at 1.5 GiB and killed at 2.",
            "bytes",
            ("WorkerMemoryHigh",),
            (Line(f'process_resident_memory_bytes{{job="shithubd-worker", {WORKER}}}', "{{instance}}"),),
            alarm=1024**3,
        ),
    ),
}
# Areas behind all graphs, while the query gives something above 0.
HOLDS: dict[str, str] = {
    "paused kinds": f"max by (kind) (shithubd_job_kind_paused_timestamp_seconds{{{QUEUE}}})",
    "drains": 'max by (scope) (shithubd_holds{scope!="kind"}) > 0',
}
# The variables that a reader chooses by, and where their values come from.
VARIABLES: dict[str, str] = {
    "instance": "label_values(shithub_worker_build_info, instance)",
    "kind": "label_values(shithubd_job_queue_depth, kind)",
}
