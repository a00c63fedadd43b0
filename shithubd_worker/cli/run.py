"""run and release-dead: the life of a worker, and what follows its death."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shithubd_worker.cli.common import Shared, collect_again, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.reload import reload_of
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.cli.settings import config_options, load
from shithubd_worker.errors import EXIT_OK
from shithubd_worker.settings.config import SCHEMA, SETTINGS
from shithubd_worker.settings.names import UNIT
from shithubd_worker.timing import RELEASE_DEAD_SECONDS, SCRAPE_ANSWER_SECONDS

if TYPE_CHECKING:
    from shithubd_worker.database.connection import Connect
    from shithubd_worker.registry import Kind
    from shithubd_worker.settings.config import Config
    from shithubd_worker.settings.reload import Reload

log = logging.getLogger(__name__)


@click.command()
@with_database
@config_options
def run(shared: Shared, **raw: object) -> int:
    """Run a worker in the foreground.

    The worker leases jobs and runs them, one at a time. SIGTERM or Ctrl-C stops it: it leases no more jobs, finishes
    the running job and exits with 0. If the job takes longer than --grace, the worker interrupts and releases it. A
    second signal releases it at once. A released job is back in the queue and has lost no attempt.

    In a unit, SIGHUP (`systemctl reload`) makes the worker read /etc/shithub/worker.env and the unit's own file again.
    The log names what takes a restart. If a file has a fault, the worker takes over nothing; the log and `systemctl
    status` name the fault. A reload takes over these settings:

    \b
    {live}

    \b
    Exit codes:
      0    it was stopped, or --until-empty found no job
      1    a fault of the worker, for instance because a handler closed its files
      70   a handler ignored its interrupt, so the worker ended the process; the
           job is settled, unless its lease was lost
      75   the database did not answer within --database-wait
      76   the schema is missing, too old, too new or not ours
      77   the database refuses the login, or its role lacks a right
      78   a setting cannot work; or the database does not exist, or its server
           has no TLS; or PgBouncer in transaction mode needs --poll-only
      154  signal 26 (systemd: status=26/VTALRM): a handler held the interpreter
           until its lease was nearly over; the job is in the queue again

    \b
    Examples:
      shithubd-worker run --handlers jobs:registry --until-empty
      shithubd-worker run --kind webhook.deliver --metrics 127.0.0.1:8082
    """
    import faulthandler

    from shithubd_worker.host import outlets
    from shithubd_worker.telemetry import logs

    faulthandler.enable(outlets.unblocked(2))
    logs.configure(str(raw["log_format"]), str(raw["log_level"]))
    _keep_passfile()
    _import_ours_first()
    config, kinds = load(shared, raw)
    logs.stay()
    unit = os.environ.get(UNIT)
    return _work(shared, config, kinds, reload_of(click.get_current_context(), unit) if unit else None)


@click.command("release-dead")
@with_database
@within(LOOK_SECONDS, answer=RELEASE_DEAD_SECONDS)
@click.option(
    "--invocation-id",
    envvar="INVOCATION_ID",
    show_envvar=True,
    metavar="ID",
    help="The id that systemd gave to the start of the dead process. systemd sets the variable for ExecStopPost=.",
)
@json_option
def release_dead(shared: Shared, invocation_id: str | None, *, as_json: bool) -> int:
    """Return the leases of a dead worker to the queue.

    The unit calls this as ExecStopPost=, when systemd knows that the process is dead. It finds the worker by its
    invocation id, never by its pid. After a clean stop there is no lease, and the command does nothing. You cannot undo
    it: the jobs run again.

    \b
    Example, in a unit:
      ExecStopPost=-/usr/bin/shithubd-worker release-dead
    """
    from shithubd_worker.database.control_session import FORCED, ControlSession
    from shithubd_worker.host.dead_man import SIGNAL
    from shithubd_worker.telemetry import logs

    if not invocation_id:
        raise click.UsageError(
            "no invocation id: systemd sets INVOCATION_ID for ExecStopPost=, or give --invocation-id"
        )
    _use_kept_passfile()
    result, code = os.environ.get("SERVICE_RESULT", "unknown"), os.environ.get("EXIT_STATUS", "unknown")
    session = ControlSession(shared.connect("shithubd-worker release-dead", pooled=True), shared.schema_name)
    held = code == SIGNAL.name.removeprefix("SIG")
    died = "was ended, because a handler held the interpreter" if held else "died"
    returned = session.release_invocation(invocation_id, f"its worker {died}: systemd says {result}, status {code}")
    if held and len(returned) == 1:  # of several leases, nobody can say which one it was
        session.count_ended({(returned[0][1], FORCED): 1})
    if as_json:
        emit([{"id": job, "kind": kind, "outcome": how} for job, kind, how in returned])
    else:
        if in_journal := logs.is_the_journal(sys.stderr):
            logs.configure("text", "info")
        if held and in_journal:
            logs.held_interpreter([(job, kind) for job, kind, _ in returned])
        for job, kind, how in returned:
            if in_journal:
                logs.returned(job, kind, how)
            else:
                line(f"job {job} {kind}: {how}")
        if returned or result != "success":  # not after each clean stop
            line(f"{len(returned)} lease(s) of {invocation_id} returned")
    return EXIT_OK


# The table of settings knows what a reload takes over.
_live = ", ".join(row.flag for row in SETTINGS.values() if row.live)
_live = textwrap.fill(_live, 76, break_on_hyphens=False, initial_indent="  ", subsequent_indent=" " * 6)
run.help = (run.help or "").replace("{live}", _live)

COMMANDS = (run, release_dead)


def _import_ours_first() -> None:
    """Import what a worker needs before the author's directory is first on sys.path. A file http.py there must not be
    taken for Python's."""
    from shithubd_worker.process import wiring  # noqa: F401
    from shithubd_worker.telemetry import endpoint  # noqa: F401


def _work(shared: Shared, config: Config, kinds: list[Kind], reread: Reload | None) -> int:
    import socket

    from shithubd_worker.process import wiring
    from shithubd_worker.telemetry.endpoint import serve
    from shithubd_worker.telemetry.gauges import QueueCollector
    from shithubd_worker.telemetry.metrics import Metrics

    def connect(name: str, answer_seconds: float | None, ours: bool) -> Connect:
        return shared.connect(name, pooled=config.pooled, ours=ours, answer_seconds=answer_seconds)

    os.environ[SCHEMA.variable] = shared.schema_name  # where a handler enqueues, if it names no schema
    objectives = {kind.name: kind.wait_objective for kind in kinds if kind.wait_objective is not None}
    metrics = Metrics([kind.name for kind in kinds], f"{socket.gethostname()}:{os.getpid()}", objectives)
    worker = wiring.worker(config, kinds, connect, shared.schema_name, metrics, reread)
    if config.metrics.host and config.metrics.port is None:
        unit = os.environ.get(UNIT, "").removesuffix(".service")
        log.warning(
            "metrics are not served: %s has no number that gives a port: set %s=HOST:PORT in /etc/shithub/%s.env",
            *(unit, SETTINGS["metrics"].variable, unit),
        )
    elif config.metrics.host:
        asking = shared.connect("shithubd-worker metrics", pooled=config.pooled, answer_seconds=SCRAPE_ANSWER_SECONDS)
        queue = QueueCollector(asking, shared.schema_name, [kind.name for kind in kinds])
        serve(metrics, queue, config.metrics)
    collect_again()
    return worker.run(config.database_wait)


def _kept_passfile() -> Path | None:
    directory = os.environ.get("RUNTIME_DIRECTORY")
    return Path(directory.split(":")[0]) / "pgpass" if directory else None


def _keep_passfile() -> None:
    """Keep a copy of the passfile: ExecStopPost= of a hardened unit can't read the credentials, but the
    RuntimeDirectory."""
    passfile, kept = os.environ.get("PGPASSFILE"), _kept_passfile()
    if passfile and kept and os.environ.get("CREDENTIALS_DIRECTORY") and Path(passfile).is_file():
        kept.touch(mode=0o600)
        kept.chmod(0o600)
        shutil.copyfile(passfile, kept)
        # The worker uses the copy as well. Newer versions of systemd open a credential to its group by an ACL, and
        # libpq ignores such a file.
        os.environ["PGPASSFILE"] = str(kept)


def _use_kept_passfile() -> None:
    kept = _kept_passfile()
    if kept and kept.is_file():
        os.environ["PGPASSFILE"] = str(kept)
