"""The command line: the steps of the runbook as commands. Each import here makes `--help` slower."""

from __future__ import annotations

import errno
import os
import sys

import click

from shithubd_worker import __version__
from shithubd_worker.cli import (
    check,
    drain,
    enqueue,
    history,
    host_env,
    init,
    jobs,
    migrate,
    pause_kind,
    run,
    runbook,
    screen,
    search,
    status,
    units,
)
from shithubd_worker.cli.common import database_options
from shithubd_worker.errors import EXIT_DETACHED, EXIT_ERROR, EXIT_USAGE, ShithubdError

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
  shithubd-worker pause-kind search.reindex   stop one kind, on all hosts
  shithubd-worker drain --wait                stop everything, and wait for it
  shithubd-worker resume                      undo the drain
  shithubd-worker runbook                     what to do, step by step

\b
Exit codes:
  0    done, or there was nothing to do
  1    any other error; there is no such job
  2    usage: an unknown option, or a payload that is not a JSON object
  3    a check says no: `status --drained`, `units diff`
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


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@database_options
@click.option(
    "--version",
    is_flag=True,
    callback=_version,
    expose_value=False,
    is_eager=True,
    help="Show the versions of the program and of its schema.",
)
def cli(database_url: str | None, schema: str | None) -> None:
    """Run the background jobs of a git forge.

    PostgreSQL keeps the queue, systemd supervises the workers, and the steps of the runbooks are commands.
    """


ROOMS = (init, run, check, migrate, enqueue, search, status, drain, pause_kind, jobs, history, units, runbook)
for command in (command for room in ROOMS for command in room.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """The program. Every error is one clear line on stderr and a documented exit code."""
    sys.excepthook = screen.unforeseen
    screen.take_any_letter()
    sys.exit(_main())


def _main() -> int:
    if stray := [word for word in sys.argv[1:] if any("\ud800" <= c <= "\udfff" for c in word)]:
        screen.say(f"shithubd-worker: the argument {stray[0]!a} is not UTF-8")
        return EXIT_USAGE
    host_env.adopt(sys.argv[1:])
    try:
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
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # The reader of the output has left. So the command ends too, without a traceback from the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:
        import psycopg

        if not isinstance(error, psycopg.Error):
            raise
        from shithubd_worker.database.failures import explained

        told = explained(error)
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        return _fail(told)


def _fail(error: ShithubdError) -> int:
    lines = [str(each) for each in error.args] or [type(error).__name__]
    lines[0] = ": ".join([lines[0], *getattr(error, "__notes__", ())])
    for line in lines:
        screen.say(f"shithubd-worker: {line}")
    return error.exit_code
