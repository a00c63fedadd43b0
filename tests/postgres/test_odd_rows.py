"""No value that an INSERT, an UPDATE or a clock can put into our tables breaks a command, a worker or a scrape.

The tables, columns and types come from the catalog, and the commands from the command line. So a later one is tried,
too, or the test says what it lacks.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from uuid import uuid4

import click
import pytest
from bare import BareWorker
from command_tree import leaves
from conftest import eventually
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from screens import check_views

from shithubd_worker.cli import _main
from shithubd_worker.database.connection import connector
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.impatient import ImpatientConnection
from shithubd_worker.host.identity import identify
from shithubd_worker.model import How, Outcome, Registration
from shithubd_worker.registry import Registry
from shithubd_worker.telemetry.gauges import QueueCollector

ROWS = 12  # rows of each table: more than any type has values
KINDS = ("k0", "k1")

TIMES = (
    "-infinity",
    "4714-11-24 00:00:00+00 BC",
    "0044-03-15 BC",
    "0001-01-01 00:00:00+00",
    "now",
    "tomorrow",
    "9999-12-31",
)
WORDS = (":", "h:1:2", "%s {}", "\x1b[31m[bold]", "ü" * 200, "a\nb", "7" * 400, "'; --", "\u202e", "infinity")
# What a column of each type can store within its constraints. None is SQL's NULL.
VALUES: dict[str, tuple[str | None, ...]] = {
    "timestamp with time zone": (*TIMES, "10000-01-01", "294276-12-31 23:59:59.999999+00", "infinity", None),
    "smallint": ("-32768", "-1", "0", "32767", None),
    "integer": ("-2147483648", "-1", "0", "2147483647", None),
    "bigint": ("-9223372036854775808", "-1", "0", "9223372036854775807", None),
    "double precision": ("NaN", "Infinity", "-Infinity", "-1", "0", "5e-324", "1.7e308", None),
    "boolean": ("true", "false", None),
    "text": ("", *WORDS, None),
    "uuid": ("00000000-0000-0000-0000-000000000000", str(uuid4()), None),
    "integer[]": ("{}", "{NULL}", "{10,NULL}", "{{10},{20}}", "[0:1]={10,20}", "{100,1}", "{0}", "{101}", None),
    "text[]": ("{}", "{NULL}", "{k0,NULL}", "{{k0,k1},{NULL,x}}", "[7:8]={k0,k0}", '{""}', None),
    "bigint[]": ("{}", "{NULL}", "{{1,2},{NULL,-9223372036854775808}}", "[7:7]={1}", None),
    "jsonb": (
        *("null", "{}", "[]", "7", '"x"', "[null]", '{"x": 1e400, "y": -1e400}', '{"x": ' + "9" * 5000 + "}"),
        '[{"kind": null, "part": "due", "jobs": "many"}]',
        '[{"kind": "k0", "part": "due", "jobs": 9223372036854775807, "oldest": "-infinity"}, {"kind": "k0", "part":'
        ' "later", "jobs": 9223372036854775807}]',
        '{"x": ' * 3000 + "{}" + "}" * 3000,
    ),
    "jsonb[]": (
        *("{}", "{NULL}", '{"7","[]"}', '{"{\\"state\\": 7, \\"payload\\": [], \\"id\\": \\"x\\"}"}'),
        *('{{"{}",NULL},{NULL,"{}"}}', None),
    ),
    "numrange": (None,),
    "inet": ("::/0", "255.255.255.255", None),
    "tsvector": ("", "'x':1", None),
}

# A row of each table, from which the odd rows are made. {n} is its number.
MACHINE = identify().machine_id
STATES = ("queued", "queued", "processing", "paused", "failed", "processing")
USUAL: dict[str, dict[str, str]] = {
    "jobs": {"kind": "k0"},
    "job_history": {
        **{"id": "{n}", "kind": "k0", "outcome": "ok", "attempts": "1", "finished_at": "now"},
        **{"retention": "7d"},
    },
    "workers": {
        **{"id": "00000000-0000-0000-0000-0000000000{n:02d}", "host": "h", "pid": "{n}", "machine_id": MACHINE},
        **{"boot_id": "b", "pid_namespace": "0", "start_ticks": "0", "version": "v", "schema_version": "1"},
        **{"kinds": "{{k0}}", "invocation_id": "i{n}"},
    },
    "beats": {
        **{"worker_id": "00000000-0000-0000-0000-0000000000{n:02d}", "job_id": "{n}", "job_kind": "k0"},
        **{"job_since": "now"},
    },
    "holds": {"scope": "kind", "target": "k{n}", "actor": "x"},
    "ramps": {"hold_id": "{n}", "kind": "k{n}", "canary": "1", "stop_at": "0.2"},
    "ramp_ends": {"ramp": "{n}", "ok": "1", "bad": "0"},
    "sweeper": {"swept_at": "-infinity"},
    "audit": {"actor": "x", "action": "x", "target": "x"},
    "audit_chunks": {
        **{"audit_id": "{n}", "job_ids": "{{{n}}}", "before": '{{"{{}}"}}', "after": "{{NULL}}"},
        **{"payloads": '{{"{{}}"}}'},
    },
    "job_plans": {
        **{"digest": "abcdef", "expires_at": "tomorrow", "actor": "x", "action": "retry", "arguments": "{{}}"},
        **{"selection": "{{}}", "statement": "x", "jobs": "1", "chunks": "1"},
    },
    "job_plan_chunks": {"plan_id": "{n}", "number": "1", "job_ids": "{{{n}}}", "faces": '{{"{{}}"}}'},
    "history_drops": {"actor": "x"},
    "queue_counts": {"claimed_at": "now", "seconds": "1"},
    "leases_returned": {"kind": "k{n}", "crashed": "1", "poison": "1"},
    "kind_stats": {"kind": "k0"},
    "search_repos": {"repo": "r{n}", "ref": "HEAD", "commit": "c", "files": "1", "generation": "1"},
    "search_files": {"repo_id": "{n}", "path": "p", "oid": "o", "content": "x", "tsv": "'x':1"},
    "repo_maintenance": {
        **{"repo": "r", "job_id": "1", "started_at": "now", "seconds": "1", "size_before": "1", "size_after": "1"},
        **{"loose_before": "1", "loose_after": "1", "packs_before": "1", "packs_after": "1"},
    },
}
# A test of its own makes odd rows in this one: afterwards nothing else works, and must not.
APART = {"worker_schema"}

# Arguments for the commands, by the names of their parameters. With "" an option is not given, or is a flag.
GIVEN = {
    ("enqueue", "kind"): "k0",
    ("enqueue", "run_at"): "9999-12-31T23:59:59+12:00",
    ("search find", "text"): "x",
    ("search forget", "repo"): "x",
    ("workers unlock", "names"): "h:1",
    ("workers unlock", "reason"): "x",
    ("workers unlock", "accept_second_run"): "",
    ("cleanup", "tasks"): "GC_TASK_IDENTIFIERS,DELETE_PERMAFAILED_JOBS",
    ("cleanup", "yes"): "",
    ("init", "directory"): "/",
    ("release-dead", "invocation_id"): "i1",
    ("pause-kind", "kind"): "k0",
    ("pause-kind", "reason"): "x",
    ("pause-kind", "force"): None,
    ("pause-kind", "timeout"): "0.01",
    ("drain", "timeout"): "0.01",
    ("drain", "until"): "9999-12-31T23:59:59.999999-12:00",
    ("resume-kind", "kind"): "k0",
    ("apply", "plan"): "1-abcdef",
    ("jobs fail", "message"): "x",
    ("jobs reschedule", "priority"): "1",
    ("jobs release", "reason"): "x",
    ("jobs release", "accept_second_run"): None,
    ("audit show", "row"): "1",
    ("audit undo", "rows"): "1",
    ("audit list", "job"): "1",
    ("audit list", "since"): "1h",
    ("audit timeline", "since"): "1h",
}

BEND = """
CREATE OR REPLACE FUNCTION pg_temp.bend(p_table text, p_types jsonb, p_usual jsonb, p_odd jsonb) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_table oid;
    v_ctid  tid;
    v_name  text;
    v_value text;
    v_bent  integer := 0;
    v_list  text := (SELECT string_agg(format('%I', key), ', ') FROM jsonb_object_keys(p_usual) key);
BEGIN
    BEGIN
        EXECUTE format('INSERT INTO %I (%s) VALUES (%s) RETURNING tableoid, ctid', p_table, v_list,
                       (SELECT string_agg(quote_nullable(p_usual->>key), ', ') FROM jsonb_object_keys(p_usual) key))
           INTO v_table, v_ctid;
    EXCEPTION WHEN foreign_key_violation THEN
        RETURN 0;  -- the id of the row that it belongs to was bent
    END;
    FOR v_name, v_value IN SELECT * FROM jsonb_each_text(p_odd) LOOP
        BEGIN
            EXECUTE format('UPDATE %I SET %I = %L::%s WHERE tableoid = %s AND ctid = %L RETURNING tableoid, ctid',
                           p_table, v_name, v_value, p_types->>v_name, v_table, v_ctid) INTO STRICT v_table, v_ctid;
            v_bent := v_bent + 1;
        EXCEPTION WHEN integrity_constraint_violation OR generated_always THEN
            NULL;  -- that can't be stored
        END;
    END LOOP;
    RETURN v_bent;
END $$
"""


def tables(database):
    """The columns of each table and their types, as the catalog has them now."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in database.query(
        "SELECT c.relname, a.attname, format_type(a.atttypid, NULL)"
        " FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition AND attnum > 0 AND NOT attisdropped"
        " ORDER BY c.relname, attnum"
    ):
        found.setdefault(table, {})[column] = kind
    return found


def test_each_table_and_type_is_tried(any_database):
    found = tables(any_database)
    assert set(found) == set(USUAL) | APART, "give a usual row of the new table"
    types = {kind for columns in found.values() for kind in columns.values()}
    assert types <= set(VALUES), "say what the type can hold"


def make_odd(connection, found, offsets):
    """Rows in which each column has each of its extreme values, in combinations that the offsets choose."""
    connection.execute(f"TRUNCATE {', '.join(sorted(found.keys() - APART))} RESTART IDENTITY")  # type: ignore[arg-type]
    # search_repos before search_files, and audit before audit_chunks
    for table in ("audit", *sorted(found.keys() - APART - {"audit"}, reverse=True)):
        for number in range(1 if "only_row" in found[table] else ROWS):
            usual = {column: value.format(n=number + 1) for column, value in USUAL[table].items()}
            if table == "jobs":
                usual["state"] = state = STATES[number % len(STATES)]
                if state == "processing":
                    usual |= {"leased_by": "h:1", "leased_at": "now", "lease_token": str(uuid4())}
                    usual["worker_id"] = f"00000000-0000-0000-0000-0000000000{number + 1:02d}"
            odd = {}
            for column, kind in found[table].items():
                choice = (number + offsets[table, column]) % (len(VALUES[kind]) + 1)
                if choice:
                    odd[column] = VALUES[kind][choice - 1]
            given = [json.dumps(each) for each in (found[table], usual, odd)]
            connection.execute("SELECT pg_temp.bend(%s, %s, %s, %s)", (table, *given))


# Each command that uses the database. `run` is tried as a process, the views of `top` without its terminal.
APART_FROM = ("run", "check-config", "top")
COMMANDS = {each.name: each.command for each in leaves() if each.asks_the_database and each.name not in APART_FROM}


def words(name, command, job):
    """The command's words, with the arguments of GIVEN and the id of a job."""
    options, rest = [], []
    for each in command.params:
        if isinstance(each, click.Argument) and each.name in ("job", "ids"):
            rest.append(str(job))
        elif (name, each.name) in GIVEN:
            value = GIVEN[name, each.name]
            if isinstance(each, click.Argument):
                rest.append(value)
            else:
                options += [each.opts[0]] if value is None else [each.opts[0], value]
        else:
            assert not each.required, f"say in GIVEN what to give `{name}` for {each.name}"
    return [*name.split(), *options, "--", *rest]


def stream():
    """A stream like stdout and stderr: it cannot write every text."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="", write_through=True)


def ask(monkeypatch, *arguments):
    """The command in this process: its exit code and its output. Its connections end with it, as with a process."""
    opened = []

    original = ImpatientConnection.connect.__func__

    def connect(cls, *given, **settings):
        opened.append(original(cls, *given, **settings))
        return opened[-1]

    monkeypatch.setattr(sys, "argv", ["shithubd-worker", *arguments])
    with monkeypatch.context() as patch, redirect_stdout(stream()) as out, redirect_stderr(stream()) as err:
        patch.setattr(ImpatientConnection, "connect", classmethod(connect))
        try:
            code = _main()
        except SystemExit as end:  # a completion
            code = end.code
    for connection in opened:
        connection.close()
    return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()


def times_in(data):
    """The values in JSON whose names are those of times."""
    if isinstance(data, list):
        for each in data:
            yield from times_in(each)
    elif isinstance(data, dict):
        for name, value in data.items():
            if name.endswith("_at") or name in ("at", "until", "created", "started", "job_since"):
                yield value
            elif name != "payload":
                yield from times_in(value)


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


def check_commands(monkeypatch, jobs, codes):
    for name, command in COMMANDS.items():
        of_a_job = any(each.name in ("job", "ids") for each in command.params)
        for turn, job in enumerate(jobs if of_a_job else [0, 0]):
            as_json = turn % 2 == 1 and any(each.name == "as_json" for each in command.params)
            given = words(name, command, job)
            given.insert(len(name.split()), "--json") if as_json else None
            code, out, err = ask(monkeypatch, *given)
            assert code in codes, (given, code, err)
            assert "the database says" not in err, (given, err)
            if code not in (0, 3, 4):
                assert err.startswith("shithubd-worker: "), (given, err)
                assert len(err.splitlines()) == 1 or name == "audit undo", (given, err)  # that says why of each job
            if as_json and out:
                for time in times_in(json.loads(out, parse_constant=no_constant)):
                    assert time is None or datetime.fromisoformat(time), (given, time)


def be_a_worker(database, kinds):
    """Everything that a worker asks, from its start to its end, except what needs a process."""
    me = identify()
    beat = ControlSession(connector(database.url, "odd"), "public")
    beat.register(Registration(me, KINDS))
    dead = beat.housemates(me)
    for other in dead[::2]:
        beat.release_worker(other.id, "it is dead")
    bare = BareWorker(database.url, "public", me.id, "odd")
    bare.queue.sweep()
    assert beat.beat(me.id, "running", 7, "k0", 1.0) is not None
    bare.queue.kind_holds()
    while leases := bare.lease_all(kinds, 100):
        for lease in leases:
            bare.queue.payloads([lease])
            assert bare.settle(lease, Outcome(How.OK))
    bare.queue.housekeep()
    collector = QueueCollector(connector(database.url, "odd"), "public", KINDS)
    registry = CollectorRegistry()
    registry.register(collector)

    assert "shithubd_workers{" in generate_latest(registry).decode()
    # A worker that began to count within the last 50 s may still be counting.
    database.query(
        "UPDATE queue_counts SET claimed_at = '-infinity' WHERE seconds_since_v1(claimed_at) BETWEEN 0 AND 50"
    )
    eventually(lambda: "shithubd_queue_scrape_success 1.0" in generate_latest(registry).decode(), "a count")
    beat.unregister(me.id, [])
    for session in (beat, bare, collector):
        session.close()


def extremes_of_the_history(database):
    """Partitions for extreme times, so that a history row can have any time."""
    for name in ("7d", "90d"):
        for part, bounds in (("before", "(MINVALUE) TO ('2000-01-01')"), ("after", "('9000-01-01') TO (MAXVALUE)")):
            database.query(
                f"CREATE TABLE history_{name}_{part} PARTITION OF job_history_{name} FOR VALUES FROM {bounds}"
            )


@pytest.fixture
def odd(any_database, monkeypatch):
    monkeypatch.setenv("SHITHUBD_WORKER_DATABASE_URL", any_database.url)
    monkeypatch.setenv("SERVICE_RESULT", "success")
    extremes_of_the_history(any_database)
    any_database.query("ALTER TABLE beats DROP CONSTRAINT beats_worker_id_fkey")  # the ids of both are odd
    registry = Registry()
    for name in KINDS:
        registry.handler(name)(lambda job: None)
    with any_database.connect() as connection:
        connection.execute(BEND)
        yield any_database, connection, tables(any_database), list(registry.values())


def check(odd, monkeypatch, offsets):
    database, connection, found, kinds = odd
    make_odd(connection, found, offsets)
    jobs = [job for (job,) in connection.execute("SELECT id FROM jobs UNION SELECT id FROM job_history ORDER BY 1")]
    # The id of a job is one of four extreme values, or its number.
    check_commands(monkeypatch, jobs[:2] + jobs[-2:], codes={0, 1, 3, 4, 5})
    check_views(database.url)
    make_odd(connection, found, offsets)
    be_a_worker(database, kinds)


def profile(examples, phases=tuple(Phase)):
    return settings(
        phases=phases,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Offsets(dict):
    """Offsets by table and column, each drawn when it is first needed."""

    def __init__(self, data):
        super().__init__()
        self._data = data

    def __missing__(self, key):
        return self.setdefault(key, self._data.draw(st.integers(0, ROWS), label=".".join(key)))


@profile(4, phases=[Phase.generate])  # hypothesis would take 5 minutes to look for a smaller example
@given(data=st.data())
def test_no_row_breaks_a_command_a_worker_or_a_scrape(odd, monkeypatch, data):
    check(odd, monkeypatch, Offsets(data))


@pytest.mark.long
@pytest.mark.timeout(1800)
@profile(150)
@given(data=st.data())
def test_no_row_of_many_breaks_a_command_a_worker_or_a_scrape(odd, monkeypatch, data):
    check(odd, monkeypatch, Offsets(data))
