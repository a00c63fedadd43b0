"""The manual pages in man/: written from the commands and the table of settings by `make pages`; a test compares them.

click-man was tried: it leaves click's \\b in the pages, escapes nothing, joins the lines of a list, cuts the NAME, and
knows neither EXIT STATUS nor FILES.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import settings_pages
from command_tree import PROGRAM, ROOT, TOP, Command, Flag, Verbatim

from shithubd_worker import __version__
from shithubd_worker.cli import needs
from shithubd_worker.host import units
from shithubd_worker.settings import host_files
from shithubd_worker.settings.config import DATABASE_URL, OF_COMMANDS, SCHEMA, SETTINGS
from shithubd_worker.settings.names import WITHOUT_FLAG
from shithubd_worker.settings.table import Setting

MAN = settings_pages.ROOT / "man"
SETTINGS_PAGE = f"{PROGRAM}.env"
_FIRST_LINE = '.\\" Written by `make pages`. Change the help of the command, or the table of settings.'

# No wide gaps, and no hyphens of groff's in names.
_LEFT = ".ad l\n.nh"

# The files of a host, by name.
FILES = {
    "worker.env": "Settings of all workers of this host, and the database of this host.",
    "operator.env": "How people on call log in to the database: PGUSER, or SHITHUBD_WORKER_RUN_AS.",
    "owner.env": "How `migrate` and `history drop` log in to the database.",
    "pgpass": "Passwords, in the format of libpq's passfile.",
    "operator.pgpass": "Passwords of people on call; it wins over pgpass.",
    "owner.pgpass": "Passwords for `migrate` and `history drop`; it wins over pgpass.",
    "UNIT.env": "Settings of one unit; they win over those in worker.env.",
}


def told(text: str) -> str:
    """A paragraph: each sentence on a line of its own, code and flags in bold."""
    lines = re.split(r"(?<=[.!?]) ", text)
    return "\n".join(_from_its_first_letter(_marked(line)) for line in lines)


def code(text: str) -> str:
    """Text that can be copied to a shell: no letter is made prettier."""
    text = text.replace("\\", "\\e")
    for plain, safe in (("-", "\\-"), ("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti"), ('"', "\\(dq")):
        text = text.replace(plain, safe)
    return text


def bold(text: str) -> str:
    """Code that is typed as it is."""
    return f"\\fB{code(text)}\\fR"


def _marked(text: str) -> str:
    parts = re.split(r"`([^`]*)`|(?<![\w-])(--[a-z][a-z-]*)", text)
    return "".join(
        part.replace("\\", "\\e") if at % 3 == 0 else bold(part) for at, part in enumerate(parts) if part is not None
    )


def _from_its_first_letter(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _section(name: str, lines: Iterable[str], macro: str = "SH") -> Iterator[str]:
    if found := list(lines):
        yield f".{macro} {name}"
        yield from found[found[0] == ".PP" :]


def _item(head: str, *text: str) -> Iterator[str]:
    yield ".TP"
    yield head
    yield from (told(each) for each in text if each)


def _verbatim(lines: Iterable[str]) -> Iterator[str]:
    yield from (".RS 4", ".nf", *(_from_its_first_letter(code(line)) for line in lines), ".fi", ".RE")


def _body(command: Command) -> Iterator[str]:
    yield told(command.told.summary)
    for part in command.told.body:
        yield ".PP"
        if isinstance(part, Verbatim):
            yield from [told(part.above)] if part.above else []
            yield from _verbatim(part.lines)
        else:
            yield told(part)


def _options(flags: Iterable[Flag]) -> Iterator[str]:
    for flag in flags:
        metavar = f" \\fI{code(flag.metavar)}\\fR" if flag.metavar else ""
        yield from _item(bold(flag.spelled) + metavar, flag.text, _value(flag))


def _value(flag: Flag) -> str:
    value = "" if flag.value in (f"`{flag.metavar}`", "any text", "a name") else flag.value
    parts = (("Value", value), ("Default", flag.default), ("Variable", flag.variable and f"`{flag.variable}`"))
    return " ".join(f"{name}: {text}." for name, text in parts if text and text != "off")


def _examples(command: Command) -> Iterator[str]:
    for each in command.told.examples:
        yield from [] if each.above in ("Example:", "Examples:") else [".PP", told(each.above)]
        yield from _verbatim(each.lines)


def _exits(command: Command) -> Iterator[str]:
    for number, text in command.told.exits:
        yield from _item(bold(number), f"{text[0].upper()}{text[1:]}.")


def _files(command: Command) -> Iterator[str]:
    if command.name == "run":
        unit = host_files.of_unit("UNIT")
        paths = [*unit, host_files.PASSFILE]
    elif command is ROOT:
        paths = sorted({path for login in host_files.LOGINS for kind in host_files.read_by(login) for path in kind})
        paths.append(host_files.of_unit("UNIT")[-1])
    elif command.asks_the_database:
        env_files, passfiles = host_files.read_by(needs.login(needs.role(command.words)))
        paths = [*env_files, *passfiles]
    else:
        paths = []
    for path in paths:
        yield from _item(f"\\fI{code(str(path))}\\fR", FILES[path.name])
    if command.name == "units":
        yield from _item(
            f"\\fI{code(str(units.TARGET))}\\fR", "The units, in systemd/system, and what belongs to them."
        )
        yield from _item("\\fI/etc/systemd/system\\fR", "Your drop-ins: they win, and stay.")


def _environment(command: Command) -> Iterator[str]:
    if any(flag.variable for each in (command, *command.subcommands) for flag in each.flags):
        yield told("Where the text of an option names a variable, that variable can give the value. The flag wins.")
        yield f"{bold(SETTINGS_PAGE)}(5) has all that begin with SHITHUBD_WORKER_."
        yield from _item(
            "\\fBPGHOST\\fR, \\fBPGDATABASE\\fR and the like",
            "The variables of libpq name the database, as for psql. If no variable and no flag names it, the command"
            " reads the files above.",
        )


def _see_also(command: Command) -> Iterator[str]:
    """Its neighbours: those that its help names."""
    text = "".join(each.command.help or "" for each in (command, *command.subcommands))
    named = [
        each for each in TOP if re.search(rf"`({PROGRAM} )?{each.name}\b", text) and each.name not in command.words[:1]
    ]
    if command is ROOT:
        named = TOP
    pages = [*([f"{PROGRAM}(1)"] if command is not ROOT else []), *(f"{_page_name(each)}(1)" for each in named)]
    pages.append(f"{SETTINGS_PAGE}(5)")
    yield ",\n".join(f"{bold(name)}({number}" for name, number in (page.split("(") for page in pages))


def _page_name(command: Command) -> str:
    return "-".join((PROGRAM, *command.words))


def _synopsis(command: Command) -> Iterator[str]:
    lines = []
    for each in (command.subcommands if command is not ROOT else []) or [command]:
        arguments = f" \\fI{code(each.arguments)}\\fR" if each.arguments else ""
        lines.append(f"{bold(each.typed)} [\\fIoptions\\fR]{arguments}")
    yield "\n.br\n".join(lines)


def _parts(command: Command) -> Iterator[str]:
    """A page of a command: of a group with all that is below it."""
    summary = command.told.summary.rstrip(".")
    yield from _section("NAME", [f"{code(_page_name(command))} \\- {_marked(summary[0].lower() + summary[1:])}"])
    yield from _section("SYNOPSIS", _synopsis(command))
    yield from _section("DESCRIPTION", _body(command))
    if command is ROOT:
        about = (_item(f"{bold(_page_name(each))}(1)", each.told.summary) for each in TOP)
        yield from _section("COMMANDS", (line for item in about for line in item))
    below = command.subcommands if command is not ROOT else []
    shared = [flag for flag in below[0].flags if all(flag in each.flags for each in below)] if below[1:] else []
    for each in below:
        yield from _section(each.name.upper(), _body(each))
        own = _options(flag for flag in each.flags if flag not in shared)
        for name, lines in (("Options", own), ("Exit status", _exits(each)), ("Examples", _examples(each))):
            yield from _section(name, lines, "SS")
    if shared:
        yield from _section("OPTIONS", ["These options are the same for all of the commands above.", *_options(shared)])
    elif not below:
        yield from _section("OPTIONS", _options(command.flags))
    yield from _section("EXIT STATUS", [*_exits(command), *_other_exits(command)])
    yield from _section("EXAMPLES", _examples(command))
    yield from _section("FILES", _files(command))
    yield from _section("ENVIRONMENT", _environment(command))
    yield from _section("SEE ALSO", _see_also(command))


def _other_exits(command: Command) -> Iterator[str]:
    if command is not ROOT:
        yield ".PP"
        yield f"{bold(PROGRAM)}(1) has the other codes, which all commands share."


def _settings_parts() -> Iterator[str]:
    """The page of the settings."""
    yield from _section("NAME", [f"{code(SETTINGS_PAGE)} \\- settings of the workers and commands of {code(PROGRAM)}"])
    where = [f"\\fI{code(str(path))}\\fR" for path in host_files.of_unit("UNIT")]
    yield from _section("SYNOPSIS", ["\n.br\n".join(where)])
    yield from _section("DESCRIPTION", "\n.PP\n".join(told(each) for each in settings_pages.ABOUT).splitlines())
    yield from _section("WHICH QUEUE", _rows((DATABASE_URL, SCHEMA)))
    yield from _section("WORKERS", _rows(SETTINGS.values()))
    yield from _section("THE AUDIT RECORD", _rows(OF_COMMANDS))
    yield from _section("VARIABLES WITHOUT A FLAG", _variables(WITHOUT_FLAG))
    yield from _section("DATABASE", _variables(settings_pages.LIBPQ))
    shown = [f"{name}={settings_pages.LIBPQ[name][1]}" for name in settings_pages.OF_A_HOST]
    shown += [f"{row.variable}={row.example}" for row in SETTINGS.values() if row.example]
    yield from _section("EXAMPLES", _verbatim(shown))
    files = (_item(f"\\fI{code(str(host_files.ENV_FILE.with_name(name)))}\\fR", text) for name, text in FILES.items())
    yield from _section("FILES", (line for item in files for line in item))
    names = (f"{PROGRAM}(1", f"{PROGRAM}-run(1", f"{PROGRAM}-check-config(1", "systemd.exec(5")
    yield from _section("SEE ALSO", [",\n".join(f"{bold(n)}({number})" for n, number in (x.split("(") for x in names))])


def _variables(told_of: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for name, (text, example) in told_of.items():
        yield from _item(bold(name), text, f"Example: `{example}`.")


def _rows(rows: Iterable[Setting]) -> Iterator[str]:
    for row in rows:
        default = settings_pages.unless_set(row)
        facts = f"Flag: `{row.flag}`. Value: {settings_pages.takes(row)}." + (
            f" Default: {default}." if default else ""
        )
        yield from _item(bold(row.variable), row.help, facts, "A reload takes it over." if row.live else "")


def pages() -> dict[Path, str]:
    """All pages by their path below man/, without what they all begin with."""
    made = {Path(f"man1/{_page_name(each)}.1"): "\n".join(_parts(each)) for each in (ROOT, *TOP)}
    return {**made, Path(f"man5/{SETTINGS_PAGE}.5"): "\n".join(_settings_parts())}


def whole(path: Path, page: str, date: str) -> str:
    """The file of a page that was last changed on a date."""
    name, section = path.stem.upper(), path.suffix[1:]
    title = f'.TH {code(name)} {section} {date} "{PROGRAM} {__version__}" ""'
    return f"{_FIRST_LINE}\n{title}\n{_LEFT}\n{page}\n"


def date_of(file: str) -> str:
    """When it was last changed; empty for no page."""
    return match[1] if (match := re.search(r"^\.TH \S+ \d (\S+) ", file, re.MULTILINE)) else ""


def write() -> None:
    """Write each page that changed, and remove each whose command is gone."""
    made = pages()
    for path in MAN.glob("man*/*"):
        if path.relative_to(MAN) not in made:
            path.unlink()
    for path, page in made.items():
        file = MAN / path
        found = file.read_text() if file.exists() else ""
        if whole(path, page, date_of(found)) != found:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(whole(path, page, f"{datetime.now(UTC):%Y-%m-%d}"))


if __name__ == "__main__":
    write()
