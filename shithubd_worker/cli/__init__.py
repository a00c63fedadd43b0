"""The command line: the steps of the runbook as commands. Each import here makes every command slower."""

from __future__ import annotations

import errno
import sys
from functools import cache
from importlib import import_module
from typing import NoReturn

import click

from shithubd_worker import __version__
from shithubd_worker.cli import host_env, needs, screen
from shithubd_worker.cli.common import database_options
from shithubd_worker.cli.settings import option
from shithubd_worker.errors import EXIT_CONFIG, EXIT_DETACHED, EXIT_ERROR, EXIT_OK, EXIT_USAGE, ShithubdError
from shithubd_worker.host import stdio
from shithubd_worker.host.leaving import leave
from shithubd_worker.settings.config import AUDIT_WEBHOOK

EPILOG = """
\b
Start here. Name the database as for psql (PGHOST, PGDATABASE, ...) or with
--database-url. A host of workers names it in /etc/shithub/worker.env.
  shithubd-worker init first && cd first      write a handler, and its test
  shithubd-worker migrate                     make the tables
  shithubd-worker enqueue hello '{"name": "Ada"}'
  shithubd-worker run --handlers jobs:registry
  shithubd-worker status

\b
In an incident:
  shithubd-worker status                      what runs, what is held, and why
  shithubd-worker top                         the same, live, full screen
  shithubd-worker pause-kind search.reindex   stop one kind, on all hosts
  shithubd-worker drain --wait                stop everything, and wait for it
  shithubd-worker resume                      undo the drain
  shithubd-worker runbook                     what to do, step by step

\b
Exit codes:
  0    done, or there was nothing to do
  1    any other error; there is no such job
  2    usage: an unknown option, or a payload that is not a JSON object
  3    a check says no: `status --drained`, `units diff`, `doctor`
  4    timeout: --timeout is over, or another session holds a lock; a hold
       that was set stays
  5    refused: the message says why, and what to add
  70   `run`: a handler ignored its interrupt, and the process was ended
  75   the database cannot be reached, or does not answer
  76   the schema is missing, too old, too new or not ours
  77   the login is refused, or its role lacks a right
  78   the configuration cannot work
  130  interrupted by Ctrl-C; a hold that was set stays
"""


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from shithubd_worker.database.schema import newest_version

        screen.line(f"shithubd-worker {__version__} (schema {newest_version()})")
        ctx.exit()


# The commands of each room, in the order of the reference page.
ROOMS = {
    "init": ["init"],
    "run": ["run", "release-dead"],
    "check": ["check-config"],
    "migrate": ["migrate"],
    "enqueue": ["enqueue"],
    "search": ["search"],
    "status": ["status"],
    "top": ["top"],
    "doctor": ["doctor"],
    "stats": ["stats", "kinds", "queues"],
    "workers": ["workers"],
    "drain": ["drain", "resume"],
    "pause_kind": ["pause-kind"],
    "resume_kind": ["resume-kind"],
    "jobs": ["jobs"],
    "apply": ["apply", "plans"],
    "audit": ["audit"],
    "cleanup": ["cleanup"],
    "history": ["history"],
    "units": ["units"],
    "runbook": ["runbook"],
}


@cache
def _of_room(room: str) -> dict[str, click.Command]:
    """The commands of a room, by name."""
    return {command.name: command for command in import_module(f"shithubd_worker.cli.{room}").COMMANDS}


class Rooms(click.Group):
    """Imports a room when one of its commands is needed. So a worker does not pay for the operator's commands."""

    @property
    def commands(self) -> dict[str, click.Command]:
        """All commands."""
        return {name: command for room in ROOMS for name, command in _of_room(room).items()}

    @commands.setter
    def commands(self, _none: object) -> None:
        """For the constructor of click's group."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        room = next((room for room, names in ROOMS.items() if cmd_name in names), None)
        return None if room is None else _of_room(room)[cmd_name]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(name for names in ROOMS.values() for name in names)


@click.group(
    cls=Rooms, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@database_options
@click.option(
    "--version",
    is_flag=True,
    callback=_version,
    expose_value=False,
    is_eager=True,
    help="Show the versions of the program and of its schema.",
)
@option("audit_webhook", AUDIT_WEBHOOK)
def cli(database_url: str | None, schema: str | None, audit_webhook: str | None) -> None:
    """Run the background jobs of a git forge.

    PostgreSQL keeps the queue, systemd supervises the workers, and the steps of the runbooks are commands.
    """


def main() -> NoReturn:
    """The program. Every error is one clear line on stderr and a documented exit code."""
    sys.excepthook = screen.unforeseen
    stdout = stdio.take(goes_on=needs.changes(sys.argv[1:]))
    code = EXIT_ERROR
    try:
        code = _main()
        sys.stdout.flush()
    except OSError as error:
        _refused(error, by_stdout=error is stdout.failed)
    except SystemExit as error:  # click's, after it has completed a word
        code = error.code if isinstance(error.code, int) else EXIT_OK
    except BaseException as error:  # noqa: BLE001 (a fault of ours, and the process ends)
        screen.unforeseen(type(error), error, error.__traceback__)
    else:
        if (lost := stdout.failed) and lost.errno != errno.EPIPE:
            done = "done, but " if code == EXIT_OK else ""
            screen.say(f"shithubd-worker: {done}stdout can't be written: {lost.strerror}. The output is: {stdout.kept}")
    leave(code)


def _main() -> int:
    if stray := [word for word in sys.argv[1:] if any("\ud800" <= c <= "\udfff" for c in word)]:
        screen.say(f"shithubd-worker: the argument {stray[0]!a} is not UTF-8")
        return EXIT_USAGE
    try:
        host_env.adopt(sys.argv[1:])
        code = cli.main(prog_name="shithubd-worker", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        screen.misused(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        screen.say("interrupted")
        return EXIT_DETACHED
    except ShithubdError as error:
        return _fail(error)
    except UnicodeEncodeError as error:
        screen.say(f"shithubd-worker: {error.object[error.start :]!a:.100} is not UTF-8: it comes from the environment")
        return EXIT_CONFIG
    except Exception as error:
        import psycopg

        if not isinstance(error, psycopg.Error):
            raise
        from shithubd_worker.database.failures import explained

        told = explained(error)
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        return _fail(told)


def _refused(error: OSError, *, by_stdout: bool) -> None:
    """The machine refuses something. If the reader of the output has left, the command ends and says nothing."""
    if error.errno != errno.EPIPE:
        what = "stdout can't be written: " if by_stdout else f"{error.filename}: " if error.filename else ""
        screen.say(f"shithubd-worker: {what}{error.strerror or error}")


def _fail(error: ShithubdError) -> int:
    lines = [str(each) for each in error.args] or [type(error).__name__]
    lines[0] = ": ".join([lines[0], *getattr(error, "__notes__", ())])
    for line in lines:
        screen.say(f"shithubd-worker: {line}")
    return error.exit_code
