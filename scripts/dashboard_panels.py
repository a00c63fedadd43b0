"""What the dashboard asks: one row for each question of a person whom an alert woke.

Queries about the queue take `max by`, because all workers say the same about it, and they use $kind alone. What a
worker says about itself uses $instance, too. The states of workers change from one scrape to the next, so the query
takes their mean. Otherwise their sum would be larger than the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

QUEUE = 'kind=~"$kind"'
WORKER = 'instance=~"$instance"'
BOTH = f"{WORKER}, {QUEUE}"
RECENTLY = "[$__rate_interval]"

DEPTH = f"shithubd_job_queue_depth{{{QUEUE}}}"
ENDED = "shithub_worker_jobs_processed_total"
RENEWALS = "shithub_worker_lease_renewals_total"
FLIGHT = "shithub_worker_in_flight"
INFO = "shithub_worker_build_info"
STARTS = "shithub_worker_job_starts_total"
RAMP_RUNS = "shithubd_kind_ramp_runs"


@dataclass(frozen=True)
class Line:
    """One query, and the name of each of its series; {{label}} stands for the label's value."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph. `unit` is Grafana's name for it. `alerts` are those that the graph explains, and so the pages to read.
    `alarm` is the threshold of the first alert, if that is one number."""

    title: str
    about: str
    unit: str
    alerts: tuple[str, ...]
    lines: tuple[Line, ...]
    alarm: float | None = None
    stacked: bool = False


def _quantile(histogram: str, labels: str, by: str = "le") -> str:
    """The duration within which 95 of 100 ended recently."""
    return f"histogram_quantile(0.95, sum by ({by}) (rate({histogram}_bucket{{{labels}}}{RECENTLY})))"


def _ended(outcomes: str, by: str, died: str = "") -> str:
    """Attempts that ended: those that their worker counted, and those that ended together with it. All workers say the
    same about the second; `died` selects them if their outcomes differ from `outcomes`."""
    with_it = f"rate(shithubd_leases_returned_total{{{QUEUE}, outcome{died or outcomes}}}{RECENTLY})"
    return f"sum by ({by}) (rate({ENDED}{{{BOTH}, outcome{outcomes}}}{RECENTLY}) or max by (kind, outcome) ({with_it}))"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Are users waiting?": (
        Panel(
            "How long the oldest due job has waited",
            "A second line is the objective of the kind: without one, 10 minutes. Jobs of a paused kind wait, too.",
            "s",
            ("QueueOldestAgeHigh",),
            (
                Line(f"max by (kind) (shithubd_job_queue_oldest_age_seconds{{{QUEUE}}})", "{{kind}}"),
                Line(f"max by (kind) (shithub_worker_job_wait_objective_seconds{{{BOTH}}})", "{{kind}}, may wait"),
            ),
        ),
        Panel(
            "Jobs that could run now",
            "Counted every 10 s at most, and up to 10,000 for each kind. A paused kind shows 0.",
            "short",
            ("JobBacklogGrowing",),
            (Line(f"max by (kind) ({DEPTH})", "{{kind}}"),),
            alarm=5000,
        ),
        Panel(
            "From due to leased, 95 %",
            "How long the jobs had waited that workers leased recently.",
            "s",
            ("QueueOldestAgeHigh",),
            (Line(_quantile("shithub_worker_job_wait_seconds", BOTH, "kind, le"), "{{kind}}"),),
        ),
        Panel(
            "Share of jobs that start late",
            "Of the kinds that have an objective. At the dashed line the budget of a month lasts two days.",
            "percentunit",
            ("JobsStartLate",),
            (
                Line(
                    f'sum by (kind) (rate({STARTS}{{{BOTH}, start="late"}}{RECENTLY}))'
                    f" / sum by (kind) (rate({STARTS}{{{BOTH}}}{RECENTLY}))",
                    "{{kind}}",
                ),
            ),
            alarm=14.4 * 0.01,
        ),
    ),
    "Why?": (
        Panel(
            "Workers by state",
            "As the database sees them. A silent worker has not beaten for 30 s.",
            "short",
            ("WorkerDown", "WorkerMemoryHigh"),
            (Line("avg by (state) (shithubd_workers)", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Workers that …",
            "The four lines should be equal. A unit that has failed is missing in all of them.",
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
            "Share of the time in jobs",
            "1: the workers do nothing but run jobs. Then more workers help, if the host and the database have room.",
            "percentunit",
            ("JobsStartLate", "JobBacklogGrowing"),
            (
                Line(f"avg(sum by (instance) (avg_over_time({FLIGHT}{{{WORKER}}}{RECENTLY})))", "all workers"),
                Line(
                    f"sum by (kind) (avg_over_time({FLIGHT}{{{BOTH}}}{RECENTLY})) / scalar(count({INFO}))", "{{kind}}"
                ),
            ),
        ),
        Panel(
            "Releases that run",
            "Workers by release. Two lines for long: somebody forgot a host, or its restart.",
            "short",
            ("SchemaMismatch",),
            (Line(f"count by (version) ({INFO}{{{WORKER}}})", "{{version}}"),),
            stacked=True,
        ),
        Panel(
            "Attempts that ended",
            "If it shows none while jobs could run and workers are idle, leasing is broken.",
            "ops",
            ("QueueNotDraining", "PoisonJobs"),
            (Line(_ended('=~".+"', "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Share of attempts that failed",
            "Only attempts that ran to their end count. Released jobs and lost leases are no failures.",
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
            "95 % of the handlers returned within this time. The second line is the oldest job that runs now.",
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
            "Paused jobs wait for a resume of the kind. Failed jobs wait until somebody retries or discards them.",
            "short",
            ("KindPausedTooLong", "JobsFailedForGood", "PoisonJobs"),
            (
                Line(
                    f'max by (kind, state) (shithubd_jobs{{{QUEUE}, state=~"paused|failed"}}) > 0', "{{kind}} {{state}}"
                ),
            ),
        ),
        Panel(
            "Kinds that no worker handles",
            "1 for a kind whose jobs wait and that no living worker knows.",
            "short",
            ("KindUnhandled",),
            (Line(f"max by (kind) (shithubd_job_kind_unhandled{{{QUEUE}}})", "{{kind}}"),),
            alarm=1,
        ),
        Panel(
            "What was cut short",
            "Workers that started again, and leases that did not end in the usual way.",
            "short",
            ("WorkerCrashLooping", "ExpiredLeases", "FencedWrites", "DatabaseClockStepped"),
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
                Line(f"sum(increase(shithub_worker_fenced_writes_total{{{BOTH}}}{RECENTLY}))", "leases lost"),
                Line(f"sum(max by (kind) (shithubd_job_expired_leases{{{QUEUE}}}))", "leases expired"),
                Line(
                    f"sum(max by (direction) (increase(shithub_worker_clock_steps_total{{{WORKER}}}{RECENTLY})))",
                    "steps of the clock",
                ),
            ),
        ),
        Panel(
            "Workers that a job ended, and leases that were not renewed",
            "A handler did not stop, or somebody else has the job now: look at the log of that time.",
            "short",
            ("KindEndsItsProcess", "FencedWrites"),
            (
                Line(f"max by (kind) (increase(shithubd_forced_ends_total{{{QUEUE}}}{RECENTLY}))", "{{kind}}, ended"),
                Line(
                    f'sum by (instance) (increase({RENEWALS}{{{WORKER}, result="lost"}}{RECENTLY}))',
                    "{{instance}}, lost",
                ),
            ),
        ),
        Panel(
            "Lease queries",
            "How long a query takes, and how long ago the newest answer came. Workers inside a job do not count.",
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
            "The jobs that could run, divided by how fast they become fewer. No line while they grow, or above 10,000.",
            "s",
            ("JobBacklogGrowing", "QueueNotDraining"),
            (Line(f"max by (kind) (({DEPTH} > 0) / (-deriv({DEPTH}{RECENTLY}) > 0))", "{{kind}}"),),
        ),
        Panel(
            "Jobs in and out",
            "Out: the jobs that ended. In: what must have come in meanwhile, by the length of the queue.",
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
            "How long holds have stood",
            "Of each scope of drains the oldest one without an end: somebody may have forgotten it.",
            "s",
            ("KindPausedTooLong", "FleetHoldTooLong", "HoldTooLong"),
            (
                Line(f"time() - max by (kind) (shithubd_job_kind_paused_timestamp_seconds{{{QUEUE}}})", "{{kind}}"),
                Line(
                    'time() - max by (scope) (shithubd_hold_oldest_timestamp_seconds{scope!="kind"})',
                    "drain of a {{scope}}",
                ),
            ),
            alarm=3 * 3600,
        ),
        Panel(
            "Kinds that are resumed in steps",
            "The share of the workers that may work on the kind. No such line: its first jobs run, or it has stopped.",
            "percentunit",
            ("KindRampStopped", "KindRampStalled"),
            (
                Line(f"max by (kind) (shithubd_kind_ramp_percent{{{QUEUE}}}) / 100", "{{kind}}, workers"),
                Line(
                    f'max by (kind) ({RAMP_RUNS}{{{QUEUE}, result="bad"}})'
                    f" / sum by (kind) (max by (kind, result) ({RAMP_RUNS}{{{QUEUE}}}))",
                    "{{kind}}, runs not ok",
                ),
            ),
        ),
        Panel(
            "Until the history has no table left",
            "Workers make the tables 14 days ahead. At 0 no job can end.",
            "s",
            ("HistoryRunsOut",),
            (Line("max(shithubd_history_ready_seconds)", "ready"),),
        ),
        Panel(
            "Dead rows",
            "Rows of finished jobs in the table that no vacuum has removed yet.",
            "short",
            ("XminHeldBack",),
            (Line("max by (table) (shithubd_dead_rows)", "{{table}}"),),
            alarm=1e6,
        ),
        Panel(
            "Memory of each worker",
            "The process alone, and its unit with the git below it. At 1.5 GiB the kernel slows the unit down. At 2 GiB"
            " it kills.",
            "bytes",
            ("WorkerMemoryHigh",),
            (
                Line(f'process_resident_memory_bytes{{job="shithubd-worker", {WORKER}}}', "{{instance}}"),
                Line(f"shithub_worker_unit_memory_bytes{{{WORKER}}}", "{{instance}} with git"),
            ),
            alarm=1024**3,
        ),
    ),
}
# Areas behind all graphs, while the query gives more than 0.
HOLDS: dict[str, str] = {
    "paused kinds": f"max by (kind) (shithubd_job_kind_paused_timestamp_seconds{{{QUEUE}}})",
    "drains": 'max by (scope) (shithubd_holds{scope!="kind"}) > 0',
}
# The variables that a reader can choose, and where their values come from.
VARIABLES: dict[str, str] = {
    "instance": "label_values(shithub_worker_build_info, instance)",
    "kind": "label_values(shithubd_job_queue_depth, kind)",
}
