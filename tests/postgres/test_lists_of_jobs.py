"""`jobs list`: what each word of --state means, and pages that lose no job and repeat none."""

from __future__ import annotations

import json
import re
import shlex
import threading
from datetime import UTC, datetime, timedelta
from itertools import product

import click
import pytest
from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from conftest import dice, eventually
from rows import add_job
from test_gauges import insert, rows_read
from test_selections import Terminal

from shithubd_worker import Client
from shithubd_worker.database.connection import connector
from shithubd_worker.database.operations import Operations
from shithubd_worker.errors import EXIT_USAGE
from shithubd_worker.model import LISTED
from shithubd_worker.plain import json_text

LATER = datetime.now(UTC) + timedelta(days=1)
IDS = "SELECT (j->>'id')::bigint FROM list_jobs_v1(%s, %s, %s, %s) j"
FOUND = "SELECT (j->>'id')::bigint FROM find_jobs_v1(%s, %s) j"


def listed(database, state, kind=None, limit=100, after=None):
    return [job for (job,) in database.query(IDS, state, kind, limit, after)]


def pages(operations, state, size):
    """All jobs, page by page, as `jobs list` asks for them."""
    jobs, after = [], None
    while found := operations.jobs({"state": state}, size, after):
        jobs += found
        after = found[-1]["id"]
    return jobs


# What a state means


def test_each_word_means_the_jobs_that_the_status_counts(any_database):
    waits, later, paused, failed = (
        add_job(any_database, "a"),
        add_job(any_database, "a", run_at=LATER),
        add_job(any_database, "a", "paused"),
        add_job(any_database, "a", "failed"),
    )
    held, held_later = add_job(any_database, "h"), add_job(any_database, "h", run_at=LATER)
    ramped, over = add_job(any_database, "r"), add_job(any_database, "e")
    runs = add_job(any_database, "a", "processing")
    any_database.query("SELECT pause_kind_v1('h'), pause_kind_v1('e'), ramp_kind_v1('r', p_canary => 1)")
    any_database.query("UPDATE holds SET until = now() - interval '1 s' WHERE target = 'e'")
    queued = [waits, later, held, held_later, ramped, over]
    told = {
        "queued": queued,
        "ready": [waits, over],
        "scheduled": [later, held_later],
        "held": [paused, held, held_later, ramped],
        "processing": [runs],
        "paused": [paused],
        "failed": [failed],
    }
    assert {state: listed(any_database, state) for state in LISTED} == told

    sums = any_database.query("SELECT sum(runnable), sum(held) FROM kinds_v1()")
    assert sums == [(len(told["ready"]), len(told["held"]))]
    any_database.query("SELECT drain_v1()")
    assert listed(any_database, "ready") == []
    assert listed(any_database, "held") == sorted([paused, *queued])
    assert listed(any_database, "scheduled") == [later, held_later]
    any_database.query("SELECT resume_v1(), drain_v1('host', 'web1')")  # other hosts may run them
    assert listed(any_database, "ready") == [waits, over]


@pytest.mark.parametrize("held", ["kinds", "fleet"])
def test_each_page_has_the_lowest_ids_that_the_condition_means(any_database, held):
    """Also at odd ids and times, and no matter where in the table the jobs stand."""
    random = dice(len(held))
    kinds = ["a", "b", "c", "ü"]
    ids = [*random.sample(range(-500, 3000), 800), 2**63 - 1, 1 - 2**63]
    times = ["-infinity", "infinity", "yesterday", "tomorrow", "now", "2001-01-01"]
    states = random.choices(["queued", "paused", "failed", "processing"], [9, 1, 1, 1], k=len(ids))
    with any_database.connect() as connection:
        connection.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
        connection.cursor().executemany(
            "INSERT INTO jobs (id, kind, state, priority, run_at, leased_by, leased_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                (job, random.choice(kinds), state, random.choice([-32768, 0, 0, 1, 32767]), random.choice(times))
                + (("h:1", "now") if state == "processing" else (None, None))
                for job, state in zip(ids, states, strict=True)
            ],
        )
    for kind in random.sample(kinds, 2):
        any_database.query("SELECT pause_kind_v1(%s)", kind)
    if held == "fleet":
        any_database.query("SELECT drain_v1()")
    for state, kind in product([None, *LISTED], [None, "b", "nobody"]):
        where = json.dumps({name: value for name, value in (("state", state), ("kind", kind)) if value})
        condition = any_database.value("SELECT job_condition_v1(NULL, '{}', %s)", where)
        meant = [job for (job,) in any_database.query(f"SELECT id FROM jobs j WHERE {condition} ORDER BY id")]
        for limit, after in ((1, None), (7, None), (50, 1200), (3, 2900), (1000, None)):
            lowest = [job for job in meant if after is None or job > after][:limit]
            assert listed(any_database, state, kind, limit, after) == lowest, (state, kind, limit, after)
        assert listed(any_database, state, kind, None) == meant
        after = json.dumps({**json.loads(where), "error": "", "after": 1200})
        assert any_database.query(FOUND, after, 5) == []  # no job has an error
    any_database.query("UPDATE jobs SET last_error = 'no'")
    for state in LISTED:
        found = any_database.query(FOUND, json.dumps({"state": state, "error": "no", "after": 1200}), 5)
        assert [job for (job,) in found] == listed(any_database, state, None, 5, 1200)


# Under load

STABLE = {  # of each state, what stays in it all the time
    "ready": "INSERT INTO jobs (kind) VALUES ('a') RETURNING id",
    "scheduled": "INSERT INTO jobs (kind, run_at) VALUES ('a', 'tomorrow') RETURNING id",
    "held": "INSERT INTO jobs (kind) VALUES ('h') RETURNING id",
    "paused": "INSERT INTO jobs (kind, state) VALUES ('a', 'paused') RETURNING id",
    "failed": "INSERT INTO jobs (kind, state) VALUES ('b', 'failed') RETURNING id",
    "processing": "INSERT INTO jobs (kind, state, leased_by, leased_at)"
    " VALUES ('a', 'processing', 'h:1', now()) RETURNING id",
}
# What others do meanwhile, to jobs of priority 1 and above.
ENQUEUE = "INSERT INTO jobs (kind, priority) SELECT k, 1 FROM unnest('{a,b,h,p}'::text[]) k, generate_series(1, 5)"
WHICH = " WHERE id IN (SELECT id FROM jobs WHERE {} AND priority > 0 ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED)"
MOVES = [
    ENQUEUE,
    "INSERT INTO jobs (kind, priority, run_at) SELECT 'a', 1, now() + interval '10 ms' FROM generate_series(1, 5)",
    "UPDATE jobs SET state = 'processing', leased_by = 'h:1', leased_at = now()" + WHICH.format("state = 'queued'"),
    "DELETE FROM jobs" + WHICH.format("state = 'processing'"),
    "DELETE FROM jobs" + WHICH.format("state = 'failed'"),
    "UPDATE jobs SET state = (ARRAY['queued', 'failed', 'paused'])[1 + id % 3], leased_by = NULL, leased_at = NULL,"
    " run_at = now() + (random() - 0.5) * interval '1 s', priority = 1 + (priority + 1) % 3" + WHICH.format("true"),
    "SELECT pause_kind_v1('p')",
    "SELECT mirror_pause_v1((SELECT id FROM holds WHERE target = 'p'), NULL)",
    "SELECT resume_kind_v1('p')",
    "SELECT unpause_v1('p')",
]


def test_a_list_in_pages_under_load_has_each_job_that_stays_exactly_once(any_database):
    random = dice(7)
    any_database.query("SELECT pause_kind_v1('h')")
    stays = {state: set() for state in STABLE}
    for _ in range(40):
        for state, text in STABLE.items():
            stays[state].add(any_database.value(text))
        any_database.query(ENQUEUE)
    stays["held"] |= stays["paused"]
    stays["queued"] = stays["ready"] | stays["scheduled"] | (stays["held"] - stays["paused"])
    of_state = {"ready": {"queued"}, "scheduled": {"queued"}, "held": {"queued", "paused"}}
    over, moved = threading.Event(), []

    def stir(number):
        mine = dice(number)
        with any_database.connect() as connection:
            while not over.is_set():
                moved.append(connection.execute(mine.choice(MOVES)).rowcount)

    stirring = [threading.Thread(target=stir, args=(number,)) for number in range(2)]
    for each in stirring:
        each.start()
    operations = Operations(connector(any_database.url, "test"), "public")
    try:
        eventually(lambda: len(moved) > 20, "they move")
        rounds, before = 0, len(moved)
        while rounds < 4 or len(moved) < before + 100:
            rounds += 1
            for state in LISTED:
                found = pages(operations, state, random.choice([10, 30, 100]))
                ids = [job["id"] for job in found]
                assert ids == sorted({*ids}), state
                assert stays[state] <= {*ids}, state
                assert {job["state"] for job in found} <= of_state.get(state, {state}), state
    finally:
        over.set()
        for each in stirring:
            each.join()
        operations.close()
    assert sum(moved) > 0


# What it costs


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize(
    ("many", "rarest"),
    [
        ({"run_at": "tomorrow"}, {"state": "queued"}),
        ({"state": "queued"}, {"run_at": "tomorrow"}),
        ({"state": "failed"}, {"state": "queued"}),
        ({"state": "paused"}, {"run_at": "tomorrow"}),
        ({"kind": "h"}, {"state": "queued"}),
        ({"kind": "h"}, {"state": "failed"}),
        ({"state": "queued"}, {"kind": "h"}),
        ({"state": "queued"}, {"kind": "h", "state": "paused"}),
        ({"state": "queued"}, {"state": "processing"}),
    ],
    ids=lambda given: "-".join(given.values()),
)
def test_a_page_of_each_state_reads_few_rows_of_a_long_queue(any_database, many, rarest, analyzed):
    """Of the state that all have, of that of one job, which has the highest id, and of those that none has."""
    any_database.query("SELECT pause_kind_v1('h')")
    insert(any_database, **{"kind": "a", **many}, count=20_000)
    insert(any_database, **{"kind": "b", **rarest}, count=1)
    with any_database.connect() as connection:
        if analyzed:
            connection.execute("ANALYZE jobs")
        for state, kind in product([None, *LISTED], [None, "a", "b", "h"]):
            words = ", ".join("NULL" if word is None else f"'{word}'" for word in (state, kind))
            _, read = rows_read(connection, f"SELECT * FROM list_jobs_v1({words}, 20)")
            assert read.total() < 300, (words, read)


def test_a_list_reads_no_more_than_the_better_way_needs(any_database):
    """Half of the jobs have low ids and are due later. So the due ones are found after all of these."""
    insert(any_database, "a", 10_000, run_at="tomorrow")
    insert(any_database, "b", 10_000)
    with any_database.connect() as connection:
        found, read = rows_read(connection, "SELECT j->>'id' FROM list_jobs_v1('ready', NULL, 20) j")
    assert len(found) == 20
    assert read.total() < 3 * 10_000 + 20_000


# The command


def test_the_next_page_is_a_command_to_paste(database, command):
    jobs = [add_job(database, "it's", last_error="no") for _ in range(7)]
    words = ["jobs", "list", "--kind", "it's", "--state", "ready", "--error", "no", "--older-than", "0.001"]
    words += ["--payload", '{"a": 0.10000000000000000555}', "--limit", "3"]
    database.query("""UPDATE jobs SET payload = '{"a": 0.10000000000000000555}'""")
    for extra in ([], ["--json"]):
        seen, next_words = [], words + extra
        for _ in range(3):
            done = command(*next_words)
            page = json.loads(done.stdout) if extra else [line.split() for line in done.stdout.splitlines()]
            seen += [job["id"] if extra else int(job[0]) for job in page]
            if not done.stderr:
                break
            program, *next_words = shlex.split(done.stderr.removeprefix("more: "))
            assert program == "shithubd-worker"
            assert next_words[-2:] == ["--after", str(seen[-1])]
        assert (seen, done.stderr) == (jobs, "")
    assert command("jobs", "list", "--limit", "7").stderr == ""  # these are all
    assert command("jobs", "list", "--after", jobs[-1]).stdout == "no such jobs\n"


def test_all_jobs_come_page_by_page_as_one_array(database, command):
    database.query("INSERT INTO jobs (kind) SELECT 'k' FROM generate_series(1, 2500)")
    whole = command("jobs", "list", "--limit", "2500", "--json")
    assert command("jobs", "list", "--all", "--json").stdout == whole.stdout
    assert whole.stdout == json_text(json.loads(whole.stdout), indent=2) + "\n"
    done = command("jobs", "list", "--all", "--after", json.loads(whole.stdout)[0]["id"])
    assert (len(done.stdout.splitlines()), done.stderr) == (2499, "")
    assert command("jobs", "list", "--all", "--state", "held", "--json").stdout == "[]\n"
    assert command("jobs", "list", "--all", "--state", "held").stdout == "no such jobs\n"
    assert "not both" in command.refused("jobs", "list", "--all", "--limit", 3, code=EXIT_USAGE)


def test_on_a_terminal_a_line_is_as_wide_as_that_and_failed_jobs_are_red(database, command):
    job = add_job(database, "k", "failed", last_error="x" * 500)
    add_job(database, "k")
    terminal = Terminal(database, "jobs", "list")  # 200 columns
    assert terminal.end() == 0
    failed, waiting = terminal.said.splitlines()
    assert re.fullmatch(rf"\x1b\[31m +{job} failed .*x\x1b\[0m", failed)
    assert len(click.unstyle(failed)) == 200
    assert "\x1b" not in waiting
    assert len(command("jobs", "list").stdout.splitlines()[0]) == 80  # a script gets what it always got


def test_a_program_gets_the_pages_of_the_command(database, command):
    jobs = [add_job(database, payload='{"n": 1}') for _ in range(5)]
    add_job(database, "other")
    with Client(database.url) as queue:
        first = queue.jobs(state="ready", kind="k", limit=3)
        second = queue.jobs(state="ready", kind="k", limit=3, after=first[-1]["id"])
        assert [job["id"] for job in first + second] == jobs
        assert queue.jobs() == command.json("jobs", "list")


@pytest.mark.parametrize("state", ["ready", "scheduled", "held"])
def test_no_change_is_bound_to_what_time_and_holds_decide(database, command, state):
    add_job(database)
    assert "is not one of" in command.refused("jobs", "discard", "--state", state, "--yes", code=EXIT_USAGE)
    for call in ("select_jobs_v1('discard', '{}', %s)", "plan_jobs_v1('discard', NULL, %s)"):
        with pytest.raises(Exception, match=f"there is no state {state}"):
            database.query(f"SELECT {call}", json.dumps({"state": state}))
