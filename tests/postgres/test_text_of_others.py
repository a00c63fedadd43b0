"""No text in our tables, and no text given to a command, controls a terminal or forges a line.

The tables and columns come from the catalog, the commands and options from the command line. So a later one is tried,
too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from uuid import uuid4

import click
import psycopg
import pytest
from canaries import CANARY, CANARY_OF_A_KIND, check_plain, tame
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from test_odd_rows import APART, COMMANDS, MACHINE, STATES, USUAL, ask, tables, words

from shithubd_worker.cli import cli
from shithubd_worker.database.connection import connector
from shithubd_worker.telemetry.gauges import QueueCollector

ROWS = 6
FINISHED = 90  # the id of a job that is only in the history
SCOPES = ("kind", "host", "unit", "worker", "kind", "host")
# Texts that the commands are known to show. If one of these is missing, this test looks in the wrong place.
SHOWN = {
    *("jobs.kind", "jobs.leased_by", "jobs.last_error", "jobs.payload", "job_history.kind", "job_history.leased_by"),
    *("job_history.error", "job_history.payload", "workers.host", "workers.unit", "workers.kinds", "beats.state"),
    *("beats.job_kind", "holds.target", "holds.reason", "holds.actor", "search_repos.repo"),
    *("search_files.path", "search_files.content"),
}


def usual(table, number):
    """A row that the commands show."""
    row = {column: value.format(n=number + 1) for column, value in USUAL[table].items()}
    if table == "jobs":
        row["state"] = state = STATES[number % len(STATES)]
        if state == "processing":
            row |= {"leased_by": "h:1", "leased_at": "2000-01-01", "lease_token": str(uuid4())}
            row["worker_id"] = f"00000000-0000-0000-0000-0000000000{number + 1:02d}"
    if table == "job_history" and number == ROWS - 1:
        row["id"] = str(FINISHED)
    if table == "holds":
        row |= {"scope": SCOPES[number], "target": f"t{number}"}
    if table == "workers":
        row |= {"machine_id": MACHINE, "unit": "u"}
    return row


def candidates(table, column, kind, number, shape):
    """The values to try to store there, the worst first."""
    for canary in (CANARY, CANARY_OF_A_KIND):
        text = f"<{table}.{column} {number}>x {shape(canary)}"
        yield {"text": text, "text[]": [text], "jsonb": json.dumps({"x": text})}[kind]


def fill(connection, found, shape):
    """Rows with a canary in each column that can hold text. Returns those columns."""
    filled = set()
    connection.execute(f"TRUNCATE {', '.join(sorted(found.keys() - APART))} RESTART IDENTITY CASCADE")
    refer = {
        name for (name,) in connection.execute("SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'")
    }
    for table in sorted(
        found.keys() - APART, key=lambda name: (name in refer, name)
    ):  # search_repos before search_files
        of_text = {column: kind for column, kind in found[table].items() if kind in ("text", "text[]", "jsonb")}
        for number in range(1 if "only_row" in found[table] else ROWS):
            row = usual(table, number)
            values = ", ".join(["%s"] * len(row))
            (where,) = connection.execute(
                f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values}) RETURNING (tableoid, ctid)::text",
                list(row.values()),
            ).fetchone()
            for column, kind in of_text.items():
                for value in candidates(table, column, kind, number, shape):
                    try:
                        (where,) = connection.execute(
                            f"UPDATE {table} SET {column} = %s WHERE (tableoid, ctid)::text = %s"
                            " RETURNING (tableoid, ctid)::text",
                            (value, where),
                        ).fetchone()
                    except (psycopg.IntegrityError, psycopg.errors.GeneratedAlways):
                        continue
                    filled.add(f"{table}.{column}")
                    break
    return filled


def each_text(data):
    if isinstance(data, str):
        yield data
    elif isinstance(data, (list, dict)):
        for each in data.values() if isinstance(data, dict) else data:
            yield from each_text(each)


@pytest.fixture
def filled(any_database, monkeypatch):
    yield from prepared(any_database, monkeypatch)


@pytest.fixture
def filled_one(database, monkeypatch):
    yield from prepared(database, monkeypatch)


def prepared(database, monkeypatch):
    """A database, a connection to it, and its columns. The commands use this database."""
    monkeypatch.setenv("SHITHUBD_WORKER_DATABASE_URL", database.url)
    monkeypatch.setenv("COLUMNS", "50000")  # no line is folded: each line was begun by a command
    monkeypatch.setenv("SERVICE_RESULT", "success")
    database.query("ALTER TABLE beats DROP CONSTRAINT beats_worker_id_fkey")  # so that a row comes after `workers`
    with database.connect() as connection:
        yield database, connection, tables(database)


def given_to(name, command, connection, job):
    """The words of the command, with a kind, a host and an invocation that the rows have."""
    ((kind,),) = connection.execute("SELECT kind FROM jobs WHERE state = 'failed' LIMIT 1").fetchall() or [("k0",)]
    ((invocation,),) = connection.execute("SELECT invocation_id FROM workers LIMIT 1").fetchall() or [("i",)]
    told = {"k0": kind, "i1": invocation}
    return [told.get(word, word) for word in words(name, command, job)]


def run_all(monkeypatch, connection, jobs, *, as_json):
    """Each command with its output."""
    for name, command in COMMANDS.items():
        if as_json and not any(each.name == "as_json" for each in command.params):
            continue
        for job in jobs if any(each.name in ("job", "ids") for each in command.params) else [0]:
            given = given_to(name, command, connection, job)
            if as_json:
                given.insert(len(name.split()), "--json")
            yield name, job, *ask(monkeypatch, *given)


def lines_of(said):
    """The lines but those of a stack, which stand behind a margin, and the one that only a slow machine leads to."""
    return [line for line in said.split("\n") if not line.lstrip().startswith(("| ", "time is over: waiting jobs"))]


def test_no_text_in_any_column_controls_a_terminal_or_forges_a_line(filled, monkeypatch):
    _, connection, found = filled
    lines = []
    for shape in (str, tame):
        columns = fill(connection, found, shape)
        jobs = [job for (job,) in connection.execute("SELECT id FROM jobs ORDER BY id")]
        said = list(run_all(monkeypatch, connection, [*jobs, FINISHED, 99], as_json=False))
        for name, job, code, out, err in said:
            assert code in (0, 1, 3, 4, 5), (name, job, code, err)
            check_plain(out + err, (name, job))
        lines.append({(name, job): len(lines_of(out + err)) for name, job, _, out, err in said})
        seen = set(re.findall(r"<(\w+\.\w+) \d+>", "".join(out + err for _, _, _, out, err in said)))
        assert columns >= SHOWN
        assert seen >= SHOWN, SHOWN - seen
    assert lines[0] == lines[1]


def test_json_is_printable_and_gives_back_the_exact_text(filled, monkeypatch):
    _, connection, found = filled
    fill(connection, found, str)
    stored = {
        text
        for table in found.keys() - APART
        for row in connection.execute(f"SELECT to_jsonb(t) FROM {table} t")
        for text in each_text(row[0])
        if text.startswith("<")
    }
    jobs = [job for (job,) in connection.execute("SELECT id FROM jobs ORDER BY id")]
    told = set()
    for name, job, _, out, err in run_all(monkeypatch, connection, [*jobs, FINISHED, 99], as_json=True):
        check_plain(out + err, (name, job))
        assert out.isascii(), name
        told |= {text for text in each_text(json.loads(out) if out else None) if text.startswith("<")}
    told -= {text for text in told if text.startswith("<search_files")}  # a line of a file, as `search` shows it
    assert len(told) > ROWS * 5
    # <host>:<pid> is composed by us.
    assert {re.sub(r":\d+$", "", text) for text in told} <= stored


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_completion_is_a_name_that_a_shell_would_misread(filled_one, monkeypatch, shell):
    _, connection, found = filled_one
    fill(connection, found, str)
    for kind in ("plain.kind", "a b", "$(reboot)", "`x`", "--force", "x;reboot", "~root", "=ls", "'", "é"):
        connection.execute("INSERT INTO jobs (kind) VALUES (%s)", (kind,))
    connection.execute("UPDATE workers SET host = 'web1' WHERE pid = 1")
    monkeypatch.setenv("_SHITHUBD_WORKER_COMPLETE", f"{shell}_complete")
    offered = {}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            before = [*name.split(), *([] if isinstance(parameter, click.Argument) else [parameter.opts[-1]])]
            monkeypatch.setenv("COMP_WORDS", " ".join(["shithubd-worker", *before, ""]))
            monkeypatch.setenv("COMP_CWORD", "" if shell == "fish" else str(len(before) + 1))
            _, out, err = ask(monkeypatch)
            assert err == ""
            check_plain(out, before)
            assert not re.search(r"[$`;~='é]|reboot|--force", out), out
            offered[name, parameter.name] = out
    assert "plain.kind" in offered["pause-kind", "kind"]
    assert "web1" in offered["drain", "host"]
    assert "7" in offered["jobs show", "job"] or "3" in offered["jobs show", "job"]


def test_a_scrape_has_one_line_for_each_sample_and_the_exact_kind(filled):
    database, connection, found = filled
    fill(connection, found, str)
    kinds = [kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM leases_returned")]
    assert any("\n" in kind for kind in kinds)
    registry = CollectorRegistry()
    collector = QueueCollector(connector(database.url, "canaries"), "public", ["k0"])
    registry.register(collector)
    scraped = generate_latest(registry).decode()
    collector.close()
    for line in scraped.split("\n"):
        assert re.match(r"shithubd_\w+(\{| )|# (HELP|TYPE) |$", line), line
    returned = {
        sample.labels["kind"]
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if family.name == "shithubd_leases_returned"
    }
    assert returned >= set(kinds)


def every_command(group=cli, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        elif name != "run":  # as a process, below
            yield (*path, name), command


def base(command, path, directory, but=""):
    """The words without which the command would not read the others."""
    given = []
    for each in command.params:
        if each.name == but:
            continue
        if isinstance(each, click.Argument) and each.required:
            given.append("1")
        elif each.name == "dry_run":
            given.append("--dry-run")
        elif each.name == "root":
            given.append(f"--root={directory}")
    return [*path, *given]


def test_no_argument_or_variable_in_a_message_controls_a_terminal(database, monkeypatch, tmp_path):
    monkeypatch.setenv("SHITHUBD_WORKER_DATABASE_URL", database.url)
    monkeypatch.setenv("COLUMNS", "50000")

    def check(*given):
        code, out, err = ask(monkeypatch, *given)
        assert code in (0, 1, 2, 3, 4, 5, 75, 76, 78), (given, code, err)
        check_plain(out + err, given)

    check(CANARY)
    check(f"--{CANARY}")
    for path, command in every_command():
        check(*base(command, path, tmp_path), f"--{CANARY}")
        check(*base(command, path, tmp_path), *[CANARY] * 3)
        for each in command.params:
            others = base(command, path, tmp_path, but=each.name)
            if isinstance(each, click.Argument):
                check(*others, CANARY)
            elif not each.is_flag:
                check(*others, f"{each.opts[0]}={CANARY}")
                if each.envvar:
                    with monkeypatch.context() as patch:
                        patch.setenv(str(each.envvar), CANARY)
                        check(*others)


def test_no_message_about_a_configuration_or_a_fault_of_ours_controls_a_terminal(database):
    words = [word for name in ("handlers", "kind", "schema", "grace", "metrics") for word in (f"--{name}", CANARY)]
    environment = {**os.environ, "SHITHUBD_WORKER_DATABASE_URL": database.url}
    process = [sys.executable, "-m", "shithubd_worker", "run", *words]
    done = subprocess.run(process, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 78
    faults = done.stderr.decode()
    check_plain(faults, "run")
    assert len(faults.splitlines()) == len(
        [line for line in faults.splitlines() if line.startswith("shithubd-worker:")]
    )

    code = "import sys; from shithubd_worker import cli; cli.cli.main = lambda **_: {}[sys.argv[1]]; cli.main()"
    process = [sys.executable, "-c", code, CANARY]
    done = subprocess.run(process, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    check_plain(done.stderr.decode(), "a fault of ours")
    assert "KeyError" in done.stderr.decode()
