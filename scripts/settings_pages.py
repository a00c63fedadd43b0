"""docs/settings.md and debian/worker.env: `make settings` writes both from the table of settings; a test compares."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from shithubd_worker.settings.config import DATABASE_URL, SCHEMA, SETTINGS
from shithubd_worker.settings.names import WITHOUT_FLAG
from shithubd_worker.settings.table import Setting

ROOT = Path(__file__).parents[1]
PAGE, ENV_FILE = ROOT / "docs/settings.md", ROOT / "debian/worker.env"

# What libpq reads that matters here: what it is for, and an example.
LIBPQ = {
    "PGHOST": ("The server: the directory of its socket, or its name.", "/run/postgresql"),
    "PGHOSTADDR": ("The server's address, in place of a look-up of its name.", "192.0.2.1"),
    "PGPORT": ("The server's port.", "5432"),
    "PGDATABASE": ("The database.", "shithub"),
    "PGUSER": ("As whom to log in.", "shithub"),
    "PGSERVICE": ("A section of libpq's service file, in place of all the above.", "shithub"),
    "PGSSLMODE": ("How much TLS to ask for; with `verify-full` the server's name is checked, too.", "verify-full"),
    "PGSSLROOTCERT": ("The certificates to trust then.", "/etc/ssl/certs/ca-certificates.crt"),
    "PGPASSFILE": ("The file of passwords. The units set it to their copy of /etc/shithub/pgpass.", ""),
}
# Those that a host's file names; the others are for a host that knows why.
OF_A_HOST = ("PGHOST", "PGUSER", "PGDATABASE")

INTRODUCTION = """\
# Settings

`make settings` writes this page, and `/etc/shithub/worker.env` of the Debian package, from the table that the program
itself reads (`shithubd_worker/settings/config.py`); a test compares them.

Each flag of `run` and `check-config` has a variable: `--poll-interval` is `SHITHUBD_WORKER_POLL_INTERVAL`. A flag wins
over its variable. A variable that is empty counts as not set. Those that are read for a unit stand in
`/etc/shithub/worker.env` (all units of the host) and in `/etc/shithub/<unit name>.env` (one unit, which wins).

`shithubd-worker check-config` tells all faults at once, `check-config --unit UNIT` with the file and the line of each.
A variable that begins as these do and is none of them is a fault. `systemctl reload` has a running worker take over
what stands here with "yes" under "reload"; the rest takes a restart.
"""
HEAD = """\
What all workers of this host read; /etc/shithub/<unit name>.env is for one of them. Remove the # to set a
variable. The value that is shown is the default, or an example.
`shithubd-worker check-config --unit shithubd-worker` finds faults, `systemctl reload` refuses them.
A password goes into /etc/shithub/pgpass, never in here.
As whom people's commands log in: PGUSER= in operator.env; as whom migrate and history drop: in owner.env. There also,
for a database that knows users by their names: SHITHUBD_WORKER_RUN_AS=, the user that a command of root's becomes.
"""


def takes(row: Setting) -> str:
    """What the values of a setting may be."""
    if row.switch:
        return "yes or no"
    if row.choices:
        return ", ".join(f"`{each}`" for each in row.choices)
    if row.metavar == "SECONDS":
        return f"seconds, {row.least:g} to {row.most:g}"
    several = "; a variable has several of them separated by spaces" if row.repeatable else ""
    return f"`{row.metavar}`{several}".replace("|", "` or `")


def unless_set(row: Setting) -> str:
    """What counts if nobody sets it."""
    return f"`{row.default}`" if row.default else row.unset or ("no" if row.switch else "")


def page() -> str:
    """docs/settings.md."""
    return "\n".join([INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    yield "## Which queue: every command\n"
    yield from _table(("flag", "variable", "value", "default", "what it is"), map(_cells, (DATABASE_URL, SCHEMA)))
    yield "## A worker: `run` and `check-config`\n"
    yield from _table(
        ("flag", "variable", "value", "default", "reload", "what it is"),
        ([*_cells(row)[:-1], "yes" if row.live else "", row.help] for row in SETTINGS.values()),
    )
    yield "## Variables without a flag\n"
    yield from _table(("variable", "what it is"), ([f"`{name}`", text] for name, text in WITHOUT_FLAG.items()))
    yield "## The database, for libpq\n"
    yield "These and all others that libpq knows, as for psql.\n"
    yield from _table(
        ("variable", "what it is", "example"),
        ([f"`{name}`", text, f"`{example}`" if example else ""] for name, (text, example) in LIBPQ.items()),
    )


def _cells(row: Setting) -> list[str]:
    return [f"`{row.flag}`", f"`{row.variable}`", takes(row), unless_set(row), row.help]


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
    for row in (DATABASE_URL, SCHEMA, *SETTINGS.values()):
        reload = " A reload takes it over." if row.live else ""
        default = f" Default: {unless_set(row)}." if unless_set(row) else ""
        told = f"{row.help} Value: {takes(row)}.{default}{reload}".replace("`", "")
        lines += ["", *(f"# {line}" for line in textwrap.wrap(told, 118, break_on_hyphens=False))]
        if row.flag == "--metrics":
            lines += [
                "# A port that is named must be free, so name it in the file of one unit. If none is named, and the"
            ]
            lines += ["# default is not free, a worker takes another one."]
        lines.append(f"#{row.variable}={row.default or row.example or 'yes'}")
        if row.flag == "--handlers":
            lines += ["# And where their module is:", "#PYTHONPATH=/srv/myforge"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
    ENV_FILE.write_text(env_file())
