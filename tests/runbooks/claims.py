"""The static layer: it compares what a page says with the facts of a product. It starts no process of the product.

Each check yields the faults of one page. Some claims about leases and seconds no check can see. A page states them in a
comment, as in `<!-- claim late=refused grace=25 -->`, and the probes at the end ask the product's own database.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click
import psycopg
from conftest import Database
from page import Page
from products import Product, is_exception
from promql import metrics_of

from shithubd_worker.cli.as_whom import RUN_AS
from shithubd_worker.cli.common import GroupWithDefault
from shithubd_worker.cli.needs import ADMIN, MIGRATE, NEEDS


class Fault(NamedTuple):
    """What is false, and the line of the page that says it."""

    line: int
    text: str


Check = Callable[[Page, Product, Database], Iterator[Fault]]

ANY = "1"  # in place of a placeholder, where only the form counts
BEFORE_A_COMMAND = {"--", "do", "then", "else", "if", "while", "until", "!", "sudo"}
BETWEEN_COMMANDS = set("();<>|&\n")
UNIT = re.compile(
    r"(?:systemctl|journalctl -u)\b[^\n`]*|\bshithub[\w-]*(?:@[\w*-]*)?\.(?:service|target|slice|timer)\b"
)
PATH = re.compile(r"/(?:etc|run|var/lib|usr)/[\w./@-]+\w")
# Settings that PgBouncer takes in tests/poolers.py: it refuses to start with one that it doesn't know.
OF_PGBOUNCER = {"default_pool_size", "pool_mode"}
STATEMENT = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b")
# Properties of a unit that show its state, not what its file says.
OF_THE_MOMENT = {"ExecMainStatus", "NRestarts", "SubState", "ActiveState", "Result", "StatusText", "MainPID"}
KIND = re.compile(r"(?:\bkind(?: =|=)? ?['`]?|(?:pause|resume)-kind |enqueue |--kind )(\w+[.:]\w+)(?!\w*=)")
CLAIM = re.compile(r"<!-- claim (.*?) -->")


def found(pattern: str | re.Pattern[str], text: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Each match, with its line, counted from 1."""
    for match in re.finditer(pattern, text):
        yield text.count("\n", 0, match.start()) + 1, match


def quoted(page: Page) -> Iterator[tuple[int, str]]:
    """Each text in backquotes, with its line."""
    for line, match in found(r"`([^`\n]+)`", page.prose):
        yield line, match[1]


# Commands, and statements of SQL.


def commands(text: str) -> Iterator[list[str]]:
    """The words of each call of shithubd-worker in shell text, without its name."""
    joined = re.sub(r"^\s*#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(re.sub(r"<[a-z-]+>", ANY, joined), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    call: list[str] | None = None
    before = ";"
    for word in [*lexer, ";"]:
        if set(word) <= BETWEEN_COMMANDS:
            if call is not None:
                yield call
            call = None
        elif call is not None:
            call.append(word)
        elif word == "shithubd-worker" and (before in BEFORE_A_COMMAND or set(before) <= BETWEEN_COMMANDS):
            call = []
        before = word


def check_command(program: click.Group, words: list[str]) -> None:
    """Raises click.UsageError for a command, an option or an argument that doesn't exist."""
    command: click.Command = program
    context = click.Context(program, info_name="shithubd-worker", **program.context_settings)
    while isinstance(command, click.Group):
        name, words = (*words, "")[0], words[1:]
        if any(name in option.opts for option in command.params):
            return  # as in `shithubd-worker --version`
        known = command.get_command(context, name)
        if known is None and isinstance(command, GroupWithDefault):
            known, words = command.commands[command.default], [word for word in (name, *words) if word]
        if known is None:
            raise click.UsageError(f"there is no command {name!r}")
        command = known
        context = click.Context(command, parent=context, info_name=name)
    with command.make_context(command.name, words, parent=context.parent):
        pass


def commands_and_flags(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """Every command and every flag exists."""
    calls = [(block.line, block.text) for block in page.blocks if block.language == "sh"]
    calls += [(line, text) for line, text in quoted(page) if text.startswith("shithubd-worker ")]
    for line, text in calls:
        for words in commands(text.replace("…", "")):
            given = [re.sub(r"\$\([^)]*\)", ANY, word) for word in words]
            try:
                if product.program is None:
                    raise click.UsageError("there is no such program")
                check_command(product.program, given)
            except click.ClickException as error:
                yield Fault(line, f"shithubd-worker {' '.join(words)}: {error.format_message()}")


def who_types_it(page: Page, _: Product, __: Database) -> Iterator[Fault]:
    """Root is an operator, so no page lets root type what only the tables' owner or a worker may do. One exception: on
    a page that tells the host to go on as the owner, root may type the owner's commands."""
    others = {"shithub_worker"} if f"{RUN_AS}={ADMIN}" in page.text else {"shithub_worker", MIGRATE}
    theirs = "|".join(name for name, role in NEEDS.items() if role in others)
    typed = rf"(?<!runuser -u {ADMIN} -- )(?<!/)\bshithubd-worker (?:{theirs})\b(?! --unit)"
    texts = [
        (block.line, block.text)
        for block in page.blocks
        if block.language == "sh" and "as" not in block.options and block.options.get("rc") != "77"
    ]
    for line, text in (*texts, *quoted(page)):
        yield from (Fault(line, f"root may not: {match[0]}") for _, match in found(typed, text))


def statements(page: Page) -> Iterator[tuple[int, str]]:
    """Each statement of SQL: of a block of its own, of a call of psql, and in backquotes."""
    texts = [(block.line, block.text) for block in page.blocks if block.language == "sql"]
    for block in page.blocks:
        if block.language == "sh":
            texts += [(block.line + line - 1, match[1]) for line, match in found(r'psql [^"]*-c "([^"]*)"', block.text)]
    texts += quoted(page)
    for line, text in texts:
        yield from ((line, each.strip()) for each in text.split(";") if STATEMENT.match(each) and "…" not in each)


def sql(page: Page, product: Product, database: Database) -> Iterator[Fault]:
    """The schema understands every statement."""
    with database.connect() as connection:
        for line, text in statements(page):
            try:
                connection.execute("DEALLOCATE ALL", prepare=False)
                connection.execute(f"PREPARE statement AS {re.sub(r'<[a-z-]+>', ANY, text)}")  # type: ignore[arg-type]
            except psycopg.Error as error:
                yield Fault(line, f"{text}: {error.diag.message_primary}")


def values(page: Page, product: Product, database: Database) -> Iterator[Fault]:
    """A page compares a column only with states, outcomes and scopes that the column can have."""
    rows = database.query("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c'")
    for line, match in found(r"(?<![\w.])(state|outcome|scope) ?= ?'(\w+)'", page.text):
        if not any(match[1] in check and f"'{match[2]}'" in check for (check,) in rows):
            yield Fault(line, f"no {match[1]} is ever {match[2]!r}")


# Names.


def units_and_paths(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """The product ships or reads every unit, drop-in, and path below /etc/shithub or /run/shithub*."""
    for line, match in found(UNIT, page.text):
        for name in re.findall(r"(?<![/\w])shithub[\w@*.-]*", match[0]):
            unit = re.sub(r"@[\w-]+", "@", name if "." in name else f"{name}.service")
            if not fnmatch.filter(product.units, unit):
                yield Fault(line, f"there is no unit {name}")
    for line, match in found(r"drop-in `([\w.-]+)`", page.text):
        if match[1] not in product.units:
            yield Fault(line, f"there is no drop-in {match[1]}")
    for line, match in found(PATH, page.text):
        place = match[0]
        known = re.sub(r"shithubd-worker(@\w*)?\.env", "%N.env", place) in product.files
        if place.startswith(("/etc/shithub/", "/run/shithub")) and not known:
            yield Fault(line, f"nothing reads {place}")


def kinds(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """Every kind has a handler, unless the page is about a kind without one."""
    strangers = {given["kind"] for block in page.blocks for name, given in block.scenes if name == "unhandled"}
    for line, match in found(KIND, page.text):
        if match[1] not in product.kinds | strangers:
            yield Fault(line, f"no handler is registered for kind {match[1]}")


def words(page: Page, product: Product, database: Database) -> Iterator[Fault]:
    """A name with an underscore, in backquotes, is a name of the database or its server, the pooler or the handlers'
    registry, or a metric."""
    columns = database.query("SELECT table_name, column_name FROM information_schema.columns")
    others = database.query(
        "SELECT name FROM pg_settings UNION SELECT proname FROM pg_proc UNION SELECT rolname FROM pg_roles"
    )
    known = {name for row in (*columns, *others) for name in row} | OF_PGBOUNCER
    for line, text in quoted(page):
        if re.fullmatch(r"[a-z]+(_[a-z]+)+", text) and text not in known | product.words | product.metrics:
            yield Fault(line, f"nothing is called {text}")


def metrics(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """A worker exports every metric."""
    named = [(line, match[0]) for line, match in found(r"\bshithub(?:d|_worker)_[a-z_]+", page.text)]
    named += [(b.line, name) for b in page.blocks if b.language == "promql" for name in metrics_of(b.text)]
    for line, name in named:
        if name not in product.metrics:
            yield Fault(line, f"no worker exports {name}")


def alerts(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """The rules have every alert."""
    for line, match in found(r"\balert `(\w+)`", page.prose):
        if match[1] not in product.alerts:
            yield Fault(line, f"no rule has the alert {match[1]}")


def variables(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """A command reads every variable."""
    for line, match in found(r"_?SHITHUBD_WORKER_[A-Z_]+", page.text):
        if match[0] not in product.variables:
            yield Fault(line, f"nothing reads {match[0]}")


# What the unit says, and how commands end.


def plain(name: str, value: str) -> tuple[str, str]:
    """A directive in one form (seconds, bytes), as a unit file or as `systemctl show` writes it."""
    if name.endswith("Sec"):
        return name.replace("USec", "Sec"), re.sub(r"^(\d+)(?:s|sec)?$", r"\1", value)
    if size := re.fullmatch(r"(\d+)([KMG])", value):
        return name, str(int(size[1]) * 1024 ** ("KMG".index(size[2]) + 1))
    return name, value


def directives(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """The unit has every directive that the page names, with the same value."""
    known = {plain(name, value) for name, values in product.directives.items() for value in values}
    names = {name for name, _ in known}
    for line, match in found(r"(?:(?<=\n)|(?<=`))([A-Z][a-z]\w+)=([^`\n]+)", page.text):
        name, value = plain(match[1], match[2])
        if name not in OF_THE_MOMENT and (name, value) not in known:
            said = [each_value for each_name, each_value in known if each_name == name]
            yield Fault(line, f"{match[0]}: the unit says {' and '.join(said) or 'nothing of it'}")
    for line, text in quoted(page):
        camel = re.fullmatch(r"([A-Z][a-z]+){2,}", text)
        if camel and text not in names | product.alerts and not is_exception(text):
            yield Fault(line, f"neither the unit nor the rules have {text}")


def exit_codes(page: Page, product: Product, _: Database) -> Iterator[Fault]:
    """A command or a worker ends with every exit code, and the paragraph has a word of its meaning."""
    for line, match in found(r"\b(?:exit code|status=)\s?(\d+)(?!/|\w)", re.sub("Exit code", "exit code", page.prose)):
        meaning = product.exit_codes.get(int(match[1]))
        start = page.prose.rfind("\n\n", 0, match.start())
        end = page.prose.find("\n\n", match.end())
        if meaning is None:
            yield Fault(line, f"nothing ends with {match[1]}")
        elif not re.search(meaning, page.prose[max(start, 0) : end if end > 0 else None], re.IGNORECASE):
            yield Fault(line, f"{match[1]} means {meaning}, but this paragraph does not say so")


# Questions that only the database can answer.


class Scene:
    """One job, and two workers that handle its kind."""

    def __init__(self, product: Product, database: Database) -> None:
        self._product, self._database = product, database
        self.do(product.empty)
        self.do("INSERT INTO jobs (kind) VALUES ('search.reindex')")
        self.one, self.other = product.hire(database), product.hire(database)

    def do(self, statement: str) -> None:
        """Run one statement."""
        self._database.query(statement)

    def age(self, seconds: int) -> None:
        """Make all leases older."""
        self.do(self._product.age.format(seconds))

    def close(self) -> None:
        """Close both workers."""
        self.one.close()
        self.other.close()


def _expired(scene: Scene) -> str:
    """What happens to a job whose lease has ended?"""
    scene.one.lease(300)
    scene.age(400)
    return "again" if scene.other.lease(300) is not None else "left"


def _late(scene: Scene) -> str:
    """What happens to the result of a worker that has lost its lease?"""
    lease = scene.one.lease(300)
    scene.age(400)
    scene.other.lease(300)
    return "written" if scene.one.finish(lease) else "refused"


def _timeout(scene: Scene) -> str:
    """Does a lease end when its kind says?"""
    scene.one.lease(60)
    scene.age(120)
    return "per-kind" if scene.other.lease(60) is not None else "one-for-all"


def _held(statement: str) -> Callable[[Scene], str]:
    """What happens to a waiting job after this statement of an operator?"""

    def probe(scene: Scene) -> str:
        try:
            scene.do(statement)
        except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
            return "impossible"
        return "waits" if scene.one.lease(300) is None else "leased"

    return probe


def _unit(scene: Scene) -> str:
    """Two hosts have a unit of the same name. Whose workers does a drain of that unit hold?"""
    scene.do("UPDATE workers SET host = id::text, unit = 'shithubd-worker.service'")
    scene.do("SELECT drain_v1('unit', 'shithubd-worker.service')")
    leased = [worker.lease(300) for worker in (scene.one, scene.other)]
    return "all-hosts" if leased == [None, None] else "one-host"


PROBES = {
    "expired": _expired,
    "late": _late,
    "timeout": _timeout,
    "marked": _held("UPDATE jobs SET state = 'paused' WHERE state = 'queued' AND kind = 'search.reindex'"),
    "paused": _held("SELECT pause_kind_v1('search.reindex')"),
    "drained": _held("SELECT drain_v1()"),
    "unit": _unit,
}


def answer_to(name: str, product: Product, database: Database) -> str:
    """The truth. Raises KeyError for a claim that is neither a figure nor a question to the database."""
    if name in product.figures:
        return product.figures[name]
    probe = PROBES[name]
    scene = Scene(product, database)
    try:
        return probe(scene)
    finally:
        scene.close()


def claims(page: Page, product: Product, database: Database) -> Iterator[Fault]:
    """What the page claims about leases and seconds is true."""
    for line, match in found(CLAIM, page.text):
        for name, claimed in (word.split("=", 1) for word in match[1].split()):
            if (answer := answer_to(name, product, database)) != claimed:
                yield Fault(line, f"{name} is {answer}, not {claimed}")


CHECKS: tuple[Check, ...] = (
    commands_and_flags,
    who_types_it,
    sql,
    values,
    units_and_paths,
    kinds,
    words,
    metrics,
    alerts,
    variables,
    directives,
    exit_codes,
    claims,
)
