"""run, check-config and release-dead: the commands that the unit calls."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shithubd_worker.cli.common import Shared, emit, json_option, with_database
from shithubd_worker.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from shithubd_worker.config import Config
    from shithubd_worker.registry import Kind
    from shithubd_worker.session import Connect

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
log = logging.getLogger(__name__)


def variable(flag: str) -> str:
    """The variable that stands for a flag: --poll-interval is SHITHUBD_WORKER_POLL_INTERVAL."""
    return f"SHITHUBD_WORKER_{flag.strip('-').replace('-', '_').upper()}"


def _option(flag: str, name: str, text: str, **settings: Any) -> Callable[[F], F]:
    return click.option(flag, name, envvar=variable(flag), show_envvar=True, help=text, **settings)


# All values are taken as text here and checked together by make_config, so that all faults are told at once.
_OPTIONS = (
    _option(
        "--handlers",
        "handlers",
        "A registry to load; repeatable. The current directory is first on sys.path.",
        multiple=True,
        metavar="MODULE:REGISTRY",
    ),
    _option("--kind", "kinds", "Lease only this kind; repeatable.", multiple=True, metavar="KIND"),
    _option("--exclude-kind", "exclude_kinds", "Don't lease this kind; repeatable.", multiple=True, metavar="KIND"),
    _option(
        "--poll-interval",
        "poll_interval",
        "How often an idle worker looks, whether woken or not.  [default: 1]",
        metavar="SECONDS",
    ),
    _option(
        "--poll-only",
        "poll_only",
        "No LISTEN and no prepared statements: for PgBouncer in transaction mode.",
        is_flag=True,
    ),
    _option(
        "--prefetch",
        "prefetch",
        "Lease jobs of fast kinds ahead, for so long a time of work; 0: one job at a time.  [default: 0.1]",
        metavar="SECONDS",
    ),
    _option(
        "--grace",
        "grace",
        "How long a job may go on after SIGTERM before it is released.  [default: 25]",
        metavar="SECONDS",
    ),
    _option(
        "--database-wait",
        "database_wait",
        "How long to wait for the database at the start.  [default: 60]",
        metavar="SECONDS",
    ),
    _option(
        "--until-empty",
        "until_empty",
        "Exit 0 when no job can run, instead of waiting for more.",
        is_flag=True,
    ),
    _option(
        "--metrics",
        "metrics",
        "Where to serve /metrics, /healthz, /readyz.  [default: 127.0.0.1:8081]",
        metavar="HOST:PORT|off",
    ),
    _option("--repo-root", "repo_root", "The directory that repositories of jobs must lie in.", metavar="DIR"),
    _option(
        "--secrets-dir",
        "secrets_dir",
        "Where secret_ref names a file.  [default: the unit's credentials]",
        metavar="DIR",
    ),
    _option(
        "--webhook-allow-private",
        "webhook_allow_private",
        "Let webhooks go to private addresses and plain HTTP.",
        is_flag=True,
    ),
)


def config_options(function: F) -> F:
    """The options of `run`, which check-config has too."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@with_database
@config_options
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="SHITHUBD_WORKER_LOG_FORMAT",
    show_envvar=True,
    help="How log lines look on stderr.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    envvar="SHITHUBD_WORKER_LOG_LEVEL",
    show_envvar=True,
    help="The least important line to log.",
)
def run(shared: Shared, log_format: str, log_level: str, **raw: object) -> int:
    """Run a worker in the foreground: lease, run, settle, until SIGTERM or Ctrl-C.

    The first signal stops leasing and lets the running job finish (--grace); a second one releases it at once.

    \b
    Examples:
      shithubd-worker run --handlers myforge.jobs:registry
      shithubd-worker run --kind webhook.deliver --metrics 127.0.0.1:8082
      shithubd-worker run --until-empty --metrics off
    """
    import faulthandler

    from shithubd_worker import logs

    faulthandler.enable()
    logs.configure(log_format, log_level)
    _keep_passfile()
    config, kinds = _load(shared, raw)
    code = _work(shared, config, kinds)
    _leave_threads_behind(code)
    return code


@click.command("check-config")
@with_database
@config_options
@json_option
def check_config(shared: Shared, *, as_json: bool, **raw: object) -> int:
    """Check what `run` would be given, without a database: values, directories, handlers. All faults at once.

    \b
    Example:
      shithubd-worker check-config --handlers myforge.jobs:registry
    """
    config, kinds = _load(shared, raw)
    if as_json:
        settings = {name: getattr(config, name) for name in config.__slots__}
        emit({"config": settings, "schema": shared.schema_name, "kinds": [_limits(kind) for kind in kinds]})
        return EXIT_OK
    for kind in kinds:
        click.echo("  ".join(f"{name}={value}" for name, value in _limits(kind).items()))
    click.echo(f"configuration is good: {len(kinds)} kinds")
    return EXIT_OK


@click.command("release-dead")
@with_database
@click.option(
    "--invocation-id",
    envvar="INVOCATION_ID",
    show_envvar=True,
    metavar="ID",
    help="systemd's name for the start of the unit whose process is dead.",
)
@json_option
def release_dead(shared: Shared, invocation_id: str | None, *, as_json: bool) -> int:
    """Return the leases of a process that systemd knows is dead. For ExecStopPost= of the unit.

    Finds the worker by its invocation id, never by its pid. Does nothing after a clean stop, which leaves no lease.

    \b
    Example, in a unit:
      ExecStopPost=-/usr/bin/shithubd-worker release-dead
    """
    from shithubd_worker import logs
    from shithubd_worker.store import Beat

    if not invocation_id:
        raise click.UsageError(
            "no invocation id: systemd sets INVOCATION_ID for ExecStopPost=, or give --invocation-id"
        )
    _use_kept_passfile()
    result, code = os.environ.get("SERVICE_RESULT", "unknown"), os.environ.get("EXIT_STATUS", "unknown")
    beat = Beat(shared.connect("shithubd-worker release-dead"), shared.schema_name)
    returned = beat.release_invocation(invocation_id, f"its worker died: systemd says {result}, status {code}")
    if as_json:
        emit([{"id": job, "kind": kind, "outcome": how} for job, kind, how in returned])
    else:
        if in_journal := logs.is_the_journal(sys.stderr):
            logs.configure("text", "info")
        for job, kind, how in returned:
            if in_journal:
                logs.returned(job, kind, how)
            else:
                click.echo(f"job {job} {kind}: {how}")
        if returned or result != "success":  # not at each clean stop
            click.echo(f"{len(returned)} lease(s) of {invocation_id} returned")
    return EXIT_OK


COMMANDS = (run, check_config, release_dead)


def _load(shared: Shared, raw: dict[str, object]) -> tuple[Config, list[Kind]]:
    """The configuration and the kinds to lease. Raises ConfigError with all faults of both, and of the database's."""
    from shithubd_worker import registry
    from shithubd_worker.config import make_config

    if (here := str(Path.cwd())) not in sys.path[:1]:
        sys.path.insert(0, here)
    faults: list[str] = []

    def told(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except ConfigError as error:
            faults.append(str(error))
            return None

    told(lambda: shared.connect("check"))
    told(lambda: shared.schema_name)
    config = told(lambda: make_config(raw))
    loaded = told(lambda: registry.load(raw.get("handlers") or ()))  # type: ignore[arg-type]
    kinds = _chosen(config, loaded, faults) if config is not None and loaded is not None else []
    if faults:
        raise ConfigError("\n".join(faults))
    assert config is not None  # noqa: S101 (else there was a fault)
    return config, kinds


def _chosen(config: Config, loaded: Mapping[str, Kind], faults: list[str]) -> list[Kind]:
    """The kinds to lease, of those that have handlers."""
    unknown = [kind for kind in (*config.kinds, *config.exclude_kinds) if kind not in loaded]
    there_are = ", ".join(sorted(loaded)) or "none"
    faults += [f"no handler for kind {kind!r}; there are {there_are}" for kind in unknown]
    kinds = [
        kind
        for name, kind in loaded.items()
        if (not config.kinds or name in config.kinds) and name not in config.exclude_kinds
    ]
    if not kinds and not unknown:
        faults.append("no kind to work on: --handlers, --kind and --exclude-kind leave none")
    return kinds


def _work(shared: Shared, config: Config, kinds: list[Kind]) -> int:
    import socket

    from shithubd_worker.metrics import Metrics, serve
    from shithubd_worker.queue_gauges import QueueCollector
    from shithubd_worker.worker import Worker

    def connect(name: str, answer_seconds: float | None, ours: bool) -> Connect:
        return shared.connect(name, pooled=config.poll_only, ours=ours, answer_seconds=answer_seconds)

    metrics = Metrics([kind.name for kind in kinds], f"{socket.gethostname()}:{os.getpid()}")
    worker = Worker(config, kinds, connect, shared.schema_name, metrics)
    if config.metrics_port is not None:
        asking = shared.connect("shithubd-worker metrics", pooled=config.poll_only, answer_seconds=3.0)
        queue = QueueCollector(asking, shared.schema_name, [kind.name for kind in kinds])
        host, port = serve(
            metrics,
            queue,
            worker.state,
            config.metrics_host,
            config.metrics_port,
            chosen=config.metrics_chosen,
        )
        log.info("metrics on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    return worker.run()


def _leave_threads_behind(code: int) -> None:
    """Threads that a handler left running must not keep a worker that is done from its exit."""
    import threading

    from shithubd_worker.host import end_process

    left = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if left:
        log.warning("leaving %d thread(s) of handlers behind: %s", len(left), ", ".join(left))
        logging.shutdown()
        end_process(code)


def _kept_passfile() -> Path | None:
    directory = os.environ.get("RUNTIME_DIRECTORY")
    return Path(directory.split(":")[0]) / "pgpass" if directory else None


def _keep_passfile() -> None:
    """Under a hardened unit ExecStopPost= can't read the unit's credentials, but it can read the RuntimeDirectory."""
    passfile, kept = os.environ.get("PGPASSFILE"), _kept_passfile()
    if passfile and kept and os.environ.get("CREDENTIALS_DIRECTORY") and Path(passfile).is_file():
        kept.touch(mode=0o600)
        kept.chmod(0o600)
        shutil.copyfile(passfile, kept)
        # And used from now on: newer systemd opens a credential to its group by ACL, and libpq ignores such a file.
        os.environ["PGPASSFILE"] = str(kept)


def _use_kept_passfile() -> None:
    kept = _kept_passfile()
    if kept and kept.is_file():
        os.environ["PGPASSFILE"] = str(kept)


def _limits(kind: Kind) -> dict[str, object]:
    return {
        "kind": kind.name,
        "lease_timeout": kind.lease_timeout,
        "max_runtime": kind.max_runtime,
        "max_attempts": kind.max_attempts,
        "retention": kind.retention,
    }
