"""docs/settings.md and debian/worker.env: `make pages` writes both from the table of settings; a test compares them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from shithubd_worker.settings.config import DATABASE_URL, OF_COMMANDS, SCHEMA, SETTINGS
from shithubd_worker.settings.names import WITHOUT_FLAG
from shithubd_worker.settings.table import Setting

ROOT = Path(__file__).parents[1]
PAGE, ENV_FILE = ROOT / "docs/settings.md", ROOT / "debian/worker.env"

# What libpq reads that matters here: what it is for, and an example.
LIBPQ = {
    "PGHOST": ("The server: the directory of its socket, or its name.", "/run/postgresql"),
    "PGHOSTADDR": ("The address of the server. libpq does not look up its name then.", "192.0.2.1"),
    "PGPORT": ("The port of the server.", "5432"),
    "PGDATABASE": ("The database.", "shithub"),
    "PGUSER": ("The role that logs in.", "shithub"),
    "PGSERVICE": ("A section of libpq's service file. It can have all of the above.", "shithub"),
    "PGSSLMODE": ("How much TLS libpq asks for. `verify-full` also checks the name of the server.", "verify-full"),
    "PGSSLROOTCERT": ("The certificates that libpq trusts.", "/etc/ssl/certs/ca-certificates.crt"),
    "PGPASSFILE": (
        "The file of passwords. The units set it to their copy of /etc/shithub/pgpass.",
        "/etc/shithub/pgpass",
    ),
}
# Those that a host's file names; the others are for a host that needs them.
OF_A_HOST = ("PGHOST", "PGUSER", "PGDATABASE")

# What the page and the manual page say of all settings.
ABOUT = (
    "Each flag of `run` and `check-config` has a variable: `--poll-interval` is `SHITHUBD_WORKER_POLL_INTERVAL`. A flag"
    " wins over its variable. An empty variable counts as not set.",
    "The units read their variables from two files: `/etc/shithub/worker.env` for all units of the host, and"
    " `/etc/shithub/UNIT.env` for one unit, for example `/etc/shithub/shithubd-worker@2.env`. The second file wins. A"
    " line is `NAME=value`, as systemd reads it: without `export`, and without variables in the value.",
    "`systemctl reload` makes a running worker read both files again. It takes over the settings that say so here. All"
    " others take a restart.",
    "`shithubd-worker check-config` prints all faults at once; `check-config --unit UNIT` adds the file and the line of"
    " each. A variable that begins with `SHITHUBD_WORKER_` and is not a setting is a fault.",
)
INTRODUCTION = """\
# Settings

`make pages` writes this page and the first `/etc/shithub/worker.env` of the Debian package. It reads the table that the
program uses (`shithubd_worker/settings/config.py`). A test compares them. `man shithubd-worker.env` shows the same.
"""
HEAD = """\
The settings of all workers of this host. /etc/shithub/<unit name>.env has those of one worker, and wins. Remove the #
to set a variable. A value that is shown is the default, or an example.
An upgrade leaves this file as it is. /usr/share/shithubd-worker/worker.env has the variables of the installed release.
`shithubd-worker check-config --unit shithubd-worker` finds faults. `systemctl reload` refuses a file with a fault.
Never write a password here: /etc/shithub/pgpass is for passwords.
The commands of people log in as operator.env says (PGUSER=), and migrate and history drop as owner.env says. If the
database knows users by their names, write SHITHUBD_WORKER_RUN_AS= there: root's commands then run as that user.
"""


FAULTS = """\
## Faults

`run` and `check-config` print all faults and end with [78](exit-codes.md#78-wrong-configuration). A fault begins with
the names of its setting, and says which values can be used:

```sh
export SHITHUBD_WORKER_GRACE=soon SHITHUBD_WORKER_REPO_ROOT=/nowhere SHITHUBD_WORKER_LOG_LEVL=debug
shithubd-worker check-config || echo "exit code $?"
```
```text
shithubd-worker: SHITHUBD_WORKER_LOG_LEVL is not a setting: did you mean SHITHUBD_WORKER_LOG_LEVEL?
shithubd-worker: --grace (SHITHUBD_WORKER_GRACE): 'soon' is not a number of seconds from 0 to 172800
shithubd-worker: --repo-root (SHITHUBD_WORKER_REPO_ROOT): '/nowhere' is not a directory
exit code 78
```
"""
OF_PEOPLE = """\
Workers do not use these settings. The files of a host can have them: `worker.env`, or `owner.env` for the days.
`--audit-webhook-file` stands before the name of the command. A change in psql, or by a program that uses `Client`,
posts no line."""
HEADS = ("flag", "variable", "value", "default", "example")


def takes(row: Setting) -> str:
    """Which values a setting takes, with their unit and bounds."""
    if row.switch:
        return "yes or no"
    if row.choices:
        return ", ".join(f"`{each}`" for each in row.choices)
    if row.metavar == "DIR":
        return "`DIR`, an existing directory"
    if row.metavar == "DAYS":
        return f"days, {row.bounds}"
    if row.metavar == "SECONDS":
        return f"seconds, {row.bounds}"
    several = "; separate several of them by spaces in the variable" if row.repeatable else ""
    return f"`{row.metavar}`{several}".replace("|", "` or `")


def unless_set(row: Setting) -> str:
    """Its default."""
    return f"`{row.default}`" if row.default else row.unset or ("no" if row.switch else "")


def page() -> str:
    """docs/settings.md."""
    about = (f"{textwrap.fill(each, 120, break_on_hyphens=False, break_long_words=False)}\n" for each in ABOUT)
    return "\n".join([INTRODUCTION, *about, *_sections()])


def _sections() -> Iterator[str]:
    yield "## Which queue: every command\n"
    yield from _table((*HEADS, "what it is"), ([*_cells(row), row.help] for row in (DATABASE_URL, SCHEMA)))
    yield "## A worker: `run` and `check-config`\n"
    yield from _table(
        (*HEADS, "reload", "what it is"),
        ([*_cells(row), "yes" if row.live else "", row.help] for row in SETTINGS.values()),
    )
    yield "## The audit record: commands of people\n"
    yield f"{OF_PEOPLE}\n"
    yield from _table((*HEADS, "what it is"), ([*_cells(row), row.help] for row in OF_COMMANDS))
    yield FAULTS
    yield "## Variables without a flag\n"
    yield from _table(
        ("variable", "example", "what it is"),
        _without_flag(WITHOUT_FLAG),
    )
    yield "## The database, for libpq\n"
    yield "libpq reads these and more, as for psql.\n"
    yield from _table(
        ("variable", "example", "what it is"),
        _without_flag(LIBPQ),
    )


def _without_flag(told: Mapping[str, tuple[str, str]]) -> Iterator[list[str]]:
    return ([f"`{name}`", f"`{example}`", text] for name, (text, example) in told.items())


def _cells(row: Setting) -> list[str]:
    return [f"`{row.flag}`", f"`{row.variable}`", takes(row), unless_set(row), f"`{row.example}`"]


def _table(head: tuple[str, ...], rows: Iterable[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def env_file() -> str:
    """debian/worker.env."""
    lines = [f"# {line}" for line in HEAD.splitlines()]
    lines += ["", "# The database."]
    lines += (f"#{name}={LIBPQ[name][1]}" for name in OF_A_HOST)
    for row in (DATABASE_URL, SCHEMA, *SETTINGS.values(), *OF_COMMANDS):
        reload = " A reload takes it over." if row.live else ""
        default = f" Default: {unless_set(row)}." if unless_set(row) else ""
        told = f"{row.help} Value: {takes(row)}.{default}{reload}".replace("`", "")
        lines += ["", *(f"# {line}" for line in textwrap.wrap(told, 118, break_on_hyphens=False))]
        if row.flag == "--metrics":
            lines += ["# Name a port in the file of one unit: two workers cannot share it."]
        lines.append(f"#{row.variable}={row.default or row.example or 'yes'}")
        if row.flag == "--handlers":
            lines += ["# The directory of that module:", "#PYTHONPATH=/srv/myforge"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
    ENV_FILE.write_text(env_file())
