"""docs/commands.md: `make pages` writes it from the commands; a test compares it, and another one runs its examples."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby

import settings_pages
from command_tree import ROOT, TOP, Command, Flag, Verbatim, all_commands

from shithubd_worker.cli import host_env, needs
from shithubd_worker.settings import host_files

PAGE = settings_pages.ROOT / "docs/commands.md"
# Options that many commands share, and that the page explains once.
SHARED = ("--timeout", "--reason", "--json", "--database-url", "--schema", "--help", "--version")
# Why an example isn't run by the tests: the first text that it has counts.
NOT_RUN = {
    "run --kind": "it runs until you stop it",
    "--watch": "it runs until you stop it",
    "worker top": "it needs a terminal",
    "runuser": "it needs root on a host of workers",
    "systemctl": "it needs systemd",
    "config --unit": "it needs systemd",
    "units ": "it needs systemd",
    "| jq": "it needs jq",
    "worker doctor": "no worker works here, so it exits with 3",
    "drain --host web1": "no worker of this host is known here",
    "drain --worker": "this worker is not here",
    "jobs release": "no worker has died here",
    "apply 12-": "there is no such plan here",
}

USUAL = {flag.name: flag for command in (ROOT, *all_commands()) for flag in command.flags}

INTRODUCTION = """\
# Commands

`make pages` writes this page from the help texts of the program, and a test compares them. `shithubd-worker COMMAND
--help` and `man shithubd-worker-COMMAND` show the same. The tests run the examples in the order of this page.
"""
SHARE = """\
The examples find four failed jobs:

```sh
psql --quiet --command "INSERT INTO jobs (id, kind, state) VALUES
    (41, 'mail.send', 'failed'), (42, 'webhook.deliver', 'failed'),
    (43, 'webhook.deliver', 'failed'), (44, 'webhook.deliver', 'failed')"
```

## What all commands share

A command prints data on stdout, and progress and errors on stderr. It asks a question only on a terminal:
`jobs` with a selection, and `cleanup` before it discards failed jobs.

Each command with the option `--reason` writes a row into the table `audit` for each change: who, what, when and why.
If root runs it by `sudo`, the row names the user who typed it.

### Values

| value | what it means | example |
|---|---|---|
| `DURATION` | seconds, or a number with the unit `s`, `m`, `h` or `d`; at most 100 years | `90`, `1.5h`, `2d` |
| `TIME` | a date and a time in ISO 8601; in UTC, if it names no zone | `2026-11-22T18:00:00Z` |
| `KIND` | the name of a kind: 1 to 200 printable characters | `search.reindex` |
| `ID` | the number of a job | `42` |
| `NUMBER` | a whole number, within the limits of its option | `20` |
| `NAME` | the name of a host, a unit, a worker or a schema, as the option says | `web1` |

### Options of many commands
"""
DATABASE = """\
### Which database

The first of these that names a database counts:

1. `--database-url`. It can stand before or behind the name of the command; the second one wins.
2. One of the variables {naming}.
3. The files of this host, below. So on a host of workers you need no flag.

| commands | settings | passwords |
|---|---|---|
"""
MANUAL = """\
### Manual pages

The Debian package and the wheel bring a manual page for each command. `man shithubd-worker drain` shows the page
shithubd-worker-drain. `man shithubd-worker.env` shows the settings.

With the Debian package, `man` finds the pages at once. A virtual environment has them in its own `share/man`. `man`
looks there if `PATH` names the `bin` of the environment:

<!-- not run: it needs the virtual environment of a host -->
```sh
PATH=/opt/shithubd-worker/bin:$PATH man shithubd-worker
```

A link from `/usr/bin` into the environment is not enough: `man` does not follow it. This line tells `man` of the
pages, for all users of the host:

<!-- not run: it needs root on a host of workers -->
```sh
echo 'MANDATORY_MANPATH /opt/shithubd-worker/share/man' >> /etc/manpath.config
```

### Shell completion

The Debian package brings completion for bash, zsh and fish. It completes commands and options, and the names of
kinds, hosts, units, workers and runbooks. Without the package, write one line into a file that your shell reads at its
start.

bash, `~/.bashrc`:

```sh
eval "$(_SHITHUBD_WORKER_COMPLETE=bash_source shithubd-worker)"
```

zsh, `~/.zshrc`, below `compinit`:

<!-- not run: it needs zsh -->
```sh
eval "$(_SHITHUBD_WORKER_COMPLETE=zsh_source shithubd-worker)"
```

fish, `~/.config/fish/config.fish`:

<!-- not run: it needs fish -->
```sh
_SHITHUBD_WORKER_COMPLETE=fish_source shithubd-worker | source
```

The names come from the database. If it does not answer within 2 s, the shell offers no names.

### Exit codes

[exit-codes.md](exit-codes.md) has all details. Each command below names only the codes that mean something special
there.
"""


def page() -> str:
    """The page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    yield from _contents()
    yield SHARE
    yield from _flags(_usual(USUAL[name]) for name in SHARED)
    yield DATABASE.replace("{naming}", ", ".join(f"`{name}`" for name in host_env.NAMING)).rstrip("\n")
    for login in host_files.LOGINS:
        env_files, passfiles = ([f"`{path}`" for path in paths] for paths in host_files.read_by(login))
        names = [f"`{each.name}`" for each in TOP if _login(each) == login]
        yield f"| {', '.join(names)} | {', '.join(env_files)} | {', '.join(passfiles)} |"
    yield ""
    yield "If several files of settings name a variable, the last one wins. Of several passfiles, the first one counts"
    yield "that you may read.\n"
    yield MANUAL
    yield from _exits(ROOT)
    for command in TOP:
        yield from _command(command, "##")
        for each in command.subcommands:
            yield from _command(each, "###")


def _contents() -> Iterator[str]:
    """All commands, with a link to each."""
    yield "| `shithubd-worker` | what it does |"
    yield "|---|---|"
    for command in (each for top in TOP for each in (top.subcommands or (top,))):
        yield f"| [{command.name}](#{command.typed.replace(' ', '-')}) | {_marked(command.told.summary)} |"
    yield ""


def _login(command: Command) -> str:
    """As whom it logs in; empty for a command that doesn't."""
    return needs.login(needs.role(command.words)) if command.asks_the_database else ""


def _usual(flag: Flag) -> Flag:
    """What a shared option is everywhere; how it differs stands with each command."""
    if flag.spelled == "--timeout":
        return flag._replace(default="see each command")
    return flag


def _command(command: Command, level: str) -> Iterator[str]:
    yield f"{level} `{command.typed}`\n"
    usage = f"{command.typed} [OPTIONS] {command.arguments}".strip()
    yield f"`{usage}`\n"
    yield from _wrapped(command.told.summary)
    for part in command.told.body:
        if isinstance(part, Verbatim):
            yield from _wrapped(part.above) if part.above else ()
            yield from (f"    {line}" for line in part.lines)
            yield ""
        else:
            yield from _wrapped(part)
    if command.subcommands:
        return
    own = [flag for flag in command.flags if flag.name not in SHARED or flag.text != USUAL[flag.name].text]
    if command.name == "check-config":
        yield "It has the options of `run`, and this one:\n"
        own = [flag for flag in own if flag.spelled == "--unit"]
    if own:
        yield from _flags(own)
    yield from _wrapped(_also(command))
    if command.told.exits:
        yield from _exits(command)
    yield from _examples(command)


def _also(command: Command) -> str:
    """Which of the shared options it has."""
    shared = []
    for flag in command.flags:
        if flag.name in SHARED and flag.name != "--help" and flag.text == USUAL[flag.name].text:
            shared.append(f"`{flag.name}`" + (f" (default: {flag.default})" if flag.name == "--timeout" else ""))
    return f"[Options of many commands](#options-of-many-commands): {', '.join(shared)}." if shared else ""


def _flags(flags: Iterable[Flag]) -> Iterator[str]:
    yield "| option | value | default | variable | what it does |"
    yield "|---|---|---|---|---|"
    for flag in flags:
        metavar = f" {flag.metavar}" if flag.metavar else ""
        variable = f"`{flag.variable}`" if flag.variable else ""
        value = flag.value or "none: a switch"
        default = flag.default or ("none" if flag.value else "")
        cells = (f"`{flag.spelled}{metavar}`", value, default, variable, _marked(flag.text))
        yield f"| {' | '.join(each.replace('|', chr(92) + '|') for each in cells)} |"
    yield ""


def _exits(command: Command) -> Iterator[str]:
    yield "| exit code | when |"
    yield "|---|---|"
    for number, text in command.told.exits:
        yield f"| {number} | {_marked(text)} |"
    yield ""


def _examples(command: Command) -> Iterator[str]:
    for each in command.told.examples:
        if "in a unit" in each.above:
            yield from ("In a unit:", "", "```ini", *each.lines, "```", "")
            continue
        for reason, lines in groupby(each.lines, _not_run):
            if reason:
                yield f"<!-- not run: {reason} -->"
            yield from ("```sh", *lines, "```", "")


def _not_run(line: str) -> str:
    return next((reason for text, reason in NOT_RUN.items() if text in line), "")


def _wrapped(text: str) -> Iterator[str]:
    yield textwrap.fill(_marked(text), 120, break_on_hyphens=False, break_long_words=False)
    yield ""


def _marked(text: str) -> str:
    """With the flags that it names as code."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = (re.sub(r"(?<![\w-])--[a-z][a-z-]*", r"`\g<0>`", part) for part in parts[::2])
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
