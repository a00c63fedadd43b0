"""top: status and stats on the whole screen, live."""

from __future__ import annotations

import os

import click

from shithubd_worker.cli import screen
from shithubd_worker.cli.common import Duration, Shared, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.errors import EXIT_USAGE, ShithubdError

LEAST_INTERVAL = 0.5  # seconds


class NoTerminal(ShithubdError):
    """The command needs a terminal, and there is none."""

    exit_code = EXIT_USAGE


@click.command()
@with_database
@within(LOOK_SECONDS)
@click.option(
    "--interval",
    type=Duration(),
    default="2",
    show_default="2 s",
    metavar="DURATION",
    help="Ask for the figures again after this time. After a slow answer it waits for as long as that took.",
)
@click.option("--reason", metavar="TEXT", help="Offer this reason when you pause or resume a kind.")
def top(shared: Shared, interval: float, reason: str | None) -> int:
    """Show what goes on, live, on the whole screen.

    The first view has the kinds: jobs, rates, times, and when the backlog is done. Below stand the holds, what runs,
    and the workers. Enter opens the jobs of a kind, and then a job. A narrow screen leaves out columns, and cuts no
    figure. Press ? for all keys, q to quit.

    p pauses the kind under the cursor on all hosts, r resumes it. Both ask for a yes and a reason. They do the same as
    `pause-kind` and `resume-kind`, with the same record: see `audit list`. top changes nothing else.

    It asks one question at a time, on one connection. While the database is away, it says for how long, and goes on
    when it is back. Nothing depends on the colours, and NO_COLOR turns them off.

    Without a terminal, use `status --watch` or `stats --json`.

    \b
    Exit codes:
      0    you quit
      2    stdin or stdout is no terminal, or TERM is dumb
      4    --timeout is over, or a change was not complete when top ended
      130  you pressed Ctrl-C
      SIGTERM, SIGHUP and SIGQUIT end it as usual, and the terminal is as before.
      After SIGKILL it is not: type `reset` and press Enter.

    \b
    Examples:
      shithubd-worker top
      shithubd-worker top --interval 10 --reason "INC-42"
    """
    if interval < LEAST_INTERVAL:
        raise click.BadParameter(f"is at least {LEAST_INTERVAL:g} s", param_hint="--interval")
    if not (screen.is_terminal() and os.environ.get("TERM", "dumb") != "dumb"):
        raise NoTerminal("top needs a terminal: use status --watch or stats --json")
    from shithubd_worker.cli.top import session

    return session.run(shared, interval, reason)


COMMANDS = (top,)
