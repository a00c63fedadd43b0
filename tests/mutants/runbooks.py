"""What the runbooks rely on.

Each change is made everywhere at once, as a developer would change the product. So the product still works: with
another name, another figure, or without one of its promises. The layers are tried in turn: they compare the pages
with the product's facts and with the alerts' rules. Some changes are seen only on a booted host. Such a mutant names
the page that shows it, because all pages together take several minutes.
"""

from __future__ import annotations

from mutants.mutant import PYTHON, UNIT, Mutant, sql

CLI, SETTINGS = "shithubd_worker/cli", "shithubd_worker/settings"
SQL = "sql/**/*.sql"
RULES = "runbooks/alerts.rules.yml"
RENAMED = 'add_command(command(action), None if action.name != "{}" else "{}")'
DAY_ONE = ("test_day_one_is_true",)
DRAIN = ("test_the_page_of_a_drain_is_true_with_sudo_and_the_audit_record_names_the_person",)


def _page(name: str) -> tuple[str, ...]:
    return (f"test_a_task_is_true[{name}]",)


MUTANTS = (
    # Names that an operator types.
    Mutant("drain is called hold-all", f"{CLI}/drain.py", "\nCOMMANDS =", '\ndrain.name = "hold-all"\nCOMMANDS ='),
    Mutant("resume is called undrain", f"{CLI}/drain.py", "\nCOMMANDS =", '\nresume.name = "undrain"\nCOMMANDS ='),
    Mutant("pause-kind is called pause", f"{CLI}/pause_kind.py", '"pause-kind"', '"pause"'),
    Mutant("resume-kind is called unpause", f"{CLI}/resume_kind.py", '"resume-kind"', '"unpause"'),
    Mutant("--wait is called --sync", f"{CLI}/holding.py", '"--wait"', '"--sync", "wait"'),
    Mutant("--timeout is called --limit", f"{CLI}/deadline.py", '"--timeout"', '"--limit", "timeout"'),
    Mutant("--until is called --expires", f"{CLI}/holding.py", '"--until"', '"--expires", "until"'),
    Mutant("--host is called --node", f"{CLI}/drain.py", '"--host"', '"--node"'),
    Mutant("--reason is called --why", f"{CLI}/common.py", '"--reason"', '"--why", "reason"'),
    Mutant("--drained is called --idle", f"{CLI}/status.py", '"--drained"', '"--idle", "drained"'),
    Mutant("workers is called fleet", f"{CLI}/status.py", "\nCOMMANDS =", '\nworkers.name = "fleet"\nCOMMANDS ='),
    Mutant("--yes is called --force-it", f"{CLI}/job_actions.py", '"--yes"', '"--force-it", "yes"'),
    Mutant("jobs show is called jobs view", f"{CLI}/jobs.py", "def show(", "def view("),
    Mutant(
        "jobs release is called jobs free",
        f"{CLI}/jobs.py",
        "add_command(command(action))",
        RENAMED.format("release", "free"),
    ),
    Mutant(
        "jobs retry is called jobs again",
        f"{CLI}/jobs.py",
        "add_command(command(action))",
        RENAMED.format("retry", "again"),
    ),
    Mutant(
        "jobs discard is called jobs drop",
        f"{CLI}/jobs.py",
        "add_command(command(action))",
        RENAMED.format("discard", "drop"),
    ),
    Mutant("units diff is called units compare", f"{CLI}/units.py", "def diff(", "def compare("),
    Mutant("check-config is called verify", f"{CLI}/check.py", '"check-config"', '"verify"'),
    Mutant("--metrics, and its variable, are called --listen", f"{SETTINGS}/*.py", '"--metrics"', '"--listen"'),
    Mutant("search.reindex is called search.index", PYTHON, '"search.reindex"', '"search.index"'),
    Mutant("a page has another name", "runbooks/tasks/*.md", "stuck-job", "held-job"),
    Mutant("an anchor has another name", "runbooks/tasks/stuck-job.md", "## Give it back now", "## Release it"),
    # Names in the database.
    Mutant("leased_by is called locked_by", f"{SQL} {PYTHON}", "leased_by", "locked_by"),
    Mutant("leased_at is called locked_at", f"{SQL} {PYTHON}", "leased_at", "locked_at"),
    Mutant("finished_at is called ended_at", f"{SQL} {PYTHON}", "finished_at", "ended_at"),
    Mutant("outcome is called verdict", f"{SQL} {CLI}/*.py", "outcome", "verdict"),
    Mutant("job_history is called job_log", f"{SQL} {PYTHON}", "job_history", "job_log"),
    Mutant("holds has another name for its targets", SQL, "target", "subject"),
    Mutant("the state paused is called parked", SQL, "'paused'", "'parked'"),
    Mutant("the outcome crashed is called died", SQL, "'crashed'", "'died'", _page("poison-job")),
    # Metrics and alerts.
    Mutant("the depth of the queue has another name", PYTHON, "job_queue_depth", "job_queue_length"),
    Mutant("db_up is called database_up", PYTHON, '"db_up"', '"database_up"'),
    Mutant("fenced writes are called lost writes", PYTHON, '"fenced_writes"', '"lost_writes"'),
    Mutant("jobs_processed says result, not outcome", PYTHON, '["kind", "outcome"]', '["kind", "result"]'),
    Mutant("the days of history have another name", PYTHON, "history_ready_seconds", "history_left_seconds"),
    Mutant("an alert has another name", RULES, "alert: WorkerDown", "alert: WorkerGone"),
    Mutant("an alert has another threshold", RULES, "> 5000", "> 50000"),
    Mutant("a drain may be forgotten for longer", RULES, "> 24 * 3600", "> 240 * 3600"),
    Mutant("the runs of a ramp have another name", PYTHON, "kind_ramp_runs", "kind_ramp_ends"),
    Mutant("an alert leads elsewhere", RULES, "alerts/PoisonJobs.md", "alerts/PoisonedJobs.md"),
    # Units.
    Mutant(
        "the unit has another name", f"units/* {PYTHON}", "shithubd-worker.service", "forge-worker.service", DAY_ONE
    ),
    Mutant("the instances have another name", f"units/* {PYTHON}", "shithubd-worker@", "forge-worker@"),
    Mutant("a drop-in has another name", "units/drop-ins/*", "long-drain", "patience"),
    Mutant("TimeoutStopSec is 90", UNIT, "TimeoutStopSec=30", "TimeoutStopSec=90"),
    Mutant("KillMode is control-group", UNIT, "KillMode=mixed", "KillMode=control-group"),
    Mutant("MemoryHigh is 1G", UNIT, "MemoryHigh=1536M", "MemoryHigh=1G"),
    Mutant("there is no watchdog", UNIT, "WatchdogSec=30", "WatchdogSec=0"),
    Mutant(
        "another file is loaded as the password", UNIT, "pgpass:/etc/shithub/pgpass", "pgpass:/etc/shithub/password"
    ),
    Mutant(
        "the file of variables is elsewhere", UNIT, "/etc/shithub/worker.env", "/etc/default/shithub", _page("add-host")
    ),
    Mutant("an instance has no file of its own", UNIT, "EnvironmentFile=-/etc/shithub/%N.env\n", ""),
    Mutant(
        "a wrong configuration is tried again",
        UNIT,
        "RestartPreventExitStatus=2 64 76 77 78",
        "",
        ("test_a_wrong_configuration_fails_once",),
    ),
    Mutant("it isn't restarted", UNIT, "Restart=always", "Restart=no"),
    Mutant("it doesn't tell when it is ready", UNIT, "Type=notify\n", "Type=exec\n"),
    Mutant("nobody returns a dead worker's leases", UNIT, "ExecStopPost=-/usr/bin/shithubd-worker release-dead\n", ""),
    # What the product does.
    Mutant("the lease ignores holds of kinds", sql("lease_v1"), "v_held := held_kinds_v1(true);", ""),
    Mutant(
        "the lease ignores drains",
        sql("lease_v1"),
        "IF EXISTS (SELECT FROM covering_holds_v1(p_worker)) THEN",
        "IF false THEN",
    ),
    Mutant(
        "the lease takes what is paused",
        sql("lease_v1"),
        "j.state = 'queued'",
        "j.state IN ('queued', 'paused')",
    ),
    Mutant("all kinds have one lease timeout", sql("lease_v1"), "secs => n.seconds", "secs => 300"),
    Mutant("an expired lease stays", sql("expired_leases_v1"), "<= p_now\n", "<= '-infinity'\n"),
    Mutant("a settle needs no token", sql("settle_v1"), "AND j.lease_token = e.token ", ""),
    Mutant("a pause marks no rows", sql("mirror_pause_v1"), "v_ids, 'paused'", "v_ids, 'queued'", _page("pause-kind")),
    Mutant(
        "a release changes nothing",
        sql("wanted_job_v1"),
        "OR p_action = 'release' THEN",
        "THEN",
        _page("stuck-job"),
    ),
    Mutant(
        "a retry leaves it failed", sql("wanted_job_v1"), "state := 'queued'", "state := 'failed'", _page("failed-jobs")
    ),
    Mutant("a discard leaves no trace", sql("change_slice_v1"), "'discarded'", "'ok'", _page("failed-jobs")),
    Mutant(
        "a crash takes out nothing", sql("return_crashed_v1"), "o.crash >= 3 ", "o.crash >= 300 ", _page("poison-job")
    ),
    Mutant("a timeout exits with 0", "shithubd_worker/errors.py", "EXIT_TIMEOUT = 4", "EXIT_TIMEOUT = 0"),
    Mutant("a refused login exits with 80", "shithubd_worker/errors.py", "EXIT_RIGHTS = 77", "EXIT_RIGHTS = 80"),
    Mutant("a stop waits for 60 s", "shithubd_worker/settings/config.py", "25.0", "60.0"),
    Mutant("a lease lasts for an hour", "shithubd_worker/registry.py", "timedelta = 300", "timedelta = 3600"),
    Mutant(
        "the drain doesn't wait",
        f"{CLI}/certainty.py",
        "held.idle = held.certain and wait and operations.wait_until_idle(scope, deadline.at, say)",
        "held.idle = held.certain",
        DRAIN,
    ),
    Mutant("the undo isn't told", f"{CLI}/certainty.py", '        line(f"undo: {undo}")\n', "", DRAIN),
    Mutant("held jobs aren't counted", f"{CLI}/shown.py", '"held": found["held"]', '"held": 0', _page("pause-kind")),
    Mutant(
        "commands don't look for the host's database",
        f"{CLI}/__init__.py",
        "    host_env.adopt(sys.argv[1:])\n",
        "",
        _page("failed-jobs"),
    ),
)
