"""docs/sql.md says what a migrated database says: every table, column and function, and what functions raise."""

from __future__ import annotations

import re
from collections import Counter

import metrics_facts
import psycopg
import pytest
import sql_facts
from made_pages import SQL, filled, markers, without_words
from test_metrics import worker  # noqa: F401 (a fixture)
from waiting import eventually

from shithubd_worker.admin.change import DONE
from shithubd_worker.database import schema

AGAIN = "write it again with `make pages`"
A_WORKER = "SELECT register_v1(gen_random_uuid(), 'web1', 1, 'm', 'b', 1, 1, NULL, NULL, '0', 1, '{}')"
PLAN = "INSERT INTO jobs (kind) VALUES ('k'); SELECT plan_jobs_v1('discard', p_where => '{}');"
APPLY = "SELECT apply_plan_v1((SELECT max(name) FROM job_plans))"
NO_DELETE = (
    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
    " CREATE TRIGGER no BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION no();"
)
# Of each: what raises it, as a superuser.
RAISED = {
    "barrier_v1 needs READ COMMITTED": "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT barrier_v1('fleet')",
    "the hold is not committed yet": "BEGIN; SELECT drain_v1(); SELECT barrier_v1('fleet')",
    "a drain is of the fleet": "SELECT drain_v1('kind', 'mail.send')",
    "until lies in the past": "SELECT pause_kind_v1('mail.send', NULL, '2001-01-01')",
    "no such ramp: these": "SELECT ramp_kind_v1('k', p_steps => '{10,5}', p_every => 60)",
    "no such ramp: ...": "SELECT ramp_kind_v1('k', p_canary => 0)",
    "there is no action": "SELECT change_jobs_v1('fly', '{1}')",
    "a selection has no member": """SELECT select_jobs_v1('retry', '{}', '{"kinds": "k"}')""",
    "the member ... of a selection is null": """SELECT select_jobs_v1('retry', '{}', '{"kind": null}')""",
    "the action ... takes no": """SELECT change_jobs_v1('retry', '{1}', '{"priority": 1}')""",
    "there is no state": """SELECT select_jobs_v1('retry', '{}', '{"state": "done"}')""",
    "there are ... faces for": "SELECT change_jobs_v1('retry', '{1}', p_faces => '{}')",
    "there is no cleanup task": "SELECT cleanup('{VACUUM}')",
    "force_unlock_workers needs READ COMMITTED": "BEGIN ISOLATION LEVEL SERIALIZABLE;"
    " SELECT force_unlock_workers('{}')",
    "one of several workers of the same name": f"{A_WORKER}; {A_WORKER}; SELECT force_unlock_workers('{{web1:1}}')",
    "a worker lives": f"{A_WORKER}; SELECT force_unlock_workers('{{web1:1}}')",
    "audit row ... is not of this": "SELECT drain_v1(); INSERT INTO jobs (id, kind) VALUES (7, 'k');"
    " SELECT change_jobs_v1('discard', '{7}', p_audit => (SELECT max(id) FROM audit))",
    "... applies plan": f"{PLAN} SELECT apply_chunk_v1((SELECT max(name) FROM job_plans), 2, true, NULL, 'x')",
    "plan ... is damaged": f"{PLAN} DELETE FROM job_plan_chunks; {APPLY}",
    "plan ... is not applied: ... of": f"{PLAN} UPDATE jobs SET priority = 1; {APPLY}",
    "plan ... is not applied: some": f"{PLAN} {NO_DELETE} {APPLY}",
    "there is no plan": "SELECT apply_plan_v1('1-abcdef')",
    "plan ... is already applied": f"{PLAN} {APPLY}; {APPLY}",
    "plan ... expired at": f"{PLAN} UPDATE job_plans SET expires_at = '2001-01-01'; {APPLY}",
    "give ids or a selection": "SELECT plan_jobs_v1('discard')",
    "a plan expires in": "SELECT plan_jobs_v1('retry', '{1}', p_expires_in => '8 days')",
    "plans have more than": f"{PLAN} UPDATE job_plans SET jobs = 10000000; {PLAN}",
    "lease_v1 needs READ COMMITTED": "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT lease_v1(gen_random_uuid(),"
    " gen_random_uuid(), '{k}', '{0}', '{0}', '{0}', '{0}', '{1}', '{1}')",
    "audit row ... cannot be undone": "SELECT undo_jobs(0)",
    "undo_jobs needs READ COMMITTED": "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT undo_jobs(0)",
    "a worker can't settle": "SELECT settle_v1('{1}', ARRAY[gen_random_uuid()], '{crashed}', '{0}', '{x}', '{7d}')",
    "start_v1 needs READ COMMITTED": "BEGIN ISOLATION LEVEL REPEATABLE READ;"
    " SELECT start_v1(gen_random_uuid(), '{1}', gen_random_uuid(), gen_random_uuid(), '{1}')",
}


def test_the_page_has_the_facts_of_the_database(any_database):
    with any_database.connect() as connection:
        assert filled(SQL.read_text(), sql_facts.makers(connection)) == SQL.read_text(), AGAIN


def test_a_change_of_the_database_is_seen(database):
    database.query("ALTER TABLE jobs ADD added text; ALTER TABLE jobs ALTER priority SET DEFAULT 5")
    database.query("GRANT EXECUTE ON FUNCTION hold_v1 TO shithub_enqueue")
    with database.connect() as connection:
        found = filled(SQL.read_text(), sql_facts.makers(connection))
    new = set(found.splitlines()) - set(SQL.read_text().splitlines())
    assert new == {
        "| `added` | `text` | null | the owner |  |",
        "| `priority` | `smallint` | `5` | INSERT: enqueue, operator | a lower number runs first, within a kind |",
        "- Roles: `shithub_enqueue`, `shithub_operator`",
    }
    assert without_words(found) == ["`added`"]


def test_every_fact_of_the_page_has_its_words():
    assert without_words(SQL.read_text()) == []


def test_every_function_has_one_place_on_the_page():
    page = SQL.read_text()
    shown = Counter(
        [*re.findall(r"^- Call: `(\w+)\(", page, re.MULTILINE), *re.findall(r"^\| `(\w+)\(", page, re.MULTILINE)]
    )
    assert shown == Counter(schema.function_names())


def test_the_table_at_the_top_leads_to_every_function_with_a_section():
    contents, _, rest = SQL.read_text().partition("## What is stable")
    linked = re.findall(r"\[(\w+)\]\(#\1\)", contents)
    assert [name for name in re.findall(r"^### `(\w+)`$", rest, re.MULTILINE) if name not in linked] == []


def test_the_page_has_each_action_of_the_audit_record():
    actions = set(DONE)
    for path in schema.function_files():
        code = re.sub(r"--.*", "", path.read_text())
        actions |= set(re.findall(r"VALUES \(\w*actor, '([\w-]+)'", code))
        actions |= set(re.findall(r"return_recorded_v1\([^;]*, '(\w+)', (?:'{}'|v_detail), \w*reason", code))
    table = SQL.read_text().partition("| action | target |")[2].partition("\n\n")[0]
    told = {name for row in table.splitlines()[1:] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert actions > {"unlock", "sweep", "cleanup", "forget-index"}
    assert actions - told == set()


def test_the_page_names_each_function_that_needs_read_committed():
    needs = {path.stem for path in schema.function_files() if "needs READ COMMITTED" in path.read_text()}
    (told,) = re.findall(r"^3\. (.*\n.*)", SQL.read_text(), re.MULTILINE)
    assert needs == {*re.findall(r"`(\w+)`", told)}


def test_every_function_with_a_section_has_an_example():
    page = SQL.read_text()
    examples = "\n".join(re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    named = [argument for name, argument in markers(page) if name == "function"]
    assert [function for function in named if f"{function}(" not in examples] == []


def test_every_function_that_returns_an_object_says_what_is_in_it():
    sections = re.split(r"^### ", SQL.read_text(), flags=re.MULTILINE)
    objects = [section for section in sections if re.search(r"^- Returns: (?:rows of )?`jsonb`", section, re.MULTILINE)]
    assert len(objects) > 4
    told = re.compile(r"^<!-- made: members|^An object has the columns of", re.MULTILINE)
    assert [section.partition("\n")[0] for section in objects if not told.search(section)] == []


def test_every_argument_of_a_function_with_a_section_is_explained():
    page = SQL.read_text()
    calls = re.findall(r"^- Call: (.*)$", page, re.MULTILINE)
    taken = {name for call in calls for name in re.findall(r"\bp_\w+", call)}
    rest = re.sub(r"^- Call: .*$|^\| `\w+\(.*$", "", page, flags=re.MULTILINE)
    assert len(taken) > 10
    assert {name for name in taken if f"`{name}`" not in rest} == set()


def test_every_table_and_view_is_on_the_page(database):
    tables = database.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        " AND relname !~ '^job_history_'"
    )
    assert [name for (name,) in tables if f"`{name}`" not in SQL.read_text()] == []


def test_a_table_that_programs_read_has_all_its_columns_on_the_page():
    asked = {argument for name, argument in markers(SQL.read_text()) if name == "columns"}
    assert asked == {"jobs", "holds", "job_history", "audit", "audit_chunks", "workers", "beats"}


def test_every_refusal_is_raised_with_the_sqlstate_of_the_page(database):
    rows = sql_facts.refusals().rows
    assert len({message for message, _, _ in rows}) == len(RAISED)
    for message, _, sqlstate in rows:
        [call] = [call for words, call in RAISED.items() if message.startswith(f"`{words}")]
        with pytest.raises(psycopg.Error) as raised:
            database.query(call)
        assert f"`{raised.value.sqlstate}`" == sqlstate, call
        said = re.escape(message.strip("`")).replace(r"\.\.\.", ".*")
        assert re.fullmatch(said, raised.value.diag.message_primary or ""), call


def test_the_metrics_page_has_what_a_scrape_shows(worker):  # noqa: F811
    told = metrics_facts.metrics().keys()
    eventually(lambda: metrics_facts.scraped(worker.metrics()).keys() == told, "all of them")  # the first count is made
    scraped = metrics_facts.scraped(worker.metrics())
    for name, told in metrics_facts.metrics().items():
        assert (scraped[name].type, scraped[name].help) == (told.type, told.help)
        assert not scraped[name].values or scraped[name].values.keys() == told.values.keys(), name
