"""What the commands share: the options for the database, times, and the completion of names."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from shithubd_worker.cli import announce, as_whom, hints, screen
from shithubd_worker.cli.settings import option
from shithubd_worker.plain import shell_word
from shithubd_worker.settings.config import DATABASE_URL, SCHEMA, check_schema
from shithubd_worker.settings.names import refuse_misnamed

if TYPE_CHECKING:
    from shithubd_worker.cli.deadline import Deadline
    from shithubd_worker.database.connection import Connect
    from shithubd_worker.database.operations import Operations

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# How long a shell that completes a word waits for the database.
COMPLETION_SECONDS = 2.0
# So many ids it is offered for each state.
MOST_IDS = 50
_LONGEST_DURATION = 100 * 366 * 86400.0  # beyond a century, Python's and PostgreSQL's times are not safe


def collect_again() -> None:
    """Search for garbage again, because all imports are done. What they made is left out of each search from now on."""
    gc.freeze()
    gc.enable()


@dataclass
class Shared:
    """Which queue a command acts on, and how long it may take. `flags` are the settings that came from flags, not from
    variables."""

    database_url: str | None
    schema: str | None
    flags: tuple[str, ...] = ()
    kept_by: Deadline | None = None
    announcer: announce.Announcer | None = None

    def command(self, name: str, *words: str) -> str:
        """Another command for the same queue, to be pasted into the same shell. It leaves out a password in the URL,
        because printed text ends in logs. libpq reads passwords from a file."""
        given = {DATABASE_URL.flag: _without_password(self.database_url or ""), SCHEMA.flag: self.schema or ""}
        flags = (word for flag in self.flags for word in (flag, given[flag]))
        return " ".join(map(shell_word, ("shithubd-worker", *name.split(), *flags, *words)))

    @property
    def deadline(self) -> Deadline:
        """How long the command may take: see `within`."""
        assert self.kept_by is not None  # noqa: S101
        return self.kept_by

    @property
    def schema_name(self) -> str:
        """The schema, checked."""
        return check_schema(self.schema or SCHEMA.default)

    def connect(
        self,
        name: str,
        *,
        pooled: bool = False,
        ours: bool = True,
        answer_seconds: float | None = None,
        by: float | None = None,
    ) -> Connect:
        """How to open connections. They keep the command's deadline; `by` gives a connection a moment until which it
        must be open. Raises ConfigError if none can ever be opened, or if the wanted queue isn't clear. After this, a
        command of root's runs as the user whom the host's files name."""
        as_whom.go_on()
        from shithubd_worker.database import conninfo
        from shithubd_worker.database.connection import connector

        refuse_misnamed(self.flags)
        conninfo.check(self.database_url)
        kept_by = self.kept_by if by is None else None
        return connector(
            self.database_url,
            name,
            pooled=pooled,
            ours=ours,
            answer_seconds=answer_seconds,
            command=self.announcer.command if self.announcer else None,
            meanwhile=kept_by.meanwhile if kept_by else None,
            by=kept_by.at if kept_by else by,
        )

    def operations(self, *, as_owner: bool = False, answer_seconds: float | None = None) -> Operations:
        """A connection for an operator's command, with its schema checked. It leaves nothing in the session, which may
        be a pooler's. `as_owner`: act as the queue's owner if the login may; that needs a session of its own."""
        from shithubd_worker.database import rights, schema
        from shithubd_worker.database.operations import Operations

        self.announcer = announce.wanted()
        connect = self.connect("shithubd-worker command", pooled=not as_owner, answer_seconds=answer_seconds)
        if self.announcer:
            self.announcer.start(self)
        operations = Operations(connect, self.schema_name)
        collect_again()
        with rights.in_pg_catalog(operations.connection):
            if as_owner:
                rights.become_owner(operations.connection, operations.schema, session=True)
            schema.check(operations.connection, operations.schema)
        return operations


def queue_named(ctx: click.Context) -> Shared:
    """Which queue a command's options name. A flag wins over a variable, and a flag after the command's name wins over
    one before it. The command's context has the result afterwards."""
    before, flags = ctx.find_root(), []
    for name, flag in (("database_url", DATABASE_URL.flag), ("schema", SCHEMA.flag)):
        sources = [each.get_parameter_source(name) for each in (before, ctx)]
        if sources[0] is ParameterSource.COMMANDLINE and sources[1] is not ParameterSource.COMMANDLINE:
            ctx.params[name] = before.params[name]
            ctx.set_parameter_source(name, ParameterSource.COMMANDLINE)
        if ParameterSource.COMMANDLINE in sources:
            flags.append(flag)
    return Shared(ctx.params.get("database_url"), ctx.params.get("schema"), tuple(flags))


def _without_password(database_url: str) -> str:
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    given = conninfo_to_dict(database_url)
    return make_conninfo("", **given) if given.pop("password", None) else database_url


def not_empty(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty value. It came from an unset variable of a shell, and nobody knows what was meant."""
    if value == "":
        raise click.BadParameter("is empty")
    return value


def database_options(function: F) -> F:
    """--database-url and --schema, for the group and for each command."""
    function = option("schema", SCHEMA, callback=not_empty)(function)
    return option("database_url", DATABASE_URL, callback=not_empty)(function)


def with_database(function: F) -> F:
    """database_options for a command. The command gets them as its first argument, a Shared."""

    @database_options
    @click.pass_context
    def wrapped(ctx: click.Context, /, database_url: str | None, schema: str | None, **rest: Any) -> Any:
        shared = queue_named(ctx)
        try:
            return ctx.invoke(function, shared, **rest)
        except Exception as error:
            words = [*ctx.command_path.split()[1:], *(["--roles"] if rest.get("roles") else [])]
            hints.note(error, shared, words)
            raise

    wrapped.__doc__ = function.__doc__
    wrapped.__name__ = function.__name__
    if hasattr(function, "__click_params__"):
        wrapped.__click_params__ = [*wrapped.__click_params__, *function.__click_params__]  # type: ignore[attr-defined]
    return wrapped  # type: ignore[return-value]


class GroupWithDefault(click.Group):
    """A group with one command that needs no name. With no_args_is_help=False, that command is also meant if no word is
    given."""

    def __init__(self, *given: Any, default: str, **more: Any) -> None:
        super().__init__(*given, **more)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the name if there is neither a command nor a wish for help. A shell that completes the first word gets
        the names of all commands."""
        if args:
            named = args[0] in self.commands or args[0] in ctx.help_option_names
        else:
            named = self.no_args_is_help or ctx.resilient_parsing
        return super().parse_args(ctx, args if named else [self.default, *args])


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")
reason_option = click.option("--reason", metavar="TEXT", help="Why you do it. The audit record keeps it.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what the command would do, and do nothing.")


class Duration(click.ParamType[float, object]):
    """Seconds: a number, or a number with the unit s, m, h or d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """To seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).strip())
        if not match:
            self.fail(f"{value!r} is not a duration: seconds, or a number with s, m, h or d, for example 90 or 15m")
        seconds = float(match[1]) * _UNITS[match[2] or "s"]
        if seconds > _LONGEST_DURATION:
            self.fail(f"{value!r} is longer than a century")
        return seconds


def moment(text: str) -> datetime | timedelta:
    """A time (ISO 8601, in UTC unless it says otherwise), or a duration from now. Raises click.BadParameter."""
    if re.fullmatch(r"\d+(\.\d+)?[smhd]?", text.strip()):
        return timedelta(seconds=Duration().convert(text, None, None))
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is neither a time (2026-11-22T18:00:00Z) nor a duration from now (2h)"
        ) from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def due(run_at: str | None, delay: float | None) -> datetime | None:
    """The time of --run-at, checked. None without it. Raises click.UsageError if --delay is given, too."""
    from shithubd_worker.options import moment_in_utc

    if run_at is None:
        return None
    if delay is not None:
        raise click.UsageError("give --delay or --run-at, not both")
    when = moment(run_at)
    if isinstance(when, timedelta):
        raise click.BadParameter(f"{run_at!r} is a duration: give it to --delay", param_hint="--run-at")
    try:
        return moment_in_utc(when)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--run-at") from error


def check_kind(name: str) -> None:
    """Raise click.BadParameter if an argument can't be the name of a kind."""
    from shithubd_worker import model

    try:
        model.check_kind(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="KIND") from error


def completed(field: str, states: Sequence[str] = ()) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Shell completion of names that the database knows: kinds, hosts, units, workers, and ids of jobs in these states.
    Silent if the database is away."""

    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            operations = queue_named(ctx).operations(answer_seconds=COMPLETION_SECONDS)
            return screen.offered(_names(operations, field, incomplete, states), incomplete)
        except Exception:  # noqa: BLE001 (a shell that completes must not print errors)
            return []

    return complete


def _names(operations: Operations, field: str, begun: str, states: Sequence[str]) -> Sequence[str]:
    """The names of one sort. None of these questions counts the jobs."""
    if field == "kind":
        return operations.kinds_like(begun)
    if field == "plan":
        return [str(plan["name"]) for (plan,) in operations.rows("show_plans_v1", None) if plan["applied_at"] is None]
    if field == "job":
        found = (operations.jobs({"state": state}, MOST_IDS) for state in states or ("processing", "failed"))
        return [str(job["id"]) for jobs in found for job in jobs]
    if field == "worker":
        return [worker[name] for worker in operations.workers() for name in ("leased_by", "id")]
    return [worker[field] for worker in operations.workers() if worker[field]]
