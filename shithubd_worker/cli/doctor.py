"""doctor: what threatens the queue now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shithubd_worker.cli.common import Shared, collect_again, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, folded, line, offered
from shithubd_worker.doctor.finding import PAGES, Finding
from shithubd_worker.doctor.limits import LIMITS
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_OK, ShithubdError
from shithubd_worker.plain import json_text, lasting

if TYPE_CHECKING:
    from shithubd_worker.doctor.bundle import Bundle
    from shithubd_worker.doctor.examination import Examination

MOST = 1 << 44  # of a limit: some checks multiply it, and PostgreSQL ends at a bigint
SILENT_SECONDS = 5.0  # PostgreSQL ends each check after 2 s, so a server that is silent for longer stands still
MOST_SHOWN = 5  # items of a list in the evidence; --json has all


def _known(_ctx: click.Context, _parameter: click.Parameter, names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in PAGES:
            near = get_close_matches(name, PAGES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PAGES)}"
            raise click.BadParameter(f"there is no check {name!r}: {hint}")
    return names


def _limits(_ctx: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> Mapping[str, float]:
    given = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in LIMITS:
            raise click.BadParameter(f"there is no limit {name!r}: there are {', '.join(LIMITS)}")
        try:
            given[name] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            raise click.BadParameter(f"{name} needs a number, as in {name}={LIMITS[name]:g}") from None
        if not 0 <= given[name] < MOST:
            raise click.BadParameter(f"{name} must be a number from 0 on")
    return given


@click.command()
@with_database
@within(LOOK_SECONDS, answer=SILENT_SECONDS)
@click.argument(
    "names",
    nargs=-1,
    metavar="[CHECK]...",
    callback=_known,
    shell_complete=lambda _ctx, _parameter, incomplete: offered(PAGES, incomplete),
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=NUMBER",
    callback=_limits,
    help="Find something from this figure on, for example transactions that are open for 10 s: old_seconds=10. Type it"
    f" once for each limit. There are {', '.join(LIMITS)}.",
)
@click.option(
    "--bundle",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Also write a file for a bug report: versions, findings, figures, units, lines of the journal. It has no"
    " payload, no error and no password; its MANIFEST.txt says what is in it. Without FILE its name has the host and"
    " the time.",
)
@json_option
def doctor(
    shared: Shared, names: Sequence[str], limits: Mapping[str, float], bundle: str | None, *, as_json: bool
) -> int:
    """Show what threatens the queue now.

    The command looks at the database and at this host. Each finding has its severity, its evidence, and the page that
    says what to do. "critical": jobs do not run, or soon will not. "warning": it gets worse until somebody acts.
    "notice": no reason to act. CHECK names the checks to run; without it all run. docs/doctor.md lists them.

    The last lines say what could not be checked, and why: most often the login lacks a right. The command changes
    nothing. --bundle replaces no file, and only you can read the new one. As root it has the journal, too.

    \b
    Exit codes:
      0    nothing was found; notices do not count
      3    something was found
      5    --bundle: the file exists already
      75   the database cannot be reached; what was found on this host is shown

    \b
    Examples:
      shithubd-worker doctor
      shithubd-worker doctor history-days disk
      shithubd-worker doctor old-transaction --limit old_seconds=10
      shithubd-worker doctor --bundle report.tar.gz
      shithubd-worker doctor --json | jq -r '.findings[].name'
    """
    from shithubd_worker.doctor.examination import Examination

    examination = Examination(names, limits)
    if bundle is None:
        examination.of_host()
        failed = _ask(shared, examination) if examination.left else None
    else:
        bundle, failed = _pack(shared, examination, bundle)
    if as_json:
        emit({**examination.as_json(), "at": datetime.now(UTC), "bundle": bundle})
    else:
        _say(examination)
        if bundle is not None:
            line(f"bundle: {bundle}")
    if failed is not None:
        raise failed
    return EXIT_CHECK_SAYS_NO if examination.bad else EXIT_OK


COMMANDS = (doctor,)


def _pack(shared: Shared, examination: Examination, name: str) -> tuple[str, Exception | None]:
    """Examine, and write the bundle. Returns its path, and the error if the database can't be asked."""
    from shithubd_worker.doctor import of_host, of_queue
    from shithubd_worker.doctor.bundle import Bundle, default_name, opened
    from shithubd_worker.doctor.redaction import plain

    if name == "-":
        raise click.BadParameter("a bundle is a file: name one", param_hint="--bundle")
    if name in PAGES:
        clear = f"`doctor {name} --bundle` for the check, or --bundle ./{name} for the file"
        raise click.BadParameter(f"{name} is the name of a check: type {clear}", param_hint="--bundle")
    path, bundle = Path(name or default_name()), Bundle()
    with opened(path) as file:
        examination.of_host()
        of_host.add(bundle)
        failed = _ask(shared, examination, bundle)
        if failed is not None:
            of_queue.leave_out(bundle, "the database could not be asked")
        about = "what `doctor` found, without reasons"
        bundle.add("findings.json", about, lambda: plain(examination.as_json(quoting=False)))
        bundle.write(file, path.name.removesuffix(".tar.gz"))
    return str(path), failed


def _ask(shared: Shared, examination: Examination, bundle: Bundle | None = None) -> Exception | None:
    """Let the database be examined, also for a bundle. Returns the error if it can't be, or not to the end."""
    import psycopg

    from shithubd_worker.database.failures import explained
    from shithubd_worker.doctor import of_queue

    schema = shared.schema_name

    def connect(answer_seconds: float | None) -> psycopg.Connection:
        return shared.connect("shithubd-worker command", pooled=True, answer_seconds=answer_seconds)()

    try:
        connection = connect(None)
        collect_again()
        examination.of_database(connection, schema, connect)
        if bundle is not None:
            of_queue.add(bundle, connection, schema)
    except (psycopg.Error, ShithubdError) as error:
        examination.give_up(explained(error) if isinstance(error, psycopg.Error) else error)
        return error
    return None


def _say(examination: Examination) -> None:
    for each in examination.findings:
        folded(f"{each.severity}: {each.said}")
        for name, value in each.evidence.items():
            line(f"  {name.replace('_', ' ')}: {_shown(value)}")
        if each.since is not None:
            line(f"  since: {_since(each)}")
        line(f"  what to do: shithubd-worker runbook {each.page}")
    missed: dict[str, list[str]] = {}  # by the reason: without a database it is the same for all checks that ask one
    for one in examination.unchecked:
        missed.setdefault(one.why, []).append(one.name)
    for why, names in missed.items():
        folded(f"not checked: {', '.join(dict.fromkeys(names))}: {why}")
    checks, found = _several(len(examination.wanted), "check"), _several(len(examination.findings), "finding")
    not_checked = len({each.name for each in examination.unchecked})
    line(f"{checks}: {found}{f', {not_checked} not checked' if not_checked else ''}")


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _since(finding: Finding) -> str:
    assert finding.since is not None  # noqa: S101
    seconds = (datetime.now(UTC) - finding.since).total_seconds()
    return f"{finding.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {lasting(seconds)} ago"


def _shown(value: object) -> str:
    if isinstance(value, list):
        more = f" and {len(value) - MOST_SHOWN} more" if len(value) > MOST_SHOWN else ""
        return ", ".join(map(_shown, value[:MOST_SHOWN])) + more
    return value if isinstance(value, str) else json_text(value)
